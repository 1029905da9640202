"""Layers by dotted name, read as (N, C, h, w) grids, and the layer that Grad-CAM wants.

Networks hold grids in three layouts: NCHW, NHWC, and rows of tokens (N, prefix + h * w, C) whose prefix is class,
register or distillation tokens. ``layout`` tells which one a tensor has; ``to_grid`` makes it NCHW.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

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
    if not isinstance(name, str):
        raise AssayError(f"name a layer by its dotted name, such as 'layer4.1', not by a {type(name).__name__}")
    modules: dict[str, nn.Module] = dict(model.named_modules())
    inside = f"body.{name}" if model_body(model) is not model else name
    found = modules.get(name, modules.get(inside))
    if not name or found is None:
        raise unknown("layer", name, [known for known in modules if known])
    return found


class _Enough(Exception):
    """Ends a forward pass after the last wanted layer."""


class _Outputs(dict[str, Tensor]):
    def __missing__(self, name: str) -> Tensor:
        raise AssayError(f"layer {name!r} is not called when the network runs")


def one_tensor(name: str, output: Any) -> Tensor:
    """The output of the layer ``name``; ``AssayError`` where that is not one tensor."""
    if not isinstance(output, Tensor):
        raise AssayError(f"layer {name!r} gives {type(output).__name__}, not one tensor; name one inside it")
    return output


def independent(place: str = "the pixels") -> AssayError:
    """The error for a derivative by ``place`` that there is not."""
    return AssayError(f"the target does not depend on {place}, or no derivative leads there, as under torch.no_grad")


@contextmanager
def record(model: nn.Module, *names: str, stop: bool = False) -> Iterator[dict[str, Tensor]]:
    """Outputs of the named layers of forward passes inside the block, the last call of each.

    What is recorded is the output itself and the network goes on with a copy, so an in-place activation behind
    the layer changes neither the recorded value nor its gradient. ``stop`` ends a pass once all are there. Asking for
    a layer that no pass called raises ``AssayError``.
    """
    outputs = _Outputs()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            outputs[name] = one_tensor(name, output)
            if stop and len(outputs) == len(set(names)):
                raise _Enough
            return outputs[name].clone()

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
    found = layout(model, find(model, name), tensor, images.shape[-2:]) if len(tensor) == len(images) else None
    if found is None:
        raise NotApplicable(f"layer {name!r} holds {tuple(tensor.shape)}, which is not a grid over the image")
    return found


def layout(model: nn.Module, module: nn.Module, tensor: Tensor, size: Sequence[int]) -> Layout | None:
    """How the output of ``module`` lies over an image of ``size`` (H, W); None where it is no grid.

    Read off the shape and the patch embedding. Tokens are taken to stand row by row, as they do in every default
    layer of timm; a network that keeps them by windows inside (hiera before its last stage) does not say so.
    """
    if tensor.ndim == 4:
        _, a, b, c = tensor.shape
        first, last = _covers((b, c), size), _covers((a, b), size)
        if first and last and _channels_last(model, module):
            first = False
        if first:
            return Layout("nchw", b, c)
        return Layout("nhwc", a, b) if last else None
    if tensor.ndim == 3:
        return _token_layout(model, tensor.shape[1], size)
    return None


def _channels_last(model: nn.Module, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | nn.LayerNorm) or getattr(model_body(model), "output_fmt", None) == "NHWC"


def _covers(grid: tuple[int, int], size: Sequence[int]) -> bool:
    """Whether a grid has the image's proportions, up to the rounding of a strided layer."""
    (h, w), (height, width) = grid, size
    if not (1 <= h <= height and 1 <= w <= width):
        return False
    stride = max(height / h, width / w)
    return abs(height / stride - h) <= 1 and abs(width / stride - w) <= 1


def _token_layout(model: nn.Module, length: int, size: Sequence[int]) -> Layout | None:
    """The patch embedding's grid over this image or a halving of it, else exact proportions, else near ones."""
    declared = getattr(model_body(model), "num_prefix_tokens", None)
    prefixes = dict.fromkeys([*([declared] if isinstance(declared, int) else []), *range(9)])
    own = _patch_grids(model, size)
    for prefix in prefixes:
        for grid in own:
            if length - prefix == math.prod(grid):
                return Layout("tokens", *grid, prefix)
    grids = {prefix: _nearest_grid(length - prefix, size) for prefix in prefixes if length > prefix}
    for exact in (True, False):
        for prefix, near in grids.items():
            if near is None or (near == (1, 1) and length > 1):
                continue
            if not exact or near[0] * size[1] == near[1] * size[0]:
                return Layout("tokens", *near, prefix)
    return None


def _patch_grids(model: nn.Module, size: Sequence[int]) -> list[tuple[int, int]]:
    """The grid of the patch embedding over an image of ``size``, then what is left of it after each halving.

    Counted from the patch size, because ``grid_size`` tells the size that the network was built for. Grids of fewer
    than four cells are left out: too many lengths fit them.
    """
    embeddings = (getattr(module, "patch_embed", None) for module in model_body(model).modules())
    sides = next((side for each in embeddings if (side := _patch(each)) is not None), None)
    if sides is None:
        return []
    grids: dict[tuple[int, int], None] = {}
    for halvings in range(5):
        for rounded in (math.floor, math.ceil):
            h, w = (rounded(pixels / (side * 2**halvings)) for pixels, side in zip(size, sides, strict=True))
            if h * w >= 4:
                grids[h, w] = None
    return list(grids)


def _patch(embedding: object) -> tuple[int, int] | None:
    side = getattr(embedding, "patch_size", None)
    if isinstance(side, int):
        return side, side
    return (side[0], side[1]) if isinstance(side, tuple) and len(side) == 2 else None


def _nearest_grid(n: int, size: Sequence[int]) -> tuple[int, int] | None:
    height = max(round(math.sqrt(n * size[0] / size[1])), 1)
    return (height, n // height) if n % height == 0 and _covers((height, n // height), size) else None


def model_body(model: nn.Module) -> nn.Module:
    """The network inside a subject that normalises; the model itself otherwise."""
    body = getattr(model, "body", model)
    return body if isinstance(body, nn.Module) else model


_DEFAULTS: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], str]] = WeakKeyDictionary()


def default_layer(model: nn.Module, images: Tensor) -> str:
    """The name of the last layer that holds a live grid on every path to the logits: where Grad-CAM looks.

    Found by a probe, not by name: one forward and backward pass on two random images of that size, then a walk
    through the autograd graph. A grid is live where its cells differ and at least half of them have a gradient: the
    patch tokens behind the last attention that a class token reads have none. Where branches never meet in one grid,
    the last live grid of any of them. Of a network whose output is a grid (segmentation), the scores themselves are
    passed over. Weights that are all zero, as in a head not yet trained, count as random ones, so that the
    answer is the architecture's. Raises ``NotApplicable`` for a network without grids.
    """
    size = tuple(images.shape[1:])
    known = _DEFAULTS.setdefault(model, {})
    if size not in known:
        with borrowed(model):
            known[size] = _probe(model, random_images(images))
    return known[size]


def is_cut(model: nn.Module, images: Tensor, name: str) -> bool:
    """Whether all that reaches the output from the images passes through the named layer's last call."""
    with borrowed(model):
        calls, scores = _calls(model, random_images(images))
        last = next((call for call in reversed(calls) if call.name == name), None)
        return last is not None and (last.edge.node, last.edge.output_nr) in _cuts(scores.grad_fn)


def trunk(model: nn.Module, images: Tensor) -> list[str]:
    """The layers with a grid of four cells or more that lie on every path to the output, in the order of finishing.

    Of layers that give the same tensor, such as a stage and its last block, the last to finish; none that only pass
    their input on. Empty where branches run side by side throughout.
    """
    with borrowed(model):
        calls, scores = _calls(model, random_images(images))
        cuts = _cuts(scores.grad_fn)
    named: dict[tuple[Any, int], str] = {}
    for call in calls:
        place = (call.edge.node, call.edge.output_nr)
        passes = isinstance(call.module, nn.Identity | nn.Dropout)
        if place in cuts and not passes and call.layout and call.layout.height * call.layout.width >= 4:
            named[place] = call.name
    return list(dict.fromkeys(named.values()))


def random_images(images: Tensor, n: int = 2) -> Tensor:
    """``n`` images of uniform noise, the same in every call, of the size, type and device of ``images``."""
    return torch.rand(n, *images.shape[1:], generator=torch.Generator().manual_seed(0)).to(images)


class _Call(NamedTuple):
    """One module's output tensor, its place in the autograd graph and the gradient of the winning logits there."""

    name: str
    module: nn.Module
    tensor: Tensor
    edge: GradientEdge
    gradient: Tensor | None
    layout: Layout | None


def _probe(model: nn.Module, images: Tensor) -> str:
    calls, scores = _calls(model, images)
    cuts = _cuts(scores.grad_fn)
    names: set[str] = set()
    makers: dict[tuple[Any, int], str] = {}
    for call in calls:
        makers.setdefault((call.edge.node, call.edge.output_nr), call.name)
    fallback = None
    for call in reversed(calls):
        if call.name in names or isinstance(call.module, nn.Identity | nn.Dropout | nn.Linear):
            continue
        names.add(call.name)
        place = (call.edge.node, call.edge.output_nr)
        if not f"{makers[place]}.".startswith(f"{call.name}."):
            continue  # it hands on what another layer made
        if _live(call) and not (scores.ndim == 4 and call.tensor.shape[1] == scores.shape[1]):
            fallback = fallback or call.name
            if place in cuts:
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


def _calls(model: nn.Module, images: Tensor) -> tuple[list[_Call], Tensor]:
    """Every module's output tensor in the order of finishing, and the network's output."""
    order: list[tuple[str, nn.Module, Tensor, GradientEdge]] = []

    def hook(name: str) -> Any:
        def keep(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.requires_grad and output.ndim >= 3:
                order.append((name, module, output, get_gradient_edge(output)))

        return keep

    named = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(hook(name)) for name, module in named]
    try:
        scores = first_tensor(awake(model, images.detach().requires_grad_(True)))
    finally:
        for handle in handles:
            handle.remove()
    edges = [edge for *_, edge in order]
    gradients = torch.autograd.grad(scores.amax(1).sum(), edges, allow_unused=True) if edges else ()
    calls = []
    for (name, module, tensor, edge), gradient in zip(order, gradients, strict=True):
        found = layout(model, module, tensor, images.shape[-2:]) if len(tensor) == len(images) else None
        calls.append(_Call(name, module, tensor, edge, gradient, found))
    return calls, scores


def awake(model: nn.Module, images: Tensor) -> Any:
    """The network's output with small random numbers instead of weights that are all zero: what an untrained head
    or the last norm of a residual branch starts with, and what no dependence passes. Biases stay.
    """
    named = model.named_parameters()
    asleep = {name: weight for name, weight in named if not name.endswith("bias") and not weight.any()}
    if not asleep:
        return model(images)
    generator = torch.Generator().manual_seed(0)
    drawn = {name: 0.05 * torch.randn(weight.shape, generator=generator).to(weight) for name, weight in asleep.items()}
    return functional_call(model, drawn, (images,))


def first_tensor(output: Any, key: str | None = None) -> Tensor:
    """A network's output where it is one tensor, else what a dict of tensors holds at ``key``, first if None."""
    if isinstance(output, Mapping) and output:
        if key is not None and key not in output:
            raise unknown("output", key, map(str, output))
        output = output[key] if key is not None else next(iter(output.values()))
    if not isinstance(output, Tensor):
        raise AssayError(f"the network gives {type(output).__name__}, not a tensor or a dict of tensors")
    return output


def _cuts(root: Any) -> set[tuple[Any, int]]:
    """The places (node, number of its output) of the autograd graph that every path from ``root`` to a leaf passes.

    Parameters are frozen, so the images are the leaf. With consumers before producers in a row, a node lies on every
    path unless some edge leads past it.
    """
    if root is None:
        raise independent()
    order = _consumers_first(root)
    position = {node: i for i, node in enumerate(order)}
    entered: dict[Any, set[int]] = {}
    cuts: set[tuple[Any, int]] = set()
    farthest = 0
    for i, node in enumerate(order):
        if farthest <= i and len(entered.get(node, ())) == 1:
            cuts.add((node, *entered[node]))
        for following, number in node.next_functions:
            if following in position:
                entered.setdefault(following, set()).add(number)
                farthest = max(farthest, position[following] if following.next_functions else len(order))
    return cuts


def _consumers_first(root: Any) -> list[Any]:
    """The nodes below ``root`` that lead to a leaf, each before those that it reads from."""
    leads: dict[Any, bool] = {}
    finished = []
    waiting = [(root, False)]
    while waiting:
        node, expanded = waiting.pop()
        following = [each for each, _ in node.next_functions if each is not None]
        if expanded:
            leads[node] = not following or any(leads[each] for each in following)
            if leads[node]:
                finished.append(node)
        elif node not in leads:
            leads[node] = False
            waiting.append((node, True))
            waiting.extend((each, False) for each in following if each not in leads)
    return finished[::-1]


def describe(model: nn.Module, images: Tensor) -> list[LayerInfo]:
    """Every layer that gives a tensor of three or more dimensions, in the order of finishing."""
    with borrowed(model):
        calls, _ = _calls(model, images)
    return [LayerInfo(c.name, type(c.module).__name__, tuple(c.tensor.shape[1:]), c.layout) for c in calls]
