import math

import numpy as np
import pytest

from assay.reports.run.intervals import Estimate, estimate, overlap


@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 20), (7, 20), (62, 100), (1000, 1000)])
def test_wilson_is_the_closed_form(k: int, n: int) -> None:
    found = estimate([1.0] * k + [0.0] * (n - k) + [math.nan] * 3, interval="wilson")
    z = 1.959963984540054
    centre, half = k / n + z**2 / (2 * n), z * math.sqrt(k / n * (1 - k / n) / n + z**2 / (4 * n**2))
    assert found.value == k / n
    assert found.n == n
    assert found.low == pytest.approx((centre - half) / (1 + z**2 / n), abs=1e-12)
    assert found.high == pytest.approx((centre + half) / (1 + z**2 / n), abs=1e-12)


def test_bootstrap_of_a_mean_is_near_the_normal_interval() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = estimate(values, key="a")
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.12)
    assert found == estimate(values, key="a")
    assert found != estimate(values, key="b")


def test_median_and_interval_hold_each_other() -> None:
    values = np.random.default_rng(0).exponential(1, 200)
    found = estimate(values, "median")
    assert found.low < found.value == np.median(values) < found.high


def test_edges() -> None:
    assert estimate([]).n == estimate([math.nan]).n == 0
    one = estimate([0.25])
    assert one.value == 0.25
    assert math.isnan(one.low)
    assert estimate([0.25, 0.25, math.nan]) == Estimate(0.25, 0.25, 0.25, 2)
    assert estimate([0.2, 0.4, 0.9], interval="wilson").low > 0  # no share: bootstrap
    assert math.isinf(estimate([1.0, math.inf, 2.0, math.inf, math.inf], "median").value)


def test_overlap() -> None:
    low, high = Estimate(0.2, 0.1, 0.3, 9), Estimate(0.5, 0.31, 0.6, 9)
    assert not overlap(low, high)
    assert overlap(low, Estimate(0.4, 0.3, 0.5, 9))
    assert overlap(low, Estimate(0.9, math.nan, math.nan, 1))
