"""Attacks that see the class alone, against the exact distance to the boundary of affine models."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import BoundaryAttack, HopSkipJump, Targeted
from assay.attacks.balls import distance
from assay.attacks.base import BlackBox
from assay.attacks.decisions import SPARE
from assay.core.borrow import counting
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey

DECISIONS = [HopSkipJump(queries=500), HopSkipJump(norm="linf", queries=500), BoundaryAttack(queries=500)]
NAMES = ["HopSkipJump-l2", "HopSkipJump-linf", "BoundaryAttack"]


class Decided(nn.Module):
    """The class of another model, and nothing else."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return F.one_hot(logits.argmax(1), logits.shape[1]).to(logits)


class Colour(nn.Module):
    """Grey on average or not; fine noise is."""

    def forward(self, images: Tensor) -> Tensor:
        off = (images.mean((1, 2, 3)) - 0.5).abs()
        return torch.stack([0.1 - off, off - 0.1], 1)


def subject(classes: int, seed: int, n: int = 20) -> tuple[Affine, Tensor, Tensor]:
    model, images = Affine(classes, seed=seed), near_grey(n)
    return model, images, model(images).argmax(1)


@pytest.mark.parametrize(
    ("attack", "ratio"),
    [
        (HopSkipJump(queries=1000), 1.25),
        (HopSkipJump(queries=5000), 1.04),
        (HopSkipJump(norm="linf", queries=1000), 1.45),
        (HopSkipJump(norm="linf", queries=5000), 1.10),
        (BoundaryAttack(queries=1000), 1.20),
    ],
    ids=lambda value: f"{value}",
)
def test_distances_approach_the_optimum(attack: Any, ratio: float) -> None:
    model, images, labels = subject(2, seed=0)
    adversarial = attack(model, images, labels)
    assert (model(adversarial).argmax(1) != labels).all()
    reached = distance(adversarial - images, attack.norm) / model.distance(images, labels, attack.norm)
    assert (reached >= 1).all()
    assert (reached < ratio).all()


@pytest.mark.parametrize("attack", DECISIONS, ids=NAMES)
@pytest.mark.parametrize("classes", [2, 10])
def test_every_question_is_counted_for_its_image(attack: BlackBox, classes: int) -> None:
    model, images, labels = subject(classes, seed=1)
    labels = torch.where(torch.arange(len(labels)) < 5, (labels + 1) % classes, labels)
    with counting(model) as passes:
        trace = attack.trace(model, images, labels)
    assert trace.queries.sum() == passes.forwards
    assert (trace.queries[:5] == 1).all()
    assert torch.equal(trace.images[:5], images[:5])
    assert (trace.queries <= 500).all()
    assert (trace.queries[5:] >= 490).all()
    assert (model(trace.images).argmax(1) != labels).all()


@pytest.mark.parametrize("queries", [1, 2, 3, 10, 30, 40])
@pytest.mark.parametrize("cls", [HopSkipJump, BoundaryAttack])
def test_keeps_the_smallest_budgets(cls: Any, queries: int) -> None:
    model, images, labels = subject(10, seed=2)
    with counting(model) as passes:
        trace = cls(queries=queries).trace(model, images, labels)
    assert trace.queries.sum() == passes.forwards
    assert (trace.queries <= queries).all()
    fooled = model(trace.images).argmax(1) != labels
    assert torch.equal(trace.images[~fooled], images[~fooled])


@pytest.mark.parametrize("attack", DECISIONS, ids=NAMES)
def test_history_leads_to_the_result(attack: Any) -> None:
    model, images, labels = subject(10, seed=3)
    trace = attack.trace(model, images, labels)
    queries, sizes = (torch.stack(part) for part in zip(*trace.history, strict=True))
    assert len(trace.history) > 3
    assert (queries.diff(dim=0) >= 0).all()
    assert (sizes.diff(dim=0) <= 0).all()
    assert torch.equal(queries[-1], trace.queries)
    torch.testing.assert_close(sizes[-1], distance(trace.images - images, attack.norm))


@pytest.mark.parametrize("attack", DECISIONS, ids=NAMES)
def test_the_class_alone_is_all_it_sees(attack: BlackBox) -> None:
    model, images, labels = subject(10, seed=4)
    short = replace(attack, queries=200)  # type: ignore[type-var]
    assert torch.equal(short(Decided(model), images, labels), short(model, images, labels))


@pytest.mark.parametrize("attack", DECISIONS, ids=NAMES)
def test_results_stand_off_the_boundary_by_more_than_float_noise(attack: Any) -> None:
    model, images, labels = subject(2, seed=5)
    adversarial = replace(attack, queries=200)(model, images, labels)
    clean, lead = ((model(x)[:, 0] - model(x)[:, 1]).abs() for x in (images, adversarial))
    assert (lead >= 0.99 * SPARE * clean).all()


@pytest.mark.parametrize("attack", DECISIONS, ids=NAMES)
def test_a_wanted_class_that_noise_shows_is_reached(attack: BlackBox) -> None:
    model, images, labels = subject(5, seed=6)
    adversarial = attack(model, images, Targeted((labels + 1) % 5))
    assert (model(adversarial).argmax(1) == (labels + 1) % 5).all()


@pytest.mark.parametrize("cls", [HopSkipJump, BoundaryAttack])
def test_a_class_that_no_noise_shows_is_given_up(cls: Any) -> None:
    model, images, _ = subject(5, seed=6)
    with torch.no_grad():
        model.bias[3] -= 1000
    trace = cls(tries=20).trace(model, images, Targeted(torch.full((20,), 3)))
    assert torch.equal(trace.images, images)
    assert (trace.queries == 21).all()
    assert trace.history[-1][1].isinf().all()


@pytest.mark.parametrize("cls", [HopSkipJump, BoundaryAttack])
def test_coarse_noise_starts_where_fine_noise_does_not(cls: Any) -> None:
    images = near_grey(6, (3, 16, 16))
    labels = torch.zeros(6, dtype=torch.int64)
    assert (Colour()(torch.rand(50, 3, 16, 16)).argmax(1) == 0).all()
    assert (Colour()(cls(queries=200)(Colour(), images, labels)).argmax(1) == 1).all()


class Viewing(Colour):
    """Takes views of its images, as many published networks do."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.view(len(images), -1).view(images.shape))


@pytest.mark.parametrize("cls", [HopSkipJump, BoundaryAttack])
def test_noise_of_any_grain_has_the_usual_layout_on_any_size(cls: Any) -> None:
    images, labels = near_grey(3, (3, 15, 13)), torch.zeros(3, dtype=torch.int64)
    assert (Viewing()(cls(queries=200)(Viewing(), images, labels)).argmax(1) == 1).all()


@pytest.mark.parametrize("cls", [HopSkipJump, BoundaryAttack])
@pytest.mark.parametrize("settings", [{"queries": 0}, {"tries": 0}])
def test_impossible_settings_are_refused(cls: Any, settings: Any) -> None:
    with pytest.raises(AssayError, match=next(iter(settings))):
        cls(**settings)
