"""DeepLIFT by other backward rules for activations and max pooling, without hooks and without a change to the model.

captum's ``DeepLift`` hooks activation modules instead: it misses functional ones, refuses reused ones, knows neither
ReLU6 nor GELU nor SiLU, and of overlapping pooling windows counts one. Where none of that occurs, the maps are equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.calls import Calls, function_name
from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.probe import random_images
from assay.core.targets import Target, derivative
from assay.explain.base import Explainer
from assay.explain.gates import SMOOTH, is_inplace, rectifier_of
from assay.explain.variants import Baseline, baseline_of, spans

TINY = 1e-6  # input differences below it take the derivative


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepLift(Explainer):
    """Each pixel's share of f(x) - f(x'), summed over channels (Shrikumar et al. 2017, arXiv:1704.02685).

    The Rescale rule: an activation passes on its output's difference between image and baseline over its input's.
    Max pooling shares the difference between both winners, as captum does; all else passes its derivative. Products
    of features, softmax and layer norms thus leave a gap, of which ``doubts`` tells. Raises ``NotApplicable`` where an
    activation does not hold the batch first (tokens first, as in ``nn.TransformerEncoderLayer`` by default): a forward
    pass of noise finds it.
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
        with _PairCheck():
            target[indices[:1].repeat(2)](model, random_images(images, 1).repeat(2, 1, 1, 1).requires_grad_(True))
        parts = [self._share(model, images[at], target[indices[at]]) for at in spans(len(images), self.batch)]
        return torch.cat(parts)

    def _share(self, model: nn.Module, images: Tensor, target: Target) -> Tensor:
        blank = baseline_of(images, self.baseline)
        pairs = torch.cat([images, blank]).requires_grad_(True)
        twice = torch.arange(len(images), device=images.device).repeat(2)
        with _Rescale():
            score = target[twice](model, pairs)
        multipliers = derivative(score, pairs)
        return (multipliers[: len(images)] * (images - blank)).sum(1)


class _Rescale(Calls):
    """The rule for every activation and max pooling while it is active; a batch is images, then their baselines."""

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values = _followed(func, args, kwargs)
        if values is None:
            return func(*args, **kwargs)
        if not args:
            args = (kwargs.pop("input"),)
        if function_name(func) in _POOLING:
            rest, kwargs["return_indices"] = args[1:], True
            return _MaxPool.apply(values, lambda x: F.max_pool2d(x, *rest, **kwargs))
        if not is_inplace(func, kwargs):
            return _rescale(values, func(*args, **kwargs))
        before = values.clone()
        return values.copy_(_rescale(before, func(before.clone(), *args[1:], **kwargs)))


class _PairCheck(Calls):
    """Of a batch that is one image twice: ``NotApplicable`` where the halves of an activation's input differ."""

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values = _followed(func, args, kwargs)
        if values is not None:
            first, *second = values.chunk(2)
            alike = second and first.shape == second[0].shape
            if not (alike and torch.allclose(first, second[0], rtol=1e-3, atol=1e-4, equal_nan=True)):
                raise NotApplicable("an activation or a pooling gets values whose first dimension is not the batch")
        return func(*args, **kwargs)


_POOLING = ("max_pool2d", "max_pool2d_with_indices")
_SQUASHING = ("sigmoid", "hardsigmoid", "tanh")


def _followed(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """What a call of the rule's is made of, where that depends on the images: a gate may read a parameter alone."""
    rectifier = rectifier_of(func, args, kwargs)
    if rectifier is not None:
        values: Any = rectifier.values
    elif function_name(func) in (*SMOOTH, *_SQUASHING, *_POOLING):
        values = args[0] if args else kwargs["input"]
    else:
        return None
    return values if values.requires_grad else None


def _rescale(values: Tensor, result: Tensor) -> Tensor:
    """``result`` itself, its derivative by ``values`` replaced by the ratio of their differences."""
    change, rise = _difference(values), _difference(result)
    plain = change.abs() < TINY
    line = result.detach() + _twice(rise / change.masked_fill(plain, 1)) * (values - values.detach())
    return torch.where(_twice(plain), result, line)


def _difference(values: Tensor) -> Tensor:
    image, blank = values.detach().chunk(2)
    return image - blank


def _twice(values: Tensor) -> Tensor:
    return torch.cat([values, values])


class _MaxPool(torch.autograd.Function):
    """The difference of the outputs goes to the winner in the image, up to the larger output, and in the baseline."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, pool: Callable[[Tensor], tuple[Tensor, Tensor]]) -> Tensor:
        result, winners = pool(values)
        ctx.save_for_backward(values, winners)  # not the result, which an activation may overwrite
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (values, winners), (gradient,) = ctx.saved_tensors, gradients
        image, blank = values.flatten(2).gather(2, winners.flatten(2)).reshape(winners.shape).chunk(2)
        top = torch.maximum(image, blank)
        shares = _scatter(gradient * torch.cat([top - blank, image - top]), winners, values)
        change = _difference(values)
        plain = change.abs() < TINY
        ratio = torch.stack(shares.chunk(2)).sum(0) / change.masked_fill(plain, 1)
        return torch.where(_twice(plain), _scatter(gradient, winners, values), _twice(ratio)), None


def _scatter(amounts: Tensor, winners: Tensor, values: Tensor) -> Tensor:
    empty = torch.zeros_like(values).flatten(2)
    return empty.scatter_add_(2, winners.flatten(2), amounts.flatten(2)).reshape(values.shape)
