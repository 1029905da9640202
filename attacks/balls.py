"""Norm balls around images: how far, which way is steepest, back inside, and a random point in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import AssayError

Norm = Literal["linf", "l2", "l1", "l0"]
BoundedNorm = Literal["linf", "l2", "l1"]
ORDERS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}
ROUNDING = 1e-6  # of a radius, kept free for what float32 makes of a sum of many values
DUAL: dict[str, BoundedNorm] = {"linf": "l1", "l2": "l2", "l1": "linf"}  # Hoelder: <g, d> <= |g|_dual |d|


def distance(difference: Tensor, norm: str) -> Tensor:
    """The Lp size of ``difference`` (N, ...) per image, (N,); l0 counts changed values.

    Sums are in double precision: those of 150,000 values in single are a thousandth off.
    """
    flat = difference.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).float()
    if norm == "linf":
        return flat.abs().amax(1)
    size: Tensor = torch.linalg.vector_norm(flat, ord=ORDERS[norm], dim=1, dtype=torch.float64).to(flat.dtype)
    return size


def unit(gradient: Tensor, norm: str = "l2") -> Tensor:
    """``gradient`` with size 1 for every image; 0 where it is 0."""
    return gradient / rows(distance(gradient, norm).clamp(min=1e-30), gradient)


def rows(values: Tensor, like: Tensor) -> Tensor:
    """``values`` (N,) shaped (N, 1, ..., 1), to multiply images such as ``like`` by."""
    return values.view(-1, *[1] * (like.ndim - 1))


def room(images: Tensor, direction: Tensor) -> Tensor:
    """How far each value of ``images`` can go the way of ``direction`` inside [0, 1]; 0 where that is 0."""
    return torch.where(direction > 0, 1 - images, images) * direction.ne(0)


@dataclass(frozen=True)
class Ball:
    """All differences whose norm is at most ``eps``, which is one radius or one for each image (N,)."""

    norm: Norm
    eps: float | Tensor

    def project(self, difference: Tensor) -> Tensor:
        """The nearest difference inside the ball."""
        return _PROJECT[self.norm](difference, self._radii(difference), None)

    def inside(self, images: Tensor, points: Tensor) -> Tensor:
        """``points`` brought back into the ball around ``images`` and into [0, 1].

        In Linf, L1 and L0 the nearest such point; in L2 the ball first, then the box, which stays in the ball.
        """
        difference = points - images
        limit = room(images, difference) if self.norm in ("l1", "l0") else None
        change = _PROJECT[self.norm](difference, self._radii(difference), limit)
        points = (images + change).clamp(0, 1)
        if self.norm not in ORDERS or self.norm == "linf":
            return points
        over = distance(points - images, self.norm) / torch.as_tensor(self.eps, device=images.device).clamp(min=1e-30)
        tight = images + (points - images) * rows(1 - 2 * (over - 1), images)  # rounding took it out
        return torch.where(rows(over > 1, images), tight.clamp(0, 1), points)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The difference of norm 1 with the largest inner product with ``gradient``; 0 where that is 0."""
        return _STEEPEST[self.norm](gradient)

    def random(self, images: Tensor, draws: Draws) -> Tensor:
        """A uniform random difference in the ball, one per image."""
        shape = images.shape[1:]
        if self.norm == "linf":
            return draws.uniform(shape, -1, 1) * self._radii(images)
        if self.norm == "l1":  # exponential gaps are uniform on the simplex; one gap more fills the inside
            signs = draws.uniform(shape, -1, 1).sign()
            gaps = -draws.uniform((shape.numel() + 1,)).clamp(min=1e-30).log()
            shares = gaps / gaps.sum(1, keepdim=True).clamp(min=1e-30)
            return self._radii(images) * signs * shares[:, :-1].view_as(signs)
        direction = unit(draws.normal(shape))
        radius = draws.uniform(()) ** (1 / shape.numel())
        return self._radii(images) * rows(radius, direction) * direction

    def _radii(self, like: Tensor) -> float | Tensor:
        return rows(self.eps, like) if isinstance(self.eps, Tensor) else self.eps


def check_eps(eps: float, norm: str) -> None:
    """Raise ``AssayError`` unless ``eps`` is a possible radius for images in [0, 1]."""
    if not eps >= 0 or (norm == "linf" and eps > 1) or eps == float("inf"):
        bounds = "between 0 and 1 (images lie in [0, 1]; write 8/255, not 8)" if norm == "linf" else "finite and >= 0"
        raise AssayError(f"eps={eps} must be {bounds}")


def check_positive(**settings: float) -> None:
    """Raise ``AssayError`` for a setting that is not above 0 and finite."""
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise AssayError(f"{name}={value} must be above 0 and finite")


Radius = float | Tensor  # one, or shaped (N, 1, ..., 1)


def _project_linf(difference: Tensor, eps: Radius, limit: Tensor | None) -> Tensor:
    radius = torch.as_tensor(eps, dtype=difference.dtype, device=difference.device)
    return torch.minimum(torch.maximum(difference, -radius), radius)


def _project_l2(difference: Tensor, eps: Radius, limit: Tensor | None) -> Tensor:
    size = rows(distance(difference, "l2"), difference)
    return torch.where(size <= eps, difference, difference * (eps * (1 - ROUNDING) / size.clamp(min=1e-30)))


def _project_l1(difference: Tensor, eps: Radius, limit: Tensor | None) -> Tensor:
    """Every size less one threshold, at least 0 and at most ``limit`` (Croce and Hein 2021, prop. 2.1).

    What is left, as a function of the threshold, is straight between the sizes and the sizes less their limit; so the
    threshold is exact after one sort.
    """
    size = difference.abs().flatten(1).double()
    most = size if limit is None else torch.minimum(limit.flatten(1), size)
    radius = (eps.flatten(1) if isinstance(eps, Tensor) else eps) * (1 - ROUNDING)
    knots, order = torch.cat([size, size - most], 1).sort(1, descending=True)
    slope = torch.where(order < size.shape[1], 1.0, -1.0).to(size).cumsum(1)
    left = torch.cat([torch.zeros_like(knots[:, :1]), (slope[:, :-1] * -knots.diff(dim=1)).cumsum(1)], 1)
    crossing = (left <= radius).sum(1, keepdim=True) - 1  # the last knot that leaves at most the radius
    over = (radius - left.gather(1, crossing)) / slope.gather(1, crossing).clamp(min=1)
    threshold = (knots.gather(1, crossing) - over).clamp(min=0)
    fits = most.sum(1, keepdim=True) <= radius
    shrunk = torch.where(fits, most, torch.minimum((size - threshold).clamp(min=0), most))
    return shrunk.to(difference.dtype).view_as(difference) * difference.sign()


def _project_l0(difference: Tensor, eps: Radius, limit: Tensor | None) -> Tensor:
    """The values that move most, as far as ``limit`` lets them, stay."""
    flat = (difference if limit is None else difference.sign() * torch.minimum(difference.abs(), limit)).flatten(1)
    rank = flat.abs().argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return torch.where(rank < (eps.flatten(1) if isinstance(eps, Tensor) else eps), flat, 0).view_as(difference)


def _steepest_l1(gradient: Tensor) -> Tensor:
    flat = gradient.flatten(1)
    place = flat.abs().argmax(1, keepdim=True)
    return torch.zeros_like(flat).scatter(1, place, flat.gather(1, place).sign()).view_as(gradient)


_PROJECT: dict[str, Callable[[Tensor, Radius, Tensor | None], Tensor]] = {
    "linf": _project_linf,
    "l2": _project_l2,
    "l1": _project_l1,
    "l0": _project_l0,
}
_STEEPEST: dict[str, Callable[[Tensor], Tensor]] = {"linf": torch.sign, "l2": unit, "l1": _steepest_l1}
