"""What one pass on random images tells of a network: Grad-CAM's layer, and the trunk that everything passes."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.func import functional_call

from assay.core.borrow import evaluating
from assay.core.errors import NotApplicable
from assay.core.layers import Layout, first_tensor, independent, model_body, to_grid
from assay.core.layouts import following, kept, known_layouts


class LayerInfo(NamedTuple):
    """One row of ``assay layers``."""

    name: str
    kind: str
    shape: tuple[int, ...]
    layout: Layout | None


def default_layer(model: nn.Module, images: Tensor) -> str:
    """The name of the last layer that holds a live grid on every path to the logits: where Grad-CAM looks.

    Found by a probe, not by name: one forward and backward pass on two random images of that size, then a walk
    through the autograd graph. A grid is live where its cells differ and at least half of them have a gradient: the
    patch tokens behind the last attention that a class token reads have none. Where branches never meet in one grid,
    the last live grid of any of them. Of a network whose output is a grid (segmentation), the scores themselves are
    passed over. Weights that are all zero, as in a head not yet trained, count as random ones, so that the
    answer is the architecture's. Raises ``NotApplicable`` for a network without grids, and for networks beside each
    other whose scores are averaged: no layer of one holds what the others see.
    """
    return kept(model, "default layer", images, lambda: _probe(model, random_images(images)))


def is_cut(model: nn.Module, images: Tensor, name: str) -> bool:
    """Whether all that reaches the output from the images passes through the named layer's last call."""
    return name in kept(model, "cuts", images, lambda: _cut_layers(model, images))


def _cut_layers(model: nn.Module, images: Tensor) -> frozenset[str]:
    with evaluating(model):
        calls, scores = _calls(model, random_images(images))
    cuts = _cuts(scores.grad_fn)
    last = {call.name: (call.edge.node, call.edge.output_nr) for call in calls if call.tensor.ndim >= 3}
    return frozenset(name for name, place in last.items() if place in cuts)


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
    with evaluating(model):
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
    kind = type(model_body(model)).__name__
    if fallback is None:
        raise NotApplicable(f"{kind} has no layer with a live grid over the image")
    if _has_members(calls, scores):
        raise NotApplicable(
            f"{kind} puts networks beside each other, and no layer holds what all see: name one's layer"
        )
    return fallback


def _has_members(calls: Sequence[_Call], scores: Tensor) -> bool:
    """Whether two layers, neither inside the other, give scores of the output's kind from grids of their own."""
    grids = {call.name for call in calls if call.layout is not None}
    whole = {
        f"{call.name}."
        for call in calls
        if call.tensor.shape == scores.shape and any(grid.startswith(f"{call.name}.") for grid in grids)
    }
    return any(not one.startswith(other) and not other.startswith(one) for one in whole for other in whole)


def _live(call: _Call) -> bool:
    """Whether a call gives a grid of four cells or more that varies and half of which matters to the logits."""
    if call.layout is None or call.layout.height * call.layout.width < 4 or call.gradient is None:
        return False
    matters = (to_grid(call.gradient, call.layout).abs().amax(1) > 0).float().mean() >= 0.5
    varies = to_grid(call.tensor.detach(), call.layout).flatten(2).std(2).amax() > 0
    return bool(matters and varies)


def _calls(model: nn.Module, images: Tensor) -> tuple[list[_Call], Tensor]:
    """Every module's output of two or more dimensions in the order of finishing, and the network's output."""
    order: list[tuple[str, nn.Module, Tensor, GradientEdge, Layout | None]] = []

    def see(name: str, module: nn.Module, output: Tensor, layout: Layout | None) -> None:
        if output.requires_grad and output.ndim >= 2:
            order.append((name, module, output, get_gradient_edge(output), layout))

    pixels = images.detach().requires_grad_(True)
    with following(model, pixels, see) as seen:
        scores = first_tensor(awake(model, pixels))
    known_layouts(model, images).update(seen)
    edges = [edge for *_, edge, _ in order]
    gradients = torch.autograd.grad(scores.amax(1).sum(), edges, allow_unused=True) if edges else ()
    calls = [
        _Call(name, module, tensor, edge, gradient, layout)
        for (name, module, tensor, edge, layout), gradient in zip(order, gradients, strict=True)
    ]
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
        for source, number in node.next_functions:
            if source in position:
                outputs.setdefault(source, set()).add(number)
                farthest = max(farthest, position[source] if source.next_functions else len(order))
    return cuts


def leads_to(source: Any, node: Any) -> bool:
    """Whether the node of the autograd graph ``source`` lies on a path from ``node`` to a leaf."""
    waiting, seen = [node], {node}
    while waiting:
        here = waiting.pop()
        if here is source:
            return True
        sources = {each for each, _ in here.next_functions if each is not None} - seen
        seen |= sources
        waiting.extend(sources)
    return False


def _consumers_first(root: Any) -> list[Any]:
    """The nodes below ``root`` that lead to a leaf, each before those that it reads from."""
    leads: dict[Any, bool] = {}
    order = []
    waiting = [(root, False)]
    while waiting:
        node, leaving = waiting.pop()
        sources = [source for source, _ in node.next_functions if source is not None]
        if leaving:
            leads[node] = not sources or any(leads[source] for source in sources)
            if leads[node]:
                order.append(node)
        elif node not in leads:
            leads[node] = False
            waiting.append((node, True))
            waiting.extend((source, False) for source in sources if source not in leads)
    return order[::-1]


def describe(model: nn.Module, images: Tensor) -> list[LayerInfo]:
    """Every layer that gives a tensor of three or more dimensions, in the order of finishing."""
    with evaluating(model):
        calls, _ = _calls(model, images)
    rows = [LayerInfo(c.name, type(c.module).__name__, tuple(c.tensor.shape[1:]), c.layout) for c in calls]
    return [row for row in rows if len(row.shape) >= 2]


def grid_layers(model: nn.Module, images: Tensor) -> list[str]:
    """Layers with a grid of four cells or more, by the first time that they finish."""
    infos = describe(model, images[:1])
    return list(dict.fromkeys(i.name for i in infos if i.layout and i.layout.height * i.layout.width >= 4))
