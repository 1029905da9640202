"""Another backward rule for ReLU, without hooks and without a change to the model.

While a ``GuidedReLU`` is active, every call of a rectifier is replaced: the function and the method, in place or not,
from a module used once or many times. What scripted or compiled code calls inside is out of reach.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class GuidedReLU(TorchFunctionMode):
    """The gradient passes a rectifier only where input and gradient are positive (Springenberg et al. 2015, fig. 1).

    Rectifiers are ReLU, ReLU6 and a hardtanh from zero; the last two also stop it above their ceiling. ``gated``
    counts their calls and ``calls`` those of all activation functions; squashing gates (sigmoid, softmax) are none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gated = 0
        self.calls = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        self.calls += func in _RECTIFIERS or func in _OTHERS
        rectifier = _read(func, args, kwargs) if func in _RECTIFIERS else None
        if rectifier is None:
            return func(*args, **kwargs)
        self.gated += 1
        return _Guided.apply(rectifier.input, rectifier.ceiling, rectifier.inplace)


class _Rectifier(NamedTuple):
    input: Tensor
    ceiling: float
    inplace: bool


def _read(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Rectifier | None:
    """What one call rectifies; None for a hardtanh that does not start at zero."""
    if func is F.hardtanh and kwargs["min_val"] != 0:
        return None
    ceiling = {F.relu6: 6.0, F.hardtanh: kwargs.get("max_val", 1.0)}.get(func, math.inf)
    inplace = func in (torch.relu_, Tensor.relu_) or kwargs.get("inplace", False)
    return _Rectifier(args[0] if args else kwargs["input"], ceiling, inplace)


_RECTIFIERS: frozenset[Callable[..., Any]] = frozenset(
    {F.relu, F.relu6, F.hardtanh, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}
)
_OTHERS: frozenset[Callable[..., Any]] = frozenset(
    {
        F.gelu, F.silu, F.mish, F.hardswish, F.softplus,
        F.leaky_relu, F.prelu, F.rrelu, F.elu, F.selu, F.celu,
    }
)  # fmt: skip


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, ceiling: float, inplace: bool) -> Tensor:
        ctx.save_for_backward((values > 0) & (values < ceiling))
        if inplace:
            ctx.mark_dirty(values)
            return values.clamp_(0, ceiling)
        return values.clamp(0, ceiling)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (opened,) = ctx.saved_tensors  # type: ignore[attr-defined]
        (gradient,) = gradients
        return gradient * (opened & (gradient > 0)), None, None
