"""Norm balls around images: how far, which way is steepest, back inside, and a random point in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.draws import Draws
from core.errors import AssayError

Norm = Literal["linf", "l2", "l1", "l0"]
BoundedNorm = Literal["linf", "l2", "l1"]
ORDERS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}
DUAL: dict[str, BoundedNorm] = {"linf": "l1", "l2": "l2", "l1": "linf"}  # Hoelder: <g, d> <= |g|_dual |d|


def distance(difference: Tensor, norm: str) -> Tensor:
    """The Lp size of ``difference`` (N, ...) per image, (N,); l0 counts changed values."""
    flat = difference.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).float()
    size: Tensor = torch.linalg.vector_norm(flat, ord=ORDERS[norm], dim=1)
    return size


def rows(values: Tensor, like: Tensor) -> Tensor:
    """``values`` (N,) shaped (N, 1, ..., 1), to multiply images such as ``like`` by."""
    return values.view(-1, *[1] * (like.ndim - 1))


def room(images: Tensor, direction: Tensor) -> Tensor:
    """How far each value of ``images`` can go the way of ``direction`` inside [0, 1]; 0 where that is 0."""
    return torch.where(direction > 0, 1 - images, images) * direction.ne(0)


@dataclass(frozen=True)
class Ball:
    """All differences whose norm is at most ``eps``."""

    norm: BoundedNorm
    eps: float

    def project(self, difference: Tensor) -> Tensor:
        """The nearest difference inside the ball."""
        return _PROJECT[self.norm](difference, self.eps)

    def inside(self, images: Tensor, moved: Tensor) -> Tensor:
        """``moved`` brought back into the ball around ``images`` and into [0, 1].

        In Linf and L1 the nearest such point; in L2 the ball first, then the box, which stays in the ball.
        """
        if self.norm == "l1":
            return (images + _project_l1(moved - images, self.eps, room(images, moved - images))).clamp(0, 1)
        return (images + self.project(moved - images)).clamp(0, 1)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The difference of norm 1 with the largest inner product with ``gradient``; 0 where that is 0."""
        return _STEEPEST[self.norm](gradient)

    def random(self, images: Tensor, draws: Draws) -> Tensor:
        """A uniform random difference in the ball, one per image."""
        shape = images.shape[1:]
        if self.norm == "linf":
            return draws.uniform(shape, -self.eps, self.eps)
        if self.norm == "l1":  # exponential gaps are uniform on the simplex; one gap more fills the inside
            signs = draws.uniform(shape, -1, 1).sign()
            gaps = -draws.uniform((shape.numel() + 1,)).clamp(min=1e-30).log()
            shares = gaps / gaps.sum(1, keepdim=True).clamp(min=1e-30)
            return self.eps * signs * shares[:, :-1].view_as(signs)
        direction = _STEEPEST["l2"](draws.normal(shape))
        radius = draws.uniform(()) ** (1 / shape.numel())
        return self.eps * rows(radius, direction) * direction


def check_eps(eps: float, norm: str) -> None:
    """Raise ``AssayError`` unless ``eps`` is a possible radius for images in [0, 1]."""
    if not eps >= 0 or (norm == "linf" and eps > 1) or eps == float("inf"):
        wanted = "between 0 and 1 (images lie in [0, 1]; write 8/255, not 8)" if norm == "linf" else "finite and >= 0"
        raise AssayError(f"eps={eps} must be {wanted}")


def check_positive(**settings: float) -> None:
    """Raise ``AssayError`` for a setting that is not above 0."""
    for name, value in settings.items():
        if not value > 0:
            raise AssayError(f"{name}={value} must be above 0")


def inside(images: Tensor, moved: Tensor, norm: Norm, radius: Tensor) -> Tensor:
    """``moved`` brought into [0, 1] and into balls whose ``radius`` (N,) is each image's own, as ``Ball.inside`` does.

    In L0 the values that moved most stay.
    """
    if norm == "l0":
        difference = (moved.clamp(0, 1) - images).flatten(1)
        rank = difference.abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        return torch.where((rank < radius[:, None]).view_as(images), moved.clamp(0, 1), images)
    difference, size = moved - images, rows(radius, images)
    if norm == "linf":
        difference = torch.minimum(torch.maximum(difference, -size), size)
    elif norm == "l1":
        difference = _project_l1(difference, radius[:, None], room(images, difference))
    else:
        difference = _project_l2(difference, radius)
    return (images + difference).clamp(0, 1)


def _project_l2(difference: Tensor, eps: float | Tensor) -> Tensor:
    size = distance(difference, "l2")
    return difference * rows((eps / size.clamp(min=1e-30)).clamp(max=1), difference)


def _project_l1(difference: Tensor, eps: float | Tensor, limit: Tensor | None = None) -> Tensor:
    """Every size less one threshold, at least 0 and at most ``limit`` (Croce and Hein 2021, prop. 2.1).

    What is left, as a function of the threshold, is straight between the sizes and the sizes less their limit; so the
    threshold is exact after one sort.
    """
    size = difference.abs().flatten(1)
    most = size if limit is None else torch.minimum(limit.flatten(1), size)
    knots = torch.cat([size, size - most], 1)
    knots, order = knots.sort(1, descending=True)
    slope = torch.where(order < size.shape[1], 1.0, -1.0).cumsum(1)
    left = torch.cat([torch.zeros_like(knots[:, :1]), (slope[:, :-1] * -knots.diff(dim=1)).cumsum(1)], 1)
    crossing = (left <= eps).sum(1, keepdim=True) - 1  # the last knot that leaves at most eps
    over = (eps - left.gather(1, crossing)) / slope.gather(1, crossing).clamp(min=1)
    threshold = (knots.gather(1, crossing) - over).clamp(min=0)
    fits = most.sum(1, keepdim=True) <= eps
    kept = torch.where(fits, most, torch.minimum((size - threshold).clamp(min=0), most))
    return kept.view_as(difference) * difference.sign()


def _steepest_l2(gradient: Tensor) -> Tensor:
    return gradient / rows(distance(gradient, "l2").clamp(min=1e-30), gradient)


def _steepest_l1(gradient: Tensor) -> Tensor:
    flat = gradient.flatten(1)
    place = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter(1, place, flat.gather(1, place).sign()).view_as(gradient)


_PROJECT: dict[str, Callable[[Tensor, float], Tensor]] = {
    "linf": lambda difference, eps: difference.clamp(-eps, eps),
    "l2": _project_l2,
    "l1": _project_l1,
}
_STEEPEST: dict[str, Callable[[Tensor], Tensor]] = {"linf": torch.sign, "l2": _steepest_l2, "l1": _steepest_l1}
