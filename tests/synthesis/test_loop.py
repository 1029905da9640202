"""The parts of the loop against closed forms and peers."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from assay.core.draws import Draws
from assay.synthesis.loop import Adam, Momentum, Rule, optimise, quasi_newton
from assay.synthesis.parametrisations import Pixels
from assay.synthesis.regularisers import L2, TV, Blur, ClipContribution, ClipNorm, gaussian_blur, total_variation
from assay.synthesis.spectrum import rms, tilt
from assay.synthesis.transforms import Defocus, Jitter, Noise, Wobble, roll


def _draws(n: int, seed: str = "test") -> Draws:
    return Draws.hashed(seed, map(str, range(n)))


def _pictures(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_roll_is_each_pictures_own() -> None:
    images, shifts = _pictures(3, 2, 5, 7), torch.tensor([[1, 2], [-1, 0], [0, 9]])
    for image, shift, rolled in zip(images, shifts, roll(images, shifts), strict=True):
        assert torch.equal(rolled, torch.roll(image, shift.tolist(), (1, 2)))


def test_rolling_back_is_the_identity() -> None:
    images, shifts = _pictures(4, 3, 6, 6), torch.tensor([[3, -2], [5, 1], [0, 0], [-9, 4]])
    assert torch.equal(roll(roll(images, shifts), -shifts), images)


def test_jitter_stays_within_its_pixels() -> None:
    impulse = torch.zeros(64, 1, 9, 9)
    impulse[:, 0, 4, 4] = 1
    at = Jitter(2)(impulse, _draws(64)).nonzero()[:, 2:] - 4
    assert at.min() == -2
    assert at.max() == 2


def test_wobble_without_strength_is_the_identity() -> None:
    images = _pictures(2, 3, 8, 11)
    torch.testing.assert_close(Wobble(0, 0)(images, _draws(2)), images, atol=1e-5, rtol=0)


def test_wobble_keeps_the_centre_and_the_range() -> None:
    images = _pictures(16, 1, 9, 15)
    moved = Wobble(30, 0.2)(images, _draws(16))
    torch.testing.assert_close(moved[:, :, 4, 7], images[:, :, 4, 7])
    assert moved.min() >= 0
    assert moved.max() <= 1 + 1e-6


def test_wobble_turns_without_shear() -> None:
    """A disc on a picture that is not square keeps its area and its shape under a turn."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(80.0), indexing="ij")
    disc = ((y - 19.5).hypot(x - 39.5) < 12).float()[None, None]
    turned = Wobble(45, 0)(disc.repeat(8, 1, 1, 1), _draws(8))
    assert (turned - disc).abs().mean() < 0.02


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_blur_is_scipys(sigma: float) -> None:
    images = _pictures(2, 3, 12, 9)
    radius = math.ceil(3 * sigma)
    peer = gaussian_filter(images.double().numpy(), sigma, mode="nearest", radius=radius, axes=(2, 3))
    np.testing.assert_allclose(gaussian_blur(images.double(), sigma).numpy(), peer, atol=1e-12)
    assert torch.equal(Blur(sigma)(images, images), gaussian_blur(images, sigma))


def test_blur_of_nothing_is_the_identity() -> None:
    images = _pictures(1, 1, 4, 4)
    assert gaussian_blur(images, 0) is images


@pytest.mark.parametrize(("beta", "expected"), [(2.0, 4.0), (1.0, 2 + math.sqrt(2))])
def test_total_variation_of_an_impulse(beta: float, expected: float) -> None:
    impulse = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    impulse[0, 0, 4, 4] = 1
    assert total_variation(impulse, beta).item() == pytest.approx(expected, abs=1e-4)
    impulse.requires_grad_(True)
    (gradient,) = torch.autograd.grad(total_variation(impulse, beta).sum(), impulse)
    assert gradient.isfinite().all()


def test_total_variation_has_the_slope_of_its_definition() -> None:
    images = _pictures(2, 3, 5, 7).double().requires_grad_(True)
    weights = torch.tensor([1.0, -2.5], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: total_variation(x) * weights, images)


def test_a_rolls_slope_is_the_roll_back() -> None:
    images, wanted = _pictures(4, 3, 6, 5).requires_grad_(True), _pictures(8, 3, 6, 5)[4:]
    shifts = torch.tensor([[0, 0], [2, -1], [-7, 3], [11, 9]])
    (slope,) = torch.autograd.grad((roll(images, shifts) * wanted).sum(), images)
    assert torch.equal(slope, roll(wanted, -shifts))
    assert torch.equal(slope[1], torch.roll(wanted[1], (-2, 1), (1, 2)))


def test_penalties_are_their_sums_and_leave_grey_alone() -> None:
    images = _pictures(3, 2, 5, 5)
    torch.testing.assert_close(TV(3.0)(images), 3 * total_variation(images))
    torch.testing.assert_close(L2(2.0)(images), 2 * (images - 0.5).pow(2).flatten(1).sum(1))
    grey = torch.full((1, 3, 4, 4), 0.5)
    assert L2(1.0)(grey) == TV(1.0)(grey) == 0


@pytest.mark.parametrize(("rule", "steps", "atol"), [(Momentum(0.02), 600, 1e-3), (Adam(0.02), 400, 2e-3)])
def test_linear_objective_with_l2_ends_at_w_over_two_lambda(rule: Rule, steps: int, atol: float) -> None:
    w = (_pictures(2, 1, 4, 5) - 0.5) * 0.2
    art = optimise(
        Pixels(torch.full_like(w, 0.5)),
        lambda images: (images * w).sum((1, 2, 3)),
        _draws(2),
        steps=steps,
        rule=rule,
        penalties=[L2(0.25)],
    )
    torch.testing.assert_close(art.images - 0.5, w / (2 * 0.25), atol=atol, rtol=0)


def test_the_box_holds_where_the_optimum_lies_outside() -> None:
    w = torch.tensor([1.0, -1.0, 2.0, -0.5]).view(1, 1, 2, 2)
    art = optimise(
        Pixels(torch.full_like(w, 0.5)), lambda x: (x * w).sum((1, 2, 3)), _draws(1), steps=200, rule=Momentum(0.05)
    )
    assert torch.equal(art.images, (w > 0).float())


def test_total_gain_of_a_constant_gradient_is_the_step_sizes_sum() -> None:
    start = torch.full((1, 1, 4, 4), 0.5)
    art = optimise(Pixels(start), lambda x: x.sum((1, 2, 3)), _draws(1), steps=4, rule=Momentum(0.01, momentum=0.0))
    torch.testing.assert_close(art.images - start, torch.full_like(start, 0.01 * (1 + 0.75 + 0.5 + 0.25)))
    assert art.history.shape == (4, 1)
    assert art.history[0].item() == pytest.approx(8)


def test_filters_run_when_due_but_not_after_the_last_step() -> None:
    calls: list[int] = []

    def seen(images: Tensor, gradient: Tensor) -> Tensor:
        assert torch.equal(gradient, torch.ones_like(images))  # the objective is a sum
        calls.append(len(images))
        return images

    start = _pictures(2, 1, 3, 3)
    optimise(Pixels(start), lambda x: x.sum((1, 2, 3)), _draws(2), steps=6, rule=Momentum(0.0), filters=[(2, seen)])
    assert calls == [2, 2]


def test_a_flat_objective_moves_nothing() -> None:
    start = _pictures(2, 1, 3, 3)
    art = optimise(Pixels(start), lambda x: (x * 0).sum((1, 2, 3)), _draws(2), steps=3, rule=Momentum(0.1))
    assert torch.equal(art.images, start)
    assert art.history.shape == (3, 2)


@pytest.mark.parametrize("size", [(16, 16), (9, 14)])
def test_tilt_divides_a_wave_by_its_frequency(size: tuple[int, int]) -> None:
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = torch.cos(2 * math.pi * (3 * y / height + 2 * x / width))[None, None]
    frequency = math.hypot(3 / height, 2 / width)
    torch.testing.assert_close(tilt(wave, 2.0), wave / frequency**2, atol=1e-3, rtol=1e-4)
    constant = torch.full((1, 1, *size), 0.3)
    torch.testing.assert_close(tilt(constant, 1.0), constant * max(size))
    assert tilt(wave, 0.0) is wave


def test_the_slope_leaves_the_optimum_where_it_is() -> None:
    w = (_pictures(1, 1, 6, 6) - 0.5) * 0.2
    start, penalties = Pixels(torch.full_like(w, 0.5)), [L2(0.25)]
    art = optimise(
        start,
        lambda x: (x * w).sum((1, 2, 3)),
        _draws(1),
        steps=800,
        rule=Momentum(0.02, slope=1.0),
        penalties=penalties,
    )
    torch.testing.assert_close(art.images - 0.5, w / (2 * 0.25), atol=4e-3, rtol=0)


def test_rms() -> None:
    values = torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]])
    assert rms(values).shape == (2, 1, 1)
    assert rms(values)[0].item() == pytest.approx(math.sqrt(12.5))
    assert (values / rms(values)).isfinite().all()


def test_quasi_newton_ends_at_the_optimum_in_the_box() -> None:
    """Of a quadratic, each picture with its own: the optimum where it is inside, the nearest face where it is not."""
    wanted = torch.randn(3, 1, 4, 5, generator=torch.Generator().manual_seed(2))
    art = quasi_newton(
        torch.full_like(wanted, 0.5), lambda x, i: -(x - wanted[i]).square().sum((1, 2, 3)), steps=40, memory=5
    )
    torch.testing.assert_close(art.images, wanted.clamp(0, 1), atol=1e-4, rtol=0)
    assert art.history.shape == (40, 3)
    torch.testing.assert_close(art.history[-1], -(art.images - wanted).square().sum((1, 2, 3)))


def test_quasi_newton_makes_no_more_passes_than_steps() -> None:
    calls: list[int] = []

    def rough(x: Tensor, i: Tensor) -> Tensor:
        calls.append(1)
        return -(x.sin() * 9).square().sum((1, 2, 3))

    optimised = quasi_newton(_pictures(2, 1, 3, 3), rough, steps=7)
    assert len(calls) <= 14
    assert optimised.history.shape == (7, 2)


def test_what_is_told_after_each_step() -> None:
    told: list[tuple[int, int, float]] = []
    start = torch.zeros(1, 1, 1, 1)
    optimise(
        Pixels(start), lambda x: x.sum((1, 2, 3)), _draws(1), steps=3, rule=Momentum(0.1, momentum=0.0),
        callback=lambda step, steps, value: told.append((step, steps, round(value.item(), 4))),
    )  # fmt: skip
    assert [each[:2] for each in told] == [(1, 3), (2, 3), (3, 3)]
    assert told[0][2] == 0 < told[1][2] < told[2][2]


def test_clips_make_the_least_pixels_grey() -> None:
    images = torch.tensor([[[[0.5, 0.6, 0.9, 0.1]], [[0.5, 0.5, 0.5, 0.5]]]])
    gradient = torch.tensor([[[[9.0, 9.0, 0.1, 1.0]], [[9.0, 9.0, 9.0, 9.0]]]])
    by_norm = ClipNorm(0.5)(images, gradient)
    assert by_norm[0, 0, 0].tolist() == pytest.approx([0.5, 0.5, 0.9, 0.1])
    by_contribution = ClipContribution(0.5)(images, gradient)  # 0, .9, .04, .4
    assert by_contribution[0, 0, 0].tolist() == pytest.approx([0.5, 0.6, 0.5, 0.1])


def test_windows_of_a_larger_picture() -> None:
    """Upright and unscaled, a window is a cut of the picture; over many draws all of it is seen."""
    picture = torch.arange(20.0).view(1, 1, 1, 20).expand(200, 1, 12, 20) / 20
    seen = Wobble(0, 0, (12, 8))(picture, _draws(200))
    assert seen.shape == (200, 1, 12, 8)
    assert (seen.diff(dim=3) - 1 / 20).abs().max() < 1e-4
    assert seen.min() < 0.05
    assert seen.max() > 0.9


def test_noise_and_defocus_are_each_pictures_own() -> None:
    images = _pictures(2, 1, 8, 8)[:1].expand(2, -1, -1, -1)
    noisy, soft = Noise(0.1)(images, _draws(2)), Defocus(2.0)(images, _draws(2))
    assert (noisy - images).std().item() == pytest.approx(0.1, rel=0.3)
    for changed in (noisy, soft):
        assert not torch.equal(changed[0], changed[1])


def test_a_sleeping_unit_is_woken() -> None:
    """Behind a ReLU that is off there is no slope: a random walk finds where it is on."""
    climb = {"steps": 200, "rule": Momentum(0.05)}
    start = torch.full((2, 1, 4, 4), 0.5)

    def off(x: Tensor) -> Tensor:
        return (x[:, 0, 0, 0] - 0.55).relu()

    asleep = optimise(Pixels(start), off, _draws(2), **climb)  # type: ignore[arg-type]
    awake = optimise(Pixels(start), off, _draws(2), wake=True, **climb)  # type: ignore[arg-type]
    assert torch.equal(asleep.images, start)
    held = optimise(Pixels(start), off, _draws(2), wake=True, penalties=[TV(1e-3)], **climb)  # type: ignore[arg-type]
    assert (held.history[-1] > 0).all()
    assert (awake.history[-1] > 0).all()


def test_the_best_picture_is_kept() -> None:
    """Steps that are too long leap over the optimum; what is returned was seen and was best."""
    art = optimise(
        Pixels(torch.full((1, 1, 1, 1), 0.9)), lambda x: -(x - 0.45).square().sum((1, 2, 3)), _draws(1), steps=9,
        rule=Momentum(0.4, momentum=0.0), best=True,
    )  # fmt: skip
    assert -((art.images.item() - 0.45) ** 2) == pytest.approx(art.history.max().item(), rel=1e-4)
