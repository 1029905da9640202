"""What a model says of the images as they are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from assay.bench.measurements.ask import Ask
from assay.bench.measurements.base import Cell, Measured, Row, Setup, finite_flags, predicted
from assay.reports.run.records import Method


@dataclass(frozen=True, kw_only=True)
class CleanCell(Cell):
    """Whether each image is right, and how sure the model is; an image without an answer is wrong."""

    kind = "clean"

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        return (cls(**ask.common(model, data)) for model in ask.models for data in ask.data)

    @property
    def method(self) -> Method:
        return Method(text="none")

    def measure(self, setup: Setup) -> Measured:
        rows: list[Row] = []
        for batch, logits, cost in self.answers(setup):
            values = {"accuracy": (predicted(logits) == batch.labels).float(), "confidence": logits.softmax(1).amax(1)}
            rows += self.per_image(batch.ids, batch.labels, values, cost, finite_flags(logits))
        return Measured(rows)


CELL = CleanCell
