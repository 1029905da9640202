"""Figures: their theme, the album of pictures, and one module for each sort of figure."""
