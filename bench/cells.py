"""Cells: one model on one data set with one method, measured image by image.

A cell is a picklable record. Everything that changes its rows is in its ``identity``; its id is a hash of that.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from assay.bench import models
from assay.bench.data import DataSet, DecodeError, Example
from assay.bench.data import load as load_data
from assay.bench.data.pictures import thumbnails
from assay.bench.models import Fit, Subject
from assay.bench.provenance import version
from assay.bench.store import SCHEMA
from assay.core.borrow import counting, now
from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Logit, Probability
from assay.explain.base import Explainer
from assay.explain.metrics import METRICS, Metric
from assay.explain.passes import Derived, together

Row = dict[str, Any]
THUMBNAILS = 200  # images of a data set that the report can show


class Measured(NamedTuple):
    """What a cell gives: rows, and arrays or JSON by file name."""

    rows: list[Row]
    art: dict[str, Any]


class Batch(NamedTuple):
    ids: list[str]
    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,)
    examples: list[Example]


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How to measure; none of it changes what is measured beyond float noise."""

    batch_size: int = 50
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Cell(ABC):
    """What all cells share. ``digests`` are the model's and the data's, ``limit`` the number of images."""

    kind: ClassVar[str]

    model: str
    data: str
    limit: int
    seed: int
    model_digest: str
    data_digest: str
    fit: Fit | None = None  # how the model takes photographs

    @property
    @abstractmethod
    def method(self) -> str:
        """The text that stands in the rows."""

    @abstractmethod
    def measure(self, setup: Setup) -> Measured: ...

    def details(self) -> dict[str, Any]:
        """What else changes the rows."""
        return {}

    @property
    def shares(self) -> tuple[Any, ...] | None:
        """Cells that name the same thing here are measured together; None is measured alone."""
        return None

    @property
    def id(self) -> str:
        identity = {
            "schema": SCHEMA,
            "version": version(),
            "kind": self.kind,
            "model": [self.model, self.model_digest],
            "data": [self.data, self.data_digest],
            "fit": self.fit,
            "method": self.method,
            "seed": self.seed,
            **self.details(),
        }
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def row(self, metric: str = "", value: float | None = None, **more: Any) -> Row:
        """A row of this cell; NaN is stored as such."""
        return {
            "model": self.model,
            "data": self.data,
            "image": "",
            "label": -1,
            "kind": self.kind,
            "method": self.method,
            "metric": metric,
            "value": float("nan") if value is None else float(value),
            "status": "ok",
            "flags": "",
            "forwards": 0.0,
            "backwards": 0.0,
            "seconds": 0.0,
            **more,
        }

    def subject(self, setup: Setup) -> Subject:
        """The model, which must be the one that was planned with."""
        return planned(self.model, self.model_digest, setup)

    def batches(self, setup: Setup, needs: Collection[str] = ()) -> Iterator[Batch]:
        """The images at the model's size; those that cannot be decoded are left to the data's own cell."""
        data = dataset(self.data, self.limit, self.subject(setup))
        examples = decoded(data, needs)
        while batch := [example for _, example in zip(range(setup.batch_size), examples, strict=False)]:
            labels = torch.tensor([example.label for example in batch])
            images = torch.stack([example.image for example in batch])
            yield Batch([e.id for e in batch], images.to(setup.device), labels.to(setup.device), batch)

    def draws(self, ids: Sequence[str]) -> Draws:
        return draws_for(self.seed, self.model_digest, self.method, ids)


@dataclass(frozen=True, kw_only=True)
class DataCell(Cell):
    """Which images of a data set can be decoded at all, with their masks, and which metrics it cannot give.

    The first ``THUMBNAILS`` are kept as small squares for the report.
    """

    kind = "data"

    unmet: tuple[tuple[str, str], ...] = ()  # a metric, and what it needs that the data has not

    @property
    def method(self) -> str:
        return "decode"

    def details(self) -> dict[str, Any]:
        return {"unmet": self.unmet}

    def measure(self, setup: Setup) -> Measured:
        data = load_data(self.data).take(self.limit)
        rows = [self.row(metric, status="skipped", flags=f"the data has no {need}") for metric, need in self.unmet]
        small: dict[str, Tensor] = {}
        for i, image in enumerate(data.ids):
            try:
                example = data.example(i, data.has & {"masks"})
                rows.append(self.row("decoded", 1.0, image=image, label=data.labels[i]))
                if len(small) < THUMBNAILS:
                    small[image] = example.image
            except DecodeError as error:
                rows.append(self.row("decoded", image=image, label=data.labels[i], status="failed", flags=str(error)))
        if not small:
            return Measured(rows, {})
        art = {"pictures.npz": {"images": thumbnails(list(small.values()))}, "meta.json": {"images": list(small)}}
        return Measured(rows, art)


@dataclass(frozen=True, kw_only=True)
class CleanCell(Cell):
    """What the model says of the images as they are."""

    kind = "clean"

    @property
    def method(self) -> str:
        return "none"

    @torch.no_grad()
    def measure(self, setup: Setup) -> Measured:
        rows = []
        model = self.subject(setup)
        for batch in self.batches(setup):
            start = now(batch.images.device)
            logits = model(batch.images)
            cost = {"forwards": 1.0, "seconds": (now(batch.images.device) - start) / len(batch.ids)}
            values = {"accuracy": (logits.argmax(1) == batch.labels).float(), "confidence": logits.softmax(1).amax(1)}
            for i, image in enumerate(batch.ids):
                facts = {"image": image, "label": int(batch.labels[i]), **cost, **finite(logits[i])}
                for metric, value in values.items():
                    rows.append(self.row(metric, None if facts["status"] == "failed" else value[i].item(), **facts))
        return Measured(rows, {})


@dataclass(frozen=True, kw_only=True)
class ExplainCell(Cell):
    """Heatmaps for the label's logit, and their scores."""

    kind = "explain"
    explainer: Explainer
    metrics: tuple[Metric, ...]

    @property
    def method(self) -> str:
        return repr(self.explainer)

    def details(self) -> dict[str, Any]:
        return {"metrics": [repr(metric) for metric in self.metrics]}

    @property
    def shares(self) -> tuple[Any, ...] | None:
        if not isinstance(self.explainer, Derived):
            return None
        return self.kind, self.model, self.model_digest, self.data, self.data_digest, self.fit, self.limit

    def measure(self, setup: Setup) -> Measured:
        (measured,) = explained([self], setup)
        return measured

    def scored(self, model: Subject, batch: Batch, heat: Tensor, given: Mapping[str, Any], **facts: Any) -> list[Row]:
        """The rows of a batch of heatmaps; ``facts`` stand in all of them."""
        rows = []
        doubts = self.explainer.doubts(model, batch.images, Logit(batch.labels), heat)
        flags = self.explainer.flags(model, batch.images), facts.pop("flags")
        for metric in self.metrics:
            values = score(metric, model, batch, heat, {**given, "explainer": self.explainer}, self.seed)
            for i, image in enumerate(batch.ids):
                said = "; ".join(filter(None, [*flags, doubts[i]]))
                one = {"image": image, "label": int(batch.labels[i]), "flags": said, **facts}
                rows.append(self.row(metric_name(metric), values[i].item(), **one))
        return rows


def applies(cell: ExplainCell, setup: Setup) -> bool:
    """Whether the explainer of a cell that shares passes has a meaning on its model, seen from one image."""
    model = cell.subject(setup)
    batch = next(cell.batches(replace(setup, batch_size=1)))
    try:
        return isinstance(cell.explainer, Derived) and bool(cell.explainer.requests(model, batch.images))
    except NotApplicable:
        return False


def explained(cells: Sequence[ExplainCell], setup: Setup) -> list[Measured]:
    """Measure one cell, or several of the same ``shares`` whose explainers then share their passes.

    What sharing costs is split evenly between the cells, and their rows are flagged ``shared=3``: by how many.
    """
    rows: list[list[Row]] = [[] for _ in cells]
    model = cells[0].subject(setup)
    needs = {need for cell in cells for metric in cell.metrics for need in metric.data_needs()}
    for batch in cells[0].batches(setup, needs):
        heats, facts = _heatmaps(cells, model, batch)
        given = _given(batch.examples, needs)
        for cell, heat, found in zip(cells, heats, rows, strict=True):
            found += cell.scored(model, batch, heat, given, **facts)
    return [Measured(found, {}) for found in rows]


def _heatmaps(cells: Sequence[ExplainCell], model: Subject, batch: Batch) -> tuple[list[Tensor], dict[str, Any]]:
    """A batch's heatmaps for each cell, and what each of its rows says of their cost."""
    target, start = Logit(batch.labels), now(batch.images.device)
    with counting(model) as passes:
        if len(cells) == 1:
            heats = [cells[0].explainer(model, batch.images, target, cells[0].draws(batch.ids))]
        else:
            derived = [cell.explainer for cell in cells if isinstance(cell.explainer, Derived)]
            heats = together(derived, model, batch.images, target)
    parts = len(batch.ids) * len(cells)
    return heats, {
        "forwards": passes.forwards / parts,
        "backwards": passes.backwards / parts,
        "seconds": (now(batch.images.device) - start) / parts,
        "flags": f"shared={len(cells)}" if len(cells) > 1 else "",
    }


def draws_for(seed: int, model_digest: str, method: str, ids: Sequence[str]) -> Draws:
    """The random streams of a method on a model: one per image id."""
    return Draws.hashed(f"{seed}|{model_digest}|{method}", ids)


@cache
def subject(spec: str, device: str) -> Subject:
    """The model of a spec, loaded once per process."""
    return models.load(spec).to(device)


def planned(spec: str, digest: str, setup: Setup) -> Subject:
    """The model of a spec, which must be the one that was planned with."""
    loaded = subject(spec, setup.device)
    if loaded.digest != digest:
        raise AssayError(f"{spec} gives other weights each time it is loaded; seed what makes them")
    return loaded


@cache
def sized(spec: str, limit: int, skip: int, classes: int, fit: Fit) -> DataSet:
    """Images as models of one fit take them, made once per process."""
    data = load_data(spec).take(limit, skip)
    return data.at(**fit._asdict(), num_classes=classes)


def dataset(spec: str, limit: int, model: Subject, skip: int = 0) -> DataSet:
    """The first ``limit`` images after ``skip`` as ``model`` takes them, labels in the model's order of class names."""
    data = sized(spec, limit, skip, len(model.classes), model.fit)
    if model.classes == tuple(map(str, range(len(model.classes)))):
        return data  # the model's classes have no names: labels are its indices
    ours, theirs = set(data.classes), set(model.classes)
    if not ours & theirs:
        raise AssayError(
            f"{spec} has classes such as {data.classes[0]!r} and {model.name} such as {model.classes[0]!r}: "
            "labels would not match"
        )
    if ours == theirs and len(ours) == len(data.classes) and data.classes != model.classes:
        place = [model.classes.index(name) for name in data.classes]
        return replace(data, classes=model.classes, labels=[place[label] for label in data.labels])
    return data


def metric_name(metric: Metric) -> str:
    """The table's name, with the settings that are not the defaults."""
    record: Any = metric
    plain = type(record)()
    shown = [f.name for f in fields(record) if f.repr and getattr(record, f.name) != getattr(plain, f.name)]
    settings = ", ".join(f"{name}={getattr(record, name)!r}" for name in shown)
    return METRICS.name_of(metric) + (f"({settings})" if settings else "")


def score(metric: Metric, model: Subject, batch: Batch, heat: Tensor, given: Mapping[str, Any], seed: int) -> Tensor:
    """One metric of a batch of heatmaps, on the scale that it asks for.

    Its random numbers are its own: the same for every method, which pairs them, whatever other metrics there are.
    """
    target = Probability(batch.labels) if metric.scale == "probability" else Logit(batch.labels)
    needed: dict[str, Any] = {need: given[need] for need in metric.needs}
    draws = draws_for(seed, model.digest, repr(metric), batch.ids)
    return metric(model, batch.images, target, heat, draws=draws, **needed)


def decoded(data: DataSet, needs: Collection[str] = ()) -> Iterator[Example]:
    """The pictures that can be decoded, in their order."""
    for i in range(len(data)):
        try:
            yield data.example(i, needs)
        except DecodeError:
            continue


def _given(examples: Sequence[Example], needs: Collection[str]) -> dict[str, Tensor]:
    """What metrics need, stacked; an image without a mask has an empty one, which makes its score NaN."""
    empty = torch.zeros(examples[0].image.shape[-2:], dtype=torch.bool)
    masks: list[Tensor | None] = [empty if example.mask is None else example.mask for example in examples]
    held: dict[str, list[Tensor | None]] = {
        "masks": masks,
        "parts": [e.parts for e in examples],
        "without": [e.without for e in examples],
        "shortcut": [e.shortcut for e in examples],
        "redrawn": [e.redrawn for e in examples],
    }
    return {need: torch.stack([value for value in held[need] if value is not None]) for need in needs}


def finite(logits: Tensor) -> dict[str, str]:
    """Status and flags of an image whose logits (K,) may be broken."""
    if logits.isfinite().all():
        return {"status": "ok", "flags": ""}
    return {"status": "failed", "flags": "non-finite-logits"}
