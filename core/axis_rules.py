"""What functions of torch do to the axes of what they are given."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from assay.core import axes as ax
from assay.core.axes import COLUMN, IMAGE, LOST, OTHER, ROW, TOKENS, Axes, Axis, Part


class Operation(NamedTuple):
    """A call that gave tensors of ``shapes``, the one at ``place`` in question.

    ``operands`` has the axes of all tensors among its arguments, ``marked`` of those that come from the images.
    """

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    operands: Sequence[Axes]
    marked: Sequence[Axes]
    shapes: Sequence[tuple[int, ...]]
    place: int = 0

    @property
    def out(self) -> tuple[int, ...]:
        return self.shapes[self.place]

    @property
    def first(self) -> Axes:
        return self.operands[0]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        return self.kwargs.get(name, self.args[place] if len(self.args) > place else default)

    def dims(self, place: int, name: str, default: Any = None) -> tuple[int, ...]:
        """Dimensions named by one number, a sequence, or the rest of the arguments, as numbers from 0."""
        value = self.argument(place, name, default)
        many = value if isinstance(value, list | tuple) else self.args[place:] if name not in self.kwargs else (value,)
        return tuple(dim % len(self.first) for dim in many if isinstance(dim, int))


def _join(op: Operation) -> Axes | None:
    """Operands broadcast against each other, and any function whose result has the shape of what it is given."""
    axes = []
    for back in range(-len(op.out), 0):
        size = op.out[back]
        options = [operand[back] for operand in op.marked if len(operand) >= -back]
        if any(ax.length_of(option) not in (1, size) for option in options):
            return None
        axes.append(ax.best([option for option in options if ax.length_of(option) == size], size))
    too_long = any(len(operand) > len(op.out) for operand in op.marked)
    return None if too_long else tuple(axes)


def _slide(op: Operation) -> Axes | None:
    """Windows over the last axes, those of a convolution over all channels."""
    if len(op.first) != len(op.out):
        return None
    axes = tuple(ax.resized(axis, size) for axis, size in zip(op.first, op.out, strict=True))
    if not op.name.startswith("conv"):
        return axes
    channel = len(op.out) + 1 - len(op.operands[1])
    channels = ax.plain(op.out[channel])
    first = op.first[channel][:1]
    if op.argument(6, "groups", 1) > 1 and first and first[0].along == IMAGE and op.out[channel] % first[0].size == 0:
        channels = (*first, *ax.plain(op.out[channel] // first[0].size))  # a kernel of each image's own
    return (*axes[:channel], channels, *axes[channel + 1 :])


def _linear(op: Operation) -> Axes:
    return (*op.first[:-1], ax.plain(op.out[-1]))


def _recurrent(op: Operation) -> Axes | None:
    return _linear(op) if op.place == 0 and len(op.first) == len(op.out) else None


def _attention(op: Operation) -> Axes | None:
    """Queries keep their places."""
    same = op.place == 0 and tuple(map(ax.length_of, op.first[:-1])) == op.out[:-1]
    return _linear(op) if same else None


def _multiply(op: Operation) -> Axes | None:
    one, other = op.operands[-2:] if len(op.operands) > 2 else op.operands
    if len(one) < 2 or len(other) < 2:
        return None
    batch = op._replace(marked=[one[:-2], other[:-2]], shapes=[op.out[:-2]], place=0)
    before = _join(batch)
    return None if before is None else (*before, one[-2], other[-1])


def _einsum(op: Operation) -> Axes | None:
    equation = op.args[0]
    if not isinstance(equation, str) or "..." in equation or "->" not in equation:
        return None
    sources, result = equation.replace(" ", "").split("->")
    letters: dict[str, list[Axis]] = {}
    for source, axes in zip(sources.split(","), op.operands, strict=True):
        for letter, axis in zip(source, axes, strict=True):
            letters.setdefault(letter, []).append(axis)
    return tuple(ax.best(letters[letter], size) for letter, size in zip(result, op.out, strict=True))


def _reduce(op: Operation) -> Axes | None:
    """Without the dimensions that are summed up; the larger of two tensors is one more way to join them."""
    name, place = "axis" if "axis" in op.kwargs else "dim", 2 if "norm" in op.name else 1
    value = op.argument(place, name)
    if isinstance(value, Tensor) or "other" in op.kwargs:
        return _join(op)
    if value is None:
        return ax.plain_axes(op.out)
    gone = op.dims(place, name)[: None if isinstance(value, list | tuple) else 1]
    if len(op.out) == len(op.first):
        return tuple(ax.resized(axis, 1) if dim in gone else axis for dim, axis in enumerate(op.first))
    return tuple(axis for dim, axis in enumerate(op.first) if dim not in gone)


def _permute(op: Operation) -> Axes:
    ndim = len(op.first)
    order = list(range(ndim))
    if op.name == "permute":
        order = list(op.dims(1, "dims"))
    elif op.name == "movedim" or op.name == "moveaxis":
        sources, targets = (
            [dim % ndim for dim in ([value] if isinstance(value, int) else value)]
            for value in (op.argument(1, "source"), op.argument(2, "destination"))
        )
        order = [dim for dim in order if dim not in sources]
        for target, source in sorted(zip(targets, sources, strict=True)):
            order.insert(target, source)
    elif op.name == "T":
        order.reverse()
    else:  # transpose, swapaxes, t, mT
        first = op.argument(1, "dim0", op.kwargs.get("axis0", -2))
        second = op.argument(2, "dim1", op.kwargs.get("axis1", -1))
        order[first], order[second] = order[second], order[first]
    return tuple(op.first[dim] for dim in order)


def _view(op: Operation) -> Axes | None:
    """The same numbers in the same order under another shape."""
    waiting = [part for axis in op.first for part in axis][::-1]
    if math.prod(op.out) != math.prod(map(ax.length_of, op.first)) or 0 in op.out:
        return None
    axes = []
    for place, size in enumerate(op.out):
        parts: list[Part] = []
        need = size
        while need > 1 and waiting:
            part = waiting.pop()
            if need % part.size:
                inner, rest = divmod(part.size, need)
                if rest or part.along == TOKENS:
                    return None
                waiting.append(Part(part.along, inner, part.stride))
                part = Part(part.along, need, part.stride * inner)
            parts.append(part)
            need //= part.size
        alone = op.out[place + 1 : place + 2] != (1,)
        while waiting and waiting[-1].size == 1 and (alone if size > 1 else not parts or alone):
            parts.append(waiting.pop())
        axes.append(ax.joined(parts))
    return tuple(axes)


def _repeat(op: Operation) -> Axes | None:
    """Tiled: an axis that is repeated shows the image more than once."""
    ahead = len(op.out) - len(op.first)
    lengths = [1] * ahead + [ax.length_of(axis) for axis in op.first]
    axes = [()] * ahead + list(op.first)
    return tuple(
        axis if size == length else ax.plain(size, LOST if ax.is_placed(axis) else OTHER)
        for axis, size, length in zip(axes, op.out, lengths, strict=True)
    )


def _cat(op: Operation) -> Axes | None:
    """One after the other; of tokens that lie over the images, the others come before or behind them."""
    ndim = len(op.out)
    if any(len(operand) != ndim for operand in op.operands):
        return None
    dim = op.argument(1, "dim", op.kwargs.get("axis", 0)) % ndim
    axes = [ax.best([operand[d] for operand in op.operands], op.out[d]) for d in range(ndim)]
    strips = [operand[dim] for operand in op.operands]
    over = [i for i, strip in enumerate(strips) if ax.is_placed(strip)]
    axes[dim] = ax.plain(op.out[dim], LOST if over or any(part.along == LOST for s in strips for part in s) else OTHER)
    if len(over) == 1 and not any(part.along == LOST for strip in strips for part in strip):
        strip, before = strips[over[0]], sum(map(ax.length_of, strips[: over[0]]))
        if (layout := ax.layout_of_tokens(strip)) is not None:
            inner = strip[0].inner or strip
            axes[dim] = (Part(TOKENS, op.out[dim], 1, before + layout.prefix, inner),)
        elif len(strip) == 1:
            axes[dim] = ax.resized(strip, op.out[dim])
    return tuple(axes)


def _stack(op: Operation) -> Axes | None:
    dim = op.argument(1, "dim", 0) % len(op.out)
    shape = op.out[:dim] + op.out[dim + 1 :]
    axes = [ax.best([operand[d] for operand in op.operands], size) for d, size in enumerate(shape)]
    return (*axes[:dim], ax.plain(op.out[dim]), *axes[dim:])


def _split(op: Operation) -> Axes | None:
    """Parts of one axis, one after the other."""
    place = {"split": 2, "chunk": 2, "tensor_split": 2, "split_with_sizes": 2, "narrow": 1}[op.name]
    dim = op.argument(place, "dim", 0) % len(op.out)
    start = sum(shape[dim] for shape in op.shapes[: op.place]) if op.name != "narrow" else op.argument(2, "start")
    return (*op.first[:dim], ax.sliced(op.first[dim], start, op.out[dim]), *op.first[dim + 1 :])


def _unbind(op: Operation) -> Axes:
    dim = op.argument(1, "dim", 0) % len(op.first)
    return (*op.first[:dim], *op.first[dim + 1 :])


def _index(op: Operation) -> Axes | None:
    """Slices and numbers; a list of places mixes up the axis that it picks from."""
    index = op.args[1]
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(isinstance(part, bool) for part in parts):
        return None
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    if any(part is Ellipsis for part in parts):
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[place : place + 1] = [slice(None)] * (len(op.first) - taken)
    axes: list[Axis] = []
    waiting = list(op.first)
    for part in parts:
        axis = waiting.pop(0) if part is not None else ()
        size = op.out[len(axes)] if len(axes) < len(op.out) else 1
        if isinstance(part, slice):
            start, _, step = part.indices(ax.length_of(axis))
            axes.append(ax.sliced(axis, start, size, step))
        elif not isinstance(part, int):
            axes.append(ax.plain(size, LOST if ax.is_placed(axis) else OTHER))
    axes += waiting
    return tuple(axes) if tuple(map(ax.length_of, axes)) == op.out else None


def _windows(op: Operation) -> Axes | None:
    """``Tensor.unfold`` along one dimension, and ``functional.unfold`` of images into columns."""
    if len(op.out) == len(op.first) + 1:
        return (*(ax.resized(axis, op.out[d]) for d, axis in enumerate(op.first)), ax.plain(op.out[-1]))
    if [part.along for part in op.first[2] + op.first[3]] != [ROW, COLUMN]:
        return None
    kernel, dilation, padding, stride = (
        (value, value) if isinstance(value, int) else tuple(value)
        for value in (
            op.argument(1, "kernel_size"), op.argument(2, "dilation", 1),
            op.argument(3, "padding", 0), op.argument(4, "stride", 1),
        )
    )  # fmt: skip
    sides = [
        (ax.length_of(op.first[2 + i]) + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1
        for i in (0, 1)
    ]
    return op.first[0], ax.plain(op.out[1]), (Part(ROW, sides[0]), Part(COLUMN, sides[1]))


def _fold(op: Operation) -> Axes | None:
    if ax.layout_of_tokens(op.first[-1]) is None or len(op.out) != 4:
        return None
    return op.first[0], ax.plain(op.out[1]), (Part(ROW, op.out[2]),), (Part(COLUMN, op.out[3]),)


def _target(op: Operation) -> Axes | None:
    """What is written into keeps its axes where it has some."""
    return op.first if any(op.first is axes for axes in op.marked) else None


def _disorder(op: Operation) -> Axes | None:
    """Along what is turned round or sorted, nothing is in the images' order."""
    dims = op.dims(1, "dims") if op.name == "flip" else range(len(op.out))
    return tuple(
        ax.plain(size) if d in dims else axis for d, (axis, size) in enumerate(zip(op.first, op.out, strict=True))
    )


_NAMES: dict[Callable[[Operation], Axes | None], str] = {
    _slide: """
        conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution max_pool1d max_pool2d
        max_pool2d_with_indices avg_pool1d avg_pool2d lp_pool2d adaptive_avg_pool1d adaptive_avg_pool2d
        adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool2d_with_indices interpolate upsample pad
        pixel_shuffle pixel_unshuffle grid_sample""",
    _linear: "linear",
    _recurrent: "lstm gru rnn_tanh rnn_relu",
    _attention: """
        scaled_dot_product_attention multi_head_attention_forward native_multi_head_attention
        transformer_encoder_layer_fwd""",
    _multiply: "matmul bmm mm rmatmul baddbmm addmm",
    _einsum: "einsum",
    _reduce: """
        mean sum amax amin max min var std norm vector_norm logsumexp var_mean argmax argmin prod median any all
        nanmean""",
    _permute: "permute transpose swapaxes swapdims movedim moveaxis t T mT adjoint",
    _view: "view reshape flatten unflatten squeeze unsqueeze ravel view_as reshape_as unsafe_view",
    _repeat: "repeat tile",
    _cat: "cat concat concatenate",
    _stack: "stack",
    _split: "chunk split tensor_split split_with_sizes narrow",
    _unbind: "unbind select",
    _index: "getitem",
    _target: "setitem",
    _windows: "unfold",
    _fold: "fold",
    _disorder: """
        flip fliplr flipud rot90 sort argsort topk gather take_along_dim index_select scatter
        fft_fft2 fft_ifft2""",
}
_RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}
# functions that read (N, C, H, W), whatever gave it
SPATIAL = frozenset({*_NAMES[_slide].split(), "batch_norm"}) - {"pad"}


def axes_after(operation: Operation) -> Axes:
    """The axes of one result of a call."""
    return ax.dense(_RULES.get(operation.name, _join)(operation) or ax.lost(operation.out))
