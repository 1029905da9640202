"""How what each layer holds lies over images of a size: followed once, and again when the network has changed.

Sizes tell nothing: channels may be as many as rows, and tokens as channels. So rows and columns are followed through
the functions of one forward pass: a convolution keeps them where it finds them, ``permute`` moves them, ``reshape``
splits and joins them. What is made of them by a function that no rule covers is lost until it is added to what is
known, as in a residual block, or convolved.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from assay.core.axes import LOST, Axes, Layout, grid_of, layout_of, layout_of_tokens, plain_axes
from assay.core.axis_rules import SPATIAL, Operation, axes_after
from assay.core.borrow import evaluating
from assay.core.calls import Calls, function_name

Value = TypeVar("Value")
Seen = dict[tuple[int, tuple[int, ...]], Layout | None]  # by the layer's id and the shape of one image's output
_KEPT: WeakKeyDictionary[nn.Module, tuple[Hashable, dict[Hashable, Any]]] = WeakKeyDictionary()


class Followed(Calls):
    """Keeps the axes of every tensor made from the images while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self._axes: MutableMapping[Tensor, Axes] = WeakIdKeyDictionary()
        self._count, self._size = 0, torch.Size((1, 1))

    def start(self, images: Tensor) -> None:
        self._count, self._size = len(images), images.shape[2:]
        self._axes[images] = grid_of(images.shape)

    def layout(self, tensor: Tensor) -> Layout | None:
        """How the tensor lies over the images; None where it is no grid of all of them, or its axes are lost.

        One that is not made from the images, such as an answer given in advance, is read as (N, C, h, w) where h and w
        have the proportions of the image.
        """
        axes = self._axes.get(tensor, ())
        if axes or tensor.ndim != 4 or tensor.shape[2] * self._size[1] != tensor.shape[3] * self._size[0]:
            return layout_of(axes)
        return Layout("nchw", tensor.shape[2], tensor.shape[3])

    def tokens(self, tensor: Tensor, dim: int) -> Layout | None:
        """The layout of the tokens along one dimension of a tensor."""
        axes = self._axes.get(tensor, ())
        return layout_of_tokens(axes[dim]) if axes else None

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name, tensors = function_name(func), list(_tensors((args, kwargs)))
        known: list[Axes] = [self._axes.get(tensor, ()) for tensor in tensors]
        if name in SPATIAL and tensors and self._is_new(tensors[0], known[0]):
            known[0] = grid_of(tensors[0].shape)
        if not any(known):
            return func(*args, **kwargs)
        operands = [axes or plain_axes(tensor.shape) for tensor, axes in zip(tensors, known, strict=True)]
        out = func(*args, **kwargs)
        results = [args[0]] if name == "setitem" else list(_tensors(out))
        shapes = [tuple(result.shape) for result in results]
        marked = [axes for axes in known if axes]
        for place, result in enumerate(results):
            self._axes[result] = axes_after(Operation(name, args, kwargs, operands, marked, shapes, place))
        return out

    def _is_new(self, tensor: Tensor, axes: Axes) -> bool:
        """Whether nothing is known of the rows and columns of what a convolution reads."""
        if tensor.ndim != 4 or len(tensor) != self._count:
            return False
        return not axes or all(part.along == LOST for axis in axes[2:] for part in axis)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict | list | tuple):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _tensors(value)


def layouts(
    model: nn.Module, images: Tensor, outputs: Sequence[tuple[nn.Module, Tensor]], *, stop: bool = False
) -> list[Layout | None]:
    """How what layers gave lies over the images; None for what is no grid over each of them.

    From one forward pass on two copies of the first image, where the answer is not yet known; ``stop`` ends it as soon
    as all of the layers have run.
    """
    seen = known_layouts(model, images)
    keys = [(id(layer), tuple(output.shape[1:])) for layer, output in outputs]
    if not seen.keys() >= set(keys):
        seen |= _follow(model, images, [layer for layer, _ in outputs] if stop else [])
    return [
        seen.setdefault(key) if len(output) == len(images) else None
        for key, (_, output) in zip(keys, outputs, strict=True)
    ]


def known_layouts(model: nn.Module, images: Tensor) -> Seen:
    """What is known of the network's layers at that size, to be added to."""
    return kept(model, "layouts", images, dict)


@contextmanager
def following(
    model: nn.Module, images: Tensor, see: Callable[[str, nn.Module, Tensor, Layout | None], None]
) -> Iterator[Seen]:
    """While the network runs on ``images``, ``see`` gets the name, module, output and layout of each call of a layer.

    Gives the layouts, of several calls of a layer with the same shape the last one's.
    """
    seen: Seen = {}

    def hook(name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                layout = axes.layout(output)
                seen[id(module), tuple(output.shape[1:])] = layout
                see(name, module, output, layout)

        return note

    handles = [module.register_forward_hook(hook(name)) for name, module in model.named_modules() if name]
    try:
        with Followed() as axes:
            axes.start(images)
            yield seen
    finally:
        for handle in handles:
            handle.remove()


class _Enough(Exception):
    """Ends a forward pass after the last wanted layer."""


def _follow(model: nn.Module, images: Tensor, until: Sequence[nn.Module]) -> Mapping[Any, Layout | None]:
    waiting = set(until)

    def see(name: str, module: nn.Module, output: Tensor, layout: Layout | None) -> None:
        if module in waiting:
            waiting.remove(module)
            if not waiting:
                raise _Enough

    pair = images[:1].detach().repeat(2, 1, 1, 1).requires_grad_(True)  # as when explained: some skip layers without
    with evaluating(model), following(model, pair, see) as seen, suppress(_Enough):
        model(pair)
    return seen


def kept(model: nn.Module, question: str, images: Tensor, answer: Callable[[], Value]) -> Value:
    """What ``answer`` gave to a question about the network and that size of images.

    Asked again once the network's modules, their settings or its weights have changed.
    """
    state = _state(model)
    before, answers = _KEPT.get(model, (None, {}))
    if before != state:
        answers = {}
        _KEPT[model] = state, answers
    key = (question, tuple(images.shape[1:]), images.dtype)
    if key not in answers:
        answers[key] = answer()
    value: Value = answers[key]
    return value


def _state(model: nn.Module) -> Hashable:
    modules = tuple(
        (name, id(module), tuple((key, _setting(value)) for key, value in vars(module).items() if _is_setting(key)))
        for name, module in model.named_modules()
    )
    weights = tuple((id(weight), 0 if weight.is_inference() else weight._version) for weight in model.parameters())
    return modules, weights


def _is_setting(key: str) -> bool:
    return key != "training" and not key.startswith("_")


def _setting(value: object) -> Hashable:
    if isinstance(value, list | tuple):
        return tuple(map(_setting, value))
    return value if isinstance(value, str | int | float | bool | None) else id(value)
