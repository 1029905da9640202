"""Layers by dotted name, read as (N, C, h, w) grids, and the layer that Grad-CAM wants.

Networks hold grids in three layouts: NCHW, NHWC, and rows of tokens (N, prefix + h * w, C) whose prefix is class,
register or distillation tokens. ``layout`` tells which one a tensor has; ``to_grid`` makes it NCHW.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from core.borrow import borrowed
from core.errors import AssayError, NotApplicable, unknown


class Layout(NamedTuple):
    """How a tensor holds its grid: ``order`` is nchw, nhwc or tokens; ``prefix`` tokens come before the grid."""

    order: str
    height: int
    width: int
    prefix: int = 0


class LayerInfo(NamedTuple):
    """One row of ``assay layers``."""

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: Layout | None


def find(model: nn.Module, name: str) -> nn.Module:
    """The submodule called ``name``, also by its name inside a subject; ``AssayError`` with the nearest names."""
    modules: dict[str, nn.Module] = dict(model.named_modules())
    inside = f"body.{name}" if model_body(model) is not model else name
    found = modules.get(name) or modules.get(inside)
    if not name or found is None:
        raise unknown("layer", name, [known for known in modules if known])
    return found


class _Enough(Exception):
    """Ends a forward pass after the last wanted layer."""


@contextmanager
def record(model: nn.Module, *names: str, stop: bool = False) -> Iterator[dict[str, Tensor]]:
    """Outputs of the named layers of forward passes inside the block, the last call of each.

    What is recorded is the output itself and the network goes on with a copy, so an in-place activation behind
    the layer changes neither the recorded value nor its gradient. ``stop`` ends a pass once all are there.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            if not isinstance(output, Tensor):
                raise AssayError(f"layer {name!r} gives {type(output).__name__}, not one tensor; name one inside it")
            outputs[name] = output
            if stop and len(outputs) == len(set(names)):
                raise _Enough
            return output.clone()

        return hook

    handles = [find(model, name).register_forward_hook(keep(name)) for name in dict.fromkeys(names)]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def many_activations(model: nn.Module, images: Tensor, names: Sequence[str]) -> list[Tensor]:
    """Activations (N, C, h, w) of several layers from one forward pass that ends at the deepest of them."""
    with record(model, *names, stop=True) as outputs, suppress(_Enough):
        model(images)
    return [to_grid(outputs[name], find_layout(model, name, outputs[name], images)) for name in names]


def activations(model: nn.Module, images: Tensor, name: str) -> Tensor:
    """Activations (N, C, h, w) of one layer; the forward pass ends there."""
    return many_activations(model, images, [name])[0]


def to_grid(tensor: Tensor, layout: Layout) -> Tensor:
    """A layer's output as (N, C, h, w)."""
    if layout.order == "nchw":
        return tensor
    if layout.order == "nhwc":
        return tensor.permute(0, 3, 1, 2)
    tokens = tensor[:, layout.prefix :]
    return tokens.transpose(1, 2).reshape(len(tensor), -1, layout.height, layout.width)


def find_layout(model: nn.Module, name: str, tensor: Tensor, images: Tensor) -> Layout:
    """Like ``layout``; a tensor without a grid raises ``NotApplicable``."""
    found = layout(model, find(model, name), tensor, images.shape[-2:])
    if found is None:
        raise NotApplicable(f"layer {name!r} holds {tuple(tensor.shape)}, which is not a grid over the image")
    return found


def layout(model: nn.Module, module: nn.Module, tensor: Tensor, size: Sequence[int]) -> Layout | None:
    """How the output of ``module`` lies over an image of ``size`` (H, W); None where it is no grid."""
    if tensor.ndim == 4:
        _, a, b, c = tensor.shape
        first, last = _covers((b, c), size), _covers((a, b), size)
        if first and last and isinstance(module, nn.Linear | nn.LayerNorm):
            first = False
        if first:
            return Layout("nchw", b, c)
        return Layout("nhwc", a, b) if last else None
    if tensor.ndim == 3:
        return _token_layout(model, tensor.shape[1], size)
    return None


def _covers(grid: tuple[int, int], size: Sequence[int]) -> bool:
    """Whether a grid has the image's proportions, up to the rounding of a strided layer."""
    (h, w), (height, width) = grid, size
    if not (1 <= h <= height and 1 <= w <= width):
        return False
    stride = max(height / h, width / w)
    return abs(height / stride - h) <= 1 and abs(width / stride - w) <= 1


def _token_layout(model: nn.Module, length: int, size: Sequence[int]) -> Layout | None:
    """The patch embedding's own grid, else one of the image's exact proportions, else one near them."""
    known = getattr(getattr(model_body(model), "patch_embed", None), "grid_size", None)
    declared = getattr(model_body(model), "num_prefix_tokens", None)
    prefixes = dict.fromkeys([*([declared] if isinstance(declared, int) else []), *range(9)])
    grids = {prefix: _nearest_grid(length - prefix, size) for prefix in prefixes if length > prefix}
    if known is not None:
        own = [prefix for prefix in grids if length - prefix == math.prod(known)]
        if own:
            return Layout("tokens", known[0], known[1], own[0])
    for exact in (True, False):
        for prefix, grid in grids.items():
            if grid is None or (grid == (1, 1) and length > 1):
                continue
            if not exact or grid[0] * size[1] == grid[1] * size[0]:
                return Layout("tokens", *grid, prefix)
    return None


def _nearest_grid(n: int, size: Sequence[int]) -> tuple[int, int] | None:
    height = max(round(math.sqrt(n * size[0] / size[1])), 1)
    return (height, n // height) if n % height == 0 and _covers((height, n // height), size) else None


def model_body(model: nn.Module) -> nn.Module:
    """The network inside a subject that normalises; the model itself otherwise."""
    body = getattr(model, "body", model)
    return body if isinstance(body, nn.Module) else model


_Edge = tuple[Any, int]  # a node of the autograd graph and the number of its output

_DEFAULTS: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], str]] = WeakKeyDictionary()


def default_layer(model: nn.Module, images: Tensor) -> str:
    """The name of the last layer that holds a live grid on every path to the logits: where Grad-CAM looks.

    Found by a probe, not by name: one forward and backward pass on two random images of that size, then a walk
    through the autograd graph. Where branches never meet in one grid, the last live grid of any of them. Raises
    ``NotApplicable`` for a network without grids and for one whose head is still zero.
    """
    size = tuple(images.shape[1:])
    known = _DEFAULTS.setdefault(model, {})
    if size not in known:
        generator = torch.Generator().manual_seed(0)
        probe = torch.rand(2, *size, generator=generator).to(images)
        with borrowed(model):
            known[size] = _probe(model, probe)
    return known[size]


class _Call(NamedTuple):
    """One module's output tensor, its place in the autograd graph and the gradient of the winning logits there."""

    name: str
    module: nn.Module
    tensor: Tensor
    edge: _Edge
    gradient: Tensor | None
    layout: Layout | None


def _probe(model: nn.Module, images: Tensor) -> str:
    calls, root = _calls(model, images)
    names: set[str] = set()
    tensors: set[int] = set()
    fallback = None
    for call in reversed(calls):
        if call.name in names or isinstance(call.module, nn.Identity | nn.Dropout | nn.Linear):
            continue
        names.add(call.name)
        if id(call.tensor) not in tensors and _live(call):
            tensors.add(id(call.tensor))
            fallback = fallback or call.name
            if _on_every_path(root, call.edge):
                return call.name
    if fallback is None:
        raise NotApplicable(f"{type(model_body(model)).__name__} has no layer with a live grid over the image")
    return fallback


def _live(call: _Call) -> bool:
    """Whether a call gives a grid of four cells or more that varies and half of which matters to the logits."""
    if call.layout is None or call.layout.height * call.layout.width < 4 or call.gradient is None:
        return False
    matters = (to_grid(call.gradient, call.layout).abs().amax(1) > 0).float().mean() >= 0.5
    varies = to_grid(call.tensor.detach(), call.layout).flatten(2).std(2).amax() > 0
    return bool(matters and varies)


def _calls(model: nn.Module, images: Tensor) -> tuple[list[_Call], Any]:
    """Every module's output tensor in the order of finishing, and the logits' node of the autograd graph."""
    order: list[tuple[str, nn.Module, Tensor, _Edge]] = []

    def hook(name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad and output.ndim >= 3:
                order.append((name, module, output, (output.grad_fn, output.output_nr)))

        return keep

    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    try:
        logits = model(images.detach().requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    tensors = [tensor for _, _, tensor, _ in order]
    gradients = torch.autograd.grad(logits.amax(1).sum(), tensors, allow_unused=True) if tensors else ()
    size = images.shape[-2:]
    calls = [
        _Call(name, module, tensor, edge, gradient, layout(model, module, tensor, size))
        for (name, module, tensor, edge), gradient in zip(order, gradients, strict=True)
    ]
    return calls, logits.grad_fn


def _on_every_path(root: Any, edge: _Edge) -> bool:
    """Whether the autograd graph, cut at ``edge``, no longer leads from ``root`` to a leaf: to the images."""
    waiting, seen = [root], {root}
    while waiting:
        following = waiting.pop().next_functions
        if not following:
            return False
        for node, number in following:
            if node is not None and (node, number) != edge and node not in seen:
                seen.add(node)
                waiting.append(node)
    return True


def describe(model: nn.Module, images: Tensor) -> list[LayerInfo]:
    """Every layer that gives a tensor of three or more dimensions, in the order of finishing."""
    with borrowed(model):
        calls, _ = _calls(model, images)
    return [LayerInfo(c.name, type(c.module).__name__, tuple(c.tensor.shape[1:]), c.layout) for c in calls]
