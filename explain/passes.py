"""Explanations that can be read off one forward pass, and the passes that they share."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from assay.core.borrow import check_images, evaluating, matched
from assay.core.calls import Plain, eager
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.layers import find, find_layout, independent, one_tensor, single, to_grid
from assay.core.tables import check
from assay.core.targets import Logit, Margin, Probability, Target
from assay.explain.base import Explainer, TargetLike, as_target
from assay.explain.gates import Activations, Gates, Rule


class Request(NamedTuple):
    """The values at a layer and the target's gradient there under a rule; no rule asks for the values alone."""

    layer: str | None = None  # dotted name; None: the pixels
    rule: Rule | None = "plain"
    activations: Activations = "relu"


class LayerValues(NamedTuple):
    """The answer to a ``Request``, both as grids (N, C, h, w); the gradient is empty where none was asked for."""

    values: Tensor
    gradient: Tensor


class Derived(Explainer):
    """An explainer that says what it needs of one forward pass, and reads its heatmaps off that."""

    __slots__ = ()

    @abstractmethod
    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        """What the method reads; raises ``NotApplicable`` where it has no meaning on the model."""

    @abstractmethod
    def read(self, images: Tensor, *layers: LayerValues) -> Tensor:
        """Heatmaps (N, H, W) from the answers, in the order of the requests."""

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        (heat,) = _read([self], model, images, target)
        return heat


def together(explainers: Sequence[Derived], model: nn.Module, images: Tensor, target: TargetLike) -> list[Tensor]:
    """The heatmaps of several explainers, each as its own call gives them, from shared passes.

    One forward pass serves all, and one backward pass all that follow the same rule. What one of them raises, the
    whole raises; so does an explainer that is not ``Derived``.
    """
    for explainer in explainers:
        if not isinstance(explainer, Derived):
            raise AssayError(f"{type(explainer).__name__} cannot share passes; call it alone")
        check(explainer)
    check_images(images)
    images = images.detach()
    target = as_target(target, images)
    if len(images) == 0:
        return [images.new_zeros(0, *images.shape[2:], dtype=torch.float32) for _ in explainers]
    with evaluating(model) as borrowed, matched(borrowed, images):
        heats = _read(explainers, borrowed, images, target)
    return [heat.detach().float() for heat in heats]


def _read(explainers: Sequence[Derived], model: nn.Module, images: Tensor, target: Target) -> list[Tensor]:
    requests = [explainer.requests(model, images) for explainer in explainers]
    wanted = [request for group in requests for request in group]
    try:
        answers = _answers(wanted, model, images, target)
    except CheckpointError:  # of a layer inside of what is checkpointed, which runs again without its hook
        with Plain():
            answers = _answers(wanted, model, images, target)
    return [
        explainer.read(images, *(answers[request] for request in group))
        for explainer, group in zip(explainers, requests, strict=True)
    ]


def _answers(
    requests: Sequence[Request], model: nn.Module, images: Tensor, target: Target
) -> dict[Request, LayerValues]:
    rules = list(dict.fromkeys((request.rule, request.activations) for request in requests if request.rule is not None))
    names = dict.fromkeys(request.layer for request in requests if request.layer is not None)
    # one forward pass
    reach: Activations = "all" if any(reach == "all" for _, reach in rules) else "relu"
    gates = Gates(reach) if any(rule != "plain" for rule, _ in rules) else None
    on_pixels = any(request.layer is None and request.rule is not None for request in requests)
    pixels = images.detach().requires_grad_(on_pixels)
    if names and not isinstance(target, Logit | Probability | Margin):
        with torch.no_grad():  # a target that reads layers follows them once, which is no pass of its own
            target[torch.zeros(1, dtype=torch.int64)](model, images[:1])
    with _layer_outputs(model, list(names)) as outputs, gates or nullcontext(), torch.set_grad_enabled(bool(rules)):
        score = target(model, pixels)
    places = {None: [pixels], **outputs}
    # one backward per rule
    gradients: dict[Request, Tensor] = {}
    for i, (rule, activations) in enumerate(rules):
        if gates is not None:
            gates.switch(rule, activations)
        group = [r for r in dict.fromkeys(requests) if (r.rule, r.activations) == (rule, activations)]
        at = {request: places[request.layer] for request in group}
        gradients |= _gradients(score, at, keep=i + 1 < len(rules))
    # layers as grids
    answers = {}
    for request in requests:
        values = _last(request, places[request.layer]).detach()
        gradient = gradients.get(request)
        if request.layer is not None:
            layout = find_layout(model, request.layer, values, images)
            values = single(to_grid(values, layout))
            gradient = None if gradient is None else single(to_grid(gradient, layout))
        answers[request] = LayerValues(values, values.new_zeros(0) if gradient is None else gradient)
    return answers


def _gradients(score: Tensor, at: dict[Request, list[Tensor]], keep: bool) -> dict[Request, Tensor]:
    """The derivative of the score by each place, summed over the passes that the target makes."""
    for request, tensors in at.items():
        _last(request, tensors)
    inputs = [tensor for tensors in at.values() for tensor in tensors]
    if not score.requires_grad:
        raise _independent(next(iter(at)))
    flat = iter(torch.autograd.grad(score.sum(), inputs, allow_unused=True, retain_graph=keep))
    sums = {}
    for request, tensors in at.items():
        terms = [gradient for _, gradient in zip(tensors, flat, strict=False) if gradient is not None]
        if not terms:
            raise _independent(request)
        sums[request] = torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
    return sums


def _last(request: Request, tensors: list[Tensor]) -> Tensor:
    if not tensors:
        raise _independent(request)
    return tensors[-1]


def _independent(request: Request) -> AssayError:
    return independent() if request.layer is None else independent(f"layer {request.layer!r}")


@contextmanager
def _layer_outputs(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str | None, list[Tensor]]]:
    """The layers' outputs in each pass of the model inside the block.

    A target that is a sum makes one pass per term. Of a layer that one pass calls several times the last call counts.
    Where no gradient is asked for before a layer, its output is cut off there, which ends the backward pass.
    """
    outputs: dict[str | None, list[Tensor]] = {name: [] for name in names}
    calls: set[str] = set()  # in this pass

    def begin(module: nn.Module, inputs: Any) -> None:
        calls.clear()

    def tap(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            output = one_tensor(name, output)
            if name in calls:
                outputs[name].pop()
            calls.add(name)
            cut = torch.is_grad_enabled() and not output.requires_grad
            outputs[name].append(output.detach().requires_grad_(True) if cut else output)
            return outputs[name][-1].clone()  # an in-place activation behind the layer changes the copy

        return hook

    handles = [model.register_forward_pre_hook(begin)]
    handles += [find(model, name).register_forward_hook(tap(name)) for name in names]
    try:
        with eager():
            yield outputs
    finally:
        for handle in handles:
            handle.remove()
