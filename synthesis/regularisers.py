"""What keeps a picture plain: penalties on it, and filters applied to it now and then.

A penalty maps pictures (N, C, H, W) to (N,), taken from the objective. A filter maps pictures and the objective's
derivative by them to better pictures.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Penalty = Callable[[Tensor], Tensor]
Filter = Callable[[Tensor, Tensor], Tensor]


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
    """Gaussian blur with standard deviation ``sigma`` in pixels (Yosinski et al. 2015, arXiv:1506.06579)."""

    sigma: float

    def __call__(self, images: Tensor, gradient: Tensor) -> Tensor:
        return gaussian_blur(images, self.sigma)


@dataclass(frozen=True)
class ClipNorm:
    """The share of pixels that differ least from mid-grey, over their channels, become grey (Yosinski et al. 2015)."""

    share: float

    def __call__(self, images: Tensor, gradient: Tensor) -> Tensor:
        return _grey_out(images, (images - 0.5).square().sum(1), self.share)


@dataclass(frozen=True)
class ClipContribution:
    """The share of pixels that add least to the objective become grey (Yosinski et al. 2015).

    What a pixel adds is estimated as the paper does: |sum over channels of (x - grey) times the gradient|.
    """

    share: float

    def __call__(self, images: Tensor, gradient: Tensor) -> Tensor:
        return _grey_out(images, ((images - 0.5) * gradient).sum(1).abs(), self.share)


def _grey_out(images: Tensor, worth: Tensor, share: float) -> Tensor:
    """Pictures whose ``share`` of pixels of the smallest ``worth`` (N, H, W) is mid-grey."""
    order = worth.flatten(1).sort(dim=1, stable=True).indices
    least = torch.zeros_like(worth.flatten(1), dtype=torch.bool)
    least.scatter_(1, order[:, : round(share * order.shape[1])], value=True)
    return images.masked_fill(least.view_as(worth)[:, None], 0.5)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Blur with standard deviation ``sigma`` in pixels, cut off at three of them; edge pixels are repeated."""
    if sigma <= 0:
        return images
    radius = math.ceil(3 * sigma)
    at = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = (-at.square() / (2 * sigma**2)).exp()
    kernel = kernel / kernel.sum()
    flat = images.flatten(0, 1)[None]
    across = kernel.expand(flat.shape[1], 1, 1, -1)
    flat = F.conv2d(F.pad(flat, [radius, radius, 0, 0], mode="replicate"), across, groups=len(across))
    flat = F.conv2d(F.pad(flat, [0, 0, radius, radius], mode="replicate"), across.mT, groups=len(across))
    return flat.view_as(images)


def total_variation(images: Tensor, beta: float = 2.0) -> Tensor:
    """Sum over pixels and channels of (dx^2 + dy^2)^(beta / 2), (N,) (Mahendran & Vedaldi 2015, eq. 4).

    Differences are forward and 0 at the far edges. CS231n's squared differences are ``beta`` 2.
    """
    if beta == 2:
        total: Tensor = _SquaredDifferences.apply(images)
        return total
    dx = F.pad(images.diff(dim=3), [0, 1, 0, 0])
    dy = F.pad(images.diff(dim=2), [0, 0, 0, 1])
    squares = (dx.square() + dy.square()).clamp_min(1e-12)  # a root has no slope at 0
    return squares.pow(beta / 2).sum((1, 2, 3))


class _SquaredDifferences(torch.autograd.Function):
    """``total_variation`` of ``beta`` 2; the derivative in closed form takes a quarter of autograd's time."""

    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        ctx.save_for_backward(images)
        return images.diff(dim=3).square().sum((1, 2, 3)) + images.diff(dim=2).square().sum((1, 2, 3))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (images,) = ctx.saved_tensors
        dx, dy = images.diff(dim=3), images.diff(dim=2)
        slope = F.pad(dx, [1, 0])
        slope[..., :-1] -= dx
        slope[:, :, 1:] += dy
        slope[:, :, :-1] -= dy
        return slope.mul_(2 * gradients[0].view(-1, 1, 1, 1))
