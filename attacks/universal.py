"""One perturbation for all images."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.attacks.balls import Ball, check_eps, check_positive
from assay.attacks.base import Attack, prepared
from assay.attacks.best import all_indices
from assay.attacks.deepfool import DeepFool
from assay.attacks.goals import Goal
from assay.attacks.gradient import ask, cosine
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError


class Universal(Attack):
    """An attack that crafts one thing from some images and applies it to any; called, it does both on the same ones.

    What ``craft`` gives depends on all of its images and on their order; ``apply`` works image by image.
    """

    __slots__ = ()

    universal: ClassVar[bool] = True

    def craft(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor:
        """What ``apply`` adds or pastes, learned on ``images`` (N, C, H, W) in [0, 1] with one goal for each."""
        with prepared(self, model, images, goal) as (borrowed, pictures, aim):
            return self.learn(borrowed, pictures, aim, as_draws(draws, images)).detach()

    @abstractmethod
    def learn(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        """``craft`` itself, on a borrowed model and a goal that names its classes."""

    @abstractmethod
    def apply(self, images: Tensor, pattern: Tensor, draws: Draws | int = 0) -> Tensor:
        """Adversarial images (N, C, H, W) in [0, 1] from any ``images`` and what ``craft`` gave."""

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        return self.apply(images, self.learn(model, images, goal, draws), draws)


def cap_loss(goal: Goal, logits: Tensor, cap: float) -> Tensor:
    """Cross-entropy to climb, at most ``cap`` an image: what is long fooled stops pulling (Shafahi et al. 2020)."""
    return goal.loss(logits, "ce").clamp(max=cap)


def in_turn(images: Tensor, batch: int, steps: int) -> Iterator[Tensor]:
    """Indices of ``steps`` batches, through all images in their order again and again."""
    order, at = all_indices(images), 0
    batch = min(batch, len(images))
    for _ in range(steps if len(images) else 0):
        yield order.roll(-at)[:batch]
        at = (at + batch) % len(images)


@dataclass(frozen=True, kw_only=True, slots=True)
class UniversalPerturbation(Universal):
    """One difference in a ball for all images.

    ``method="gradient"`` climbs the cross-entropy, capped, of one batch after the other by steps of ``step``, which
    shrink to 0 along a half cosine (Shafahi et al. 2020, arXiv:1811.11304, algorithm 2; they take Adam).
    "deepfool" pushes each image that is not fooled yet over its nearest boundary in L2 and projects, until
    ``fooled`` of the images are, at most ``passes`` times through all (Moosavi-Dezfooli et al. 2017, arXiv:1610.08401,
    algorithm 1, which takes ``batch`` 1: a batch adds up pushes that do not know of each other); the best pass counts.
    Both take the images in the order they come in. ``apply`` draws nothing.
    """

    norm: Literal["linf", "l2"] = "linf"
    eps: float = 10 / 255  # radius in that norm, images in [0, 1]
    method: Literal["gradient", "deepfool"] = "gradient"
    batch: int = 50  # images a step
    steps: int = 200  # of "gradient"
    step: float = 1.0  # first step of "gradient", share of eps
    cap: float = 9.0  # of an image's cross-entropy, of "gradient"
    passes: int = 5  # of "deepfool" through all images
    fooled: float = 0.8  # share of images to fool, at which "deepfool" ends (1 - delta in the paper)

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(batch=self.batch, steps=self.steps, step=self.step, cap=self.cap, passes=self.passes)
        if not 0 < self.fooled <= 1:
            raise AssayError(f"fooled={self.fooled} must be above 0 and at most 1")

    def learn(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        """The perturbation, (C, H, W)."""
        still = images.new_zeros(images.shape[1:])
        if self.eps == 0 or len(images) == 0:
            return still
        return (self._climb if self.method == "gradient" else self._push)(model, images, goal, still, draws)

    def apply(self, images: Tensor, pattern: Tensor, draws: Draws | int = 0) -> Tensor:
        return (images + pattern).clamp(0, 1)

    def _climb(self, model: nn.Module, images: Tensor, goal: Goal, pattern: Tensor, draws: Draws) -> Tensor:
        ball = Ball(self.norm, self.eps)
        for k, index in enumerate(in_turn(images, self.batch, self.steps)):
            pattern = pattern.detach().requires_grad_(True)
            logits = model(self.apply(images[index], pattern))
            (up,) = torch.autograd.grad(cap_loss(goal[index], logits, self.cap).mean(), pattern)
            length = cosine(self.step * self.eps, 0, k / self.steps)
            pattern = ball.project((pattern.detach() + length * ball.steepest(up[None])[0])[None])[0]
        return pattern

    def _push(self, model: nn.Module, images: Tensor, goal: Goal, pattern: Tensor, draws: Draws) -> Tensor:
        ball, nearest, best, most = Ball(self.norm, self.eps), DeepFool(), pattern, -1.0
        for _ in range(self.passes):
            for index in torch.split(all_indices(images), self.batch):
                x = self.apply(images[index], pattern)
                pushes = nearest.run(model, x, goal[index], draws[index]) - x
                pattern = ball.project(pattern[None] + pushes.sum(0, keepdim=True))[0]
            share = self._share(model, images, goal, pattern)
            if share > most:
                best, most = pattern, share
            if most >= self.fooled:
                break
        return best

    def _share(self, model: nn.Module, images: Tensor, goal: Goal, pattern: Tensor) -> float:
        """Of the images, how many the perturbation fools."""
        parts = torch.split(all_indices(images), self.batch)
        return sum(int(goal[i].reached(ask(model, self.apply(images[i], pattern))).sum()) for i in parts) / len(images)
