"""What one pass on random images tells of a network: Grad-CAM's layer, and the trunk that everything passes."""

from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

from assay.core.borrow import evaluating
from assay.core.errors import NotApplicable
from assay.core.layers import Layout, first_tensor, independent, layout, model_body, to_grid


class LayerInfo(NamedTuple):
    """One row of ``assay layers``."""

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: Layout | None


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
    layers = _DEFAULTS.setdefault(model, {})
    if size not in layers:
        with evaluating(model):
            layers[size] = _probe(model, random_images(images))
    return layers[size]


def is_cut(model: nn.Module, images: Tensor, name: str) -> bool:
    """Whether all that reaches the output from the images passes through the named layer's last call."""
    with evaluating(model):
        calls, scores = _calls(model, random_images(images))
        last = next((call for call in reversed(calls) if call.name == name), None)
        return last is not None and (last.edge.node, last.edge.output_nr) in _cuts(scores.grad_fn)


def trunk(model: nn.Module, images: Tensor) -> list[str]:
    """The layers with a grid of four cells or more that lie on every path to the output, in the order of finishing.

    Of layers that give the same tensor, such as a stage and its last block, the last to finish; none that only pass
    their input on. Empty where branches run side by side throughout.
    """
    with evaluating(model):
        calls, scores = _calls(model, random_images(images))
        cuts = _cuts(scores.grad_fn)
    names: dict[tuple[Any, int], str] = {}
    for call in calls:
        place = (call.edge.node, call.edge.output_nr)
        passes = isinstance(call.module, nn.Identity | nn.Dropout)
        if place in cuts and not passes and call.layout and call.layout.height * call.layout.width >= 4:
            names[place] = call.name
    return list(dict.fromkeys(names.values()))


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

    modules = [(name, module) for name, module in model.named_modules() if name]
    handles = [module.register_forward_hook(hook(name)) for name, module in modules]
    try:
        scores = first_tensor(awake(model, images.detach().requires_grad_(True)))
    finally:
        for handle in handles:
            handle.remove()
    edges = [edge for *_, edge in order]
    gradients = torch.autograd.grad(scores.amax(1).sum(), edges, allow_unused=True) if edges else ()
    calls = []
    for (name, module, tensor, edge), gradient in zip(order, gradients, strict=True):
        grid = layout(model, module, tensor, images.shape[-2:]) if len(tensor) == len(images) else None
        calls.append(_Call(name, module, tensor, edge, gradient, grid))
    return calls, scores


def awake(model: nn.Module, images: Tensor) -> Any:
    """The network's output with small random numbers instead of weights that are all zero: what an untrained head
    or the last norm of a residual branch starts with, and what no dependence passes. Biases stay.
    """
    parameters = model.named_parameters()
    asleep = {name: weight for name, weight in parameters if not name.endswith("bias") and not weight.any()}
    if not asleep:
        return model(images)
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: 0.05 * torch.randn(weight.shape, generator=generator).to(weight) for name, weight in asleep.items()
    }
    return functional_call(model, weights, (images,))


def _cuts(root: Any) -> set[tuple[Any, int]]:
    """The places (node, number of its output) of the autograd graph that every path from ``root`` to a leaf passes.

    Parameters are frozen, so the images are the leaf. With consumers before producers in a row, a node lies on every
    path unless some edge leads past it.
    """
    if root is None:
        raise independent()
    order = _consumers_first(root)
    position = {node: i for i, node in enumerate(order)}
    outputs: dict[Any, set[int]] = {}
    cuts: set[tuple[Any, int]] = set()
    farthest = 0
    for i, node in enumerate(order):
        if farthest <= i and len(outputs.get(node, ())) == 1:
            cuts.add((node, *outputs[node]))
        for following, number in node.next_functions:
            if following in position:
                outputs.setdefault(following, set()).add(number)
                farthest = max(farthest, position[following] if following.next_functions else len(order))
    return cuts


def _consumers_first(root: Any) -> list[Any]:
    """The nodes below ``root`` that lead to a leaf, each before those that it reads from."""
    leads: dict[Any, bool] = {}
    order = []
    waiting = [(root, False)]
    while waiting:
        node, leaving = waiting.pop()
        following = [source for source, _ in node.next_functions if source is not None]
        if leaving:
            leads[node] = not following or any(leads[source] for source in following)
            if leads[node]:
                order.append(node)
        elif node not in leads:
            leads[node] = False
            waiting.append((node, True))
            waiting.extend((source, False) for source in following if source not in leads)
    return order[::-1]


def describe(model: nn.Module, images: Tensor) -> list[LayerInfo]:
    """Every layer that gives a tensor of three or more dimensions, in the order of finishing."""
    with evaluating(model):
        calls, _ = _calls(model, images)
    return [LayerInfo(c.name, type(c.module).__name__, tuple(c.tensor.shape[1:]), c.layout) for c in calls]


def grid_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Layers with a grid of four cells or more, by the first time that they finish."""
    infos = describe(model, images[:1])
    return list(dict.fromkeys(i.name for i in infos if i.layout and i.layout.height * i.layout.width >= 4))
