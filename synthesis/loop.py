"""What syntheses share: a parametrisation of the pictures is moved uphill, step by step.

``optimise`` puts together a parametrisation, an objective, transforms of what the model sees, penalties on the
picture, and filters that are applied to the picture itself now and then. Each part works on every picture of a
batch by itself, with that picture's own randomness, so a picture does not depend on the ones beside it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from core.draws import Draws
from synthesis.base import Art

Transform = Callable[[Tensor, Draws], Tensor]
Penalty = Callable[[Tensor], Tensor]
Filter = Callable[[Tensor], Tensor]


class Parametrisation(Protocol):
    """What is optimised, and how it becomes pictures."""

    @property
    def values(self) -> Tensor:
        """The leaf that is moved, (N, ...)."""

    def images(self) -> Tensor:
        """(N, C, H, W), differentiable."""

    def filter_(self, change: Filter) -> None:
        """Apply ``change`` to the pictures, and keep them in [0, 1]."""


class Pixels:
    """The pixels themselves, projected to [0, 1] after every step."""

    def __init__(self, start: Tensor) -> None:
        self.values = start.detach().clamp(0, 1).requires_grad_(True)

    def images(self) -> Tensor:
        return self.values

    @torch.no_grad()
    def filter_(self, change: Filter) -> None:
        self.values.copy_(change(self.values).clamp(0, 1))


def optimise(
    parametrisation: Parametrisation,
    objective: Callable[[Tensor], Tensor],
    draws: Draws,
    *,
    steps: int,
    step_size: float,
    momentum: float = 0.9,
    slope: float = 0.0,
    transforms: Sequence[Transform] = (),
    penalties: Sequence[Penalty] = (),
    filters: Sequence[tuple[int, Filter]] = (),
) -> Art:
    """Climb ``objective`` minus ``penalties``, each (N, C, H, W) -> (N,), for ``steps`` steps.

    A step is ``step_size`` (root mean square over a picture's values) along a running mean of gradients, each
    divided by its own root mean square; it shrinks linearly to nothing, so the last steps settle. ``slope`` divides
    each spatial frequency of a gradient by its power (``tilt``), which leaves an optimum inside [0, 1] where it is.
    The model sees the pictures through ``transforms``; a penalty sees them as they are. ``filters`` are pairs (every,
    filter); none runs after the last step. ``history`` is the objective as seen in each step, before it is taken.
    """
    velocity = torch.zeros_like(parametrisation.values)
    history = []
    for step in range(steps):
        images = parametrisation.images()
        seen = images
        for transform in transforms:
            seen = transform(seen, draws)
        value = objective(seen)
        total = value
        for penalty in penalties:
            total = total - penalty(images)
        (gradient,) = torch.autograd.grad(total.sum(), parametrisation.values)
        gradient = tilt(gradient, slope)
        velocity = momentum * velocity + (1 - momentum) * gradient / rms(gradient)
        with torch.no_grad():
            parametrisation.values.add_(velocity, alpha=step_size * (1 - step / steps))
        due = [change for every, change in filters if (step + 1) % every == 0 and step + 1 < steps]
        for change in [*due, _same]:
            parametrisation.filter_(change)
        history.append(value.detach())
    images = parametrisation.images().detach().clone()
    return Art(images, torch.stack(history) if history else images.new_zeros(0, len(images)))


def rms(values: Tensor) -> Tensor:
    """Root mean square of each row of (N, ...), shaped to divide it; at least the smallest normal number."""
    mean = values.square().flatten(1).mean(1).sqrt()
    return mean.clamp_min(torch.finfo(values.dtype).tiny).view(-1, *[1] * (values.ndim - 1))


@dataclass(frozen=True)
class Jitter:
    """Roll each picture by up to ``pixels`` in both directions, as CS231n's class visualisation does."""

    pixels: int

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return roll(images, draws.integers(2 * self.pixels + 1, (2,)) - self.pixels)


@dataclass(frozen=True)
class Wobble:
    """Turn each picture by up to ``degrees`` and scale it by up to ``scale`` (0.1: 0.9 to 1.1), about its centre.

    The size stays, so models of a fixed size can look; what comes into sight at the rim is the picture mirrored
    (Olah, Mordvintsev & Schubert 2017, "Feature visualization": robustness to transforms).
    """

    degrees: float
    scale: float

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        turn, zoom = draws.uniform((2,), -1, 1).to(images.dtype).unbind(1)
        angle, factor = turn * math.radians(self.degrees), 1 + zoom * self.scale
        cos, sin = angle.cos() / factor, angle.sin() / factor
        ratio = images.shape[2] / images.shape[3]  # grids run from -1 to 1 along both sides
        none = torch.zeros_like(cos)
        theta = torch.stack([cos, -sin * ratio, none, sin / ratio, cos, none], 1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class L2:
    """``weight`` times the squared distance from mid-grey, summed over a picture (Simonyan et al. 2014, eq. 1)."""

    weight: float

    def __call__(self, images: Tensor) -> Tensor:
        return self.weight * (images - 0.5).square().sum((1, 2, 3))


@dataclass(frozen=True)
class TV:
    """``weight`` times ``total_variation``."""

    weight: float
    beta: float = 2.0

    def __call__(self, images: Tensor) -> Tensor:
        return self.weight * total_variation(images, self.beta)


@dataclass(frozen=True)
class Blur:
    """Gaussian blur with standard deviation ``sigma`` in pixels (Yosinski et al. 2015)."""

    sigma: float

    def __call__(self, images: Tensor) -> Tensor:
        return gaussian_blur(images, self.sigma)


def roll(images: Tensor, shifts: Tensor) -> Tensor:
    """Each of (N, C, H, W) rolled by its own (down, right) of ``shifts`` (N, 2), in whole pixels around the edges."""
    for axis in (2, 3):
        size = images.shape[axis]
        places = (torch.arange(size, device=images.device) - shifts[:, axis - 2, None]) % size
        view = [len(images), 1, 1, 1]
        view[axis] = size
        images = images.gather(axis, places.view(view).expand_as(images))
    return images


def tilt(images: Tensor, slope: float) -> Tensor:
    """(N, C, H, W) with each spatial frequency f divided by f^slope, the mean as the lowest frequency there is.

    Photographs have spectra like 1/f. Climbing along the gradient with ``slope`` 2 is climbing in the coordinates
    z = f F(x) of Olah, Mordvintsev & Schubert 2017 ("Feature visualization", decorrelated space).
    """
    if slope == 0:
        return images
    height, width = images.shape[2:]
    y = torch.fft.fftfreq(height, device=images.device, dtype=images.dtype)
    x = torch.fft.rfftfreq(width, device=images.device, dtype=images.dtype)
    frequency = y[:, None].hypot(x).clamp_min(1 / max(height, width))
    tilted: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) / frequency**slope, s=(height, width))
    return tilted


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur with standard deviation ``sigma`` in pixels, cut off at three of them; edge pixels are repeated."""
    if sigma <= 0:
        return images
    radius = math.ceil(3 * sigma)
    at = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = (-at.square() / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    flat = images.flatten(0, 1)[:, None]
    flat = F.conv2d(F.pad(flat, [radius, radius, 0, 0], mode="replicate"), kernel.view(1, 1, 1, -1))
    flat = F.conv2d(F.pad(flat, [0, 0, radius, radius], mode="replicate"), kernel.view(1, 1, -1, 1))
    return flat.view_as(images)


def total_variation(images: Tensor, beta: float = 2.0) -> Tensor:
    """Sum over pixels and channels of (dx^2 + dy^2)^(beta / 2), (N,) (Mahendran & Vedaldi 2015, eq. 4).

    Differences are forward and 0 at the far edges. CS231n's squared differences are ``beta`` 2.
    """
    dx = F.pad(images.diff(dim=3), [0, 1, 0, 0])
    dy = F.pad(images.diff(dim=2), [0, 0, 0, 1])
    squares = dx.square() + dy.square()
    if beta != 2:
        squares = squares.clamp_min(1e-12).pow(beta / 2)  # a root has no slope at 0
    return squares.sum((1, 2, 3))


def _same(images: Tensor) -> Tensor:
    return images
