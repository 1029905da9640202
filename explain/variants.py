"""Many variants of each image: what replaces pixels, and the target's value on all of them in bounded batches."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.targets import Target

Baseline = Literal["zero", "mean", "blur"]


def baseline_of(images: Tensor, baseline: Baseline) -> Tensor:
    """What a removed pixel becomes, (N, C, H, W): black, the image's mean colour, or the image blurred.

    The blur is Gaussian with a standard deviation of a twentieth of the shorter side, cut at three, mirrored borders.
    """
    match baseline:
        case "zero":
            return torch.zeros_like(images)
        case "mean":
            return images.mean((2, 3), keepdim=True).expand_as(images)
        case "blur":
            return _blur(images, min(images.shape[-2:]) / 20)


def _blur(images: Tensor, sigma: float) -> Tensor:
    radius = min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=images.shape[1])


def scores(
    model: nn.Module,
    target: Target,
    owners: Tensor,
    variants: Tensor,
    make: Callable[[Tensor, Tensor], Tensor],
    batch: int,
) -> Tensor:
    """The target's value on M samples, (M,), at most ``batch`` of them in one forward pass.

    Sample j is variant ``variants[j]`` of image ``owners[j]``; ``make`` builds the samples of both indices (m,).
    """
    with torch.no_grad():
        spans = [slice(start, start + batch) for start in range(0, len(owners), batch)]
        return torch.cat([target[owners[at]](model, make(owners[at], variants[at])) for at in spans])


def grid_scores(
    model: nn.Module,
    target: Target,
    images: Tensor,
    each: int,
    make: Callable[[Tensor, Tensor], Tensor],
    batch: int,
) -> Tensor:
    """Like ``scores``, for variants 0 to ``each`` - 1 of every image: (N, each)."""
    samples = torch.arange(len(images) * each, device=images.device)
    return scores(model, target, samples // each, samples % each, make, batch).reshape(-1, each)
