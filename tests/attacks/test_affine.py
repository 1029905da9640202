"""Attacks against the closed forms of affine models, whose box is not active."""

from typing import Any

import pytest
import torch

from assay.attacks import FGSM, PGD, GradientFooling, LeastLikely, RandomNoise, Targeted
from assay.attacks.balls import DUAL, Ball, distance
from assay.core.draws import as_draws
from tests.attacks.models import Affine, near_grey

RADII = (0.0, 0.01, 0.02, 0.05, 0.1)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("eps", RADII)
def test_fgsm_is_the_closed_form_for_two_classes(eps: float, seed: int) -> None:
    model, images = Affine(2, seed=seed), near_grey(200)
    labels = model(images).argmax(1)
    adversarial = FGSM(eps=eps)(model, images, labels)
    other = 1 - labels
    expected = images + eps * (model.weight[other] - model.weight[labels]).sign().view_as(images)
    torch.testing.assert_close(adversarial, expected.detach(), rtol=0, atol=1e-7)
    robust = (model(adversarial).argmax(1) == labels).float().mean()
    truth = (model.distance(images, labels, "linf") > eps).float().mean()
    assert robust == truth


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pgd_reaches_the_exact_robust_accuracy_for_two_classes(norm: Any, seed: int) -> None:
    model, images = Affine(2, seed=seed), near_grey(200)
    labels = model(images).argmax(1)
    distances = model.distance(images, labels, norm)
    for eps in distances.quantile(torch.tensor([0.2, 0.5, 0.8])).tolist():
        stands = model(PGD(norm=norm, eps=eps)(model, images, labels)).argmax(1) == labels
        assert not stands[distances < 0.9999 * eps].any()
        assert stands[distances > 1.0001 * eps].all()


def test_the_default_steps_cross_the_ball() -> None:
    model, images = Affine(2), near_grey(50)
    labels = model(images).argmax(1)
    moved = PGD(eps=0.05, steps=7, early_stop=False)(model, images, labels) - images
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.05), rtol=0, atol=1e-6)


def test_restarts_never_weaken() -> None:
    model, images = Affine(10, seed=3), near_grey(100)
    labels = model(images).argmax(1)
    eps = model.distance(images, labels, "linf").median().item()
    once = model(PGD(eps=eps, steps=5)(model, images, labels)).argmax(1) == labels
    often = model(PGD(eps=eps, steps=5, restarts=4)(model, images, labels)).argmax(1) == labels
    assert not (often & ~once).any()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_projection_is_the_nearest_point(norm: Any) -> None:
    ball = Ball(norm, 0.3)
    far, inside = torch.randn(4, 3, 4, 4), 0.001 * torch.randn(4, 3, 4, 4)
    assert (distance(ball.project(far), norm) <= 0.3 + 1e-6).all()
    torch.testing.assert_close(ball.project(inside), inside)
    steepest = ball.steepest(far)
    torch.testing.assert_close(distance(steepest, norm), torch.ones(4))
    torch.testing.assert_close((steepest * far).flatten(1).sum(1), distance(far, DUAL[norm]))
    points = ball.project(far) + 0.02 * torch.randn(500, 4, 3, 4, 4)
    points = points * (0.3 / torch.stack([distance(p, norm) for p in points])).clamp(max=1)[..., None, None, None]
    assert (distance(ball.project(far) - far, "l2") <= torch.stack([distance(p - far, "l2") for p in points])).all()


@pytest.mark.parametrize("eps", [0.0, 0.5, 3.0, 30.0, 1000.0])
def test_in_l1_inside_is_the_nearest_point_of_ball_and_box(eps: float) -> None:
    """The threshold by 60 bisections, in double precision."""
    images = torch.rand(5, 3, 8, 8)
    shift = 0.3 * torch.randn_like(images)
    size, space = shift.abs().double(), torch.where(shift > 0, 1 - images, images).double()
    low, high = (torch.full((5, 1, 1, 1), value, dtype=torch.float64) for value in (0.0, 5.0))
    for _ in range(60):
        middle = (low + high) / 2
        left = torch.minimum((size - middle).clamp(min=0), space).sum((1, 2, 3), keepdim=True)
        low, high = torch.where(left > eps, middle, low), torch.where(left > eps, high, middle)
    nearest = images + torch.minimum((size - high).clamp(min=0), space) * shift.sign()
    torch.testing.assert_close(Ball("l1", eps).inside(images, images + shift), nearest.float(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_starts_fill_the_ball(norm: Any) -> None:
    """In two dimensions half of them lie within the square root of a half."""
    images = torch.zeros(2000, 1, 2, 1)
    radii = distance(Ball(norm, 1.0).random(images, as_draws(0, images)), norm)
    assert radii.max() <= 1 + 1e-6
    assert (radii < 0.5**0.5).float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_gradient_fooling_walks_straight_to_the_chosen_class() -> None:
    model, images = Affine(10, seed=4), near_grey(50)
    wanted = model(images).argmin(1)
    fooled = GradientFooling(step=0.05, steps=400)(model, images, Targeted(wanted))
    assert (model(fooled).argmax(1) == wanted).all()
    step = (fooled - images)[0].flatten()
    direction = model.weight[wanted[0]].detach()
    assert torch.cosine_similarity(step, direction, dim=0) > 0.99


def test_least_likely_aims_at_the_smallest_logit() -> None:
    model, images = Affine(10, seed=5), near_grey(20)
    wanted = model(images).argmin(1)
    by_goal = FGSM(eps=0.05)(model, images, LeastLikely())
    torch.testing.assert_close(by_goal, FGSM(eps=0.05)(model, images, Targeted(wanted)))
    assert (model(by_goal).gather(1, wanted[:, None]) > model(images).gather(1, wanted[:, None])).all()


def test_noise_is_weaker_than_the_gradient() -> None:
    model, images = Affine(2, seed=6), near_grey(200)
    labels = model(images).argmax(1)
    eps = model.distance(images, labels, "linf").median().item()
    noisy = (model(RandomNoise(eps=eps)(model, images, labels)).argmax(1) == labels).float().mean()
    attacked = (model(FGSM(eps=eps)(model, images, labels)).argmax(1) == labels).float().mean()
    assert noisy > attacked + 0.2
