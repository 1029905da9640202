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
    found: dict[str, Traced] = {}
    with evaluating(model), torch.no_grad(), _Arithmetic() as marks:
        pixels = torch.zeros_like(images[:1])
        marks.start(pixels)
        with record(model, *names) as outputs:
            model(pixels)
        for name in names:
            found[name] = marks.of(outputs[name])
    return found


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
_POINTWISE = {
    "relu", "relu_", "relu6", "silu", "silu_", "gelu", "hardtanh", "hardtanh_", "hardswish", "hardswish_",
    "hardsigmoid", "hardsigmoid_", "sigmoid", "sigmoid_", "tanh", "tanh_", "softplus", "mish", "leaky_relu",
    "leaky_relu_", "elu", "elu_", "selu", "celu", "prelu", "clamp", "clamp_", "threshold", "exp", "abs", "neg",
    "sqrt", "rsqrt", "pow", "square", "dropout", "feature_dropout", "alpha_dropout", "dropout2d", "batch_norm",
    "add", "add_", "sub", "sub_", "mul", "mul_", "div", "div_", "rsub", "maximum", "minimum", "where", "lerp",
    "addcmul", "clone", "contiguous", "to", "float", "type", "detach", "__add__", "__radd__", "__iadd__",
    "__sub__", "__rsub__", "__isub__", "__mul__", "__rmul__", "__imul__", "__truediv__", "__pow__", "__neg__",
    "type_as", "softmax", "log_softmax", "log",
}  # fmt: skip
_PARTS = {"chunk", "split", "unbind", "narrow", "split_with_sizes", "tensor_split"}
_POOLS = {"max_pool2d", "_max_pool2d", "max_pool2d_with_indices", "_max_pool2d_with_indices", "avg_pool2d"}
_REDUCED = {"mean", "sum", "amax", "amin", "max", "var", "std", "norm", "logsumexp", "var_mean"}


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
        marked = [(each, self._marks[each]) for each in _tensors((args, kwargs)) if each in self._marks]
        shapes = [tuple(each.shape) for each, _ in marked]  # before an in-place function changes them
        out = func(*args, **kwargs)
        made = [args[0]] if func.__name__ == "__setitem__" and marked else list(_tensors(out))
        for tensor in made if marked else ():
            own = _Made(func.__name__, args, kwargs, [mark for _, mark in marked], shapes, tensor)
            self._marks[tensor] = _next(own)
        return out


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, Mapping):
        yield from _tensors(list(given.values()))
    elif isinstance(given, list | tuple):
        for each in given:
            yield from _tensors(each)


class _Made(NamedTuple):
    """A tensor that a function made of marked ones of ``shapes``."""

    name: str  # of the function
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    marks: list[_Mark]
    shapes: list[tuple[int, ...]]
    out: Tensor


def _next(made: _Made) -> _Mark:
    """The mark of what a function made."""
    name, args, kwargs, marks, shapes, out = made
    known = [mark for mark in marks if mark.reach is not None]
    lost = next((mark for mark in marks if mark.reach is None and mark != _WHOLE), None)
    if lost is not None:
        return lost
    if not known:
        return _WHOLE
    first, shape = marks[0], shapes[0]
    found: _Mark | None = None
    if name in _POINTWISE or name in ("cat", "concat", "concatenate"):
        found = _merged(made)
    elif first.reach is None or len(known) > 1:
        found = None
    elif name in ("conv2d", *_POOLS) and first.axes == (2, 3):
        found = _windowed(name, args, kwargs, first)
    elif name in ("adaptive_avg_pool2d", "adaptive_max_pool2d", "_adaptive_max_pool2d") and first.axes == (2, 3):
        found = _adaptive(first, shape, tuple(out.shape))
    elif name in _REDUCED:
        found = _reduced(first, shape, tuple(out.shape), args, kwargs)
    elif name in ("permute", "transpose", "swapaxes"):
        found = _turned(name, first, args, kwargs, out.ndim)
    elif name == "pad" and first.axes[1] < out.ndim:
        found = _padded(first, args, kwargs, out.ndim)
    elif name == "__getitem__":
        found = _sliced(first, shape, args[1], tuple(out.shape))
    elif name in ("linear", "layer_norm"):
        normed = len(args[1]) if name == "layer_norm" and len(args) > 1 else 1
        found = first if max(first.axes) < len(shape) - normed else None
    elif name in ("group_norm", "instance_norm"):
        found = first._replace(reach=first.reach._replace(gated=True))
    elif name in _PARTS or name in ("view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "expand"):
        found = _kept(first, shape, tuple(out.shape))
    return found or _Mark(None, (-1, -1), f"through {name}, which the arithmetic of convolutions does not cover")


def _merged(made: _Made) -> _Mark | None:
    """The box around all operands; one that is broadcast over the grid is a gate."""
    name, args, kwargs, marks, shapes, out = made
    full, gated, axes = [], False, None
    for mark, shape in zip(marks, shapes, strict=True):
        if mark.reach is None:
            gated = True
            continue
        own = tuple(axis + out.ndim - len(shape) for axis in mark.axes)
        if (
            any(shape[axis] < out.shape[there] for axis, there in zip(mark.axes, own, strict=True))
            and "cat" not in name
        ):
            gated = True
            continue
        if axes not in (None, own):
            return None
        axes = own
        full.append(mark.reach)
    if "cat" in name:
        dim = kwargs.get("dim", args[1] if len(args) > 1 else 0)
        if gated or axes is None or dim % out.ndim in axes:
            return None
    if not full:
        return _WHOLE
    if name in ("softmax", "log_softmax"):
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dim is None or dim % out.ndim in (axes or ()):
            return None
    if len({reach.stride for reach in full}) > 1:
        return None
    low = (min(reach.low[0] for reach in full), min(reach.low[1] for reach in full))
    high = (max(reach.high[0] for reach in full), max(reach.high[1] for reach in full))
    gated = gated or any(reach.gated for reach in full)
    return _Mark(Reach(low, high, full[0].stride, gated), cast(Pair, axes))


def _windowed(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], mark: _Mark) -> _Mark | None:
    """A convolution's or a pooling's windows: kernel, stride, padding and dilation, given by place or by name."""
    order = {
        "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation"),
        "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
    }.get(name, ("input", "kernel_size", "stride", "padding", "dilation"))
    given = {**dict(zip(order, args, strict=False)), **kwargs}
    kernel = tuple(given["weight"].shape[2:]) if name == "conv2d" else _pair(given["kernel_size"])
    stride = given.get("stride")
    strides = _pair(stride) if stride not in (None, [], ()) else ((1, 1) if name == "conv2d" else kernel)
    dilation, padding = _pair(given.get("dilation", 1)), given.get("padding", 0)
    if padding == "same":  # of an even window one pixel more at the end
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    before = _pair(0 if padding == "valid" else padding)
    reach = cast(Reach, mark.reach)
    low, high, jump = ([*each] for each in (reach.low, reach.high, reach.stride))
    for axis in (0, 1):
        low[axis] -= jump[axis] * before[axis]
        high[axis] += jump[axis] * (dilation[axis] * (kernel[axis] - 1) - before[axis])
        jump[axis] *= strides[axis]
    return _Mark(Reach(_pair(low), _pair(high), _pair(jump), reach.gated), mark.axes)


def _pair(value: Any) -> Pair:
    both = (value, value) if isinstance(value, int) else tuple(value) * (2 if len(value) == 1 else 1)
    return int(both[0]), int(both[1])


def _adaptive(mark: _Mark, shape: Sequence[int], out: Sequence[int]) -> _Mark | None:
    """A pooling to a fixed size: over the whole grid, or in equal windows."""
    if tuple(out[2:]) == (1, 1):
        return _WHOLE
    if any(before % after for before, after in zip(shape[2:], out[2:], strict=True)):
        return None
    kernel = [before // after for before, after in zip(shape[2:], out[2:], strict=True)]
    return _windowed("avg_pool2d", (None, kernel), {}, mark)


def _reduced(
    mark: _Mark, shape: Sequence[int], out: Sequence[int], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> _Mark | None:
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    if dim is None:
        return _WHOLE
    dims = {each % len(shape) for each in ([dim] if isinstance(dim, int) else dim)}
    if dims & set(mark.axes):
        return _WHOLE if set(mark.axes) <= dims else None
    lost = 0 if len(out) == len(shape) else 1
    rows, columns = (axis - lost * sum(each < axis for each in dims) for axis in mark.axes)
    return mark._replace(axes=(rows, columns))


def _turned(name: str, mark: _Mark, args: Sequence[Any], kwargs: Mapping[str, Any], ndim: int) -> _Mark:
    if name == "permute":
        given = kwargs.get("dims", args[1:])
        flat = given[0] if len(given) == 1 and not isinstance(given[0], int) else given
        order = [each % ndim for each in flat]
    else:
        one, two = (each % ndim for each in (args[1:3] or (kwargs["dim0"], kwargs["dim1"])))
        order = list(range(ndim))
        order[one], order[two] = two, one
    return mark._replace(axes=(order.index(mark.axes[0]), order.index(mark.axes[1])))


def _padded(mark: _Mark, args: Sequence[Any], kwargs: Mapping[str, Any], ndim: int) -> _Mark:
    """Pixels before and after, last axis first, as ``torch.nn.functional.pad`` takes them."""
    amounts = list(kwargs.get("pad", args[1] if len(args) > 1 else ()))
    before = {ndim - 1 - i: amounts[2 * i] for i in range(len(amounts) // 2)}
    return _shifted(mark, [-before.get(axis, 0) for axis in mark.axes], (1, 1))


def _sliced(mark: _Mark, shape: Sequence[int], index: Any, out: Sequence[int]) -> _Mark | None:
    """Slices with steps along the grid; anything along the other axes that leaves their number alone."""
    parts = list(index) if isinstance(index, tuple) else [index]
    if any(part is Ellipsis for part in parts):
        place = next(i for i, part in enumerate(parts) if part is Ellipsis)
        parts[place : place + 1] = [slice(None)] * (len(shape) - len(parts) + 1)
    parts += [slice(None)] * (len(shape) - len(parts))
    if len(parts) != len(shape) or not all(isinstance(part, slice) for part in parts):
        return _kept(mark, shape, out)
    ranges = [range(*parts[axis].indices(shape[axis])) for axis in mark.axes]
    return _shifted(mark, [each.start for each in ranges], (ranges[0].step, ranges[1].step))


def _shifted(mark: _Mark, starts: Sequence[int], steps: Pair) -> _Mark:
    reach = cast(Reach, mark.reach)
    moved = [start * stride for start, stride in zip(starts, reach.stride, strict=True)]
    low, high = (_pair([edge[0] + moved[0], edge[1] + moved[1]]) for edge in (reach.low, reach.high))
    stride = (reach.stride[0] * steps[0], reach.stride[1] * steps[1])
    return mark._replace(reach=Reach(low, high, stride, reach.gated))


def _kept(mark: _Mark, shape: Sequence[int], out: Sequence[int]) -> _Mark | None:
    """Another view: the grid's axes stay where everything from them on, or everything up to them, has its length."""
    if tuple(shape) == tuple(out):
        return mark
    rows, columns = mark.axes
    behind = len(shape) - min(mark.axes)
    if len(out) >= behind and tuple(out[-behind:]) == tuple(shape[-behind:]):
        shift = len(out) - len(shape)
        return mark._replace(axes=(rows + shift, columns + shift))
    before = max(mark.axes) + 1
    return mark if tuple(out[:before]) == tuple(shape[:before]) else None
