"""Attacks that follow the gradient of the loss."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from attacks.balls import Ball, BoundedNorm, check_eps, check_positive
from attacks.base import Attack
from attacks.goals import Goal, Targeted, Untargeted
from core.draws import Draws
from core.targets import Logit, gradient


@dataclass(frozen=True, kw_only=True, slots=True)
class FGSM(Attack):
    """One signed gradient step (Goodfellow et al. 2015, eq. 1, arXiv:1412.6572).

    With ``LeastLikely`` as the goal it is the one-step least likely class method of Kurakin et al. 2017.
    """

    eps: float = 4 / 255  # Linf radius, images in [0, 1]

    def __post_init__(self) -> None:
        check_eps(self.eps, "linf")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        slope = gradient(lambda net, x: goal.loss(net(x)), model, images)
        return (images + self.eps * slope.sign()).clamp(0, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class PGD(Attack):
    """Projected gradient descent on the cross-entropy (Madry et al. 2018, arXiv:1706.06083).

    Returns the first fooling image on the path, else the one of largest loss. An image that is fooled leaves the
    batch; with ``early_stop`` off it goes on, and the fooling image of largest loss is returned. The
    default step lets a path cross the ball: step * steps = 2.5 eps.
    """

    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    steps: int = 40
    step: float | None = None  # length of a step in that norm; None means 2.5 eps / steps
    restarts: int = 1
    random_start: bool = True
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(steps=self.steps, restarts=self.restarts, step=1 if self.step is None else self.step)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        best = _Best(images.clone(), images.new_full((len(images),), float("-inf")), images.new_zeros(len(images)) > 0)
        index = torch.arange(len(images), device=images.device)
        for _ in range(self.restarts):
            self._climb(model, images[index], goal[index], draws[index], best, index)
            if self.early_stop:
                index = (~best.fooled).nonzero().flatten()
            if len(index) == 0:
                break
        return best.images

    def _climb(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws, best: "_Best", index: Tensor) -> None:
        """One path from a start; what is better goes to ``best`` at ``index``."""
        ball = Ball(self.norm, self.eps)
        step = 2.5 * self.eps / self.steps if self.step is None else self.step
        start = ball.random(images, draws) if self.random_start else torch.zeros_like(images)
        x = (images + start).clamp(0, 1)
        for k in range(self.steps + 1):
            x.requires_grad_(k < self.steps)
            logits = model(x)
            loss = goal.loss(logits)
            if k < self.steps:
                (slope,) = torch.autograd.grad(loss.sum(), x)
            x, loss = x.detach(), loss.detach()
            reached = goal.reached(logits.detach())
            best.update(index, x, loss, reached)
            if self.early_stop and reached.any():
                stay = ~reached
                x, images, slope, index, goal = x[stay], images[stay], slope[stay], index[stay], goal[stay]
            if k == self.steps or len(index) == 0:
                break
            x = (images + ball.project(x + step * ball.steepest(slope) - images)).clamp(0, 1)


class _Best(NamedTuple):
    """The best image so far, each: one that fools beats one that does not, then the larger loss wins."""

    images: Tensor
    loss: Tensor
    fooled: Tensor

    def update(self, index: Tensor, images: Tensor, loss: Tensor, reached: Tensor) -> None:
        won = self.fooled[index]
        better = (reached & ~won) | ((reached == won) & (loss > self.loss[index]))
        place = index[better]
        self.images[place], self.loss[place], self.fooled[place] = images[better], loss[better], reached[better]


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientFooling(Attack):
    """Climb the logit of one chosen class with L2-normalised steps until it wins (CS231n, fooling images).

    No bound on the distance. The class is the goal's; ``Untargeted`` chooses the runner-up on the clean image.
    """

    step: float = 0.25  # L2 length of a step, images in [0, 1]
    steps: int = 100

    def __post_init__(self) -> None:
        check_positive(step=self.step, steps=self.steps)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        classes = self._chosen(model, images, goal)
        ball = Ball("l2", self.step)
        x, index = images.clone(), torch.arange(len(images), device=images.device)
        for k in range(self.steps + 1):
            current = x[index].requires_grad_(k < self.steps)
            logits = model(current)
            stay = ~goal[index].reached(logits.detach())
            if k == self.steps or not stay.any():
                break
            (slope,) = torch.autograd.grad(Logit.of(logits, classes[index])[stay].sum(), current)
            index = index[stay]
            x[index] = (x[index] + self.step * ball.steepest(slope[stay])).clamp(0, 1)
        return x

    @staticmethod
    def _chosen(model: nn.Module, images: Tensor, goal: Goal) -> Tensor:
        if isinstance(goal, Targeted):
            return goal.classes
        labels = goal.labels if isinstance(goal, Untargeted) else model(images).argmax(1)
        with torch.no_grad():
            chosen: Tensor = model(images).scatter(1, labels[:, None], float("-inf")).argmax(1)
        return chosen
