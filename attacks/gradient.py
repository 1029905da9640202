"""Attacks that follow the gradient of the loss inside a ball."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.balls import Ball, BoundedNorm, Norm, check_eps, check_positive, room
from assay.attacks.base import Attack
from assay.attacks.best import Best, all_indices
from assay.attacks.goals import Goal, Loss
from assay.core.draws import Draws


class Slope(NamedTuple):
    """A model's answer to images and the way up from there."""

    logits: Tensor  # (N, K)
    loss: Tensor  # (N,)
    gradient: Tensor  # (N, C, H, W)


def slope(model: nn.Module, images: Tensor, loss: Callable[[Tensor], Tensor], samples: int = 1) -> Slope:
    """Logits, loss and its gradient by the images, with ``samples`` > 1 the mean of several answers.

    That mean is the expectation over transformation of Athalye et al. 2018 (arXiv:1707.07397) for a randomised model.
    """
    parts = []
    for _ in range(samples):
        x = images.detach().requires_grad_(True)
        logits = model(x)
        value = loss(logits)
        (gradient,) = torch.autograd.grad(value.sum(), x)
        parts.append(Slope(logits.detach(), value.detach(), gradient))
    return parts[0] if samples == 1 else Slope(*(torch.stack(part).mean(0) for part in zip(*parts, strict=True)))


def ask(model: nn.Module, images: Tensor, samples: int = 1) -> Tensor:
    """Logits without a gradient, the mean of ``samples`` answers."""
    with torch.no_grad():
        answers = [model(images) for _ in range(samples)]
    return answers[0] if samples == 1 else torch.stack(answers).mean(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class FGSM(Attack):
    """One signed gradient step (Goodfellow et al. 2015, eq. 1, arXiv:1412.6572).

    With ``LeastLikely`` as the goal it is the one-step least likely class method of Kurakin et al. 2017. The random
    start is that of Wong et al. 2020 (arXiv:2001.03994): uniform in the ball, then a step of 1.25 eps.
    """

    single: ClassVar[bool] = True

    eps: float = 4 / 255  # Linf radius, images in [0, 1]
    random_start: bool = False
    samples: int = 1  # answers of a randomised model to average

    def __post_init__(self) -> None:
        check_eps(self.eps, "linf")
        check_positive(samples=self.samples)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        ball = Ball("linf", self.eps)
        start = ball.inside(images, images + ball.random(images, draws)) if self.random_start else images
        step = 1.25 * self.eps if self.random_start else self.eps
        return ball.inside(images, start + step * slope(model, start, goal.loss, self.samples).gradient.sign())


@dataclass(frozen=True, kw_only=True, slots=True)
class PGD(Attack):
    """Projected gradient descent (Madry et al. 2018, arXiv:1706.06083).

    Returns the first fooling image on the path, else the one of largest loss. An image that is fooled leaves the
    batch; with ``early_stop`` off it goes on, and the fooling image of largest loss is returned. The default steps
    shrink from 2 eps to 0 along a half cosine, so that a path can cross the ball and then settle. A step in L1 moves
    the values of largest gradient that have room (Tramer and Boneh 2019, arXiv:1904.13000), 1 % of them at first and
    one at the end.
    """

    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    steps: int = 40
    step: float | None = None  # length of every step in that norm; None: from 2 eps to 0
    restarts: int = 1
    random_start: bool = True
    early_stop: bool = True
    loss: Loss = "ce"
    samples: int = 1  # answers of a randomised model to average

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(steps=self.steps, restarts=self.restarts, samples=self.samples)
        check_positive(step=1 if self.step is None else self.step)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        best, index = Best.of(images), all_indices(images)
        for _ in range(self.restarts):
            self._climb(model, images[index], goal[index], draws[index], best, index)
            if self.early_stop:
                index = (~best.fooled).nonzero().flatten()
            if len(index) == 0:
                break
        return best.images

    def _climb(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws, best: Best, index: Tensor) -> None:
        """One path from a start; what is better goes to ``best`` at ``index``."""
        ball = Ball(self.norm, self.eps)
        x = ball.inside(images, images + ball.random(images, draws)) if self.random_start else images
        for k in range(self.steps):
            point = slope(model, x, lambda logits: goal.loss(logits, self.loss), self.samples)  # noqa: B023
            gradient, success = point.gradient, goal.reached(point.logits)
            best.update(index, x, point.loss, success)
            if self.early_stop and success.any():
                stay = ~success
                x, images, gradient, index, goal = x[stay], images[stay], gradient[stay], index[stay], goal[stay]
                if len(index) == 0:
                    return
            x = ball.inside(images, x + self._length(k) * ascent(ball.norm, x, gradient, 0.01 * (1 - k / self.steps)))
        logits = ask(model, x, self.samples)
        best.update(index, x, goal.loss(logits, self.loss), goal.reached(logits))

    def _length(self, k: int) -> float:
        return cosine(2 * self.eps, 0, k / self.steps) if self.step is None else self.step


def cosine(first: float, last: float, part: float) -> float:
    """From ``first`` to ``last`` along a half cosine as ``part`` goes from 0 to 1."""
    return last + (first - last) * (1 + math.cos(math.pi * part)) / 2


def ascent(norm: Norm, x: Tensor, gradient: Tensor, share: float | Tensor) -> Tensor:
    """A move of norm 1 up the gradient; in L1 it is spread evenly over the values of largest gradient that have room.

    ``share`` of the values, one or for each image (N,), at least one value.
    """
    if norm != "l1":
        return Ball(norm, 1.0).steepest(gradient)
    useful = (gradient * (room(x, gradient) > 0)).flatten(1)
    values = useful.shape[1]
    count = (torch.as_tensor(share, device=x.device) * values).round().clamp(1, values).view(-1, 1)
    order = useful.abs().argsort(1, descending=True)
    leading = torch.arange(values, device=x.device) < count
    signs = useful.gather(1, order).sign() * leading / count
    return torch.zeros_like(useful).scatter(1, order, signs).view_as(gradient)


@dataclass(frozen=True, kw_only=True, slots=True)
class BIM(PGD):
    """The basic iterative method (Kurakin et al. 2017, arXiv:1607.02533): PGD from the image itself, in short steps."""

    steps: int = 10
    step: float | None = None  # length of every step in that norm; None means eps / steps
    random_start: bool = False

    def _length(self, k: int) -> float:
        return self.eps / self.steps if self.step is None else self.step
