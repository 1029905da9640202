"""Step by step to the nearest linearised boundary."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.attacks.balls import DUAL, Ball, BoundedNorm, check_positive, distance, rows
from assay.attacks.base import Attack
from assay.attacks.best import Nearest, all_indices
from assay.attacks.goals import Goal
from assay.attacks.hyperplanes import drop, nearest_plane, ways
from assay.core.draws import Draws
from assay.core.errors import AssayError


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepFool(Attack):
    """Steps to the nearest of the linearised boundaries (Moosavi-Dezfooli et al. 2016, alg. 2, arXiv:1511.04599).

    Returns the first fooling image, the clean one where none is found. Every step goes ``overshoot`` too far, which
    adds up to the paper's factor of the whole change: on an affine model the distance is 1 + ``overshoot`` times the
    optimum. A step never ends closer behind the boundary than float noise, so ``overshoot`` 0 fools as well.

    Differs from the paper, which has no box: a step is clipped to [0, 1] and goes up to twice as far where that
    shortens it. Where nothing is left of it, and always with ``box="project"``, it is the smallest one inside, which is
    exact on affine models. A wanted class is approached across the boundary with the class that leads.
    """

    version: ClassVar[int] = 2

    norm: BoundedNorm = "l2"
    steps: int = 50
    overshoot: float = 0.02  # share of a step
    classes: int = 10  # the likeliest ones that take part, the image's own among them
    box: Literal["clip", "project"] = "clip"  # how steps stay in [0, 1]

    def __post_init__(self) -> None:
        check_positive(steps=self.steps)
        if not 0 <= self.overshoot < float("inf"):
            raise AssayError(f"overshoot={self.overshoot} must be finite and >= 0")
        if self.classes < 2:
            raise AssayError(f"classes={self.classes} must be at least 2: the image's own and another")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        nearest, index = Nearest.of(images, self.norm), all_indices(images)
        x = images.detach().requires_grad_(True)
        logits = model(x)
        goals = ways(logits.detach(), goal, self.classes - 1)
        for _ in range(self.steps):
            success = goal[index].reached(logits)
            nearest.update(index, x.detach(), success)
            if success.all():
                return nearest.images
            if success.any():  # a new graph of those that stay is cheaper than gradients of those that leave
                index, x = index[~success], x.detach()[~success].requires_grad_(True)
                logits = model(x)
            margin, normal = nearest_plane(x, logits, [way[index] for way in goals], self.norm)
            x = x.detach()
            beyond = goal[index].noise(logits.detach()) / 10 + _rounding(x, normal)
            by = torch.maximum((1 + self.overshoot) * margin, margin + beyond)
            x = self._across(x, normal, by).requires_grad_(True)
            logits = model(x)
        nearest.update(index, x.detach(), goal[index].reached(logits))
        return nearest.images

    def _across(self, x: Tensor, normal: Tensor, by: Tensor) -> Tensor:
        """The nearest point at which <normal, x> is lower ``by`` (N,), or as near to it as a step in the box comes."""
        length = by / distance(normal, DUAL[self.norm]).clamp(min=1e-30)
        way, near = Ball(self.norm, 1.0).steepest(normal), x
        for _ in range(2):
            near = (x - rows(length, x) * way).clamp(0, 1)
            share = ((x - near) * normal).flatten(1).sum(1) / by
            length = length / share.clamp(0.5, 1)
        stuck = (share < 0.001) | (self.box == "project")
        if stuck.any():
            near = torch.where(rows(stuck, x), (x + drop(x, normal, by, self.norm)).clamp(0, 1), near)
        return near


def _rounding(x: Tensor, normal: Tensor) -> Tensor:
    """What float32 may make of the weighted sum of pixels, (N,)."""
    return 2**-22 * (normal.abs() * x).flatten(1).sum(1)
