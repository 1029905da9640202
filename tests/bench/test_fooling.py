"""Pictures made from nothing, one for each class."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks import ATTACKS
from assay.attacks.base import Attack
from assay.attacks.goals import Goal, Targeted
from assay.bench.measurements import Options, Setup
from assay.bench.measurements.base import to_bytes
from assay.bench.measurements.fooling import FoolingCell
from assay.bench.runs.plan import plan
from assay.core.draws import Draws
from assay.core.errors import AssayError
from tests.bench.nets import OWN

MODELS = (OWN + "linear", OWN + "convolutional", OWN + "large")


@dataclass(frozen=True, kw_only=True, slots=True)
class Nothing(Attack):
    """Climbs from random pixels; ``spoilt`` leaves the range."""

    spoilt: bool = False

    @property
    def from_nothing(self) -> bool:
        return True

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        assert isinstance(goal, Targeted)
        x = draws.uniform(images.shape[1:])
        for _ in range(20):
            x = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(goal.cross_entropy(model(x)).sum(), x)
            x = (x + 0.05 * slope.sign()).clamp(0, 1)
        return x + 2 if self.spoilt else x


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ATTACKS._entries, "nothing", f"{__name__}:Nothing")


METRICS = {
    *("own_probability", "moved_probability", "other_probability", "other_agreement"),
    "spectrum_distance",
}


def cells(*attacks: str, **more: object) -> list[FoolingCell]:
    options = Options(models=MODELS[:2], data=("digits",), attacks=attacks, limit=5, **more)
    return [cell for cell in plan(options).cells if isinstance(cell, FoolingCell)]


def test_an_attack_from_nothing_draws_every_class() -> None:
    first, second = cells("fgsm", "nothing")
    assert (first.kind, first.method.text, first.data, first.classes) == (
        "fooling",
        "Nothing(spoilt=False)",
        "",
        tuple(range(10)),
    )
    assert [spec for spec, _ in first.judges] == [MODELS[1]]
    found = first.measure(Setup())
    rows = [(row["image"], row["label"]) for row in found.rows if row["metric"] == "own_probability"]
    assert rows == [(f"class-{k}", k) for k in range(10)]
    assert {row["metric"] for row in found.rows} == METRICS
    pictures = torch.from_numpy(found.art["pictures.npz"]["images"]).permute(0, 3, 1, 2) / 255
    assert pictures.shape == (10, 1, 8, 8)
    with torch.no_grad():
        own = first.subject(Setup())(pictures).softmax(1).diagonal()
    np.testing.assert_allclose(found.art["meta.json"]["own_probability"], own, atol=0.05)
    assert own.mean() > 0.9
    assert set(found.art["meta.json"]) == {"classes", "labels", "own_probability", "other_probability"}
    other = second.measure(Setup()).art["pictures.npz"]["images"]
    assert (other != found.art["pictures.npz"]["images"]).any()


def test_it_is_no_attack_on_images() -> None:
    options = Options(models=MODELS[:1], data=("digits",), attacks=("nothing", "fgsm"), limit=5)
    found = plan(options)
    assert [cell.method.text for cell in found.cells if cell.kind == "attack"] == [repr(ATTACKS.parse("fgsm"))]
    assert [cell.method.settings["attack"] for cell in found.cells if cell.kind == "gallery"] == [
        repr(ATTACKS.parse("fgsm"))
    ]
    (nothing,) = [cell.method for cell in found.cells if cell.kind == "fooling"]
    assert (nothing.text, nothing.name, nothing.eps, nothing.norm) == ("Nothing(spoilt=False)", "nothing", None, "")


def test_pictures_out_of_range_are_flagged() -> None:
    first, _ = cells("nothing(spoilt=True)")
    found = first.measure(Setup())
    assert {row["flags"] for row in found.rows} == {"out-of-range"}
    assert (found.art["pictures.npz"]["images"] == 255).all()


@pytest.mark.parametrize("more", [{"attacks": ("nothing(goal=3)",)}, {"transfer": ("nothing",)}])
def test_it_takes_no_goal_and_does_not_transfer(more: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(AssayError, match="draws every class from nothing"):
        plan(Options(models=MODELS[:1], data=("digits",), limit=5, **more))


def test_pictures_are_those_of_the_streams() -> None:
    (cell, _) = cells("nothing")
    model = cell.subject(Setup())
    names = [f"class-{k}" for k in range(10)]
    grey = torch.full((10, 1, 8, 8), 0.5)
    expected = cell.attack(model, grey, Targeted(torch.arange(10)), cell.draws(names))
    np.testing.assert_array_equal(cell.measure(Setup()).art["pictures.npz"]["images"], to_bytes(expected))


@pytest.mark.parametrize(
    "text", ["gradient-fooling(start=noise, steps=5)", "cppn-fooling(population=4, generations=3)"]
)
def test_those_of_the_table_run(text: str) -> None:
    first, _ = cells(text)
    assert first.method.text == repr(ATTACKS.parse(text))
    assert len(first.measure(Setup()).rows) == len(METRICS) * 10


def test_fooling_from_an_image_is_an_attack_on_images() -> None:
    assert not cells("gradient-fooling")
