"""How unlike two pictures are: arrays first, then pixels."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata

from assay.reports.gate.art import Array, Picture

TINY = 1e-7  # a map that is smaller in all is none
STEPS = 10_000  # into which the largest value is divided for ranks: what is smaller is noise
WINDOWS = 6  # the window of the worst block is a sixth of the picture's side


class Measures(NamedTuple):
    """All 0 for equal pictures, but ``rank``, which is 1. ``mean`` and ``most`` are levels of 255, NaN for numbers.

    ``change`` and ``own`` need other pictures and are NaN without.
    """

    relative: float  # L2 norm of the difference, of the old picture's
    rank: float  # Spearman's correlation of the pixels; 1 where either is constant
    block: float  # root mean square of the difference in the worst window, of the old picture's in all
    mean: float  # absolute difference of the pixels
    most: float
    change: float = np.nan  # attacked images: L2 norm of the difference of what the attack changed, of the old change's
    own: float = np.nan  # class pictures: distance to the new one of the class, of that to the nearest other class


def refused(old: Picture, new: Picture) -> str:
    """Why two pictures cannot be compared: another size, other modes, finite no more. Empty where they can."""
    if old.size != new.size:
        return f"its size is {_times(new.size)}, was {_times(old.size)}"
    if old.mode != new.mode:
        return f"its mode is {new.mode}, was {old.mode}"
    if np.isfinite(old.array).all() and not np.isfinite(new.array).all():
        return "it is not finite any more"
    return ""


def measure(old: Array, new: Array) -> Measures:
    """Of two arrays of one shape; what is not finite in one and not equal in the other is infinitely unlike."""
    pixels = old.dtype == np.uint8
    if np.array_equal(old, new, equal_nan=not pixels):
        return Measures(0.0, 1.0, 0.0, *((0.0, 0.0) if pixels else (np.nan, np.nan)))
    one, two = old.astype(np.float64), new.astype(np.float64)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return Measures(np.inf, np.nan, np.inf, np.nan, np.nan)
    difference = two - one
    size = max(float(np.sqrt(np.square(one).mean())), TINY)
    off = float(np.sqrt(np.square(difference).mean()))
    return Measures(
        relative=off / size,
        rank=_rank(one.ravel(), two.ravel()),
        block=worst(difference) / size,
        mean=float(np.abs(difference).mean()) if pixels else np.nan,
        most=float(np.abs(difference).max()) if pixels else np.nan,
    )


def changed(old: tuple[Array, Array], new: tuple[Array, Array]) -> float:
    """How unlike two attacks' changes are, of the old one's size; each is an image and the attacked image."""
    one, two = (attacked.astype(np.float64) - image.astype(np.float64) for image, attacked in (old, new))
    return _distance(one, two) / max(float(np.linalg.norm(one)), TINY)


def mistaken(old: Array, own: Array, others: Sequence[Array]) -> float:
    """Distance of an old picture to the new one of its class, of that to the nearest of other classes; else NaN."""
    far = _distance(old, own)
    return far / max(min(_distance(old, other) for other in others), TINY) if others and far else np.nan


def _distance(one: Array, two: Array) -> float:
    return float(np.linalg.norm(one.astype(np.float64) - two.astype(np.float64)))


def worst(difference: NDArray[np.float64]) -> float:
    """The largest root mean square in any window of a sixth of the side of (H, W) or (H, W, C)."""
    squares = np.square(difference)
    if squares.ndim == 3:
        squares = squares.mean(axis=2)
    window = tuple(max(1, round(side / WINDOWS)) for side in squares.shape)
    return float(np.sqrt(max(0.0, uniform_filter(squares, window, mode="nearest").max())))


def _rank(one: NDArray[np.float64], two: NDArray[np.float64]) -> float:
    step = max(float(np.abs(one).max()), TINY) / STEPS
    ranks = [rankdata(np.round(values / step)) for values in (one, two)]
    spreads = [float(np.std(values)) for values in ranks]
    if 0.0 in spreads:
        return 1.0
    return float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())) / (spreads[0] * spreads[1]))


def _times(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size))
