"""The control: noise of the same size as an attack, without asking the model for gradients."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.attacks.balls import Ball, BoundedNorm, check_eps, check_positive
from assay.attacks.base import Access, Attack
from assay.attacks.best import all_indices
from assay.attacks.goals import Goal
from assay.core.draws import Draws


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomNoise(Attack):
    """The first of ``tries`` random points of the ball that reaches the goal, else the last one."""

    access: ClassVar[Access] = "none"

    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    tries: int = 10

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(tries=self.tries)

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        ball = Ball(self.norm, self.eps)
        noisy, index = images.clone(), all_indices(images)
        for _ in range(self.tries):
            candidates = ball.inside(images[index], images[index] + ball.random(images[index], draws[index]))
            noisy[index] = candidates
            with torch.no_grad():
                index = index[~goal[index].reached(model(candidates))]
            if len(index) == 0:
                break
        return noisy
