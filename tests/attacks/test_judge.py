"""The judge: what it flags, and what it leaves alone."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import PGD, Untargeted, evaluate
from assay.attacks.balls import Ball, distance
from assay.attacks.checks import SLACK
from assay.attacks.goals import Goal
from assay.attacks.rates import RATES
from assay.core.draws import Draws
from tests.attacks.models import Affine, near_grey


class Returns:
    """An attack that returns what a function makes of the images, within eps 0.1."""

    eps = 0.1
    norm = "linf"

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        self.change = change

    def __call__(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor:
        return self.change(images)


def broken(change: Callable[[Tensor], Tensor]) -> tuple[str, ...]:
    model, images = Affine(3), near_grey(2)
    outcome = evaluate(Returns(change), model, images, model(images).argmax(1))
    assert outcome.adversarial.shape == images.shape
    assert outcome.adversarial.isfinite().all()
    return outcome.flags[0]


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        (lambda x: x[:, :1], "wrong-shape"),
        (lambda x: x * float("nan"), "non-finite"),
        (lambda x: x + 0.2, "over-budget"),
        (lambda x: x * 0 - 0.01, "out-of-range"),
    ],
)
def test_what_cannot_count_is_flagged_and_no_success(change: Callable[[Tensor], Tensor], flag: str) -> None:
    assert flag in broken(change)
    model, images = Affine(3), near_grey(2)
    wrong = (model(images).argmax(1) + 1) % 3
    assert not evaluate(Returns(change), model, images, wrong).success.any()


def test_a_sound_attack_has_no_flags() -> None:
    assert broken(lambda x: (x + 0.01).clamp(0, 1)) == ()


def test_an_image_without_an_answer_counts_as_fooled_and_is_flagged() -> None:
    class Overflows(Affine):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) / 0.0

    images = near_grey(3)
    outcome = evaluate(PGD(eps=0.1, steps=2), Overflows(3), images, torch.zeros(3, dtype=torch.int64))
    assert all("non-finite-logits" in flags for flags in outcome.flags)
    assert outcome.success.all()
    assert outcome.valid.all()


def test_a_randomised_model_is_flagged() -> None:
    class Noisy(Affine):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images + 0.1 * torch.randn_like(images))

    torch.manual_seed(0)
    images = near_grey(3)
    outcome = evaluate(PGD(eps=0.01, steps=2), Noisy(3), images, torch.zeros(3, dtype=torch.int64))
    assert all("not-repeatable" in flags for flags in outcome.flags)


def test_an_outcome_on_the_boundary_is_flagged() -> None:
    model, images = Affine(2), near_grey(1)
    with torch.no_grad():
        gap = model(images)[0, 0] - model(images)[0, 1]
        model.bias[0] -= gap
    outcome = evaluate(Returns(lambda x: x), model, images, torch.zeros(1, dtype=torch.int64))
    assert "boundary" in outcome.flags[0]


def test_what_rounding_to_8_bits_loses_is_flagged() -> None:
    model, images = Affine(2), torch.full((1, 3, 5, 5), 128 / 255)
    label = model(images).argmax(1)
    exact = model.distance(images, label, "linf").item()
    with torch.no_grad():
        gap = (model(images)[0, label] - model(images)[0, 1 - label]).item()
        model.bias[label] -= gap * (1 - 0.3 / 255 / exact)
    outcome = evaluate(PGD(eps=0.4 / 255, steps=5), model, images, label)
    assert outcome.success.all()
    assert not outcome.success_8bit.any()
    assert outcome.flags[0] == ("lost-at-8-bit",)


def test_costs_count_samples_of_the_attack_alone() -> None:
    model, images = Affine(2), near_grey(8)
    labels = model(images).argmax(1)
    outcome = evaluate(PGD(eps=0.0, steps=5), model, images, labels)
    assert (outcome.forwards, outcome.backwards) == (6, 5)
    fooled = evaluate(PGD(eps=0.5, steps=5), model, images, labels)
    assert fooled.forwards < 6
    assert fooled.success.all()


def test_distances_are_the_norms_of_the_difference() -> None:
    images = torch.full((1, 3, 5, 5), 0.5)

    def change(x: Tensor) -> Tensor:
        x = x.clone()
        x[0, 0, 0, 0] += 0.03
        x[0, 1, 2, 2] -= 0.04
        return x

    distances = evaluate(Returns(change), Affine(2), images, Untargeted(torch.zeros(1, dtype=torch.int64))).distances
    for norm, value in {"linf": 0.04, "l2": 0.05, "l1": 0.07, "l0": 2}.items():
        assert distances[norm].item() == pytest.approx(value, abs=1e-6)


def test_each_rate_has_its_own_meaning() -> None:
    label, clean, attacked = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 0, 0])
    rates = {name: rate(clean, attacked, label).nanmean().item() for name, rate in RATES.items()}
    assert rates["robust_accuracy"] == 0.5
    assert rates["error_rate"] == 0.5
    assert rates["fooling_rate"] == 0.5
    assert rates["flip_rate"] == 0.75
    wanted = torch.tensor([1, 1, 1, 0])
    assert RATES["targeted_rate"](clean, attacked, wanted).nanmean().item() == pytest.approx(2 / 3)


@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
def test_budgets_are_kept_at_the_size_of_photographs(norm: Any) -> None:
    """In double precision: 150,528 values in single add up to a thousandth more than there is."""
    generator = torch.Generator().manual_seed(0)
    images, eps = torch.rand(2, 3, 224, 224, generator=generator), {"l1": 100.0, "l2": 3.0, "linf": 4 / 255}[norm]
    for spread in (0.001, 0.05, 3.0):
        moved = Ball(norm, eps).inside(images, images + spread * torch.randn(images.shape, generator=generator))
        exact = torch.linalg.vector_norm(
            (moved.double() - images.double()).flatten(1), {"l1": 1, "l2": 2}.get(norm, torch.inf), 1
        )
        assert (exact <= eps * (1 + SLACK)).all()
        torch.testing.assert_close(distance(moved - images, norm).double(), exact, rtol=1e-6, atol=0)
