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
    """The submodule called ``name``; raises ``AssayError`` with the nearest names."""
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name not in modules or not name:
        raise unknown("layer", name, [known for known in modules if known])
    return modules[name]


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
    with record(model, *names, stop=True) as outputs:
        with suppress(_Enough):
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
    known = getattr(getattr(model_body(model), "patch_embed", None), "grid_size", None)
    declared = getattr(model_body(model), "num_prefix_tokens", None)
    prefixes = [declared] if isinstance(declared, int) else []
    for prefix in [*prefixes, *range(9)]:
        n = length - prefix
        if n < 1:
            continue
        if known is not None and n == math.prod(known):
            return Layout("tokens", known[0], known[1], prefix)
        height = max(round(math.sqrt(n * size[0] / size[1])), 1)
        if n % height == 0 and _covers((height, n // height), size) and (n > 1 or length == 1):
            return Layout("tokens", height, n // height, prefix)
    return None


def model_body(model: nn.Module) -> nn.Module:
    """The network inside a subject that normalises; the model itself otherwise."""
    body = getattr(model, "body", model)
    return body if isinstance(body, nn.Module) else model


_DEFAULTS: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], str]] = WeakKeyDictionary()


def default_layer(model: nn.Module, images: Tensor) -> str:
    """The name of the last layer that holds a live grid on every path to the logits: where Grad-CAM looks.

    Found by a probe, not by name: one forward and backward pass on two of the images' size, then a check that
    cutting the layer's gradient cuts all of it. Raises ``NotApplicable`` for a network without grids.
    """
    size = tuple(images.shape[1:])
    known = _DEFAULTS.setdefault(model, {})
    if size not in known:
        generator = torch.Generator().manual_seed(0)
        probe = torch.rand(2, *size, generator=generator).to(images)
        with borrowed(model):
            known[size] = _probe(model, probe)
    return known[size]


def _probe(model: nn.Module, images: Tensor) -> str:
    calls = [call for call in _calls(model, images) if not isinstance(call[1], nn.Identity | nn.Dropout)]
    seen: set[int] = set()
    fallback = None
    for name, _, tensor, gradient, layout in reversed(calls):
        if layout is None or layout.height * layout.width < 4 or gradient is None or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        grid = to_grid(gradient, layout)
        live = (grid.abs().amax(1) > 0).float().mean() >= 0.5
        varies = to_grid(tensor.detach(), layout).flatten(2).std(2).amax() > 0
        if not (live and varies):
            continue
        fallback = fallback or name
        if _cuts(model, name, images):
            return name
    if fallback is None:
        raise NotApplicable(f"{type(model_body(model)).__name__} has no layer with a grid over the image")
    return fallback


_Call = tuple[str, nn.Module, Tensor, Tensor | None, Layout | None]


def _calls(model: nn.Module, images: Tensor) -> list[_Call]:
    """Every module's output tensor in the order of finishing, with the gradient of the winning logits."""
    order: list[tuple[str, nn.Module, Tensor]] = []

    def hook(name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad and output.ndim >= 3:
                order.append((name, module, output))

        return keep

    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    try:
        logits = model(images.detach().requires_grad_(True))
    finally:
        for handle in handles:
            handle.remove()
    tensors = [tensor for _, _, tensor in order]
    gradients = torch.autograd.grad(logits.amax(1).sum(), tensors, allow_unused=True) if tensors else ()
    size = images.shape[-2:]
    return [
        (name, module, tensor, gradient, layout(model, module, tensor, size))
        for (name, module, tensor), gradient in zip(order, gradients, strict=True)
    ]


def _cuts(model: nn.Module, name: str, images: Tensor) -> bool:
    """Whether every path from the image to the logits runs through the layer."""
    handle = find(model, name).register_forward_hook(lambda module, inputs, output: output.detach())
    try:
        images = images.detach().requires_grad_(True)
        logits = model(images)
        if not logits.requires_grad:
            return True
        (gradient,) = torch.autograd.grad(logits.amax(1).sum(), images, allow_unused=True)
    finally:
        handle.remove()
    return gradient is None or not bool(gradient.any())


def describe(model: nn.Module, images: Tensor) -> list[LayerInfo]:
    """Every layer that gives a tensor of three or more dimensions, in the order of finishing."""
    with borrowed(model):
        calls = _calls(model, images)
    return [LayerInfo(n, type(m).__name__, tuple(t.shape[1:]), found) for n, m, t, _, found in calls]
