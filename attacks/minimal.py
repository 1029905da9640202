"""Attacks that look for the nearest adversarial image, one step a pass.

All return the nearest image on their path that reaches the goal clearly (by more than float noise), else the clean one.
``steps`` counts passes forward and backward, that of the clean image included.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.attacks.balls import DUAL, Ball, Norm, check_positive, distance, rows, unit
from assay.attacks.base import Attack
from assay.attacks.best import Nearest
from assay.attacks.goals import Goal
from assay.attacks.gradient import Slope, cosine, slope
from assay.core.draws import Draws
from assay.core.errors import AssayError


def initial_slope(model: nn.Module, images: Tensor, goal: Goal) -> tuple[Tensor, Slope]:
    """The indices of the images that are not fooled as they are, and the slope of the margin at those."""
    point = slope(model, images, lambda logits: goal.loss(logits, "margin"))
    index = (~goal.reached(point.logits)).nonzero().flatten()
    return index, Slope(*(part[index] for part in point))


def beyond_noise(goal: Goal, logits: Tensor) -> Tensor:
    """Whether the goal is reached by more than another batch split can change, (N,) bool."""
    return goal.margin(logits) < -2 * goal.noise(logits)


class Adam:
    """The step of Kingma and Ba 2015 (arXiv:1412.6980, algorithm 1), for each value on its own."""

    def __init__(self, like: Tensor) -> None:
        self._mean, self._square, self._count = torch.zeros_like(like), torch.zeros_like(like), 0

    def step(self, gradient: Tensor) -> Tensor:
        """What to subtract, times the learning rate."""
        self._count += 1
        self._mean = 0.9 * self._mean + 0.1 * gradient
        self._square = 0.999 * self._square + 0.001 * gradient.square()
        mean, square = self._mean / (1 - 0.9**self._count), self._square / (1 - 0.999**self._count)
        return mean / (square.sqrt() + 1e-8)


@dataclass(frozen=True, kw_only=True, slots=True)
class DDN(Attack):
    """Decoupled direction and norm (Rony et al. 2019, algorithm 1, arXiv:1811.09600), in L2.

    Other than in the paper, cross-entropy sees logits that make the clean margin ``sharpness``: so the scale of the
    logits does not matter, and close classes do not mix. ``gamma`` falls along a half cosine, and a radius that has
    fooled every time is halved. The paper's are ``sharpness=None, gamma=0.05, last_gamma=0.05, halve=False``.
    """

    version: ClassVar[int] = 2
    norm: ClassVar[Norm] = "l2"

    steps: int = 100  # passes
    init_norm: float = 1.0  # first L2 radius
    gamma: float = 0.1  # share by which the radius moves at first
    last_gamma: float = 0.005  # and at the end
    sharpness: float | None = 10.0  # clean margin that the loss sees, in logits; None: as it is
    halve: bool = True  # the radius until it does not fool
    levels: int | None = None  # values of a channel that images are rounded to, 256 for 8 bits

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, init_norm=self.init_norm, gamma=self.gamma, last_gamma=self.last_gamma)
        check_positive(sharpness=1 if self.sharpness is None else self.sharpness)
        if not max(self.gamma, self.last_gamma) < 1:
            raise AssayError(f"gamma={self.gamma} and last_gamma={self.last_gamma} must be below 1")
        if self.levels is not None and self.levels < 2:
            raise AssayError(f"levels={self.levels} must be at least 2")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest = Nearest.of(images, self.norm)
        index, point = initial_slope(model, images, goal)
        clean, goal = images[index], goal[index]
        sharp = (
            torch.ones_like(point.loss) if self.sharpness is None else self.sharpness / -point.loss.clamp(max=-1e-30)
        )
        delta, radius = torch.zeros_like(clean), torch.full_like(point.loss, self.init_norm)
        success = misses = torch.zeros_like(index, dtype=torch.bool)
        for k in range(self.steps - 1 if len(index) else 0):
            gamma = cosine(self.gamma, self.last_gamma, k / self.steps)
            less = torch.where(misses, 1 - gamma, 0.5) if self.halve else 1 - gamma
            radius = radius * torch.where(success, less, 1 + gamma)
            delta = delta + cosine(1, 0.01, k / self.steps) * unit(point.gradient)
            x = self._quantise((clean + unit(delta) * rows(radius, delta)).clamp(0, 1))
            delta = x - clean
            point = slope(model, x, lambda logits: goal.loss(logits * sharp[:, None]))
            success = beyond_noise(goal, point.logits)
            misses = misses | ~success
            nearest.update(index, x, success)
        return nearest.images

    def _quantise(self, x: Tensor) -> Tensor:
        return x if self.levels is None else (x * (self.levels - 1)).round() / (self.levels - 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class FMN(Attack):
    """Fast minimum norm (Pintor et al. 2021, algorithm 1, arXiv:2102.12827).

    Other than in the paper, until an image is first fooled its radius always grows, and its change is stretched to
    that radius: else a path whose gradient turns stays inside and never finds anything. In L0, where the radius says
    nothing of the change's size, the steps are longer instead. In L1 the projection is the nearest point of ball and
    box at once.
    """

    version: ClassVar[int] = 2

    norm: Norm = "l2"
    steps: int = 100  # passes
    step: float | None = None  # L2 length of the first step, of the last 1 % of it; None: 1, in L0 3
    gamma: float = 0.1  # share by which the radius moves at first
    last_gamma: float = 0.001  # and at the end

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, gamma=self.gamma, last_gamma=self.last_gamma)
        check_positive(step=1 if self.step is None else self.step)
        if not max(self.gamma, self.last_gamma) < 1:
            raise AssayError(f"gamma={self.gamma} and last_gamma={self.last_gamma} must be below 1")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest = Nearest.of(images, self.norm)
        index, point = initial_slope(model, images, goal)
        clean, goal = images[index], goal[index]
        delta, radius = torch.zeros_like(clean), torch.zeros_like(point.loss)
        step = self.step or (3.0 if self.norm == "l0" else 1.0)
        success = torch.zeros_like(index, dtype=torch.bool)
        for k in range(self.steps - 1 if len(index) else 0):
            best, gamma = nearest.size[index], cosine(self.gamma, self.last_gamma, k / self.steps)
            radius = self._radius(point, delta, radius, gamma, success, best)
            delta = delta + cosine(step, step / 100, k / self.steps) * unit(point.gradient)
            if self.norm != "l0":
                stretch = (radius / distance(delta, self.norm).clamp(min=1e-30)).clamp(min=1)
                delta = delta * rows(torch.where(best.isfinite(), 1, stretch), delta)
            x = Ball(self.norm, radius).inside(clean, clean + delta)
            delta = x - clean
            point = slope(model, x, lambda logits: goal.loss(logits, "margin"))
            success = beyond_noise(goal, point.logits)
            nearest.update(index, x, success)
        return nearest.images

    def _radius(
        self, point: Slope, delta: Tensor, radius: Tensor, gamma: float, success: Tensor, best: Tensor
    ) -> Tensor:
        """Less than the nearest where that fooled; more where not, at first as far as an affine model would need."""
        less, more = radius.minimum(best) * (1 - gamma), radius * (1 + gamma)
        if self.norm == "l0":
            less, more = less.floor().minimum(radius - 1), more.floor().maximum(radius + 1)
        else:
            slant = distance(point.gradient, DUAL[self.norm]).clamp(min=1e-30)
            boundary = (distance(delta, self.norm) + point.loss.abs() / slant) * (1 + gamma)
            more = torch.where(best.isfinite(), more, more.maximum(boundary))
        return torch.where(success, less, more).clamp(0, delta[0].numel())


@dataclass(frozen=True, kw_only=True, slots=True)
class ALMA(Attack):
    """Augmented Lagrangian with penalty P2 (Rony et al. 2021, algorithm 1, arXiv:2011.11857).

    Other than in the paper, the constraint is the margin as a share of the clean one, which needs no third class, and
    the first step has the root mean square of the way to the boundary of an affine model.
    """

    version: ClassVar[int] = 2

    norm: Literal["l2", "l1"] = "l2"
    steps: int = 100  # passes
    most: float = 0.1  # largest first step, in pixel values
    alpha: float = 0.5  # memory of multiplier, squared gradient and momentum; the paper's 0.9 needs 1000 steps
    every: int = 10  # steps between looks at whether the margin improves
    improvement: float = 0.95  # share of the last margin that is enough
    growth: float = 1.2  # of rho where it is not

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, most=self.most, every=self.every, growth=self.growth)
        if not 0 <= self.alpha < 1:
            raise AssayError(f"alpha={self.alpha} must be at least 0 and below 1")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest = Nearest.of(images, self.norm)
        index, point = initial_slope(model, images, goal)
        clean, goal = images[index], goal[index]
        # scale of steps
        margin, size = -point.loss.clamp(max=-1e-30), distance(point.gradient, "l2").clamp(min=1e-30)
        values = float(images[0].numel()) if len(index) else 1.0
        rate = (margin / size / values**0.5).clamp(max=self.most)
        x, momentum = clean, torch.zeros_like(clean)
        square = rows((size / margin).square() / values, x).expand_as(x)
        y, before, mu, rho = (torch.ones_like(margin) for _ in range(4))
        first = torch.full_like(margin, self.steps)  # step of the first success
        for k in range(1, self.steps if len(index) else 0):
            # slope of Lagrangian
            pull = _p2_slope(y, rho, mu)
            away = (x - clean).sign() if self.norm == "l1" else unit(x - clean)
            gradient = away - rows(pull / margin, x) * point.gradient
            # step with momentum
            square = self.alpha * square + (1 - self.alpha) * gradient.square()
            momentum = self.alpha * momentum + gradient / (square.sqrt() + 1e-8)
            decay = 0.01 ** ((k - first).clamp(min=0) / (self.steps - first).clamp(min=1))
            x = (x - rows(rate * decay, x) * momentum).clamp(0, 1)
            # look and keep
            point = slope(model, x, lambda logits: goal.loss(logits, "margin"))
            success, y = beyond_noise(goal, point.logits), -point.loss / margin
            nearest.update(index, x, success)
            first = torch.where(success, first.clamp(max=k), first)
            # adapt the penalty
            if k % self.every == 0:
                enough = nearest.fooled[index] | (y < self.improvement * before)
                rho, before = torch.where(enough, rho, self.growth * rho), y
            mu = (self.alpha * mu + (1 - self.alpha) * _p2_slope(y, rho, mu)).clamp(1e-6, 1e12)
        return nearest.images


def _p2_slope(y: Tensor, rho: Tensor, mu: Tensor) -> Tensor:
    """The slope of P2: a cubic where the constraint ``y`` <= 0 is broken, a hyperbola where it holds."""
    return torch.where(y >= 0, mu + 2 * mu * rho * y + (rho * y).square() / 2, mu / (1 - rho * y.clamp(max=0)).square())


@dataclass(frozen=True, kw_only=True, slots=True)
class SigmaZero(Attack):
    """The fewest changed values, by a smooth count (Cina et al. 2024, algorithm 1, arXiv:2402.01879).

    Other than in the paper, goals with a wanted class work too.
    """

    version: ClassVar[int] = 2
    norm: ClassVar[Norm] = "l0"

    steps: int = 200  # passes
    lr: float = 1.0  # Adam's first learning rate; the last is a tenth of it
    sigma: float = 1e-3  # squared change that counts as half a change
    tau: float = 0.3  # smallest change that is kept, at first
    tau_step: float = 0.01  # by which tau moves, as a share of the learning rate

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, lr=self.lr, sigma=self.sigma, tau=self.tau, tau_step=self.tau_step)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest = Nearest.of(images, self.norm)
        index, point = initial_slope(model, images, goal)
        clean, goal = images[index], goal[index]
        x, adam, tau = clean, Adam(clean), torch.full_like(point.loss, self.tau)
        success = torch.zeros_like(index, dtype=torch.bool)
        for k in range(self.steps - 1 if len(index) else 0):
            delta, lr = x - clean, cosine(self.lr, self.lr / 10, k / self.steps)
            count = 2 * self.sigma * delta / (delta.square() + self.sigma).square() / delta[0].numel()
            gradient = count - rows(point.loss < 0, x) * point.gradient
            x = (x - lr * adam.step(unit(gradient, "linf"))).clamp(0, 1)
            tau = (tau + self.tau_step * lr * torch.where(success, 1.0, -1.0)).clamp(0, 1)
            x = torch.where((x - clean).abs() < rows(tau, x), clean, x)
            point = slope(model, x, lambda logits: goal.loss(logits, "margin"))
            success = beyond_noise(goal, point.logits)
            nearest.update(index, x, success)
        return nearest.images
