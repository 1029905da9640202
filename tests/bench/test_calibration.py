"""Calibration of clean images, measured in a run."""

from pathlib import Path

import pytest
import torch
from sklearn.metrics import brier_score_loss

from assay import load_results, run
from assay.bench.loading import dataset, subject
from tests.bench.nets import OWN

SPEC = OWN + "convolutional"


def test_a_run_tells_calibration_error_and_brier_score(tmp_path: Path) -> None:
    tables = run(SPEC, "digits", limit=40, calibration_bins=10, out=tmp_path, report=True)
    summary = tables.summary.query("kind == 'calibration'").set_index("metric")
    model = subject(SPEC, "cpu")
    data = dataset("digits", 40, model)
    images = torch.stack([data.example(i).image for i in range(40)])
    with torch.no_grad():
        probabilities = model(images).double().softmax(1)
    expected = brier_score_loss(data.labels, probabilities.numpy(), labels=range(10), scale_by_half=False)
    assert summary.loc["brier", "value"] == pytest.approx(expected)
    assert summary.loc["brier", "n"] == 40
    right = probabilities.argmax(1).numpy() == data.labels
    assert summary.loc["overconfidence", "value"] == pytest.approx(probabilities.amax(1).mean().item() - right.mean())
    (row,) = tables["calibration"].to_dict("records")
    assert row["ece"] == pytest.approx(summary.loc["ece", "value"])
    assert row["ece_low"] <= row["ece_high"]
    assert tables["calibration_bins"]["n"].sum() == 40
    assert "Calibration" in (tmp_path / "report" / "robustness.html").read_text()
    assert (tmp_path / "report" / "figures" / "d0-calibration.svg").is_file()
    assert load_results(tmp_path)["calibration"].equals(tables["calibration"])


def test_without_bins_there_is_no_calibration() -> None:
    assert "calibration" not in set(run(SPEC, "digits", limit=4).summary["kind"])
