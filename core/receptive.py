"""Receptive fields: which pixels a unit of a layer depends on.

``recursion`` follows the arithmetic of convolutions and pooling (Araujo et al. 2019, doi:10.23915/distill.00021)
through one forward pass, branches included. ``measured`` looks at derivatives, so it holds for any network. There the
dependence counts in full: behind a squeeze-and-excitation or an attention over the whole grid a unit sees the whole
image. ``effective`` says where in its field a unit's weight lies.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from assay.core.borrow import evaluating
from assay.core.calls import Calls
from assay.core.layers import find_layout, record, to_grid
from assay.core.probe import awake, random_images

Pair = tuple[int, int]  # down, across


class Field(NamedTuple):
    """A box of pixels: ``height`` rows from ``top``, ``width`` columns from ``left``, clipped by the image."""

    top: int
    left: int
    height: int
    width: int


class Reach(NamedTuple):
    """What the units of a grid read: unit i along an axis the pixels low + i * stride to high + i * stride, inclusive.

    Pixels below 0 and beyond the image are padding. ``gated`` units are also scaled or shifted by a number that the
    whole image decides: squeeze-and-excitation, statistics over the grid.
    """

    low: Pair
    high: Pair
    stride: Pair
    gated: bool = False

    @property
    def size(self) -> Pair:
        """Rows and columns of a field, padding included."""
        return self.high[0] - self.low[0] + 1, self.high[1] - self.low[1] + 1

    def at(self, y: int, x: int) -> Field:
        """The field of unit (y, x), not clipped: it may begin below 0 and end beyond the image."""
        return Field(self.low[0] + y * self.stride[0], self.low[1] + x * self.stride[1], *self.size)


class Traced(NamedTuple):
    """What the recursion finds for a layer: its reach, or None and the reason."""

    reach: Reach | None
    reason: str = ""


def clipped(field: Field, size: Sequence[int]) -> Field:
    """What of a field lies in an image of ``size`` (H, W)."""
    top, left = max(field.top, 0), max(field.left, 0)
    bottom, right = min(field.top + field.height, size[0]), min(field.left + field.width, size[1])
    return Field(top, left, max(bottom - top, 0), max(right - left, 0))


def recursion(model: nn.Module, images: Tensor, names: Sequence[str]) -> dict[str, Traced]:
    """The reach of each named layer's units, from kernels, strides, dilations and paddings met on the way.

    One forward pass on one image of zeros of the size of ``images``, whose functions are watched: branches that meet
    give the smallest box around both. What no convolution arithmetic covers (attention, upsampling, tokens) ends in a
    reason. A layer that sees every pixel at each unit, behind a mean over the grid, has no reach either.
    """
    with evaluating(model), torch.no_grad(), _Arithmetic() as marks:
        pixels = torch.zeros_like(images[:1])
        marks.start(pixels)
        with record(model, *names) as outputs:
            model(pixels)
        return {name: marks.of(outputs[name]) for name in names}


def measured(model: nn.Module, images: Tensor, names: Sequence[str]) -> Iterator[tuple[str, Field | None]]:
    """For each named layer the box of pixels that reach the middle unit (h // 2, w // 2) of its grid.

    The support of the derivative of a random mixture of the unit's channels, united over two images of noise of the
    size of ``images``. It is a lower bound: a pixel that only an inactive ReLU or a losing position of a max-pool
    would pass on in both is missed, which rarely moves the box. Weights that are all zero count as random ones.
    ``None`` where nothing reaches the unit. One forward pass for all layers, one backward pass for each. Raises
    ``NotApplicable`` for a layer without a grid.
    """
    for name, reach in _middles(model, random_images(images), names, lambda pixels: awake(model, pixels)):
        yield name, box((reach != 0).any(1).any(0))


def box(support: Tensor) -> Field | None:
    """The smallest box around what is true in ``support`` (H, W)."""
    rows, columns = (support.any(1 - axis).nonzero().flatten().tolist() for axis in (0, 1))
    if not rows:
        return None
    return Field(rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)


class Effective(NamedTuple):
    """Where the weight of a field lies: ``weight`` (H, W), its largest value 1.

    ``side`` is that of a square, in pixels, as large as all that is above 4.55 percent of the largest.
    """

    weight: Tensor
    side: float


def effective(model: nn.Module, images: Tensor, names: Sequence[str]) -> Iterator[tuple[str, Effective]]:
    """The effective field of each named layer's middle unit (Luo et al. 2016, arXiv:1701.04128).

    The size of the derivative of a random mixture of the unit's channels, summed over colours and averaged over
    ``images``, with the weights as they are. One forward pass for all layers, one backward pass for each. Zeros and a
    side of 0 where nothing reaches the unit. Raises ``NotApplicable`` for a layer without a grid.
    """
    for name, gradient in _middles(model, images.clone(), names, lambda pixels: model(pixels)):
        weight = gradient.abs().sum(1).mean(0)
        weight = weight / weight.amax().clamp(min=torch.finfo(weight.dtype).tiny)
        yield name, Effective(weight, float((weight > 1 - 0.9545).sum()) ** 0.5)


def _middles(
    model: nn.Module, images: Tensor, names: Sequence[str], run: Callable[[Tensor], object]
) -> Iterator[tuple[str, Tensor]]:
    """For each named layer the derivative (N, C, H, W) of a random mixture of its middle unit's channels."""
    generator = torch.Generator().manual_seed(0)
    with evaluating(model):
        pixels = images.requires_grad_(True)
        with record(model, *names) as outputs:
            run(pixels)
        for name in names:
            grid = to_grid(outputs[name], find_layout(model, name, outputs[name], images))
            middle = grid[:, :, grid.shape[2] // 2, grid.shape[3] // 2]
            unit = (middle * torch.randn(middle.shape, generator=generator).to(middle)).sum()
            if not unit.requires_grad:  # nothing of the pixels, nor of what a network makes for itself
                yield name, torch.zeros_like(images)
                continue
            (reach,) = torch.autograd.grad(unit, pixels, retain_graph=True, allow_unused=True)
            yield name, torch.zeros_like(images) if reach is None else reach


class _Mark(NamedTuple):
    """How a tensor hangs on the pixels: ``axes`` of rows and columns; no reach: the whole image, or not known."""

    reach: Reach | None
    axes: Pair
    reason: str = ""


_WHOLE = _Mark(None, (-1, -1), "every unit reads the whole image")


class _Arithmetic(Calls):
    """Keeps a mark for every tensor made from the pixels while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self._marks = WeakIdKeyDictionary()

    def start(self, pixels: Tensor) -> None:
        self._marks[pixels] = _Mark(Reach((0, 0), (0, 0), (1, 1)), (2, 3))

    def of(self, tensor: Tensor) -> Traced:
        if tensor not in self._marks:
            return Traced(None, "does not depend on the image")
        mark = self._marks[tensor]
        return Traced(mark.reach, mark.reason)

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = [tensor for tensor in _tensors((args, kwargs)) if tensor in self._marks]
        marks = [self._marks[tensor] for tensor in inputs]
        shapes = [tuple(tensor.shape) for tensor in inputs]  # before an in-place function changes them
        out = func(*args, **kwargs)
        if inputs:
            for tensor in [args[0]] if func.__name__ == "__setitem__" else _tensors(out):
                self._marks[tensor] = _mark_of(
                    _Operation(func.__name__, args, kwargs, marks, shapes, tuple(tensor.shape))
                )
        return out


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)


class _Operation(NamedTuple):
    """A call of the function ``name`` on tensors with ``marks``, of ``shapes`` before it, that gave one of ``out``."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    marks: list[_Mark]
    shapes: list[tuple[int, ...]]
    out: tuple[int, ...]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        return self.kwargs.get(name, self.args[place] if len(self.args) > place else default)


def _mark_of(op: _Operation) -> _Mark:
    """The mark of what a function gave."""
    opaque = [mark for mark in op.marks if mark.reach is None and mark != _WHOLE]
    if opaque:
        return opaque[0]
    grids = sum(mark.reach is not None for mark in op.marks)
    if not grids:
        return _WHOLE
    rule = _RULES.get(op.name)
    covers = rule is _join or (grids == 1 and op.marks[0].reach is not None)
    mark = rule(op) if rule is not None and covers else None
    return mark or _Mark(None, (-1, -1), f"through {op.name}, which the arithmetic of convolutions does not cover")


def _join(op: _Operation) -> _Mark | None:
    """The box around all operands; one that is broadcast over the grid is a gate."""
    stacks, ndim = "cat" in op.name, len(op.out)
    reaches: list[Reach] = []
    gated, axes = False, None
    for mark, shape in zip(op.marks, op.shapes, strict=True):
        shift = ndim - len(shape)
        if mark.reach is None or (not stacks and any(shape[axis] < op.out[axis + shift] for axis in mark.axes)):
            gated = True
            continue
        place = (mark.axes[0] + shift, mark.axes[1] + shift)
        if axes not in (None, place):
            return None
        axes = place
        reaches.append(mark.reach)
    if stacks and (gated or axes is None):
        return None
    if axes is None:
        return _WHOLE
    if stacks or "softmax" in op.name:
        dim = op.argument(1, "dim", 0 if stacks else None)
        if dim is None or dim % ndim in axes:
            return None
    if len({reach.stride for reach in reaches}) > 1:
        return None
    low = (min(reach.low[0] for reach in reaches), min(reach.low[1] for reach in reaches))
    high = (max(reach.high[0] for reach in reaches), max(reach.high[1] for reach in reaches))
    return _Mark(Reach(low, high, reaches[0].stride, gated or any(reach.gated for reach in reaches)), axes)


def _slide(op: _Operation) -> _Mark | None:
    """A convolution's or a pooling's windows: kernel, stride, padding and dilation, by place or by name."""
    mark, convolves = op.marks[0], op.name == "conv2d"
    if mark.axes != (2, 3):
        return None
    if convolves:
        order = ["input", "weight", "bias", "stride", "padding", "dilation"]
    else:
        order = ["input", "kernel_size", "stride", "padding", *(["dilation"] if op.name != "avg_pool2d" else [])]
    settings = {**dict(zip(order, op.args, strict=False)), **op.kwargs}
    kernel = tuple(settings["weight"].shape[2:]) if convolves else _pair(settings["kernel_size"])
    stride = settings.get("stride")
    strides = _pair(stride) if stride not in (None, [], ()) else ((1, 1) if convolves else kernel)
    dilation, padding = _pair(settings.get("dilation", 1)), settings.get("padding", 0)
    if padding == "same":  # of an even window one pixel more at the end
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    before = _pair(0 if padding == "valid" else padding)
    reach = cast(Reach, mark.reach)
    low, high, jump = list(reach.low), list(reach.high), list(reach.stride)
    for axis in (0, 1):
        low[axis] -= jump[axis] * before[axis]
        high[axis] += jump[axis] * (dilation[axis] * (kernel[axis] - 1) - before[axis])
        jump[axis] *= strides[axis]
    return _Mark(Reach(_pair(low), _pair(high), _pair(jump), reach.gated), mark.axes)


def _pair(value: Any) -> Pair:
    pair = (value, value) if isinstance(value, int) else tuple(value) * (2 if len(value) == 1 else 1)
    return int(pair[0]), int(pair[1])


def _adapt(op: _Operation) -> _Mark | None:
    """A pooling to a fixed size: over the whole grid, or in equal windows."""
    if op.marks[0].axes != (2, 3):
        return None
    if op.out[2:] == (1, 1):
        return _WHOLE
    sides = list(zip(op.shapes[0][2:], op.out[2:], strict=True))
    if any(before % after for before, after in sides):
        return None
    kernel = [before // after for before, after in sides]
    return _slide(op._replace(name="avg_pool2d", args=(None, kernel), kwargs={}))


def _reduce(op: _Operation) -> _Mark | None:
    mark, shape, dim = op.marks[0], op.shapes[0], op.argument(1, "dim")
    if dim is None:
        return _WHOLE
    dims = {axis % len(shape) for axis in ([dim] if isinstance(dim, int) else dim)}
    if dims & set(mark.axes):
        return _WHOLE if set(mark.axes) <= dims else None
    fewer = 0 if len(op.out) == len(shape) else 1
    rows, columns = (axis - fewer * sum(other < axis for other in dims) for axis in mark.axes)
    return mark._replace(axes=(rows, columns))


def _permute(op: _Operation) -> _Mark:
    mark, ndim = op.marks[0], len(op.out)
    if op.name == "permute":
        dims = op.kwargs.get("dims", op.args[1:])
        order = [dim % ndim for dim in (dims if len(dims) > 1 or isinstance(dims[0], int) else dims[0])]
    else:
        first, second = (dim % ndim for dim in (op.args[1:3] or (op.kwargs["dim0"], op.kwargs["dim1"])))
        order = list(range(ndim))
        order[first], order[second] = second, first
    return mark._replace(axes=(order.index(mark.axes[0]), order.index(mark.axes[1])))


def _pad(op: _Operation) -> _Mark:
    """Pixels before and after, last axis first, as ``torch.nn.functional.pad`` takes them."""
    amounts = list(op.argument(1, "pad", ()))
    before = {len(op.out) - 1 - i: amounts[2 * i] for i in range(len(amounts) // 2)}
    return _shift(op.marks[0], [-before.get(axis, 0) for axis in op.marks[0].axes], (1, 1))


def _slice(op: _Operation) -> _Mark | None:
    """Slices with steps along the grid; anything along the other axes that leaves their number alone."""
    mark, shape, index = op.marks[0], op.shapes[0], op.args[1]
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(part is Ellipsis for part in parts):
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[place : place + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    if len(parts) != len(shape) or not all(isinstance(part, slice) for part in parts):
        return _view(op)
    rows, columns = (range(*parts[axis].indices(shape[axis])) for axis in mark.axes)
    return _shift(mark, [rows.start, columns.start], (rows.step, columns.step))


def _shift(mark: _Mark, starts: Sequence[int], steps: Pair) -> _Mark:
    reach = cast(Reach, mark.reach)
    offsets = [start * stride for start, stride in zip(starts, reach.stride, strict=True)]
    low, high = (_pair([edge[0] + offsets[0], edge[1] + offsets[1]]) for edge in (reach.low, reach.high))
    stride = (reach.stride[0] * steps[0], reach.stride[1] * steps[1])
    return mark._replace(reach=Reach(low, high, stride, reach.gated))


def _mix_last(op: _Operation) -> _Mark | None:
    """Over the last axes, which must not be the grid's."""
    axes = len(op.args[1]) if op.name == "layer_norm" and len(op.args) > 1 else 1
    return op.marks[0] if max(op.marks[0].axes) < len(op.shapes[0]) - axes else None


def _gate(op: _Operation) -> _Mark:
    return op.marks[0]._replace(reach=cast(Reach, op.marks[0].reach)._replace(gated=True))


def _view(op: _Operation) -> _Mark | None:
    """Another view: the grid's axes stay where everything from them on, or everything up to them, has its length."""
    mark, shape, out = op.marks[0], op.shapes[0], op.out
    behind = len(shape) - min(mark.axes)
    if len(out) >= behind and out[-behind:] == shape[-behind:]:
        shift = len(out) - len(shape)
        return mark._replace(axes=(mark.axes[0] + shift, mark.axes[1] + shift))
    before = max(mark.axes) + 1
    return mark if out[:before] == shape[:before] else None


_NAMES: dict[Callable[[_Operation], _Mark | None], str] = {
    _join: """
        relu relu_ relu6 silu silu_ gelu hardtanh hardtanh_ hardswish hardswish_ hardsigmoid hardsigmoid_ sigmoid
        sigmoid_ tanh tanh_ softplus mish leaky_relu leaky_relu_ elu elu_ selu celu prelu clamp clamp_ threshold exp
        abs neg sqrt rsqrt pow square dropout feature_dropout alpha_dropout dropout2d batch_norm add add_ sub sub_ mul
        mul_ div div_ rsub maximum minimum where lerp addcmul clone contiguous to float type detach __add__ __radd__
        __iadd__ __sub__ __rsub__ __isub__ __mul__ __rmul__ __imul__ __truediv__ __pow__ __neg__ type_as softmax
        log_softmax log cat concat concatenate""",
    _slide: "conv2d max_pool2d _max_pool2d max_pool2d_with_indices _max_pool2d_with_indices avg_pool2d",
    _adapt: "adaptive_avg_pool2d adaptive_max_pool2d _adaptive_max_pool2d",
    _reduce: "mean sum amax amin max var std norm logsumexp var_mean",
    _permute: "permute transpose swapaxes",
    _pad: "pad",
    _slice: "__getitem__",
    _mix_last: "linear layer_norm",
    _gate: "group_norm instance_norm",
    _view: """
        view reshape flatten unflatten unsqueeze squeeze expand chunk split unbind narrow split_with_sizes
        tensor_split""",
}
_RULES = {name: rule for rule, names in _NAMES.items() for name in names.split()}
