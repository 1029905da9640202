"""Attacks that weigh a loss against the distance, against the exact distance of affine models."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import EAD, LBFGS, CarliniWagner, Targeted, evaluate
from assay.attacks.base import Attack
from assay.attacks.goals import NOISE
from assay.attacks.gradient import Slope
from assay.attacks.penalty import Weight
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey

EVERY = [CarliniWagner(steps=70), EAD(steps=70), LBFGS()]
SHORT = [CarliniWagner(steps=30), EAD(steps=30), LBFGS(steps=10, search_steps=5)]
MEDIANS = {"CarliniWagner": 1.02, "EAD": 1.1, "LBFGS": 1.02}  # EAD still moves: its steps shrink with the root


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_distance_is_near_the_exact_one(attack: Attack, classes: int) -> None:
    model, images = Affine(classes, seed=classes), near_grey(8)
    labels = model(images).argmax(1)
    outcome = evaluate(attack, model, images, labels)
    norm = attack.norm  # type: ignore[attr-defined]
    found = outcome.distances[norm] / model.distance(images, labels, norm)
    assert outcome.success.all()
    assert found.min() >= 1 - 1e-4
    assert found.median() <= MEDIANS[type(attack).__name__]


@pytest.mark.parametrize("attack", SHORT, ids=repr)
def test_wanted_classes_are_reached(attack: Attack) -> None:
    model, images = Affine(10, seed=5), near_grey(4)
    outcome = evaluate(attack, model, images, Targeted(model(images).argsort(1)[:, -3]))
    assert outcome.success.all()
    assert (outcome.goal.margin(outcome.logits) < -NOISE * outcome.logits.abs().amax(1)).all()


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_images_fooled_already_stay_and_cost_one_pass(attack: Attack) -> None:
    model, images = Affine(10, seed=6), near_grey(6)
    outcome = evaluate(attack, model, images, model(images).argmin(1))
    assert torch.equal(outcome.adversarial, images)
    assert (outcome.forwards, outcome.backwards) == (1, 1)


@pytest.mark.parametrize("attack", [CarliniWagner(steps=5, search_steps=3), EAD(steps=5, search_steps=3)], ids=repr)
def test_every_step_is_one_pass(attack: Attack) -> None:
    model, images = Affine(10, seed=7), near_grey(5)
    outcome = evaluate(attack, model, images, model(images).argmax(1))
    assert (outcome.forwards, outcome.backwards) == (16, 16)


@pytest.mark.parametrize("attack", SHORT, ids=repr)
def test_what_cannot_be_fooled_comes_back(attack: Attack) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * images.flatten(1)[:, :3] + torch.tensor([1.0, 0.0, 0.0])

    images = near_grey(2)
    assert torch.equal(attack(Constant(), images, torch.zeros(2, dtype=torch.long)), images)


@pytest.mark.parametrize("attack", [CarliniWagner(confidence=2.0, steps=30), EAD(confidence=2.0, steps=30)], ids=repr)
def test_confidence_is_a_lead_in_logits(attack: Attack) -> None:
    model, images = Affine(10, seed=8), near_grey(6)
    outcome = evaluate(attack, model, images, model(images).argmax(1))
    assert outcome.success.all()
    assert (outcome.goal.margin(outcome.logits) <= -2 + 1e-4).all()


def test_black_and_white_images_are_fooled() -> None:
    """There tanh has next to no slope, so that a path with the paper's settings hardly leaves."""
    model = Affine(2, (1, 5, 5), seed=3)
    images = torch.rand(6, 1, 5, 5, generator=torch.Generator().manual_seed(4)).round()
    for attack in SHORT:
        outcome = evaluate(attack, model, images, model(images).argmax(1))
        assert outcome.success.all()


def test_eads_changes_are_sparse() -> None:
    model, images = Affine(2, seed=9), near_grey(6)
    labels = model(images).argmax(1)
    attacks = (EAD(steps=50), CarliniWagner(steps=50))
    sparse, dense = (evaluate(attack, model, images, labels).distances["l0"] for attack in attacks)
    assert (sparse < dense / 4).all()


def test_the_first_weight_is_what_an_affine_model_needs() -> None:
    gradient, loss = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([-5.0])
    weight = Weight.first(Slope(torch.zeros(1, 2), loss, gradient), None)
    delta = weight.c / 2 * gradient  # minimises |d|^2 - c g.d
    assert (gradient * delta).sum() == pytest.approx(5.0)


def test_weights_grow_until_they_fool_and_then_close_in() -> None:
    weight = Weight.first(Slope(torch.zeros(3, 2), torch.zeros(3), torch.zeros(3, 1, 1, 1)), 1.0)
    for _ in range(12):
        weight = weight.next(weight.c >= torch.tensor([0.3, 37.0, torch.inf]))
    torch.testing.assert_close(weight.high[:2], torch.tensor([0.3, 37.0]), rtol=0.01, atol=0)
    assert weight.high[2] == torch.inf
    assert weight.c[2] == 1e12


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: CarliniWagner(steps=0),
        lambda: CarliniWagner(confidence=-1.0),
        lambda: CarliniWagner(lr=0.0),
        lambda: EAD(beta=0.0),
        lambda: EAD(search_steps=0),
        lambda: LBFGS(c=-1.0),
    ],
)
def test_settings_without_meaning_are_refused(wrong: Callable[[], Attack]) -> None:
    with pytest.raises(AssayError, match="must be"):
        wrong()
