"""Heatmaps for the label's logit, and their scores."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from assay.bench.data import Example
from assay.bench.measurements.ask import Ask
from assay.bench.measurements.base import Batch, Cell, Cost, Measured, Row, Setup, draws_for, meter
from assay.bench.method_records import describe, identity, metric_name
from assay.bench.models import Subject
from assay.core.errors import NotApplicable
from assay.core.targets import Logit, Probability
from assay.explain.base import Explainer
from assay.explain.metrics import Metric
from assay.explain.passes import Derived, together
from assay.reports.run.records import Method


@dataclass(frozen=True, kw_only=True)
class ExplainCell(Cell):
    """One explainer's heatmaps, scored by all metrics that the data allow."""

    kind = "explain"

    explainer: Explainer
    metrics: tuple[Metric, ...]

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        for model, data in ask.pairs():
            usable = tuple(m for m in ask.metrics if set(m.data_needs()) <= ask.data[data].has)
            for explainer in ask.explainers if usable else ():
                yield cls(**ask.common(model, data), explainer=explainer, metrics=usable)

    @property
    def method(self) -> Method:
        return describe(self.explainer)

    def details(self) -> dict[str, Any]:
        return {"metrics": [identity(describe(metric)) for metric in self.metrics]}

    @property
    def shares(self) -> tuple[Any, ...] | None:
        """Explainers that are read off forward passes share them."""
        if not isinstance(self.explainer, Derived):
            return None
        return self.kind, self.model, self.model_digest, self.data, self.data_digest, self.fit, self.limit

    def measure(self, setup: Setup) -> Measured:
        return _explain([self], setup)[self.id]

    @classmethod
    def measure_together(cls, cells: Sequence["ExplainCell"], setup: Setup) -> Mapping[str, Measured]:
        """Those cells whose explainer has a meaning on the model, seen from one image.

        What sharing costs is split evenly between them, and their rows are flagged ``shared=3``: by how many.
        """
        able = [cell for cell in cells if cell.applies(setup)]
        return _explain(able, setup) if len(able) > 1 else {}

    def applies(self, setup: Setup) -> bool:
        """Whether the explainer has a meaning on its model, seen from one image."""
        model = self.subject(setup)
        batch = next(self.batches(replace(setup, batch_size=1)))
        try:
            return isinstance(self.explainer, Derived) and bool(self.explainer.requests(model, batch.images))
        except NotApplicable:
            return False

    def scores(
        self, model: Subject, batch: Batch, heat: Tensor, extra: Mapping[str, Any], sharing: str, cost: Cost
    ) -> Iterator[Row]:
        """The rows of a batch of heatmaps."""
        doubts = self.explainer.doubts(model, batch.images, Logit(batch.labels), heat)
        about = self.explainer.flags(model, batch.images), sharing
        flags = ["; ".join(filter(None, [*about, doubt])) for doubt in doubts]
        for metric in self.metrics:
            values = score(metric, model, batch, heat, {**extra, "explainer": self.explainer}, self.seed)
            yield from self.per_image(batch.ids, batch.labels, {metric_name(metric): values}, cost, flags)


def _explain(cells: Sequence[ExplainCell], setup: Setup) -> dict[str, Measured]:
    """One cell, or several of the same ``shares`` whose explainers then share their passes."""
    rows: dict[str, list[Row]] = {cell.id: [] for cell in cells}
    model = cells[0].subject(setup)
    needs = {need for cell in cells for metric in cell.metrics for need in metric.data_needs()}
    sharing = f"shared={len(cells)}" if len(cells) > 1 else ""
    for batch in cells[0].batches(setup, needs):
        with meter(model, len(batch.ids) * len(cells), setup.device) as cost:
            heats = _heatmaps(cells, model, batch)
        extra = _extra(batch.examples, needs)
        for cell, heat in zip(cells, heats, strict=True):
            rows[cell.id] += cell.scores(model, batch, heat, extra, sharing, cost)
    return {cell: Measured(own) for cell, own in rows.items()}


def _heatmaps(cells: Sequence[ExplainCell], model: Subject, batch: Batch) -> list[Tensor]:
    target = Logit(batch.labels)
    if len(cells) == 1:
        return [cells[0].explainer(model, batch.images, target, cells[0].draws(batch.ids))]
    explainers = [cell.explainer for cell in cells if isinstance(cell.explainer, Derived)]
    return together(explainers, model, batch.images, target)


def score(metric: Metric, model: Subject, batch: Batch, heat: Tensor, extra: Mapping[str, Any], seed: int) -> Tensor:
    """One metric of a batch of heatmaps, (N,), on the scale that it asks for.

    Its random numbers are its own: the same for every method, which pairs them, whatever other metrics there are.
    """
    target = Probability(batch.labels) if metric.scale == "probability" else Logit(batch.labels)
    needs: dict[str, Any] = {need: extra[need] for need in metric.needs}
    draws = draws_for(seed, model.digest, repr(metric), batch.ids)
    return metric(model, batch.images, target, heat, draws=draws, **needs)


def _extra(examples: Sequence[Example], needs: Collection[str]) -> dict[str, Tensor]:
    """What metrics need, stacked; an image without a mask has an empty one, which makes its score NaN."""
    empty = torch.zeros(examples[0].image.shape[-2:], dtype=torch.bool)
    columns: dict[str, list[Tensor | None]] = {
        "masks": [empty if example.mask is None else example.mask for example in examples],
        "parts": [e.parts for e in examples],
        "without": [e.without for e in examples],
        "shortcut": [e.shortcut for e in examples],
        "redrawn": [e.redrawn for e in examples],
    }
    return {need: torch.stack([value for value in columns[need] if value is not None]) for need in needs}


CELL = ExplainCell
