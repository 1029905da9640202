"""Attacks that add a loss to the distance and look for the weight between the two.

All return the nearest image on their path that reaches the goal clearly (by more than float noise), else the clean one.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from torch import Tensor, nn
from torch.nn.functional import softplus

from assay.attacks.balls import Norm, check_positive, distance, rows
from assay.attacks.base import Attack
from assay.attacks.best import Nearest
from assay.attacks.goals import Goal
from assay.attacks.gradient import Slope, cosine, slope
from assay.attacks.minimal import Adam, beyond_noise, initial_slope
from assay.core.draws import Draws
from assay.core.errors import AssayError

Floats = NDArray[np.float64]


class Weight(NamedTuple):
    """The search for the smallest weight of the loss that fools: tenfold until one does, then bisection."""

    c: Tensor  # (N,), to try
    low: Tensor  # (N,), the largest that failed
    high: Tensor  # (N,), the smallest that fooled, infinite before

    @classmethod
    def first(cls, point: Slope, c: float | None, share: float = 1.0) -> "Weight":
        """From ``c``; None: ``share`` of 2 margin / |gradient|^2, which just does where the model is affine."""
        exact = -2 * point.loss / point.gradient.flatten(1).square().sum(1).clamp(min=1e-20)
        start = (share * exact).clamp(1e-10, 1e10) if c is None else torch.full_like(exact, c)
        return cls(start, torch.zeros_like(start), torch.full_like(start, torch.inf))

    def next(self, success: Tensor) -> "Weight":
        low, high = torch.where(success, self.low, self.c), torch.where(success, self.c, self.high)
        return Weight(torch.where(high.isfinite(), (low + high) / 2, 10 * low), low, high)


@dataclass(frozen=True, kw_only=True, slots=True)
class CarliniWagner(Attack):
    """Squared L2 distance plus c times the margin, seen through tanh (Carlini and Wagner 2017, arXiv:1608.04644, VI-A).

    Other than in the paper, the first weight and the learning rate come from the clean gradient, the rate doubles with
    every weight until one fools, and falls to 1 % along a half cosine: so fewer steps do. No weight is given up early:
    that saved 3 % of the passes and lost 2 % of the distance.
    """

    version: ClassVar[int] = 2
    norm: ClassVar[Norm] = "l2"

    steps: int = 100  # passes for every weight; the paper's 10000
    search_steps: int = 6  # weights; the paper's 9
    lr: float | None = None  # Adam's, before tanh; None: twice the affine distance per root of the values, .001 to .3
    c: float | None = None  # first weight of the margin; None: what an affine model needs
    confidence: float = 0.0  # logits to win by

    def __post_init__(self) -> None:
        _check(self.steps, self.search_steps, self.c, self.confidence)
        check_positive(lr=1 if self.lr is None else self.lr)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest = Nearest.of(images, self.norm)
        index, point = initial_slope(model, images, goal)
        if len(index) == 0:
            return nearest.images
        goal, weight, lr = goal[index], Weight.first(point, self.c, 1.05), self._rate(point)
        for _ in range(self.search_steps):
            weight = weight.next(self._descend(model, goal, weight.c, lr, nearest, index))
            if self.lr is None:
                lr = torch.where(weight.high.isfinite(), lr, (2 * lr).clamp(max=0.3))
        return nearest.images

    def _descend(self, model: nn.Module, goal: Goal, c: Tensor, lr: Tensor, nearest: Nearest, index: Tensor) -> Tensor:
        """Which images the weights ``c`` fool; what is nearer goes to ``nearest``."""
        clean, any_success = nearest.clean[index], torch.zeros_like(index, dtype=torch.bool)
        w = ((2 * clean - 1) * (1 - 1e-3)).atanh()  # nearer to 0 and 1 the gradient vanishes
        adam = Adam(w)
        for k in range(self.steps):
            x = (w.tanh() + 1) / 2
            point = slope(model, x, lambda logits: _hinge(goal, logits, self.confidence))
            success = beyond_noise(goal, point.logits) & (point.loss == 0)
            nearest.update(index, x, success)
            any_success = any_success | success
            gradient = (2 * (x - clean) - rows(c, x) * point.gradient) * 2 * x * (1 - x)
            w = w - rows(lr, w) * cosine(1, 0.01, k / self.steps) * adam.step(gradient)
        return any_success

    def _rate(self, point: Slope) -> Tensor:
        if self.lr is not None:
            return torch.full_like(point.loss, self.lr)
        affine = -point.loss / distance(point.gradient, "l2").clamp(min=1e-30)
        rate: Tensor = 2 * affine / point.gradient[0].numel() ** 0.5
        return rate.clamp(1e-3, 0.3)


@dataclass(frozen=True, kw_only=True, slots=True)
class EAD(Attack):
    """Elastic net distance plus c times the margin, by FISTA (Chen et al. 2018, algorithm 1, arXiv:1709.04114).

    Returns the nearest in L1 (the paper's L1 rule). Other than in the paper, the images judged are the slack points y,
    brought into [0, 1], whose logits the gradient needs anyway: the paper's take a second pass.
    """

    version: ClassVar[int] = 2
    norm: ClassVar[Norm] = "l1"

    steps: int = 100  # passes for every weight; the paper's 1000
    search_steps: int = 6  # weights; the paper's 9
    lr: float = 0.01  # first step; the square root of it falls evenly to 0
    beta: float = 1e-2  # what every step takes from each change, in pixel values; the paper's 1e-3 to 1e-2
    c: float | None = None  # first weight of the margin; None: what an affine model needs in L2
    confidence: float = 0.0  # logits to win by

    def __post_init__(self) -> None:
        _check(self.steps, self.search_steps, self.c, self.confidence)
        check_positive(lr=self.lr, beta=self.beta)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest = Nearest.of(images, self.norm)
        index, point = initial_slope(model, images, goal)
        goal, weight = goal[index], Weight.first(point, self.c)
        for _ in range(self.search_steps if len(index) else 0):
            weight = weight.next(self._descend(model, goal, weight.c, nearest, index))
        return nearest.images

    def _descend(self, model: nn.Module, goal: Goal, c: Tensor, nearest: Nearest, index: Tensor) -> Tensor:
        """Which images the weights ``c`` fool; what is nearer goes to ``nearest``."""
        clean, any_success = nearest.clean[index], torch.zeros_like(index, dtype=torch.bool)
        x = y = clean
        for k in range(self.steps):
            point = slope(model, y, lambda logits: _hinge(goal, logits, self.confidence))
            success = beyond_noise(goal, point.logits) & (point.loss == 0)
            nearest.update(index, y, success)
            any_success = any_success | success
            gradient = 2 * (y - clean) - rows(c, y) * point.gradient
            before, x = x, self._shrunk(clean, y - self.lr * (1 - k / self.steps) ** 0.5 * gradient)
            y = (x + k / (k + 3) * (x - before)).clamp(0, 1)
        return any_success

    def _shrunk(self, clean: Tensor, x: Tensor) -> Tensor:
        """Every change less ``beta``, at least 0, and in the box (equation 5)."""
        delta = x - clean
        return (clean + delta.sign() * (delta.abs() - self.beta).clamp(min=0)).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LBFGS(Attack):
    """Squared L2 distance plus c times a loss, by box-constrained L-BFGS (Szegedy et al. 2014, arXiv:1312.6199, 4.1).

    The optimiser is scipy's, so images go through the model one by one. The loss is the cross-entropy of two classes,
    softplus of the margin: with a wanted class about the paper's, and without one it levels off once it has won, where
    climbing the label's cross-entropy would go on.
    """

    version: ClassVar[int] = 2
    norm: ClassVar[Norm] = "l2"

    steps: int = 20  # iterations for every weight, of one pass or a few
    search_steps: int = 8  # weights
    c: float | None = None  # first weight of the loss; None: a little more than an affine model needs

    def __post_init__(self) -> None:
        _check(self.steps, self.search_steps, self.c, 0)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest = Nearest.of(images, self.norm)
        index, point = initial_slope(model, images, goal)
        weight = Weight.first(point, self.c, 2.02)
        for _ in range(self.search_steps if len(index) else 0):
            success = [
                self._descend(model, goal[i], c, nearest, i)
                for c, i in zip(weight.c.tolist(), index[:, None], strict=True)
            ]
            weight = weight.next(torch.tensor(success, device=index.device))
        return nearest.images

    def _descend(self, model: nn.Module, goal: Goal, c: float, nearest: Nearest, index: Tensor) -> bool:
        """Whether the weight ``c`` fools the image at ``index``; what is nearer goes to ``nearest``."""
        clean, fools = nearest.clean[index], False

        def objective(values: Floats) -> tuple[float, Floats]:
            nonlocal fools
            x = torch.from_numpy(values).to(clean).view_as(clean)
            point = slope(model, x, lambda logits: -softplus(goal.margin(logits)))
            success = beyond_noise(goal, point.logits)
            nearest.update(index, x, success)
            fools = bool(success)
            delta = x - clean
            gradient = 2 * delta - c * point.gradient
            return (delta.square().sum() - c * point.loss.sum()).item(), gradient.flatten().cpu().double().numpy()

        start: Floats = clean.flatten().cpu().double().numpy()
        box = Bounds(0.0, 1.0)
        minimize(objective, start, jac=True, method="L-BFGS-B", bounds=box, options={"maxiter": self.steps})
        return fools


def _hinge(goal: Goal, logits: Tensor, confidence: float) -> Tensor:
    """What to climb: 0 once the goal is reached by ``confidence``."""
    return -(goal.margin(logits) + confidence).clamp(min=0)


def _check(steps: int, search_steps: int, c: float | None, confidence: float) -> None:
    check_positive(steps=steps, search_steps=search_steps, c=1 if c is None else c)
    if not confidence >= 0:
        raise AssayError(f"confidence={confidence} must be at least 0")
