"""Other backward rules for activations, without hooks and without a change to the model.

While ``Gates`` are active, every call of an activation is replaced: the function and the method, in place or not,
from a module used once or many times, and a rectifier that is written as a clamp, a maximum, a choice or a mask. What
scripted code calls inside is out of reach, but counted; an activation that is written out, such as ``x * x.sigmoid()``,
is neither.
"""

import functools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import evaluating
from assay.core.calls import Calls, function_name
from assay.core.layers import first_tensor

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
        rectifier = rectifier_of(func, args, kwargs)
        if rectifier is None and function_name(func) not in SMOOTH:
            return func(*args, **kwargs)
        self.calls += 1
        if rectifier is None and self.reach == "relu":
            return func(*args, **kwargs)
        self.gated += 1
        inplace = is_inplace(func, kwargs)
        if rectifier is not None:
            return _RectifierGate.apply(rectifier, rectifier.values, inplace, self)
        values, *rest = args if args else (kwargs.pop("input"),)
        return _ActivationGate.apply(values, lambda x: func(x, *rest, **kwargs), inplace, self)

    def missed(self, scores: Tensor) -> int:
        """How many activations that lead to ``scores`` none of the calls was: scripted, or behind a checkpoint."""
        nodes = list(_nodes(scores))
        rectifiers = sum(_rectifies(node) for node in nodes)
        others = sum(node.name() in _SMOOTH_NODES for node in nodes)
        return rectifiers + max(others - (self.calls - self.gated), 0)


def gated_share(model: nn.Module, images: Tensor, activations: Activations = "relu") -> float:
    """The share of the activations on the way to the output that a rule reaches; NaN where there is none."""
    with evaluating(model), Gates(activations) as gates:
        scores = first_tensor(model(images.detach().requires_grad_(True)))
    total = gates.calls + gates.missed(scores)
    return gates.gated / total if total else math.nan


class Rectifier(NamedTuple):
    """A call that passes ``values`` between 0 and ``ceiling``, and its derivative at 0."""

    values: Tensor
    ceiling: float = math.inf
    edge: float = 0.0


def rectifier_of(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Rectifier | None:
    """The rectifier that a call of a torch function is, however it is written; None for another call."""
    name = function_name(func)
    if name not in _RECTIFIERS:
        return None

    def argument(place: int, *names: str, default: Any = None) -> Any:
        return args[place] if len(args) > place else next((kwargs[key] for key in names if key in kwargs), default)

    values, second, third = argument(0, "input", "self", "condition"), argument(1, "other"), argument(2, "other")
    if name in ("relu", "relu6"):
        return Rectifier(values, math.inf if name == "relu" else 6.0)
    if not any(isinstance(each, Tensor) and each.requires_grad for each in (values, second)):
        return None  # of places, masks and sizes
    if name in ("maximum", "fmax", "max"):
        return Rectifier(values, edge=0.5) if isinstance(second, Tensor) and _is_zero(second) else None
    if name == "where":
        condition, kept = (values, second) if values.dtype == torch.bool else (second, values)
        return Rectifier(kept) if _is_zero(third) and _is_mask(condition, kept) else None
    if name == "mul":
        pairs = ((second, values), (values, second))
        return next((Rectifier(kept) for mask, kept in pairs if _is_mask(mask, kept)), None)
    if name == "threshold":
        cut = _is_zero(argument(1, "threshold")) and _is_zero(argument(2, "value"))
        return Rectifier(values) if cut else None
    low = argument(1, "min", "min_val", default=-1.0 if name == "hardtanh" else None)
    high = argument(2, "max", "max_val", default=1.0 if name == "hardtanh" else None)
    if name == "clamp_min":
        high = None
    picture = name != "hardtanh" and high is not None and values.is_leaf  # pixels kept in their range
    if not _is_zero(low) or isinstance(high, Tensor) or picture:
        return None
    return Rectifier(values, math.inf if high is None else float(high))


def is_inplace(func: Callable[..., Any], kwargs: Mapping[str, Any]) -> bool:
    name = func.__name__.partition(".")[0]
    return bool(kwargs.get("inplace")) or name == "__imul__" or (name.endswith("_") and not name.endswith("__"))


def _is_zero(value: Any) -> bool:
    if isinstance(value, Tensor):
        return not value.requires_grad and not value.any()
    return isinstance(value, int | float) and value == 0


def _is_mask(mask: Any, values: Any) -> bool:
    """Whether a tensor is 1 where ``values`` are positive and 0 elsewhere."""
    if not isinstance(mask, Tensor) or not isinstance(values, Tensor) or mask.shape != values.shape:
        return False
    return (
        not mask.requires_grad and values.requires_grad and torch.equal(mask.to(values.dtype), (values > 0).to(values))
    )


_RECTIFIERS = frozenset(
    ["relu", "relu6", "hardtanh", "threshold", "clamp", "clip", "clamp_min", "maximum", "fmax", "max", "where", "mul"]
)  # fmt: skip
SMOOTH = frozenset(
    ["gelu", "silu", "mish", "hardswish", "softplus", "prelu", "leaky_relu", "rrelu", "elu", "selu", "celu", "hardtanh"]
)  # fmt: skip
_SMOOTH_NODES = frozenset(
    f"{name}Backward0"
    for name in (
        "Gelu",
        "Silu",
        "Mish",
        "Hardswish",
        "Softplus",
        "PreluKernel",
        "LeakyRelu",
        "RreluWithNoise",
        "Elu",
        "Celu",
    )
)


def _nodes(scores: Tensor) -> Iterator[Any]:
    """The nodes of the autograd graph behind ``scores``, each once."""
    waiting = [scores.grad_fn]
    seen = set(waiting)
    while waiting:
        node = waiting.pop()
        if node is not None:
            yield node
            following = {each for each, _ in node.next_functions} - seen
            seen |= following
            waiting.extend(following)


def _rectifies(node: Any) -> bool:
    """Whether a node is a rectifier, or a piece of code that may hold one."""
    name = node.name()
    if any(part in name for part in ("DifferentiableGraph", "CheckpointFunction", "CompiledFunction")):
        return True
    if name.startswith("Clamp") or name == "HardtanhBackward0":
        on_pixels = node.next_functions[0][0].name().endswith("AccumulateGrad")
        return getattr(node, "_saved_min", getattr(node, "_saved_min_val", None)) == 0 and not on_pixels
    return name in ("ReluBackward0", "ThresholdBackward0")


class _RectifierGate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rectifier: Rectifier, values: Tensor, inplace: bool, gates: Gates) -> Tensor:
        outside = (values <= 0) | (values >= rectifier.ceiling)
        ctx.save_for_backward(outside, *([values == 0] if rectifier.edge else []))
        ctx.gates, ctx.edge = gates, rectifier.edge
        if inplace:
            ctx.mark_dirty(values)
            return values.clamp_(0, rectifier.ceiling)
        return values.clamp(0, rectifier.ceiling)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None, None]:
        (outside, *edge), (gradient,) = ctx.saved_tensors, gradients
        rule = ctx.gates.on(rectifier=True)
        if rule == "deconvnet":
            return None, gradient.clamp(min=0), None, None
        if rule == "guided":
            return None, gradient.masked_fill(outside | (gradient <= 0), 0), None, None
        slope = gradient.masked_fill(outside, 0)
        return None, torch.where(edge[0], ctx.edge * gradient, slope) if edge else slope, None, None


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
