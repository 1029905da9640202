"""Many variants of each image: what replaces pixels, and the target's value on all of them in bounded batches."""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.targets import Target

Baseline = Literal["zero", "mean", "blur"]
Segments = Literal["grid", "slic"]
NOISE = 1e-5  # relative: values closer than this share of the largest are equal


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
            return blurred(images, min(images.shape[-2:]) / 20)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of ``sigma`` pixels, cut at three, mirrored borders; the images themselves at 0."""
    if sigma <= 0:
        return images
    radius = min(math.ceil(3 * sigma), min(images.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    rows = F.conv2d(padded, kernel, groups=images.shape[1])
    return F.conv2d(rows, kernel.transpose(2, 3), groups=images.shape[1])


def segments_of(images: Tensor, segments: Segments, count: int) -> Tensor:
    """Which of about ``count`` segments each pixel belongs to, (N, H, W) int64, 0 to the image's number - 1.

    ``grid`` is of equal rectangles, the same number down and across; ``slic`` groups what is near in place and colour
    (Achanta et al. 2012; scikit-image's defaults merge noise into one segment, hence its ``sigma=1, compactness=20``),
    another number in each image.
    """
    n, channels, height, width = images.shape
    if segments == "grid":
        side = max(round(math.sqrt(count)), 1)
        rows, columns = (torch.arange(size, device=images.device) * min(side, size) // size for size in (height, width))
        return (rows[:, None] * min(side, width) + columns).expand(n, -1, -1)
    pictures = images.detach().cpu().permute(0, 2, 3, 1).double().numpy()
    settings = {"sigma": 1, "compactness": 20, "start_label": 0, "convert2lab": channels == 3, "channel_axis": -1}
    maps = [slic(picture, count, **settings) for picture in pictures]
    labels = [np.unique(labels, return_inverse=True)[1].reshape(height, width) for labels in maps]
    return torch.from_numpy(np.array(labels, np.int64).reshape(n, height, width)).to(images.device)


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
    return read_all(lambda owner, samples: target[owner](model, samples), owners, variants, make, batch)


def read_all(
    read: Callable[[Tensor, Tensor], Tensor],
    owners: Tensor,
    variants: Tensor,
    make: Callable[[Tensor, Tensor], Tensor],
    batch: int,
) -> Tensor:
    """Like ``scores``, for whatever ``read`` tells of samples (m, C, H, W) and their owners (m,): (M, ...)."""
    with torch.no_grad():
        return torch.cat([read(owners[at], make(owners[at], variants[at])) for at in spans(len(owners), batch)])


def spans(n: int, batch: int) -> list[slice]:
    """0 to ``n`` in pieces of at most ``batch``."""
    return [slice(start, min(start + batch, n)) for start in range(0, n, batch)]


def grid_scores(
    model: nn.Module,
    target: Target,
    images: Tensor,
    count: int,
    make: Callable[[Tensor, Tensor], Tensor],
    batch: int,
) -> Tensor:
    """Like ``scores``, for variants 0 to ``each`` - 1 of every image: (N, each)."""
    samples = torch.arange(len(images) * count, device=images.device)
    return scores(model, target, samples // count, samples % count, make, batch).reshape(-1, count)
