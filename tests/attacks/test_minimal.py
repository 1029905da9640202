"""Minimal-distance attacks against what is exactly the nearest image of affine models."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import ALMA, DDN, FMN, SigmaZero, Targeted, evaluate
from assay.attacks.balls import ORDERS, Ball, distance
from assay.attacks.base import Attack
from assay.attacks.minimal import _p2_slope
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey

EXACT = [DDN(), *(FMN(norm=norm) for norm in ("l2", "linf", "l1")), ALMA()]
EVERY = [*EXACT, ALMA(norm="l1"), FMN(norm="l0"), SigmaZero()]


def ratios(attack: Attack, classes: int, seed: int) -> Tensor:
    """The distance as a share of the exact one; infinite where the image does not fool."""
    model, images = Affine(classes, seed=seed), near_grey(30, seed=seed + 10)
    labels = model(images).argmax(1)
    outcome = evaluate(attack, model, images, labels)
    norm = attack.norm  # type: ignore[attr-defined]
    return torch.where(outcome.success, outcome.distances[norm] / model.distance(images, labels, norm), torch.inf)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("attack", EXACT, ids=repr)
def test_distance_is_within_one_percent_of_the_exact_one(attack: Attack, classes: int, seed: int) -> None:
    found = ratios(replace(attack, steps=70), classes, seed)  # type: ignore[type-var]
    assert found.isfinite().all()
    assert found.min() >= 1 - 1e-4
    assert found.median() <= 1.01


def test_alma_in_l1_is_near_the_exact_distance() -> None:
    """It descends on the sign of every change, so that none is ever exactly 0."""
    found = ratios(ALMA(norm="l1"), 2, 0)
    assert found.isfinite().all()
    assert found.median() <= 1.06


def test_far_radii_are_reached_from_any_first_one() -> None:
    for init_norm in (0.001, 10.0):
        assert ratios(DDN(init_norm=init_norm, steps=200), 2, 0).max() <= 1.02


def boxed_l2(gains: Tensor, rooms: Tensor, margin: Tensor) -> Tensor:
    """The smallest |d| with gains . d >= margin and 0 <= d <= rooms: min(t gains, rooms), t by bisection."""
    low, high = torch.zeros_like(margin), torch.full_like(margin, 1e3)
    for _ in range(60):
        middle = (low + high) / 2
        enough = (gains * torch.minimum(middle[:, None] * gains, rooms)).sum(1) >= margin
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return distance(torch.minimum(high[:, None] * gains, rooms), "l2")


def boxed_linf(gains: Tensor, rooms: Tensor, margin: Tensor) -> Tensor:
    low, high = torch.zeros_like(margin), torch.ones_like(margin)
    for _ in range(60):
        middle = (low + high) / 2
        enough = (gains * rooms.minimum(middle[:, None])).sum(1) >= margin
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    return high


def boxed_l1(gains: Tensor, rooms: Tensor, margin: Tensor) -> Tensor:
    """The values of largest gain are used up one after the other."""
    order = gains.argsort(1, descending=True)
    gain, space = gains.gather(1, order), rooms.gather(1, order)
    before = (gain * space).cumsum(1) - gain * space
    used = ((margin[:, None] - before) / gain).clamp(min=0).minimum(space)
    return used.sum(1)


def boxed_l0(gains: Tensor, rooms: Tensor, margin: Tensor) -> Tensor:
    """The fewest values whose largest gains make up for the margin."""
    return ((gains * rooms).sort(1, descending=True).values.cumsum(1) < margin[:, None]).sum(1) + 1.0


@pytest.mark.parametrize(
    ("attack", "exact", "share"),
    [
        (DDN(), boxed_l2, 1.01),
        (FMN(norm="l2"), boxed_l2, 1.01),
        (ALMA(norm="l2"), boxed_l2, 1.01),
        (FMN(norm="linf"), boxed_linf, 1.01),
        (FMN(norm="l1"), boxed_l1, 1.01),
        (FMN(norm="l0"), boxed_l0, 1.0),
        (SigmaZero(), boxed_l0, 1.0),
    ],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_the_box_is_used(attack: Attack, exact: Callable[[Tensor, Tensor, Tensor], Tensor], share: float) -> None:
    """Pictures of black and white corners, where the way of half of the gradient is barred."""
    model = Affine(2, (1, 5, 5), seed=3)
    images = torch.rand(40, 1, 5, 5, generator=torch.Generator().manual_seed(4)).mul(3).sub(1).clamp(0, 1)
    logits = model(images).detach()
    labels = logits.argmax(1)
    slopes = (model.weight[1 - labels] - model.weight[labels]).detach()
    flat = images.flatten(1)
    rooms = torch.where(slopes > 0, 1 - flat, flat)
    nearest = exact(slopes.abs(), rooms, (logits[:, 0] - logits[:, 1]).abs())
    outcome = evaluate(attack, model, images, labels)
    found = outcome.distances[attack.norm] / nearest  # type: ignore[attr-defined]
    assert outcome.success.all()
    assert found.min() >= 1 - 1e-4
    assert found.median() <= share


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_wanted_classes_are_reached(attack: Attack) -> None:
    model, images = Affine(10, seed=5), near_grey(20)
    order = model(images).argsort(1)
    short = replace(attack, steps=50)  # type: ignore[type-var]
    outcome = evaluate(short, model, images, Targeted(order[:, -3]))
    assert outcome.success.all()
    assert (outcome.goal.margin(outcome.logits) < -outcome.goal.noise(outcome.logits)).all()


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_images_fooled_already_stay_and_cost_one_pass(attack: Attack) -> None:
    model, images = Affine(10, seed=6), near_grey(20)
    outcome = evaluate(attack, model, images, model(images).argmin(1))
    assert torch.equal(outcome.adversarial, images)
    assert (outcome.forwards, outcome.backwards) == (1, 1)


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_every_step_is_one_pass(attack: Attack) -> None:
    model, images = Affine(10, seed=7), near_grey(5)
    outcome = evaluate(replace(attack, steps=7), model, images, model(images).argmax(1))  # type: ignore[type-var]
    assert (outcome.forwards, outcome.backwards) == (7, 7)


@pytest.mark.parametrize("attack", EVERY, ids=repr)
def test_what_cannot_be_fooled_comes_back(attack: Attack) -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return 0 * images.flatten(1)[:, :3] + torch.tensor([1.0, 0.0, 0.0])

    images = near_grey(3)
    short: Attack = replace(attack, steps=10)  # type: ignore[type-var]
    assert torch.equal(short(Constant(), images, torch.zeros(3, dtype=torch.long)), images)


def test_the_scale_of_the_logits_does_not_matter() -> None:
    class Loud(Affine):
        def forward(self, images: Tensor) -> Tensor:
            return 1e4 * super().forward(images)

    images = near_grey(10)
    for attack in EVERY:
        quiet, loud = (cls(10, seed=8) for cls in (Affine, Loud))
        labels, short = quiet(images).argmax(1), replace(attack, steps=40)  # type: ignore[type-var]
        sizes = [
            evaluate(short, model, images, labels).distances[short.norm].median()  # type: ignore[attr-defined]
            for model in (quiet, loud)
        ]
        torch.testing.assert_close(sizes[1], sizes[0], rtol=0.02, atol=0)


def test_ddn_gives_images_of_so_many_levels() -> None:
    model, images = Affine(2, seed=9), (near_grey(20) * 255).round() / 255
    outcome = evaluate(DDN(levels=256), model, images, model(images).argmax(1))
    torch.testing.assert_close(outcome.adversarial * 255, (outcome.adversarial * 255).round(), rtol=0, atol=1e-4)
    assert (outcome.success & outcome.success_8bit).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_balls_of_many_radii_are_balls_of_one(norm: Any) -> None:
    images = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    moved = images + torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    radii = ORDERS[norm] ** -1 * torch.tensor([0.0, 0.1, 0.3, 0.5, 2.0, 50.0]) + 0.01
    one = [Ball(norm, r).inside(x, y) for r, x, y in zip(radii.tolist(), images.split(1), moved.split(1), strict=True)]  # type: ignore[no-untyped-call]
    torch.testing.assert_close(Ball(norm, radii).inside(images, moved), torch.cat(one))


def test_l0_balls_keep_what_moved_most() -> None:
    images = torch.tensor([0.5, 0.5, 0.9, 0.1]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    moved = torch.tensor([0.7, 0.2, 9.0, 0.1]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    kept = Ball("l0", torch.tensor([0.0, 1.0, 3.0])).inside(images, moved).flatten(1)
    torch.testing.assert_close(kept[0], images[0].flatten())
    torch.testing.assert_close(kept[1], torch.tensor([0.5, 0.2, 0.9, 0.1]))
    torch.testing.assert_close(kept[2], torch.tensor([0.7, 0.2, 1.0, 0.1]))


def test_the_slope_of_the_penalty_is_that_of_p2() -> None:
    y = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
    rho, mu = torch.tensor(1.7, dtype=torch.float64), torch.tensor(0.6, dtype=torch.float64)
    value = torch.where(y >= 0, mu * y + mu * rho * y**2 + rho**2 * y**3 / 6, mu * y / (1 - rho * y.clamp(max=0)))
    torch.testing.assert_close(_p2_slope(y.detach(), rho, mu), torch.autograd.grad(value.sum(), y)[0])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: DDN(gamma=1.0),
        lambda: DDN(levels=1),
        lambda: DDN(sharpness=0.0),
        lambda: DDN(steps=0),
        lambda: FMN(last_gamma=1.5),
        lambda: FMN(step=-1.0),
        lambda: ALMA(alpha=1.0),
        lambda: SigmaZero(sigma=0.0),
    ],
)
def test_settings_without_meaning_are_refused(wrong: Callable[[], Attack]) -> None:
    with pytest.raises(AssayError, match="must be"):
        wrong()
