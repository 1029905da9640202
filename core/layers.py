"""Layers by dotted name, read as (N, C, h, w) grids.

Networks hold grids in three layouts: NCHW, NHWC, and rows of tokens (N, prefix + h * w, C) whose prefix is class,
register or distillation tokens. ``find_layout`` tells which one a layer has; ``to_grid`` makes it NCHW.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.axes import Layout as Layout
from assay.core.calls import eager
from assay.core.errors import AssayError, NotApplicable, unknown
from assay.core.layouts import layouts


def find(model: nn.Module, name: str) -> nn.Module:
    """The submodule called ``name``, also by its name inside a subject; ``AssayError`` with the nearest names."""
    if not isinstance(name, str):
        raise AssayError(f"name a layer by its dotted name, such as 'layer4.1', not by a {type(name).__name__}")
    modules: dict[str, nn.Module] = dict(model.named_modules())
    found = [modules[prefix + name] for prefix in _prefixes(model) if name and prefix + name in modules]
    if not found:
        raise unknown("layer", name, [option for option in modules if option])
    return found[0]


def _prefixes(model: nn.Module) -> Iterator[str]:
    """What may come before a layer's name: nothing, or the way into a subject's body or a compiled module."""
    prefix = ""
    yield prefix
    while (inner := next((part for part in ("body", "_orig_mod") if part in model._modules), None)) is not None:
        prefix, model = f"{prefix}{inner}.", model.get_submodule(inner)
        yield prefix


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
        with eager():
            yield outputs
    finally:
        for handle in handles:
            handle.remove()


def many_activations(model: nn.Module, images: Tensor, names: Sequence[str]) -> list[Tensor]:
    """Activations (N, C, h, w) of several layers from one forward pass that ends at the deepest of them."""
    with record(model, *names, stop=True) as outputs, suppress(_Enough):
        model(images)
    found = _layouts(model, {name: outputs[name] for name in names}, images, stop=True)
    grids = {
        name: single(to_grid(outputs[name], layout)) for name, layout in zip(dict.fromkeys(names), found, strict=True)
    }
    return [grids[name] for name in names]


def activations(model: nn.Module, images: Tensor, name: str) -> Tensor:
    """Activations (N, C, h, w) of one layer; the forward pass ends there."""
    return many_activations(model, images, [name])[0]


def to_grid(tensor: Tensor, layout: Layout) -> Tensor:
    """A layer's output as (N, C, h, w)."""
    if layout.order == "nchw":
        return tensor
    if layout.order == "nhwc":
        return tensor.permute(0, 3, 1, 2)
    tokens = tensor[:, layout.prefix : layout.prefix + layout.height * layout.width]
    return tokens.transpose(1, 2).reshape(len(tensor), -1, layout.height, layout.width)


def find_layout(model: nn.Module, name: str, tensor: Tensor, images: Tensor) -> Layout:
    """How the output of a layer lies over the images; a tensor without a grid raises ``NotApplicable``."""
    (layout,) = _layouts(model, {name: tensor}, images, stop=False)
    return layout


def _layouts(model: nn.Module, outputs: Mapping[str, Tensor], images: Tensor, *, stop: bool) -> list[Layout]:
    found = layouts(model, images, [(find(model, name), output) for name, output in outputs.items()], stop=stop)
    for (name, output), layout in zip(outputs.items(), found, strict=True):
        if layout is None:
            raise NotApplicable(f"layer {name!r} holds {tuple(output.shape)}, which is not a grid over the image")
    return [layout for layout in found if layout]


def model_body(model: nn.Module) -> nn.Module:
    """The network inside a subject that normalises; the model itself otherwise."""
    body = getattr(model, "body", model)
    return body if isinstance(body, nn.Module) else model


def single(tensor: Tensor) -> Tensor:
    """A tensor of at least single precision, which sums and decompositions need."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def first_tensor(output: Any, key: str | None = None) -> Tensor:
    """A network's output where it is one tensor, else what a dict of tensors holds at ``key``.

    Without a key it is ``logits``, or the first entry.
    """
    if isinstance(output, Mapping) and output:
        if key is not None and key not in output:
            raise unknown("output", key, map(str, output))
        output = output[key or ("logits" if "logits" in output else next(iter(output)))]
    if not isinstance(output, Tensor):
        raise AssayError(f"the network gives {type(output).__name__}, not a tensor or a dict of tensors")
    return output
