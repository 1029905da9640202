"""Other backward rules for activations, without hooks and without a change to the model.

While ``Gates`` are active, every call of an activation is replaced: the function and the method, in place or not,
from a module used once or many times. What scripted or compiled code calls inside is out of reach, and so is an
activation that is written out, such as ``x * x.sigmoid()``.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from assay.core.calls import Calls

Rule = Literal["plain", "guided", "deconvnet"]
Activations = Literal["relu", "all"]


class Gates(Calls):
    """How the gradient g passes an activation a(x), to be set anew before each backward pass of one forward.

    - plain: a'(x) g, the derivative
    - guided: a'(x) g where x > 0 and g > 0 (Springenberg et al. 2015, fig. 1, arXiv:1412.6806)
    - deconvnet: g where g > 0 (Zeiler & Fergus 2014, sec. 2.1, arXiv:1311.2901)

    Published for ReLU; ``activations="relu"`` gates only rectifiers: ReLU, ReLU6 and a hardtanh from zero, whose a'
    also ends at their ceiling. ``"all"`` is our generalisation: the same formulas on GELU, SiLU and the others that
    grow with x, and the published rules on ReLU. Squashing gates (sigmoid, softmax) are no activations here. ``gated``
    counts the calls that a rule reached and ``calls`` those of all activations.
    """

    def __init__(self, activations: Activations = "relu", rule: Rule = "plain") -> None:
        super().__init__()
        self.reach: Activations = activations
        self.rule: Rule = rule
        self.activations: Activations = activations
        self.gated = 0
        self.calls = 0

    def switch(self, rule: Rule, activations: Activations = "relu") -> None:
        """Another rule for the next backward pass; ``"all"`` needs gates that were made with it."""
        self.rule, self.activations = rule, activations

    def on(self, *, rectifier: bool) -> Rule:
        """The rule that now holds for rectifiers, or for the others."""
        return self.rule if rectifier or self.activations == "all" else "plain"

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func not in _RECTIFIERS and func not in _OTHERS:
            return func(*args, **kwargs)
        self.calls += 1
        rectifies = func in _RECTIFIERS and not (func is F.hardtanh and kwargs["min_val"] != 0)
        if not rectifies and self.reach == "relu":
            return func(*args, **kwargs)
        self.gated += 1
        values, *rest = args if args else (kwargs.pop("input"),)
        inplace = func.__name__.endswith("_") or kwargs.get("inplace", False)
        if rectifies:
            ceiling = {F.relu6: 6.0, F.hardtanh: kwargs.get("max_val", 1.0)}.get(func, math.inf)
            return _RectifierGate.apply(values, ceiling, inplace, self)
        return _ActivationGate.apply(values, lambda x: func(x, *rest, **kwargs), inplace, self)


_RECTIFIERS: frozenset[Callable[..., Any]] = frozenset(
    {F.relu, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
)
_OTHERS: frozenset[Callable[..., Any]] = frozenset(
    {
        F.gelu, F.silu, F.mish, F.hardswish, F.softplus, F.prelu,
        F.leaky_relu, F.rrelu, F.elu, F.selu, F.celu, torch.rrelu, torch.selu, torch.celu,
        F.leaky_relu_, F.rrelu_, F.elu_, F.selu_, F.celu_,
    }
)  # fmt: skip
ACTIVATIONS = _RECTIFIERS | _OTHERS


class _RectifierGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ceiling: float, inplace: bool, gates: Gates) -> Tensor:
        block = values <= 0
        ctx.save_for_backward(block if ceiling == math.inf else block | (values >= ceiling))
        ctx.gates = gates
        if inplace:
            ctx.mark_dirty(values)
            return values.clamp_(0, ceiling)
        return values.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (block,), (gradient,) = ctx.saved_tensors, gradients
        rule = ctx.gates.on(rectifier=True)
        if rule == "guided":
            block = block | (gradient <= 0)
        slope = gradient.clamp(min=0) if rule == "deconvnet" else gradient.masked_fill(block, 0)
        return slope, None, None, None


class _ActivationGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, call: Callable[[Tensor], Tensor], inplace: bool, gates: Gates) -> Tensor:
        with torch.enable_grad():
            leaf = (values.clone() if inplace else values).detach().requires_grad_(True)
            result = call(leaf.clone() if inplace else leaf)
        ctx.gates, ctx.positive = gates, leaf > 0
        ctx.derive = functools.partial(torch.autograd.grad, result, leaf, retain_graph=True)
        if inplace:
            ctx.mark_dirty(values)
            return values.copy_(result.detach())
        return result.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        rule = ctx.gates.on(rectifier=False)
        if rule == "deconvnet":
            return gradient.clamp(min=0), None, None, None
        (slope,) = ctx.derive(gradient)
        if rule == "guided":
            slope = slope.masked_fill(~ctx.positive | (gradient <= 0), 0)
        return slope, None, None, None
