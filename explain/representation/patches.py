"""What in a data set a channel answers to most: the strongest units of many channels in one streaming pass."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import evaluating
from assay.core.errors import NotApplicable
from assay.core.layers import activations, many_activations
from assay.core.receptive import Field, Reach


class Top(NamedTuple):
    """The strongest units of each channel, falling along k; (C, k) each, k the number of images if that is less.

    ``images`` counts through the batches; ``rows`` and ``columns`` are the unit's place in ``grid`` (h, w).
    """

    values: Tensor
    images: Tensor
    rows: Tensor
    columns: Tensor
    grid: tuple[int, int]


def strongest(model: nn.Module, batches: Iterable[Tensor], names: Sequence[str], k: int) -> dict[str, Top]:
    """For every channel of the named layers its ``k`` largest values over all images, at most one of each image.

    One pass over batches (N, C, H, W); what is kept does not grow with their number. Of equal values the earlier image
    counts, and the upper left unit.
    """
    tops: dict[str, Top] = {}
    offset = 0
    with evaluating(model), torch.no_grad():
        for batch in batches:
            for name, grid in zip(names, many_activations(model, batch, names), strict=True):
                batch_top = _of_batch(grid, offset)
                tops[name] = _best([tops[name], batch_top] if name in tops else [batch_top], k)
            offset += len(batch)
    return tops


def _of_batch(grid: Tensor, offset: int) -> Top:
    """Each image's strongest unit of each channel, (C, N)."""
    height, width = grid.shape[2:]
    flat = grid.flatten(2).movedim(1, 0)
    values = flat.amax(2)
    place = (flat == values[..., None]).int().argmax(2)  # the first, where ``max`` promises no order
    images = torch.arange(offset, offset + flat.shape[1], device=grid.device).expand_as(place)
    return Top(values, images, place // width, place % width, (height, width))


def _best(tops: Sequence[Top], k: int) -> Top:
    values = torch.cat([top.values for top in tops], 1)
    order = values.sort(dim=1, descending=True, stable=True).indices[:, :k]
    images, rows, columns = (
        torch.cat([getattr(top, what) for top in tops], 1).gather(1, order) for what in ("images", "rows", "columns")
    )
    return Top(values.gather(1, order), images, rows, columns, tops[0].grid)


def crop(image: Tensor, field: Field, fill: float = 0.5) -> Tensor:
    """What image (C, H, W) shows in a field, (C, height, width), ``fill`` beyond its borders."""
    cut = image.new_full((len(image), field.height, field.width), fill)
    top, left = max(field.top, 0), max(field.left, 0)
    inside = image[:, top : max(field.top + field.height, 0), left : max(field.left + field.width, 0)]
    y, x = top - field.top, left - field.left
    cut[:, y : y + inside.shape[1], x : x + inside.shape[2]] = inside
    return cut


def cell_field(grid: Sequence[int], size: Sequence[int], y: int, x: int) -> Field:
    """The pixels of an image of ``size`` (H, W) over which cell (y, x) of a grid (h, w) lies."""
    top, left = y * size[0] // grid[0], x * size[1] // grid[1]
    return Field(top, left, math.ceil((y + 1) * size[0] / grid[0]) - top, math.ceil((x + 1) * size[1] / grid[1]) - left)


def alone(model: nn.Module, patch: Tensor, reach: Reach, name: str, size: Sequence[int], fill: float = 0.0) -> Tensor:
    """The layer's activations (C,) at the unit whose field is exactly patch (C, height, width), fed without its image.

    The patch is padded by ``fill`` until the first unit that reads no padding of the network's own falls on it. Behind
    it so far that the sides, divided by the stride, leave what those of the images, ``size`` (H, W), leave: that is
    whose ``reach`` it is. Raises ``NotApplicable`` for a gated reach: the whole image scales that unit.
    """
    if reach.gated:
        raise NotApplicable(
            f"layer {name!r} is scaled by what the whole image holds: no patch has its activation alone"
        )
    if tuple(patch.shape[1:]) != reach.size:
        raise NotApplicable(f"a patch of {tuple(patch.shape[1:])} is no field of {reach.size}")
    units = [max(math.ceil(-low / stride), 0) for low, stride in zip(reach.low, reach.stride, strict=True)]
    field = reach.at(*units)
    sides = [
        start + length + (side - start - length) % stride
        for start, length, side, stride in zip(field[:2], field[2:], size, reach.stride, strict=True)
    ]
    canvas = patch.new_full((1, len(patch), *sides), fill)
    canvas[0, :, field.top : field.top + field.height, field.left : field.left + field.width] = patch
    with evaluating(model), torch.no_grad():
        return activations(model, canvas, name)[0, :, units[0], units[1]]
