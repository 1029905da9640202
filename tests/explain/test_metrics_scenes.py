"""The shortcut's share against a reference, and the exact heatmap of a scene against every method."""

from typing import Any

import pytest
import torch
from torch import Tensor

from assay.bench.data import load as load_data
from assay.bench.models import load as load_model
from assay.core.errors import NotApplicable
from assay.core.targets import Logit
from assay.explain import EXPLAINERS
from assay.explain.metrics import PartEffect, ShortcutMass
from assay.explain.metrics.parts import shortcut_effect
from tests.explain.models import Linear

SIZE = 8
CHEAP = (
    *("saliency", "input-x-gradient", "guided-backprop", "deconvnet", "guided-grad-cam", "grad-cam", "layer-cam"),
    *("random-map", "sobel-map", "center-map", "input-magnitude"),
)


class Snow:
    """A linear model; columns 0 to 3 are the shortcut, the others two parts. Effects are set by hand."""

    def __init__(self, snow: float = 3.0, wolf: float = 1.0, tree: float = -2.0) -> None:
        self.model = Linear(classes=1)
        self.images = torch.full((1, 3, SIZE, SIZE), 0.5)
        places = {"snow": (slice(0, 4), snow), "wolf": (slice(4, 6), wolf), "tree": (slice(6, 8), tree)}
        for columns, effect in places.values():
            pixels = 3 * SIZE * (columns.stop - columns.start)
            self.model.w.data[..., columns] = effect / (pixels * 0.5)
        self.shortcut = torch.zeros(1, SIZE, SIZE, dtype=torch.bool)
        self.shortcut[..., :4] = True
        self.redrawn = self._drawn("snow", places, 0.0, 0.25, 0.5, 0.75)
        gone = [self._drawn(name, places, 0.0) for name in ("wolf", "tree")]
        self.without = torch.cat([*gone, self.images[:, None]], 1)

    def _drawn(self, name: str, places: dict[str, tuple[slice, float]], *levels: float) -> Tensor:
        images = self.images[:, None].repeat(1, len(levels), 1, 1, 1)
        for i, level in enumerate(levels):
            images[:, i, ..., places[name][0]] = level
        return images

    def score(self, heat: Tensor) -> float:
        data: Any = {"shortcut": self.shortcut, "redrawn": self.redrawn, "without": self.without}
        return ShortcutMass()(self.model, self.images, Logit(0), heat, **data).item()

    def effect(self) -> float:
        return shortcut_effect(self.model, self.images, Logit(0), self.redrawn, self.without, batch=2).item()


def columns(*heat: float) -> Tensor:
    return torch.tensor(heat).repeat_interleave(2).expand(1, SIZE, SIZE)


def test_the_effect_of_a_shortcut_is_its_mean_over_other_contents() -> None:
    """Mean level 3/8 instead of 1/2 costs a quarter of the snow's 3; the tree speaks against the class."""
    assert Snow().effect() == pytest.approx(0.75 / 1.75)
    assert Snow(tree=2.0).effect() == pytest.approx(0.75 / 3.75)
    assert Snow(snow=-1.0).effect() == 0
    assert torch.tensor(Snow(snow=-1.0, wolf=-1.0).effect()).isnan()


@pytest.mark.parametrize(("heat", "share"), [((1, 1, 1, 1), 0.5), ((1, 1, 0, -4), 1.0), ((0, 0, 2, 1), 0.0)])
def test_shortcut_mass_is_the_gap_of_both_shares(heat: tuple[float, ...], share: float) -> None:
    assert Snow().score(columns(*map(float, heat))) == pytest.approx(abs(share - 0.75 / 1.75), abs=1e-6)


def test_no_shortcut_is_undefined() -> None:
    snow = Snow()
    snow.shortcut[:] = False
    assert torch.tensor(snow.score(columns(1.0, 1.0, 1.0, 1.0))).isnan()


def exact(parts: Tensor, drops: Tensor) -> Tensor:
    """The part map weighted by true effects: each part's drop, spread evenly over its pixels, least drop 0."""
    heat = torch.zeros(parts.shape)
    for number in range(drops.shape[1]):
        here = parts == number + 1
        weight = (drops[:, number] - drops.amin(1)) / here.sum((1, 2)).clamp(min=1)
        heat += here * weight[:, None, None]
    return heat


@pytest.mark.parametrize(
    ("names", "n"), [(CHEAP, 30), pytest.param(tuple(EXPLAINERS), 8, marks=pytest.mark.slow)], ids=["cheap", "all"]
)
def test_the_exact_heatmap_beats_every_method_and_control_on_part_effect(names: tuple[str, ...], n: int) -> None:
    data, model = load_data("scenes?split=test").take(n), load_model("zoo:repvgg")
    examples = [data.example(i, {"parts", "without"}) for i in range(n)]
    images, labels = torch.stack([e.image for e in examples]), torch.tensor(data.labels)
    parts, without = (torch.stack([getattr(e, name) for e in examples]) for name in ("parts", "without"))
    with torch.no_grad():
        logits = torch.stack([model(images), *(model(drawn) for drawn in without.unbind(1))], 1)
    said = logits[torch.arange(n), :, labels]
    drops = said[:, :1] - said[:, 1:]

    def score(heat: Tensor) -> Tensor:
        return PartEffect()(model, images, labels, heat, parts=parts, without=without)

    best = score(exact(parts, drops))
    defined = best.isfinite()
    assert defined.sum() > 0.8 * n
    torch.testing.assert_close(best[defined], torch.ones(int(defined.sum())))
    others = {}
    for name in names:
        try:
            others[name] = score(EXPLAINERS.parse(name)(model, images, labels))
        except NotApplicable:
            continue
    assert len(others) >= len(CHEAP)
    means = {name: values.nanmean().item() for name, values in others.items()}
    assert max(means.values()) < 0.99, means
