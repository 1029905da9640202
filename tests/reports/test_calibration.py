"""Calibration errors against closed forms and scikit-learn."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from assay.reports.kinds.calibration import KIND, Predictions, expected_calibration_error
from assay.reports.run.reader import Run
from assay.reports.run.records import Info, Method


def test_the_error_is_the_distance_of_confidence_and_accuracy_over_bins() -> None:
    gaps = [0.9 - 1, 0.9 - 1, 0.9, 0.3 - 1, 0.3]  # two bins: .9 sure and 2 of 3 right, .3 sure and 1 of 2 right
    assert expected_calibration_error(gaps, 10) == pytest.approx(3 / 5 * abs(0.9 - 2 / 3) + 2 / 5 * abs(0.3 - 1 / 2))
    assert expected_calibration_error(gaps, 1) == pytest.approx(abs(np.mean(gaps)))
    assert np.isnan(expected_calibration_error([], 10))
    assert expected_calibration_error([0.9, 0.3], 10**8) == pytest.approx(0.6)  # a bin each
    assert expected_calibration_error([0.0] * 5, 10) == 0  # sure and right


@pytest.mark.parametrize("bins", [5, 10, 15])
def test_the_bins_are_those_of_scikit_learn(bins: int) -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 0.999, 500)
    right = rng.random(500) < confidence**2
    accuracy, mean = calibration_curve(right, confidence, n_bins=bins)
    counts = np.histogram(confidence, np.linspace(0, 1, bins + 1))[0]
    expected = np.abs(accuracy - mean) @ counts[counts > 0] / 500
    assert expected_calibration_error(confidence - right, bins) == pytest.approx(expected)


def test_confidence_and_right_are_read_off_the_overconfidence() -> None:
    predictions = Predictions.of([0.4, 0.4 - 1, 1.0, 0.0])
    assert predictions.confidence == pytest.approx([0.4, 0.4, 1.0, 1.0])
    assert predictions.right.tolist() == [False, True, False, True]
    assert predictions.bins(10).tolist() == [3, 3, 9, 9]  # a bin holds its upper end


def test_the_interval_of_a_model_that_is_too_sure_leaves_out_a_calibrated_one() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(400) < 0.6
    tables = _tables_of({"sure": 0.95 - right, "calibrated": 0.6 - right})
    sure, calibrated = (tables["calibration"].set_index("model").loc[name] for name in ("sure", "calibrated"))
    assert sure["ece"] == pytest.approx(0.95 - right.mean())
    assert sure["ece_low"] > calibrated["ece_high"]
    assert all(row["ece_low"] <= row["ece"] <= row["ece_high"] for row in (sure, calibrated))
    only = tables["calibration_bins"].set_index("model").loc["sure"]
    assert [only["low"], only["high"], only["n"]] == pytest.approx([0.9, 1.0, 400])
    assert only["accuracy_low"] < right.mean() < only["accuracy_high"]


def _tables_of(gaps: dict[str, np.ndarray]) -> dict[str, pd.DataFrame]:
    method = Method(text="calibration in 10 bins", settings={"bins": 10})
    rows = pd.concat(
        pd.DataFrame({"model": model, "data": "d", "kind": "calibration", "method": method.text, "value": values})
        for model, values in gaps.items()
    ).assign(metric="overconfidence")
    run = Run(path=Path(), rows=rows, failures=rows.iloc[:0], info=Info(methods={method.text: method}), missing=())
    summary = pd.DataFrame({"data": [], "model": [], "metric": [], "value": []})
    assert KIND.tables is not None
    return KIND.tables(run, summary)
