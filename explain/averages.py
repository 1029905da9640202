"""Heatmaps from many derivatives: along a path, or at noisy copies. ``batch`` bounds the samples in one pass."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target, gradient
from assay.explain.base import Explainer
from assay.explain.variants import Baseline, baseline_of, spans


class _Chunk(NamedTuple):
    """The images at ``at`` (n,) with those of their samples that ``samples`` names, which make one pass together."""

    at: Tensor
    samples: range


def _chunks(images: Tensor, samples: int, batch: int) -> Iterator[_Chunk]:
    """All samples of all images in passes of at most ``batch``; an image's samples come in their order."""
    for part in spans(len(images), batch):
        at = torch.arange(part.start, part.stop, device=images.device)
        per_pass = max(batch // len(at), 1)
        for start in range(0, samples, per_pass):
            yield _Chunk(at, range(start, min(start + per_pass, samples)))


def _gradients(model: nn.Module, target: Target, at: Tensor, samples: Tensor) -> Tensor:
    """The derivative at ``samples`` (n, s, C, H, W) of the images ``at`` (n,), in the same shape."""
    owners = at.repeat_interleave(samples.shape[1])
    return gradient(target[owners], model, samples.flatten(0, 1)).reshape(samples.shape)


def _weigh(values: Tensor) -> Tensor:
    """(s,) as (1, s, 1, 1, 1)."""
    return values.view(1, -1, 1, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegratedGradients(Explainer):
    """(x - x') times the mean derivative on the line from x' to x, summed over the channels.

    Sundararajan et al. 2017, eq. 1, arXiv:1703.01365. The mean is a quadrature in ``steps`` points, by default that of
    captum. A map sums to f(x) - f(x') up to its error, ``completeness_gap``, which ``doubts`` judges.
    """

    signed: ClassVar[bool] = True
    complete: ClassVar[bool] = True

    steps: int = 50
    baseline: Baseline = "zero"
    method: Literal["gausslegendre", "midpoint"] = "gausslegendre"
    batch: int = field(default=64, repr=False)  # samples in one pass; changes no result

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and self.batch >= 1):
            raise AssayError(f"{self}: needs steps >= 1 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        blank = baseline_of(images, self.baseline)
        points, weights = (torch.from_numpy(values).to(images) for values in self._quadrature())
        mean = torch.zeros_like(images)
        for at, samples in _chunks(images, self.steps, self.batch):
            part = slice(samples.start, samples.stop)
            path = blank[at, None] + _weigh(points[part]) * (images - blank)[at, None]
            mean[at] += (_weigh(weights[part]) * _gradients(model, target, at, path)).sum(1)
        return ((images - blank) * mean).sum(1)

    def _quadrature(self) -> tuple[np.ndarray, np.ndarray]:
        """Points in (0, 1) and weights that sum to 1."""
        if self.method == "midpoint":
            return (np.arange(self.steps) + 0.5) / self.steps, np.full(self.steps, 1 / self.steps)
        points, weights = np.polynomial.legendre.leggauss(self.steps)
        return (points + 1) / 2, weights / 2


@dataclass(frozen=True, kw_only=True, slots=True)
class _Noisy(Explainer):
    """Derivatives at copies of the image with Gaussian noise, which may leave [0, 1]."""

    samples: int = 50
    sigma: float = 0.15  # standard deviation of the noise, share of the image's range of values
    batch: int = field(default=64, repr=False)  # samples in one pass; changes no result

    def __post_init__(self) -> None:
        if not (self.samples >= 1 and self.sigma >= 0 and self.batch >= 1):
            raise AssayError(f"{self}: needs samples >= 1, sigma >= 0 and batch >= 1")

    def _moments(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> tuple[Tensor, Tensor]:
        """Mean and variance of the derivative over the samples, (N, C, H, W) float64."""
        low, high = images.flatten(1).aminmax(dim=1)
        spread = (self.sigma * (high - low)).view(-1, 1, 1, 1, 1)
        first, second = (torch.zeros_like(images, dtype=torch.float64) for _ in range(2))
        for at, samples in _chunks(images, self.samples, self.batch):
            noise = draws[at].normal((len(samples), *images.shape[1:])) * spread[at]
            slopes = _gradients(model, target, at, images[at, None] + noise).double()
            first[at] += slopes.sum(1) / self.samples
            second[at] += slopes.square().sum(1) / self.samples
        return first, (second - first.square()).clamp(min=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class SmoothGrad(_Noisy):
    """``Saliency`` of the mean derivative over noisy copies (Smilkov et al. 2017, sec. 3, arXiv:1706.03825).

    The absolute value is taken of the mean; captum's noise tunnel around its ``Saliency`` averages absolute values.
    """

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        mean, _ = self._moments(model, images, target, draws)
        return mean.abs().amax(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class VarGrad(_Noisy):
    """The largest variance over channels of the derivative at noisy copies (Adebayo et al. 2018, arXiv:1810.03307)."""

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        _, variance = self._moments(model, images, target, draws)
        return variance.amax(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpectedGradients(Explainer):
    """``IntegratedGradients`` averaged over references x', one random point of each line (Erion et al. 2021, eq. 3).

    arXiv:1906.10670. The paper draws references from the training data, which a record of settings does not hold and
    whose choice would make an image's map depend on its neighbours. Here they are drawn: one even colour each, or one
    colour per pixel, uniform in [0, 1]. A map sums to f(x) minus the mean of f(x'), in expectation.
    """

    signed: ClassVar[bool] = True

    samples: int = 50
    references: Literal["colour", "noise"] = "colour"
    batch: int = field(default=64, repr=False)  # samples in one pass; changes no result

    def __post_init__(self) -> None:
        if not (self.samples >= 1 and self.batch >= 1):
            raise AssayError(f"{self}: needs samples >= 1 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        heat = images.new_zeros(len(images), *images.shape[2:])
        for at, samples in _chunks(images, self.samples, self.batch):
            points, blank = self._references(draws[at], len(samples), images.shape[1:])
            way = images[at, None] - blank
            slopes = _gradients(model, target, at, blank + points * way)
            heat[at] += (way * slopes).sum((1, 2)) / self.samples
        return heat

    def _references(self, draws: Draws, count: int, shape: torch.Size) -> tuple[Tensor, Tensor]:
        """Points (n, count, 1, 1, 1) and references (n, count, C, H or 1, W or 1), drawn sample by sample."""
        size = shape if self.references == "noise" else (shape[0], 1, 1)
        numbers = draws.uniform((count, 1 + int(np.prod(size))))
        return numbers[:, :, :1, None, None], numbers[:, :, 1:].reshape(len(numbers), count, *size)
