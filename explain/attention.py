"""Heatmaps from the attention of a transformer, read without hooks and without a change to the model."""

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.calls import Calls
from assay.core.draws import Draws
from assay.core.errors import NotApplicable
from assay.core.layers import Layout, model_body, to_grid
from assay.core.layouts import Followed
from assay.core.probe import leads_to
from assay.core.targets import Target
from assay.explain.base import Explainer


class _Step(NamedTuple):
    """One attention of a forward pass and the target's derivative by it, both (N, heads, queries, keys)."""

    weights: Tensor
    gradient: Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class _Flow(Explainer):
    """How much of each patch reaches the tokens that the target reads, through all attentions of the network.

    The target reads the queries of the last attention at which its derivative is not zero: the class token, both of a
    distilled model, every patch where the head averages them, the probe of a pooling by attention. Their mean is the
    map; class, register and distillation tokens are left out. Enlarged bilinearly (corners not aligned).

    Raises ``NotApplicable`` unless all tokens attend to all tokens in every layer: for networks without attention, with
    windows, with stages of several sizes, and with attention that is computed by other means than a softmax. Attention
    inside ``nn.MultiheadAttention`` (torchvision's ViT, ``nn.TransformerEncoderLayer``) is out of reach.
    """

    _apart: ClassVar[bool] = False  # whether a token's own 1, with which the flow starts, is taken out at the end

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        steps, place = _steps(model, images, target)
        tokens = steps[0].weights.shape[-1]
        start = torch.eye(tokens, dtype=images.dtype, device=images.device).expand(len(images), -1, -1)
        flow = start
        for step in steps:
            flow = self._follow(step, flow)
        if self._apart and flow.shape == start.shape:
            flow = flow - start
        read = (steps[-1].gradient.abs().amax((1, 3)) > 0).to(flow)
        heat = torch.einsum("nq,nqk->nk", read, flow) / read.sum(1, keepdim=True).clamp(min=1)
        grid = to_grid(heat[:, :, None], place)
        return F.interpolate(grid, images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)

    @staticmethod
    @abstractmethod
    def _follow(step: _Step, flow: Tensor) -> Tensor:
        """What reaches the queries of a step, (N, queries, tokens), of what reached its keys, (N, keys, tokens)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AttentionRollout(_Flow):
    """The product of the layers' mean attention, half of each the residual path (Abnar & Zuidema 2020, sec. 3).

    arXiv:2005.00928. The target decides only which tokens are read, so classes have the same map.
    """

    @staticmethod
    def _follow(step: _Step, flow: Tensor) -> Tensor:
        inflow = step.weights.mean(1) @ flow
        return (inflow + flow) / 2 if inflow.shape == flow.shape else inflow


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerAttribution(_Flow):
    """Attention weighted by its positive gradient, summed over the layers (Chefer et al. 2021, eq. 5-6).

    R <- R + mean over heads of (gradient * attention)+ R, from R = 1, which is taken out at the end ("Generic
    attention-model explainability", arXiv:2103.15679).
    """

    _apart: ClassVar[bool] = True

    @staticmethod
    def _follow(step: _Step, flow: Tensor) -> Tensor:
        inflow = (step.gradient * step.weights).clamp(min=0).mean(1) @ flow
        return flow + inflow if inflow.shape == flow.shape else inflow


def _steps(model: nn.Module, images: Tensor, target: Target) -> tuple[list[_Step], Layout]:
    """The attentions that the target depends on, in the order of computation, and how their tokens lie."""
    with Followed() as axes, Attention() as attention:

        def begin(module: nn.Module, inputs: Any) -> None:
            attention.passes.append([])
            axes.start(inputs[0])

        handle = model.register_forward_pre_hook(begin)
        try:
            score = target(model, images.detach().requires_grad_(True))
        finally:
            handle.remove()
    # a target that is a sum makes one pass per term
    matrices = [weights for calls in attention.passes for weights in calls if weights.requires_grad]
    slopes = torch.autograd.grad(score.sum(), matrices, allow_unused=True) if matrices and score.requires_grad else []
    gradients = {id(weights): gradient for weights, gradient in zip(matrices, slopes, strict=True)}
    live = [[weights for weights in calls if gradients.get(id(weights)) is not None] for calls in attention.passes]
    if any(not leads_to(one.grad_fn, other.grad_fn) for calls in live for one, other in pairwise(calls)):
        raise NotApplicable(f"{_name(model)} has attentions beside each other, not one behind the other")
    steps: list[_Step] = []
    first: list[Tensor] = []
    for calls in zip_longest(*attention.passes):
        terms = [gradients[id(weights)] for weights in calls if gradients.get(id(weights)) is not None]
        if terms:
            first.append(next(weights for weights in calls if weights is not None))
            steps.append(_Step(first[-1].detach(), torch.stack(terms).sum(0)))
    _check(model, images, steps)
    place = axes.tokens(first[0], -1)
    if place is None:
        raise NotApplicable(f"{_name(model)}: {first[0].shape[-1]} tokens are no grid over the image")
    return steps, place


def _check(model: nn.Module, images: Tensor, steps: Sequence[_Step]) -> None:
    if not steps:
        raise NotApplicable(f"{_name(model)} has no softmax attention that the target depends on")
    tokens = steps[0].weights.shape[-1]
    for i, step in enumerate(steps):
        shape = step.weights.shape
        whole = len(shape) == 4 and len(step.weights) == len(images)
        if not whole or shape[3] != tokens or (shape[2] != tokens and i < len(steps) - 1):
            kind = "within parts of the image" if not whole else f"{shape[2]} x {shape[3]} tokens after {tokens}"
            raise NotApplicable(f"{_name(model)} has attention {kind}, not of all tokens to all tokens")


def _name(model: nn.Module) -> str:
    return type(model_body(model)).__name__


class Attention(Calls):
    """Records every attention matrix while it is active, fused attention in its explicit form.

    ``passes`` holds the matrices (N, heads, queries, keys) of each forward pass, in order; whoever uses it begins a
    pass by adding an empty list. Raises ``NotApplicable`` at ``nn.MultiheadAttention``, which shows no matrix that its
    output depends on.
    """

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[list[Tensor]] = []

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func is F.scaled_dot_product_attention:
            weights, values = explicit(*args, **kwargs)
            self.passes[-1].append(weights)
            return weights @ values
        if func is F.multi_head_attention_forward:
            raise NotApplicable("attention inside nn.MultiheadAttention is out of reach")
        result = func(*args, **kwargs)
        if func in _SOFTMAX and result.ndim == 4 and _dim(args, kwargs) in (-1, 3):
            self.passes[-1].append(result)
        return result


_SOFTMAX: frozenset[Callable[..., Any]] = frozenset({F.softmax, torch.softmax, Tensor.softmax})


def _dim(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int | None:
    dim: int | None = args[1] if len(args) > 1 else kwargs.get("dim")
    return dim


def explicit(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:
    """The weights (N, heads, queries, keys) of ``F.scaled_dot_product_attention``, and the values they weigh.

    Dropout is left out: the model is in eval mode.
    """
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    logits = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        logits = logits.masked_fill(torch.ones_like(logits[0, 0], dtype=torch.bool).triu(1), -math.inf)
    if attn_mask is not None:
        logits = logits.masked_fill(~attn_mask, -math.inf) if attn_mask.dtype == torch.bool else logits + attn_mask
    return logits.softmax(-1), value
