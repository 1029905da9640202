"""The adversarial patch: where it lies, what it covers, and what it becomes where the best one is known."""

import math

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import AdversarialPatch, Targeted
from assay.core.draws import Draws
from assay.core.errors import AssayError


class Palette(nn.Module):
    """Logits are linear in the mean colour, wherever it lies."""

    def __init__(self, classes: int = 4, channels: int = 3) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(3 * torch.randn(classes, channels, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = images.mean((2, 3)) @ self.weight.T
        return logits


def grey(n: int = 6, height: int = 32, width: int = 32, channels: int = 3) -> Tensor:
    return torch.full((n, channels, height, width), 0.5)


@pytest.mark.parametrize("shape", ["circle", "square"])
@pytest.mark.parametrize(("height", "width"), [(40, 40), (30, 60)])
def test_covers_its_area_wholly_inside(shape: str, height: int, width: int) -> None:
    images = grey(30, height, width)
    attack = AdversarialPatch(shape=shape, area=0.2, smallest=1.0)  # type: ignore[arg-type]
    covered = (attack.apply(images, torch.ones(3, 9, 9), 0) != images).any(1).flatten(1).float().mean(1)
    torch.testing.assert_close(covered, torch.full_like(covered, 0.2), rtol=0.1, atol=0)


def test_sizes_and_places_differ_from_image_to_image_and_not_from_run_to_run() -> None:
    images, attack = grey(20), AdversarialPatch(smallest=0.5)
    first, again = (attack.apply(images, torch.ones(3, 9, 9), 1) for _ in range(2))
    assert torch.equal(first, again)
    covered = (first != images).any(1)
    assert len({tuple(each.flatten().tolist()) for each in covered}) == 20
    size = covered.flatten(1).float().mean(1)
    assert size.min() >= 0.9 * 0.25 * 0.1
    assert size.max() <= 1.1 * 0.1
    assert size.max() > 2 * size.min()


def test_an_image_is_patched_the_same_in_any_batch() -> None:
    images, attack, patch = grey(5), AdversarialPatch(), torch.rand(3, 11, 11)
    together = attack.apply(images, patch, Draws.hashed("x", "abcde"))
    apart = [attack.apply(images[:1], patch, Draws.hashed("x", name)) for name in "abcde"]
    torch.testing.assert_close(together, torch.cat(apart))


def test_a_square_patch_that_fills_the_image_is_the_image() -> None:
    patch = torch.rand(3, 16, 16)
    attack = AdversarialPatch(shape="square", area=1 - 1e-7, smallest=1.0, max_angle=0)
    torch.testing.assert_close(attack.apply(grey(2, 16, 16), patch), patch.expand(2, -1, -1, -1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("goal", ["targeted", "untargeted"])
def test_the_patch_for_a_mean_of_colours_is_the_extreme_colour(goal: str) -> None:
    """Two classes: each channel goes to the end that favours the wanted one; corners of the circle are never seen."""
    model, images = Palette(classes=2), grey(8)
    wanted = Targeted(torch.ones(8, dtype=torch.int64)) if goal == "targeted" else torch.zeros(8, dtype=torch.int64)
    patch = AdversarialPatch(steps=60).craft(model, images, wanted)
    best = (model.weight[1] > model.weight[0]).float().view(3, 1, 1)
    side = torch.arange(patch.shape[1]) - (patch.shape[1] - 1) / 2
    seen = (side[:, None] ** 2 + side[None] ** 2).sqrt() <= patch.shape[1] / 2 * 0.9
    diameter = round(math.sqrt(0.1 * 4 / math.pi) * 32)
    assert patch.shape == (3, diameter, diameter)
    assert torch.equal(patch[:, seen], best.expand_as(patch)[:, seen])
    assert (patch[:, 0, 0] == 0.5).all()


def test_called_it_crafts_and_applies_on_the_same_images() -> None:
    model, images = Palette(), torch.rand(10, 3, 24, 24)
    goal = Targeted(torch.full((10,), 2))
    attack = AdversarialPatch(area=0.5, steps=20)
    adversarial = attack(model, images, goal, 3)
    assert adversarial.shape == images.shape
    before, after = (model(x).log_softmax(1)[:, 2].mean() for x in (images, adversarial))
    assert after > before


def test_works_through_many_images_in_batches_and_on_none() -> None:
    seen: list[int] = []

    class Watching(Palette):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    AdversarialPatch(batch=4, steps=5).craft(Watching(), grey(10), torch.zeros(10, dtype=torch.int64))
    assert seen == [4] * 5
    empty = AdversarialPatch()(Palette(), grey(0), torch.zeros(0, dtype=torch.int64))
    assert empty.shape == (0, 3, 32, 32)


def test_grey_images_take_a_grey_patch() -> None:
    model, images = Palette(channels=1), grey(4, channels=1)
    patch = AdversarialPatch(steps=3).craft(model, images, torch.zeros(4, dtype=torch.int64))
    assert patch.shape[0] == 1


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(AssayError, match="area="):
        AdversarialPatch(area=1.5)
    with pytest.raises(AssayError, match="above 0"):
        AdversarialPatch(steps=0)
