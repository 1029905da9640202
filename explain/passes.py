"""Explanations that can be read off one forward pass, and the passes that they share."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating, matched
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.layers import find, find_layout, independent, one_tensor, to_grid
from assay.core.tables import check
from assay.core.targets import Target
from assay.explain.base import Explainer, as_target
from assay.explain.gates import Activations, Gates, Rule


class Want(NamedTuple):
    """The values at a layer and the target's gradient there under a rule; no rule wants the values alone."""

    layer: str | None = None  # dotted name; None: the pixels
    rule: Rule | None = "plain"
    activations: Activations = "relu"


class Found(NamedTuple):
    """What a ``Want`` gave, both as grids (N, C, h, w); the gradient is empty where none was wanted."""

    values: Tensor
    gradient: Tensor


class Derived(Explainer):
    """An explainer that says what it wants from one forward pass, and reads its heatmaps off that."""

    __slots__ = ()

    @abstractmethod
    def wants(self, model: nn.Module, images: Tensor) -> tuple[Want, ...]:
        """What the method reads; raises ``NotApplicable`` where it has no meaning on the model."""

    @abstractmethod
    def read(self, images: Tensor, *found: Found) -> Tensor:
        """Heatmaps (N, H, W) from what was found, in the order of the wants."""

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        (heat,) = _read([self], model, images, target)
        return heat


def together(
    explainers: Sequence[Derived], model: nn.Module, images: Tensor, target: Target | Tensor | int
) -> list[Tensor]:
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
    wanted = as_target(target, images)
    if len(images) == 0:
        return [images.new_zeros(0, *images.shape[2:], dtype=torch.float32) for _ in explainers]
    with evaluating(model), matched(model, images):
        heats = _read(explainers, model, images, wanted)
    return [heat.detach().float() for heat in heats]


def _read(explainers: Sequence[Derived], model: nn.Module, images: Tensor, target: Target) -> list[Tensor]:
    wants = [explainer.wants(model, images) for explainer in explainers]
    found = _find([want for each in wants for want in each], model, images, target)
    return [
        explainer.read(images, *(found[want] for want in each))
        for explainer, each in zip(explainers, wants, strict=True)
    ]


def _find(wants: Sequence[Want], model: nn.Module, images: Tensor, target: Target) -> dict[Want, Found]:
    rules = list(dict.fromkeys((want.rule, want.activations) for want in wants if want.rule is not None))
    names = dict.fromkeys(want.layer for want in wants if want.layer is not None)
    reach: Activations = "all" if any(reach == "all" for _, reach in rules) else "relu"
    gates = Gates(reach) if any(rule != "plain" for rule, _ in rules) else None
    pixels = images.detach().requires_grad_(any(want.layer is None and want.rule is not None for want in wants))
    with _tapped(model, list(names)) as tapped, gates or nullcontext(), torch.set_grad_enabled(bool(rules)):
        score = target(model, pixels)
    places = {None: [pixels], **tapped}
    gradients: dict[Want, Tensor] = {}
    for i, (rule, activations) in enumerate(rules):
        if gates is not None:
            gates.switch(rule, activations)
        here = [want for want in dict.fromkeys(wants) if (want.rule, want.activations) == (rule, activations)]
        at = {want: places[want.layer] for want in here}
        gradients |= _gradients(score, at, keep=i + 1 < len(rules))
    found = {}
    for want in wants:
        values = _last(want, places[want.layer]).detach()
        gradient = gradients.get(want)
        if want.layer is not None:
            layout = find_layout(model, want.layer, values, images)
            values, gradient = to_grid(values, layout), None if gradient is None else to_grid(gradient, layout)
        found[want] = Found(values, values.new_zeros(0) if gradient is None else gradient)
    return found


def _gradients(score: Tensor, at: dict[Want, list[Tensor]], keep: bool) -> dict[Want, Tensor]:
    """The derivative of the score by each place, summed over the passes that the target makes."""
    for want, tensors in at.items():
        _last(want, tensors)
    inputs = [tensor for tensors in at.values() for tensor in tensors]
    if not score.requires_grad:
        raise _independent(next(iter(at)))
    flat = iter(torch.autograd.grad(score.sum(), inputs, allow_unused=True, retain_graph=keep))
    summed = {}
    for want, tensors in at.items():
        reached = [gradient for _, gradient in zip(tensors, flat, strict=False) if gradient is not None]
        if not reached:
            raise _independent(want)
        summed[want] = torch.stack(reached).sum(0) if len(reached) > 1 else reached[0]
    return summed


def _last(want: Want, tensors: list[Tensor]) -> Tensor:
    if not tensors:
        raise _independent(want)
    return tensors[-1]


def _independent(want: Want) -> AssayError:
    return independent() if want.layer is None else independent(f"layer {want.layer!r}")


@contextmanager
def _tapped(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str | None, list[Tensor]]]:
    """The layers' outputs in each pass of the model inside the block.

    A target that is a sum makes one pass per term. Of a layer that one pass calls several times the last call counts.
    Where no gradient is wanted before a layer, its output is cut off there, which ends the backward pass.
    """
    tapped: dict[str | None, list[Tensor]] = {name: [] for name in names}
    called: set[str] = set()

    def begin(module: nn.Module, inputs: Any) -> None:
        called.clear()

    def tap(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> Tensor:
            output = one_tensor(name, output)
            if name in called:
                tapped[name].pop()
            called.add(name)
            cut = torch.is_grad_enabled() and not output.requires_grad
            tapped[name].append(output.detach().requires_grad_(True) if cut else output)
            return tapped[name][-1].clone()  # an in-place activation behind the layer changes the copy

        return hook

    handles = [model.register_forward_pre_hook(begin)]
    handles += [find(model, name).register_forward_hook(tap(name)) for name in names]
    try:
        yield tapped
    finally:
        for handle in handles:
            handle.remove()
