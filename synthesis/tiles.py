"""Derivatives by pictures of any size: whole, in exact tiles, or in the windows of a model of a fixed size."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.errors import AssayError
from assay.core.layers import many_activations
from assay.core.probe import random_images
from assay.core.receptive import recursion
from assay.core.targets import derivative

Size = tuple[int, int]  # rows and columns


class Slope(NamedTuple):
    """An objective's value (N,) and derivative (N, C, H, W)."""

    value: Tensor
    gradient: Tensor


def slope(objective: Callable[[Tensor], Tensor], images: Tensor) -> Slope:
    """Of the whole pictures at once."""
    images = images.detach().requires_grad_(True)
    value = objective(images)
    return Slope(value.detach(), derivative(value, images))


def takes(model: nn.Module, size: Sequence[int], layers: Sequence[str] = ()) -> bool:
    """Whether the model runs on pictures of ``size`` (C, H, W), as far as the last of ``layers`` if any are named.

    It does on its own input size, and on any that one probe passes.
    """
    if tuple(size) == tuple(getattr(model, "input_size", ())):
        return True
    like = next(model.parameters(), torch.zeros(()))
    try:
        with torch.no_grad():
            images = random_images(like.new_zeros(1, *size), 1)
            many_activations(model, images, layers) if layers else model(images)
    except (RuntimeError, AssertionError, ValueError, AssayError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "allocate" in str(error):
            raise
        return False
    return True


def margin(model: nn.Module, layer: str, size: Sequence[int]) -> tuple[Size, Size]:
    """How far beyond a tile a picture matters to the derivatives inside it, and the steps on which tiles may begin.

    ``AssayError`` where all of the picture matters: behind attention, squeeze and excitation, a mean over the grid.
    """
    like = next(model.parameters(), torch.zeros(()))
    field = recursion(model, like.new_zeros(1, *size), [layer])[layer]
    if field.reach is None or field.reach.gated:
        why = field.reason or "a gate from the whole picture scales it"
        raise AssayError(f"no tiles at layer {layer!r}: {why}; leave tile out, or take an earlier layer")
    (height, width), (down, across) = field.reach.size, field.reach.stride
    return (_up(height, down), _up(width, across)), (down, across)


def slope_by_tiles(
    objective: Callable[[Tensor], Tensor], images: Tensor, tile: int, margin: Size, stride: Size
) -> Slope:
    """Like ``slope`` for an objective that is a sum over a layer's grid, in tiles of up to ``tile`` pixels a side.

    A tile passes through the model with ``margin`` pixels around it, of which nothing is kept: the gradient is that of
    the whole picture, up to rounding. The value is the sum over tiles, each by the share of what passed that it is.
    """
    size, gradient = (images.shape[2], images.shape[3]), torch.zeros_like(images)
    value = images.new_zeros(len(images))
    step = tuple(max(tile // by * by, by) for by in stride)
    for top in range(0, size[0], step[0]):
        for left in range(0, size[1], step[1]):
            bottom, right = min(top + step[0], size[0]), min(left + step[1], size[1])
            first, last = max(top - margin[0], 0), min(bottom + margin[0], size[0])
            begin, end = max(left - margin[1], 0), min(right + margin[1], size[1])
            part = slope(objective, images[:, :, first:last, begin:end])
            inside = part.gradient[:, :, top - first : bottom - first, left - begin : right - begin]
            gradient[:, :, top:bottom, left:right] = inside
            value += part.value * ((bottom - top) * (right - left) / ((last - first) * (end - begin)))
    return Slope(value, gradient)


def slope_by_windows(objective: Callable[[Tensor], Tensor], images: Tensor, window: Size) -> Slope:
    """Like ``slope``, for a model that takes pictures of the size ``window`` alone.

    Windows cover the picture, the last ones flush with its edges; where they overlap, gradients are averaged. A smaller
    picture is enlarged for the model. The value is the mean over windows.
    """
    if images.shape[2] < window[0] or images.shape[3] < window[1]:
        larger = (max(window[0], images.shape[2]), max(window[1], images.shape[3]))
        small = images.detach().requires_grad_(True)
        large = F.interpolate(small, larger, mode="bilinear", align_corners=False)
        part = slope_by_windows(objective, large.detach(), window)
        return Slope(part.value, torch.autograd.grad(large, small, part.gradient)[0])
    gradient, times, values = torch.zeros_like(images), torch.zeros_like(images[:1, :1]), []
    for top in _starts(images.shape[2], window[0]):
        for left in _starts(images.shape[3], window[1]):
            at = (slice(None), slice(None), slice(top, top + window[0]), slice(left, left + window[1]))
            part = slope(objective, images[at])
            gradient[at] += part.gradient
            times[at] += 1
            values.append(part.value)
    return Slope(torch.stack(values).mean(0), gradient / times)


def windows(images: Tensor, window: Size) -> Tensor:
    """(N * K, C, *window) cut out of images (N, C, H, W), the K of an image in a row; small images are enlarged."""
    size = (max(images.shape[2], window[0]), max(images.shape[3], window[1]))
    images = resized(images, size)
    tops, lefts = (
        torch.linspace(0, side - length, math.ceil(side / length)).round().long().tolist()
        for side, length in zip(size, window, strict=True)
    )
    cut = [images[:, :, y : y + window[0], x : x + window[1]] for y in tops for x in lefts]
    return torch.stack(cut, 1).flatten(0, 1)


def resized(images: Tensor, size: Size) -> Tensor:
    """Images (N, C, H, W) at another size (H, W), averaged where they shrink."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def over_windows(model: nn.Module, images: Tensor, score: Callable[[Tensor], Tensor]) -> Tensor:
    """``score`` (N,) of pictures; of those whose size the model does not take, its mean over windows."""
    if takes(model, images.shape[1:]):
        return score(images)
    height, width = getattr(model, "input_size", images.shape[1:])[1:]
    return score(windows(images, (height, width))).view(len(images), -1).mean(1)


def _starts(side: int, window: int) -> list[int]:
    return [*range(0, side - window, window), side - window]


def _up(pixels: int, step: int) -> int:
    return -(-pixels // step) * step
