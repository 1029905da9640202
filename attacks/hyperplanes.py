"""The linearised decision boundary: what DeepFool and FAB share. A margin is positive where a goal is not reached."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.balls import DUAL, BoundedNorm, distance, room, rows
from assay.attacks.goals import Goal, Towards, Untargeted, likeliest


class Plane(NamedTuple):
    """Where a margin, linearised at images, is 0."""

    margin: Tensor  # (N,), at the images
    normal: Tensor  # (N, C, H, W), the gradient of the margin


def ways(logits: Tensor, goal: Goal, count: int) -> list[Goal]:
    """An untargeted goal by way of each of the ``count`` likeliest other classes; any other goal as it is."""
    if isinstance(goal, Untargeted) and not isinstance(goal, Towards):
        return [Towards(goal.labels, classes) for classes in likeliest(logits, goal, count).unbind(1)]
    return [goal]


def nearest_plane(x: Tensor, logits: Tensor, goals: Sequence[Goal], norm: BoundedNorm) -> Plane:
    """Of the planes of ``goals``, the nearest one in ``norm`` without a box; it has no normal where gradients vanish.

    ``logits`` (N, K) is the model's answer to ``x``, which requires grad. One backward pass a goal gives the gradients
    of all images; one plane is kept at a time.
    """
    nearest = Plane(torch.zeros_like(logits[:, 0]), torch.zeros_like(x))
    away = torch.full_like(logits[:, 0], float("inf"))
    for left, goal in zip(reversed(range(len(goals))), goals, strict=True):
        margin = goal.margin(logits)
        (normal,) = torch.autograd.grad(margin.sum(), x, retain_graph=left > 0)
        margin = margin.detach()
        size = margin.abs() / distance(normal, DUAL[norm])
        nearer = size < away
        nearest = Plane(
            torch.where(nearer, margin, nearest.margin), torch.where(rows(nearer, normal), normal, nearest.normal)
        )
        away = torch.where(nearer, size, away)
    return nearest


def drop(images: Tensor, normal: Tensor, by: Tensor, norm: BoundedNorm) -> Tensor:
    """The smallest change in ``norm`` that stays in [0, 1] and lowers <normal, images> by ``by`` (N,), or raises it.

    Where no such change exists, the one that comes nearest. This is the projection of Croce and Hein 2020 (eq. 6)
    onto a hyperplane cut with the box.
    """
    down = -normal * rows(by.sign(), normal)
    largest = down.abs().flatten(1).amax(1).clamp(min=1e-30)
    gain, free = (down / rows(largest, down)).abs().flatten(1), room(images, down).flatten(1)
    rise = (by.abs() / largest)[:, None]
    change = _greedy(gain, free, rise) if norm == "l1" else _even(gain, free, rise, norm)
    return change.view_as(images) * down.sign()


def _even(gain: Tensor, free: Tensor, rise: Tensor, norm: BoundedNorm) -> Tensor:
    """Change in proportion to ``pace`` until there is no room: the rise is concave and piecewise linear in the length.

    So Newton's method from below is exact after finitely many steps (2 or 3 as a rule), each of which finds more values
    that are at their limit.
    """
    pace = gain if norm == "l2" else torch.ones_like(gain)
    full = free <= 0
    while True:
        missing = rise - (gain * free * full).sum(1, keepdim=True)
        length = missing / (gain * pace * ~full).sum(1, keepdim=True)
        more = full | (length * pace >= free)
        if torch.equal(more, full):
            return torch.where(full, free, length.clamp(min=0) * pace)
        full = more


def _greedy(gain: Tensor, free: Tensor, rise: Tensor) -> Tensor:
    """Use up the room of the values of largest gain first."""
    gain, order = gain.sort(1, descending=True)
    free = free.gather(1, order)
    before = (gain * free).cumsum(1) - gain * free
    change = torch.minimum(((rise - before) / gain.clamp(min=1e-30)).clamp(min=0), free)
    return torch.zeros_like(change).scatter(1, order, change)
