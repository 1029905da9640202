"""Norm balls around images: how far, which way is steepest, back inside, and a random point in it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from core.draws import Draws
from core.errors import AssayError

BoundedNorm = Literal["linf", "l2"]


def distance(difference: Tensor, norm: str) -> Tensor:
    """The Lp size of ``difference`` (N, ...) per image, (N,); l0 counts changed values."""
    flat = difference.flatten(1)
    if norm == "l0":
        return (flat != 0).sum(1).float()
    size: Tensor = torch.linalg.vector_norm(flat, ord=_ORDERS[norm], dim=1)
    return size


@dataclass(frozen=True)
class Ball:
    """All differences whose norm is at most ``eps``."""

    norm: BoundedNorm
    eps: float

    def project(self, difference: Tensor) -> Tensor:
        """The nearest difference inside the ball."""
        return _PROJECT[self.norm](difference, self.eps)

    def steepest(self, gradient: Tensor) -> Tensor:
        """The difference of norm 1 with the largest inner product with ``gradient``; 0 where that is 0."""
        return _STEEPEST[self.norm](gradient)

    def random(self, images: Tensor, draws: Draws) -> Tensor:
        """A uniform random difference in the ball, one per image."""
        shape = images.shape[1:]
        if self.norm == "linf":
            return draws.uniform(shape, -self.eps, self.eps)
        direction = _STEEPEST["l2"](draws.normal(shape))
        radius = draws.uniform(()) ** (1 / direction[0].numel()) if len(images) else draws.uniform(())
        return self.eps * _rows(radius, direction) * direction


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


def _rows(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def _project_l2(difference: Tensor, eps: float) -> Tensor:
    size = distance(difference, "l2")
    return difference * _rows((eps / size.clamp(min=1e-30)).clamp(max=1), difference)


def _steepest_l2(gradient: Tensor) -> Tensor:
    return gradient / _rows(distance(gradient, "l2").clamp(min=1e-30), gradient)


_ORDERS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}
_PROJECT: dict[str, Callable[[Tensor, float], Tensor]] = {"linf": lambda d, eps: d.clamp(-eps, eps), "l2": _project_l2}
_STEEPEST: dict[str, Callable[[Tensor], Tensor]] = {"linf": torch.sign, "l2": _steepest_l2}
