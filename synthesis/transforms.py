"""What the model sees of a picture: rolled, turned, scaled, cut out, blurred, with noise.

A transform maps pictures (N, C, H, W) and their random streams to what is seen of them, differentiably, each picture by
its own randomness.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.synthesis.regularisers import gaussian_blur

Transform = Callable[[Tensor, Draws], Tensor]


@dataclass(frozen=True)
class Jitter:
    """Roll each picture by up to ``pixels`` in both directions, as CS231n's class visualisation does."""

    pixels: int

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return roll(images, draws.integers(2 * self.pixels + 1, (2,)) - self.pixels)


@dataclass(frozen=True)
class Wobble:
    """Turn each picture by up to ``degrees`` and scale it by up to ``scale`` (0.1: 0.9 to 1.1), about its centre.

    Of a picture larger than ``size`` (H, W), a window of that size somewhere inside; so models of a fixed size can look
    at any. What comes into sight at the rim is the picture mirrored (Olah, Mordvintsev & Schubert 2017, "Feature
    visualization": robustness to transforms).
    """

    degrees: float
    scale: float
    size: tuple[int, int] | None = None

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        turn, zoom = draws.uniform((2,), -1, 1).to(images.dtype).unbind(1)
        angle, factor = turn * math.radians(self.degrees), 1 + zoom * self.scale
        cos, sin = angle.cos() / factor, angle.sin() / factor
        canvas, window = (images.shape[2], images.shape[3]), self.size or (images.shape[2], images.shape[3])
        y, x = (max(1 - inner / outer, 0.0) for inner, outer in zip(window, canvas, strict=True))
        place = draws.uniform((2,), -1, 1).to(images.dtype) if x or y else images.new_zeros(len(images), 2)
        (height, width), (h, w) = canvas, window  # grids run from -1 to 1 along both sides
        theta = torch.stack(
            [cos * w / width, -sin * h / width, place[:, 1] * x, sin * w / height, cos * h / height, place[:, 0] * y], 1
        )
        grid = F.affine_grid(theta.view(-1, 2, 3), [*images.shape[:2], h, w], align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class Noise:
    """Add Gaussian noise of standard deviation ``sigma``: what a small change destroys does not count."""

    sigma: float

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        return images + self.sigma * draws.normal(images.shape[1:]).to(images)


@dataclass(frozen=True)
class Defocus:
    """Blur with a standard deviation of up to ``sigma`` pixels, another in each step."""

    sigma: float

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        share = draws.uniform((1, 1, 1)).to(images)
        return images + share * (gaussian_blur(images, self.sigma) - images)


def roll(images: Tensor, shifts: Tensor) -> Tensor:
    """Each of (N, C, H, W) rolled by its own (down, right) of ``shifts`` (N, 2), in whole pixels around the edges."""
    pictures: Tensor = _Roll.apply(images, shifts)
    return pictures


class _Roll(torch.autograd.Function):
    """Its derivative is the roll back, which reads each pixel where that of a gather adds to it."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, shifts: Tensor) -> Tensor:
        ctx.save_for_backward(shifts)
        (n, c, height, width), down, right = images.shape, shifts[:, :1], shifts[:, 1:]
        first = torch.arange(n * c, device=images.device).view(n, c, 1) * height
        rows = first + ((torch.arange(height, device=images.device) - down) % height)[:, None]
        columns = (torch.arange(width, device=images.device) - right) % width
        vertical = images.reshape(-1, width).index_select(0, rows.flatten()).view_as(images)
        return vertical.gather(3, columns[:, None, None].expand_as(images))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (shifts,) = ctx.saved_tensors
        return roll(gradients[0], -shifts), None
