"""What the axes of a tensor run along: images, rows, columns, tokens, or something else."""

import math
from collections.abc import Sequence
from typing import NamedTuple

IMAGE, ROW, COLUMN, TOKENS, OTHER, LOST = "image", "row", "column", "tokens", "other", "lost"


class Layout(NamedTuple):
    """How a tensor holds its grid: ``order`` is nchw, nhwc or tokens; ``prefix`` tokens come before the grid."""

    order: str
    height: int
    width: int
    prefix: int = 0


class Part(NamedTuple):
    """``size`` steps ``along`` something, each of ``stride``: an axis is a row of parts, the slowest first.

    Along TOKENS, ``prefix`` others come before the parts ``inner``, and what is left of ``size`` behind them. Of rows
    and columns ``real`` remembers how many there were before the last padding.
    """

    along: str
    size: int
    stride: int = 1
    prefix: int = 0
    inner: tuple["Part", ...] = ()
    real: int = 0


Axis = tuple[Part, ...]
Axes = tuple[Axis, ...]


def grid_of(shape: Sequence[int]) -> Axes:
    """The axes of images (N, C, H, W), and of what a convolution reads."""
    n, channels, height, width = shape
    return (Part(IMAGE, n),), plain(channels), (Part(ROW, height),), (Part(COLUMN, width),)


def plain(size: int, along: str = OTHER) -> Axis:
    return () if size == 1 else (Part(along, size),)


def plain_axes(shape: Sequence[int]) -> Axes:
    return tuple(map(plain, shape))


def lost(shape: Sequence[int]) -> Axes:
    return tuple(plain(size, LOST) for size in shape)


def length_of(axis: Axis) -> int:
    return math.prod(part.size for part in axis)


def is_placed(axis: Axis) -> bool:
    """Whether an axis runs along something of the images."""
    return any(part.along not in (OTHER, LOST) for part in axis)


def joined(parts: Sequence[Part]) -> Axis:
    """Neighbours that run along the same, one inside the other, as one part."""
    axis: list[Part] = []
    for part in parts:
        last = axis[-1] if axis else None
        if (
            last
            and last.along == part.along != TOKENS
            and (part.along in (OTHER, LOST) or last.stride == part.size * part.stride)
        ):
            axis[-1] = Part(part.along, last.size * part.size, part.stride)
        else:
            axis.append(part)
    return tuple(axis)


def dense(axes: Axes) -> Axes:
    """With strides as if nothing were left out: of a pooled window the next row is the next one."""
    strides = {part.stride for axis in axes for part in axis if part.along in (ROW, COLUMN)}
    if strides <= {1}:
        return axes
    parts = [part for axis in axes for part in axis]
    steps: dict[tuple[str, int], int] = {}
    for along in (ROW, COLUMN):
        step = 1
        for stride in sorted({part.stride for part in parts if part.along == along}):
            steps[along, stride] = step
            step *= max(part.size for part in parts if (part.along, part.stride) == (along, stride))
    return tuple(
        tuple(part._replace(stride=steps.get((part.along, part.stride), part.stride)) for part in axis) for axis in axes
    )


def resized(axis: Axis, size: int) -> Axis:
    """What a window, a padding or an interpolation leaves: rows stay rows, of what is woven only the length tells."""
    length = length_of(axis)
    if length == size:
        return axis
    if len(axis) == 1 and axis[0].along in (ROW, COLUMN):
        return (axis[0]._replace(size=size, real=length if size > length else 0),)
    return plain(size, LOST if is_placed(axis) else OTHER)


def sliced(axis: Axis, start: int, size: int, step: int = 1) -> Axis:
    """``size`` steps of an axis from ``start``; a part of the rows that is not the padding's rest is no whole image."""
    length = length_of(axis)
    if size == length or not is_placed(axis):
        return axis if size == length else plain(size, axis[0].along if axis else OTHER)
    part = axis[0]
    if len(axis) == 1 and part.along in (ROW, COLUMN) and (size > length / 2 or 1 < step > start or size == part.real):
        return (part._replace(size=size, real=0),)
    if len(axis) == 1 and part.along == TOKENS and step == 1:
        begin, end = part.prefix, part.prefix + length_of(part.inner)
        if start + size <= begin or start >= end:
            return plain(size)
        if start <= begin and start + size >= end:
            return part.inner if size == end - begin else (part._replace(size=size, prefix=begin - start),)
    return plain(size, LOST)


def layout_of(axes: Axes) -> Layout | None:
    if len(axes) not in (3, 4) or [(part.along, part.stride) for part in axes[0]] != [(IMAGE, 1)]:
        return None
    if len(axes) == 3:
        return layout_of_tokens(axes[1], axes[2])
    for order, rows, columns, channels in (("nchw", 2, 3, 1), ("nhwc", 1, 2, 3)):
        parts = axes[rows] + axes[columns]
        if len(axes[rows]) == 1 and [part.along for part in parts] == [ROW, COLUMN]:
            grid = layout_of_tokens(parts, axes[channels])
            return grid and grid._replace(order=order)
    return None


def layout_of_tokens(axis: Axis, channels: Axis = ()) -> Layout | None:
    """The layout of tokens, whose channels may hold what lies inside a cell."""
    prefix, parts = (axis[0].prefix, axis[0].inner) if axis and axis[0].along == TOKENS else (0, axis)
    if [part.along for part in parts] != [ROW, COLUMN]:
        return None
    cells = {part.along: part.stride for part in parts}
    inside = all(part.stride < cells.get(part.along, 0) for part in channels if part.along not in (OTHER, LOST))
    return Layout("tokens", parts[0].size, parts[1].size, prefix) if inside else None


def best(options: Sequence[Axis], size: int) -> Axis:
    """What is known of an axis from several operands."""
    whole = [option for option in options if is_placed(option) and all(part.along != LOST for part in option)]
    if len({tuple(part._replace(real=0) for part in option) for option in whole}) == 1:
        return whole[0]
    free = not whole and all(part.along == OTHER for option in options for part in option)
    return plain(size, OTHER if free else LOST)
