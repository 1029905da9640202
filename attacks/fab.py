"""The fast adaptive boundary attack."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from assay.attacks.balls import Ball, BoundedNorm, check_positive, distance, rows
from assay.attacks.base import Attack
from assay.attacks.best import Nearest, all_indices
from assay.attacks.goals import Goal
from assay.attacks.gradient import ask
from assay.attacks.hyperplanes import drop, nearest_plane, ways
from assay.core.draws import Draws
from assay.core.errors import AssayError

RADII = {"linf": 0.3, "l2": 1.0, "l1": 5.0}  # AutoAttack's


@dataclass(frozen=True, kw_only=True, slots=True)
class FAB(Attack):
    """Walk along the boundary, drawn towards the image (Croce and Hein 2020, alg. 1, arXiv:1907.02044).

    Returns the nearest fooling image met, each walk ended by the final search of eq. 12; the clean
    image where none is met. With ``targets`` it is FAB-T (arXiv:2003.01690): a walk to each of the likeliest other
    classes, which takes one gradient a step; the walk to the nearest boundary takes one for each class.

    Differs from the paper: only the likeliest classes take part; the point that a backward step leads to also counts
    if it still fools; a walk that has met nothing by half its steps is no longer drawn, or it could stay between two
    boundaries; an image only fools if its class leads by more than float noise.
    """

    version: ClassVar[int] = 2

    norm: BoundedNorm = "linf"
    steps: int = 100
    restarts: int = 1  # walks for each target, all but the first from a random start
    targets: int = 0  # other classes to walk to in turn; 0: to the nearest boundary
    classes: int = 10  # the likeliest ones that take part in the latter, the image's own among them
    alpha_max: float = 0.1  # most weight of the way that starts from the image
    eta: float = 1.05  # overshoot of a step, a factor
    beta: float = 0.9  # share of the distance that a backward step keeps
    search: int = 3  # steps of the final search; each costs a forward pass, and so does its start
    radius: float | None = None  # random starts lie at half of it, or of the distance so far; None: .3, 1 or 5 by norm

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, restarts=self.restarts, eta=self.eta)
        check_positive(radius=1 if self.radius is None else self.radius)
        for name, share in (("alpha_max", self.alpha_max), ("beta", self.beta)):
            if not 0 <= share <= 1:
                raise AssayError(f"{name}={share} must be between 0 and 1")
        if self.eta < 1:
            raise AssayError(f"eta={self.eta} must be at least 1, or a step ends before the boundary")
        for name, count in (("targets", self.targets), ("search", self.search)):
            if count < 0:
                raise AssayError(f"{name}={count} must be >= 0")
        if self.classes < 2:
            raise AssayError(f"classes={self.classes} must be at least 2: the image's own and another")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest, logits = Nearest.of(images, self.norm), ask(model, images)
        success = goal.reached(logits)
        nearest.update(all_indices(images), images, success)
        index = (~success).nonzero().flatten()
        if len(index) == 0:
            return nearest.images
        images, logits, goal, draws = images[index], logits[index], goal[index], draws[index]
        goals = ways(logits, goal, self.targets or self.classes - 1)
        for walk in [[way] for way in goals] if self.targets else [goals]:
            for restart in range(self.restarts):
                before = nearest.size[index]
                start = self._start(images, before, draws) if restart else images
                self._walk(model, start, goal, walk, nearest, index)
                better = nearest.size[index] < before
                if self.search and better.any():
                    self._end(model, logits[better], goal[better], nearest, index[better])
        return nearest.images

    def _start(self, images: Tensor, size: Tensor, draws: Draws) -> Tensor:
        """A random point at half the radius, or half the distance so far."""
        way = Ball(self.norm, 1.0).random(images, draws)
        length = size.clamp(max=RADII[self.norm] if self.radius is None else self.radius) / 2
        return (images + way * rows(length / distance(way, self.norm).clamp(min=1e-30), way)).clamp(0, 1)

    def _walk(
        self, model: nn.Module, x: Tensor, goal: Goal, goals: Sequence[Goal], nearest: Nearest, index: Tensor
    ) -> None:
        """One path from ``x``; what fools nearer goes to ``nearest`` at ``index``."""
        images = nearest.clean[index]
        for k in range(self.steps):
            x = x.detach().requires_grad_(True)
            logits = model(x)
            margin, normal = nearest_plane(x, logits, goals, self.norm)
            x, logits = x.detach(), logits.detach()
            nearest.update(index, x, _fools(goal, logits))
            margin = margin + 2 * _noise(goal, logits)  # or paths into a corner of several boundaries end at it
            from_x = drop(x, normal, margin, self.norm)
            from_clean = drop(images, normal, margin + (normal * (images - x)).flatten(1).sum(1), self.norm)
            near, far = distance(from_x, self.norm), distance(from_clean, self.norm)
            pull = nearest.fooled[index] | (2 * k < self.steps)
            alpha = rows((near / (near + far).clamp(min=1e-30)).clamp(max=self.alpha_max) * pull, x)
            x = ((1 - alpha) * (x + self.eta * from_x) + alpha * (images + self.eta * from_clean)).clamp(0, 1)
            success = _fools(goal, ask(model, x))
            nearest.update(index, x, success)
            x = torch.where(rows(success, x), images + self.beta * (x - images), x).clamp(0, 1)

    def _end(self, model: nn.Module, logits: Tensor, goal: Goal, nearest: Nearest, index: Tensor) -> None:
        """Several times the point between clean and fooling image where a straight margin crosses 0 (eq. 12)."""
        low, high, above = nearest.clean[index], nearest.images[index], goal.margin(logits)
        answer = ask(model, high)
        below = goal.margin(answer)
        for _ in range(self.search):
            share = (above + 1.01 * _noise(goal, answer)) / (above - below).clamp(min=1e-30)
            middle = (low + rows(share.clamp(0, 1), low) * (high - low)).clamp(0, 1)
            answer = ask(model, middle)
            margin, success = goal.margin(answer), _fools(goal, answer)
            nearest.update(index, middle, success)
            low, above = torch.where(rows(success, low), low, middle), torch.where(success, above, margin)
            high, below = torch.where(rows(success, high), middle, high), torch.where(success, margin, below)


def _fools(goal: Goal, logits: Tensor) -> Tensor:
    """Whether the goal is reached by more than float noise, (N,) bool."""
    return goal.reached(logits) & (-goal.margin(logits) >= _noise(goal, logits))


def _noise(goal: Goal, logits: Tensor) -> Tensor:
    return 1.2 * goal.noise(logits)  # a lead that no other batch split turns
