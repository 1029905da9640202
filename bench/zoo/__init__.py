"""Small models trained on scenes: recipes, the nets that timm lacks, and the weights with their cards."""
