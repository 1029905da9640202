"""Heatmaps from a layer's activations."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.draws import Draws
from core.errors import AssayError
from core.layers import default_layer, find, find_layout, to_grid
from core.targets import Target
from explain.base import Explainer


@dataclass(frozen=True, kw_only=True, slots=True)
class GradCAM(Explainer):
    """ReLU of the channels' sum, each weighted by its mean gradient (Selvaraju et al. 2017, eq. 1-2, arXiv:1610.02391).

    Enlarged bilinearly to the image (corners not aligned). Tokens and channels-last layers are read as grids, class
    tokens left out. Raises ``AssayError`` for a layer the target does not depend on.
    """

    layer: str | None = None  # dotted name; None: the last grid on every path to the logits

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        name = self.layer if self.layer is not None else default_layer(model, images)
        with _leaves(model, name) as leaves:
            score = target(model, images)
        if not leaves or not score.requires_grad:
            raise AssayError(f"the target does not depend on layer {name!r}")
        gradients = torch.autograd.grad(score.sum(), leaves, allow_unused=True)
        reached = [gradient for gradient in gradients if gradient is not None]
        if not reached:
            raise AssayError(f"the target does not depend on layer {name!r}")
        layout = find_layout(model, name, leaves[-1], images)
        weights = to_grid(torch.stack(reached).sum(0), layout).mean((2, 3), keepdim=True)
        heat = (weights * to_grid(leaves[-1], layout)).sum(1, keepdim=True).relu()
        return F.interpolate(heat, images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)


@contextmanager
def _leaves(model: nn.Module, name: str) -> Iterator[list[Tensor]]:
    """The layer's output in each pass of the model inside the block, cut off from what lies before it.

    A target that is a sum makes one pass per term, and its derivative by the layer is the sum over the passes. Of a
    layer that one pass calls several times the last call counts.
    """
    leaves: list[Tensor] = []
    called = False

    def begin(module: nn.Module, inputs: Any) -> None:
        nonlocal called
        called = False

    def cut(module: nn.Module, inputs: Any, output: Any) -> Tensor:
        nonlocal called
        if not isinstance(output, Tensor):
            raise AssayError(f"layer {name!r} gives {type(output).__name__}, not one tensor; name one inside it")
        if called:
            leaves.pop()
        called = True
        leaves.append(output.detach().requires_grad_(True))
        return leaves[-1].clone()

    handles = [model.register_forward_pre_hook(begin), find(model, name).register_forward_hook(cut)]
    try:
        yield leaves
    finally:
        for handle in handles:
            handle.remove()
