"""Layers by dotted name, read as (N, C, h, w) grids.

Networks hold grids in three layouts: NCHW, NHWC, and rows of tokens (N, prefix + h * w, C) whose prefix is class,
register or distillation tokens. ``layout`` tells which one a tensor has; ``to_grid`` makes it NCHW.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from torch import Tensor, nn

from assay.core.errors import AssayError, NotApplicable, unknown


class Layout(NamedTuple):
    """How a tensor holds its grid: ``order`` is nchw, nhwc or tokens; ``prefix`` tokens come before the grid."""

    order: str
    height: int
    width: int
    prefix: int = 0


def find(model: nn.Module, name: str) -> nn.Module:
    """The submodule called ``name``, also by its name inside a subject; ``AssayError`` with the nearest names."""
    if not isinstance(name, str):
        raise AssayError(f"name a layer by its dotted name, such as 'layer4.1', not by a {type(name).__name__}")
    modules: dict[str, nn.Module] = dict(model.named_modules())
    inside = f"body.{name}" if model_body(model) is not model else name
    module = modules.get(name, modules.get(inside))
    if not name or module is None:
        raise unknown("layer", name, [option for option in modules if option])
    return module


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
    grid = layout(model, find(model, name), tensor, images.shape[-2:]) if len(tensor) == len(images) else None
    if grid is None:
        raise NotApplicable(f"layer {name!r} holds {tuple(tensor.shape)}, which is not a grid over the image")
    return grid


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
    count = getattr(model_body(model), "num_prefix_tokens", None)
    prefixes = dict.fromkeys([*([count] if isinstance(count, int) else []), *range(9)])
    patch_grids = _patch_grids(model, size)
    for prefix in prefixes:
        for grid in patch_grids:
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
    sides = next((side for embedding in embeddings if (side := _patch(embedding)) is not None), None)
    if sides is None:
        return []
    grids: dict[tuple[int, int], None] = {}
    for halvings in range(5):
        for rounding in (math.floor, math.ceil):
            h, w = (rounding(pixels / (side * 2**halvings)) for pixels, side in zip(size, sides, strict=True))
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


def first_tensor(output: Any, key: str | None = None) -> Tensor:
    """A network's output where it is one tensor, else what a dict of tensors holds at ``key``, first if None."""
    if isinstance(output, Mapping) and output:
        if key is not None and key not in output:
            raise unknown("output", key, map(str, output))
        output = output[key] if key is not None else next(iter(output.values()))
    if not isinstance(output, Tensor):
        raise AssayError(f"the network gives {type(output).__name__}, not a tensor or a dict of tensors")
    return output
