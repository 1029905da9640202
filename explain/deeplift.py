"""DeepLIFT by other backward rules for activations and max pooling, without hooks and without a change to the model.

captum's ``DeepLift`` hooks activation modules instead: it misses functional ones, refuses reused ones, knows neither
ReLU6 nor GELU nor SiLU, and of overlapping pooling windows counts one. Where none of that occurs, the maps are equal.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from core.borrow import borrowed
from core.draws import Draws
from core.errors import AssayError
from core.targets import Logit, Target
from explain.base import Explainer
from explain.gates import ACTIVATIONS
from explain.variants import Baseline, baseline_of

TINY = 1e-6  # input differences below it take the derivative


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLift(Explainer):
    """Each pixel's share of f(x) - f(x'), summed over channels (Shrikumar et al. 2017, arXiv:1704.02685).

    The Rescale rule: an activation passes on its output's difference between image and baseline over its input's.
    Max pooling shares the difference between both winners, as captum does; all else passes its derivative. Products
    of features, softmax and layer norms thus leave a gap, of which ``flags`` tells.
    """

    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = True

    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # images with their baselines in one pass; changes no result

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise AssayError(f"{self}: needs batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        indices = torch.arange(len(images), device=images.device)
        spans = [indices[start : start + self.batch] for start in range(0, len(images), self.batch)]
        return torch.cat([self._share(model, images[at], target[at]) for at in spans])

    def _share(self, model: nn.Module, images: Tensor, target: Target) -> Tensor:
        blank = baseline_of(images, self.baseline)
        both = torch.cat([images, blank]).requires_grad_(True)
        twice = torch.arange(len(images), device=images.device).repeat(2)
        with _Rescale():
            score = target[twice](model, both)
        (multipliers,) = torch.autograd.grad(score.sum(), both)
        return (multipliers[: len(images)] * (images - blank)).sum(1)

    def flags(self, model: nn.Module, images: Tensor) -> str:
        """``completeness=0.30`` where the map's sum misses f(x) - f(x') by more than a hundredth of it, else empty.

        Read off the first image and its predicted class.
        """
        first = images[:1]
        with borrowed(model), torch.no_grad():
            there, away = model(first), model(baseline_of(first, self.baseline))
            predicted = there.argmax(1)
        change = (Logit.of(there, predicted) - Logit.of(away, predicted)).item()
        gap = abs(self(model, first, predicted).sum().item() - change) / max(abs(change), 1e-12)
        return f"completeness={gap:.2f}" if gap > 0.01 else ""


class _Rescale(TorchFunctionMode):
    """The rule for every activation and max pooling while it is active; a batch is images, then their baselines."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in (F.max_pool2d, torch.max_pool2d):
            kwargs["return_indices"] = True
            return _MaxPool.apply(args[0], lambda x: F.max_pool2d(x, *args[1:], **kwargs))
        if func not in ACTIVATIONS and func not in _SQUASHING:
            return func(*args, **kwargs)
        values, *rest = args if args else (kwargs.pop("input"),)
        if not (func.__name__.endswith("_") or kwargs.get("inplace", False)):
            return _rescaled(values, func(values, *rest, **kwargs))
        before = values.clone()
        return values.copy_(_rescaled(before, func(before.clone(), *rest, **kwargs)))


_SQUASHING: frozenset[Callable[..., Any]] = frozenset(
    {
        torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid, F.hardsigmoid,
        torch.tanh, torch.tanh_, Tensor.tanh, Tensor.tanh_, F.tanh,
    }
)  # fmt: skip


def _rescaled(values: Tensor, result: Tensor) -> Tensor:
    """``result`` itself, its derivative by ``values`` replaced by the ratio of their differences."""
    change, rise = _difference(values), _difference(result)
    plain = change.abs() < TINY
    line = result.detach() + _twice(rise / change.masked_fill(plain, 1)) * (values - values.detach())
    return torch.where(_twice(plain), result, line)


def _difference(values: Tensor) -> Tensor:
    here, away = values.detach().chunk(2)
    return here - away


def _twice(values: Tensor) -> Tensor:
    return torch.cat([values, values])


class _MaxPool(torch.autograd.Function):
    """The difference of the outputs goes to the winner in the image, up to the larger output, and in the baseline."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        result, winners = pool(values)
        ctx.save_for_backward(values, result, winners)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (values, result, winners), (gradient,) = ctx.saved_tensors, gradients
        here, away = result.chunk(2)
        top = torch.maximum(here, away)
        given = _scattered(gradient * torch.cat([top - away, here - top]), winners, values)
        change = _difference(values)
        plain = change.abs() < TINY
        ratio = torch.stack(given.chunk(2)).sum(0) / change.masked_fill(plain, 1)
        return torch.where(_twice(plain), _scattered(gradient, winners, values), _twice(ratio)), None


def _scattered(amounts: Tensor, winners: Tensor, values: Tensor) -> Tensor:
    empty = torch.zeros_like(values).flatten(2)
    return empty.scatter_add_(2, winners.flatten(2), amounts.flatten(2)).reshape(values.shape)
