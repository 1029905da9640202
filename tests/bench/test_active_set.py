"""What an attack saves by letting fooled images go, on the standard networks of the zoo."""

from dataclasses import replace

import pytest
import torch

from assay.attacks import PGD
from assay.bench.data import load as load_data
from assay.bench.models import load
from assay.core.borrow import counting


@pytest.mark.parametrize("name", ["repvgg", "resnet", "efficientnet", "convnext", "vit"])
def test_dropping_fooled_images_saves_half_of_the_samples_at_least(name: str) -> None:
    model, data = load(f"zoo:{name}"), load_data("scenes").take(12).at((3, 96, 96))
    images, labels = torch.stack([data.example(i).image for i in range(12)]), torch.tensor(data.labels)
    attack, seen = PGD(eps=4 / 255, steps=10), []
    for early in (True, False):
        with counting(model) as passes:
            replace(attack, early_stop=early)(model, images, labels)
        seen.append(passes.forwards + passes.backwards)
    assert seen[1] == 12 * (11 + 10)
    assert seen[0] * 2 <= seen[1]
