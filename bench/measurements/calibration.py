"""Calibration: whether a model's confidence tells how often it is right."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch

from assay.bench.measurements.ask import Ask, option
from assay.bench.measurements.base import Cell, Measured, Row, Setup, finite_flags
from assay.reports.kinds.calibration import expected_calibration_error
from assay.reports.run.records import Method


@dataclass(frozen=True, kw_only=True)
class CalibrationOptions:
    """Of how well confidences are calibrated."""

    calibration_bins: int = option(0, "Bins of confidence in which calibration is measured; 0 leaves it out.")


@dataclass(frozen=True, kw_only=True)
class CalibrationCell(Cell):
    """Brier scores and overconfidence of clean images, and their expected calibration error."""

    kind = "calibration"
    options = CalibrationOptions

    bins: int

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        bins = ask.of(CalibrationOptions).calibration_bins
        return (cls(**ask.common(model, data), bins=bins) for model in ask.models for data in ask.data if bins)

    @property
    def method(self) -> Method:
        return Method(text=f"calibration in {self.bins} bins", settings={"bins": self.bins})

    def measure(self, setup: Setup) -> Measured:
        rows: list[Row] = []
        for batch, logits, cost in self.answers(setup):
            probabilities = logits.double().softmax(1)
            confidence, prediction = probabilities.max(1)
            label = torch.nn.functional.one_hot(batch.labels, probabilities.shape[1])
            values = {
                "brier": (probabilities - label).square().sum(1),
                "overconfidence": confidence - (prediction == batch.labels).double(),
            }
            rows += self.per_image(batch.ids, batch.labels, values, cost, finite_flags(logits))
        gaps = [row["value"] for row in rows if row["metric"] == "overconfidence" and row["status"] == "ok"]
        return Measured([*rows, self.row("ece", expected_calibration_error(gaps, self.bins))])


CELL = CalibrationCell
