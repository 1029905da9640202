"""The detection table against scikit-learn and by hand."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from assay.reports.kinds.shortcut import SHARE, detection


def rows(**shares: tuple[list[float], list[float]]) -> pd.DataFrame:
    """Rows of methods by name: the shares of the suspect and of its twin, image by image."""
    found = [
        {"kind": "shortcut", "metric": SHARE, "method": method, "model": model, "image": str(i), "value": value}
        for method, both in shares.items()
        for model, values in zip(("suspect", "sound"), both, strict=True)
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(found).sample(frac=1, random_state=0)


def by_method(**shares: tuple[list[float], list[float]]) -> dict[str, dict[str, float]]:
    table = detection(rows(**shares), "suspect", "sound")
    return {str(row.pop("method")): row for row in table.to_dict("records")}  # type: ignore[misc]


def test_best_first_with_means_and_areas() -> None:
    found = by_method(blind=([0.4, 0.6], [0.6, 0.4]), sharp=([0.9, 0.8], [0.1, 0.7]), wrong=([0.1, 0.2], [0.3, 0.9]))
    assert [(method, row["auc"]) for method, row in found.items()] == [("sharp", 1.0), ("blind", 0.5), ("wrong", 0.0)]
    assert [found["sharp"][key] for key in ("suspect", "sound", "low", "high")] == pytest.approx([0.85, 0.4, 1, 1])


def test_area_and_interval_equal_the_libraries() -> None:
    rng = np.random.default_rng(0)
    sound = rng.normal(0.5, 0.1, 60).round(2)
    suspect = (0.6 * sound + rng.normal(0.27, 0.1, 60)).round(2)
    found = by_method(method=(suspect.tolist(), sound.tolist()))["method"]

    def area(one: Any, other: Any) -> float:
        return float(roc_auc_score(np.repeat([1, 0], len(one)), np.concatenate([one, other])))

    assert found["auc"] == area(suspect, sound)
    theirs = stats.bootstrap(
        (suspect, sound), area, paired=True, vectorized=False, n_resamples=300, method="percentile", rng=rng
    ).confidence_interval
    assert found["low"] == pytest.approx(theirs.low, abs=0.02)
    assert found["high"] == pytest.approx(theirs.high, abs=0.02)


def test_undefined_shares_are_left_out() -> None:
    nan = float("nan")
    found = by_method(some=([0.9, 0.1, nan], [0.2, nan, 0.9]), none=([nan], [nan]), one=([0.5], [0.5]))
    assert {method: row["n"] for method, row in found.items()} == {"some": 1, "none": 0, "one": 1}
    assert found["some"]["auc"] == 1.0
    assert np.isnan(found["some"]["low"])
    assert np.isnan(found["none"]["auc"])
    assert list(found)[-1] == "none"


def test_other_rows_do_not_count() -> None:
    mine = rows(method=([0.9], [0.1]))
    other = pd.concat([mine, mine.assign(kind="explain"), mine.assign(metric="else")])
    pd.testing.assert_frame_equal(detection(other, "suspect", "sound"), detection(mine, "suspect", "sound"))
