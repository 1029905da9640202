"""One number over images, and how sure it is."""

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from assay.core.errors import unknown

LEVEL = 0.95
RESAMPLES = 999
_STATISTICS: dict[str, Callable[..., Any]] = {"mean": np.mean, "median": np.median}


class Estimate(NamedTuple):
    """A value with its 95 % interval; ``n`` counts the images that are in it."""

    value: float
    low: float
    high: float
    n: int


NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


def estimate(values: ArrayLike, statistic: str = "mean", interval: str = "bootstrap", key: str = "") -> Estimate:
    """Mean or median of what is not NaN, with a Wilson interval for shares, else a percentile bootstrap.

    ``key`` seeds the resampling: the same values under the same key give the same interval. A share is a mean of
    zeros and ones; other values asked for Wilson fall back to the bootstrap. Fewer than two images have no
    bootstrap interval; equal values have one of no width.
    """
    array = np.asarray(values, np.float64)
    array = array[~np.isnan(array)]
    n = len(array)
    if n == 0:
        return NOTHING
    share = bool(np.isin(array, (0.0, 1.0)).all())
    if interval == "wilson" and statistic == "mean" and share:
        return wilson(int(array.sum()), n)
    if statistic not in _STATISTICS:
        raise unknown("statistic", statistic, _STATISTICS)
    value = float(_STATISTICS[statistic](array))
    if n < 2:
        return Estimate(value, np.nan, np.nan, n)
    if array.min() == array.max():
        return Estimate(value, value, value, n)
    low, high = _bootstrap(array, statistic, key)
    return Estimate(value, low, high, n)


@cache
def wilson(successes: int, n: int) -> Estimate:
    """A share and its Wilson score interval (Wilson 1927)."""
    if n == 0:
        return NOTHING
    low, high = stats.binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return Estimate(successes / n, float(low), float(high), n)


def overlap(first: Estimate, second: Estimate) -> bool:
    """Whether two intervals share a point; an unknown interval overlaps everything."""
    return not (first.low > second.high or second.low > first.high)


def _bootstrap(values: NDArray[np.float64], statistic: str, key: str) -> tuple[float, float]:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8])
    with np.errstate(invalid="ignore"):
        interval = stats.bootstrap(
            (values,),
            _STATISTICS[statistic],
            n_resamples=RESAMPLES,
            batch=max(1, 4_000_000 // len(values)),
            confidence_level=LEVEL,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
    return float(interval.low), float(interval.high)
