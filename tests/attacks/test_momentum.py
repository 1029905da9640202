"""The parts of the momentum family, one by one."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import BIM, DIFGSM, MIFGSM, NIFGSM, SIFGSM, TIFGSM, VMIFGSM, Untargeted
from assay.attacks.balls import distance
from assay.attacks.momentum import _shrinking, _smooth
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey


def setting(classes: int = 10) -> tuple[Affine, Tensor, Tensor]:
    model, images = Affine(classes, (3, 8, 8)), near_grey(16, (3, 8, 8))
    return model, images, model(images).argmax(1)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_without_momentum_it_is_the_basic_iterative_method(norm: Any) -> None:
    model, images, labels = setting()
    plain = MIFGSM(norm=norm, eps=0.05, decay=0)(model, images, labels)
    torch.testing.assert_close(plain, BIM(norm=norm, eps=0.05, early_stop=False)(model, images, labels))


def test_on_two_affine_classes_all_reach_the_corner_of_the_ball() -> None:
    model, images, labels = setting(2)
    sign = (model.weight[1 - labels] - model.weight[labels]).sign().view_as(images)
    for attack in (MIFGSM, NIFGSM, DIFGSM, SIFGSM, VMIFGSM):
        settings: dict[str, Any] = {"diversity": 0.0} if attack is DIFGSM else {}
        reached = attack(eps=0.05, **settings)(model, images, labels)
        torch.testing.assert_close(reached, (images + 0.05 * sign).detach(), rtol=0, atol=1e-6)


def test_in_l1_the_budget_is_spent_where_one_value_has_no_room_for_it() -> None:
    model, images, labels = Affine(2, (3, 32, 32)), near_grey(4, (3, 32, 32)), torch.zeros(4, dtype=torch.int64)
    with torch.no_grad():
        model.bias[0] += 1000
    found = MIFGSM(norm="l1", eps=10, loss="margin")(model, images, labels)
    assert (distance(found - images, "l1") > 8).all()


@pytest.mark.parametrize(("norm", "power"), [("linf", 0.0), ("l2", 0.5), ("l1", 1.0)])
def test_neighbours_lie_as_far_in_every_norm(norm: Any, power: float) -> None:
    asked: list[Tensor] = []

    class Listening(Affine):
        def forward(self, images: Tensor) -> Tensor:
            asked.append(images.detach())
            return super().forward(images)

    model, images = Listening(2, (3, 8, 8)), near_grey(4, (3, 8, 8))
    VMIFGSM(norm=norm, eps=0.1, steps=1, neighbours=5)(model, images, torch.zeros(4, dtype=torch.int64))
    farthest = (torch.stack(asked[1:6]) - images).abs().max().item()
    assert farthest == pytest.approx(1.5 * 0.1 / 192**power, rel=0.01)


def test_momentum_is_algorithm_1() -> None:
    model, images, labels = setting()
    x, momentum = images.clone(), torch.zeros_like(images)
    for _ in range(4):
        x.requires_grad_(True)
        (gradient,) = torch.autograd.grad(F.cross_entropy(model(x), labels, reduction="sum"), x)
        momentum = 0.9 * momentum + gradient / gradient.abs().mean((1, 2, 3), keepdim=True)
        x = (x.detach() + 0.02 * momentum.sign()).clamp(images - 0.05, images + 0.05)
    found = MIFGSM(eps=0.05, steps=4, step=0.02, decay=0.9)(model, images, labels)
    fools = model(x).argmax(1) != labels
    assert fools.sum() > 4
    torch.testing.assert_close(found[fools], x[fools].detach(), rtol=0, atol=1e-6)


def test_lookahead_asks_where_the_momentum_leads() -> None:
    asked: list[Tensor] = []

    class Listening(Affine):
        def forward(self, images: Tensor) -> Tensor:
            asked.append(images.detach())
            return super().forward(images)

    model, images = Listening(2, (3, 8, 8)), near_grey(4, (3, 8, 8))
    labels = model(images).argmax(1)
    del asked[:]
    NIFGSM(eps=0.1, steps=2, decay=1.0)(model, images, labels)
    assert torch.equal(asked[0], images)
    moved = (asked[1] - images).abs()  # one step of .05, then as far again times the momentum of mean size 1
    torch.testing.assert_close(moved.mean((1, 2, 3)), torch.full((4,), 0.1), rtol=1e-3, atol=0)


def test_scaled_copies_are_averaged() -> None:
    class Square(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            total = images.square().sum((1, 2, 3))
            return torch.stack([total, torch.zeros_like(total)], 1)

    images = near_grey(2, (1, 4, 4))
    goal = Untargeted(torch.zeros(2, dtype=torch.int64))
    found = SIFGSM(scales=3, loss="margin")._slope(Square(), images, goal, as_draws(0, images))
    expected = -2 * images * (1 + 1 / 4 + 1 / 16) / 3
    torch.testing.assert_close(found.gradient, expected)


def test_smoothing_keeps_the_mean_and_spreads_a_point() -> None:
    point = torch.zeros(1, 2, 15, 15)
    point[0, 0, 7, 7] = 1
    smooth = _smooth(point, 7)
    assert smooth[0, 0].sum().item() == pytest.approx(1, abs=1e-6)
    assert smooth[0, 1].abs().sum() == 0
    profile = torch.exp(-0.5 * ((torch.arange(7) - 3) / (7 / 6)) ** 2)
    torch.testing.assert_close(smooth[0, 0, 7, 4:11] / smooth[0, 0, 7, 7], profile)
    assert torch.equal(_smooth(point, 1), point)


def test_diverse_inputs_are_shrunk_copies_at_a_place_of_their_own() -> None:
    images = torch.ones(64, 1, 40, 40)
    shrunk = _shrinking(images, as_draws(0, images), 0.5)(images)
    side = (shrunk > 0.5).float().amax((1, 2)).sum(1)
    whole = (side == 40).sum().item()
    assert 20 <= whole <= 44
    assert side.min() >= 0.85 * 40 - 1
    assert len(torch.unique(shrunk.argmax(3).argmax(2))) > 1
    torch.testing.assert_close(_shrinking(images, as_draws(0, images), 0.0)(images), images)


def test_shrinking_an_image_does_not_depend_on_the_others() -> None:
    images = torch.rand(4, 3, 24, 24)
    together = _shrinking(images, Draws.hashed("x", "abcd"), 1.0)(images)
    alone = _shrinking(images[2:3], Draws.hashed("x", "c"), 1.0)(images[2:3])
    torch.testing.assert_close(together[2:3], alone)


def test_smoothing_of_the_gradient_changes_the_attack() -> None:
    model, images, labels = setting()
    assert not torch.equal(TIFGSM()(model, images, labels), MIFGSM()(model, images, labels))


@pytest.mark.parametrize(
    "settings", [{"kernel": 4}, {"diversity": 1.5}, {"scales": 0}, {"neighbours": -1}, {"decay": float("nan")}]
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AssayError, match=next(iter(settings))):
        MIFGSM(**settings)
