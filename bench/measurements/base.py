"""What every kind of measurement shares: cells, what a run asks for, batches, costs and rows.

A cell is a picklable record of one method on one model and data set. Everything that changes its rows is in its
``identity``; its id is a hash of that.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.bench.data import Example
from assay.bench.loading import dataset, in_batches, planned_subject, readable
from assay.bench.method_records import identity
from assay.bench.models import Fit, Subject
from assay.core.borrow import counting, now
from assay.core.classifier import answered
from assay.core.draws import Draws
from assay.reports.run.records import SCHEMA, Method
from assay.reports.run.records import Cell as Record

if TYPE_CHECKING:
    from assay.bench.measurements.ask import Ask

Row = dict[str, Any]
Cost = dict[str, float]  # of one image: samples forward and backward through the model, and seconds
NON_FINITE = "non-finite-logits"


class Measured(NamedTuple):
    """What a cell gives: rows, and arrays or JSON by file name."""

    rows: list[Row]
    art: Mapping[str, Any] = MappingProxyType({})


class Batch(NamedTuple):
    """Images with their ids and labels, and all else that the data know of them."""

    ids: list[str]
    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,)
    examples: list[Example]

    @classmethod
    def of(cls, examples: Sequence[Example], device: torch.device | str) -> Self:
        images = torch.stack([example.image for example in examples]).to(device)
        labels = torch.tensor([example.label for example in examples], device=device)
        return cls([example.id for example in examples], images, labels, list(examples))


@dataclass(frozen=True, kw_only=True)
class Setup:
    """How to measure; none of it changes what is measured beyond float noise."""

    batch_size: int = 50
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Cell(ABC):
    """What all cells share; the digests are of what the model does, of its class names and of the images."""

    kind: ClassVar[str]
    options: ClassVar[type | None] = None  # the record of what can be asked of this kind
    version: ClassVar[int] = 1  # of the measurement, raised when its results change

    model: str = ""
    data: str = ""
    limit: int = 0  # images, at most
    seed: int = 0
    model_digest: str = ""
    class_digest: str = ""
    data_digest: str = ""
    fit: Fit | None = None  # how the model takes photographs

    @classmethod
    @abstractmethod
    def plan(cls, ask: "Ask") -> Iterator[Self]:
        """The cells that a run asks for. Raises ``AssayError`` for a wish that makes no sense."""

    @abstractmethod
    def measure(self, setup: Setup) -> Measured: ...

    @property
    @abstractmethod
    def method(self) -> Method:
        """What is done."""

    def details(self) -> dict[str, Any]:
        """What else changes the rows."""
        return {}

    @property
    def shares(self) -> tuple[Any, ...] | None:
        """Cells that name the same thing here are measured together; None is measured alone."""
        return None

    @classmethod
    def measure_together(cls, cells: "Sequence[Any]", setup: Setup) -> "Mapping[str, Measured]":
        """What cells of the same ``shares`` give, by id; those that it leaves out are measured alone."""
        return {}

    @cached_property
    def id(self) -> str:
        """16 hexadecimal digits of what changes the rows; neither the release nor the machine is among it."""
        whole = {
            "schema": SCHEMA,
            "kind": [self.kind, self.version],
            "model": [self.model, self.model_digest, self.class_digest],
            "data": [self.data, self.data_digest],
            "fit": self.fit,
            "method": identity(self.method),
            "seed": self.seed,
            **self.details(),
        }
        text = json.dumps(whole, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def record(self) -> Record:
        """The cell as ``run.json`` lists it."""
        return Record(id=self.id, kind=self.kind, model=self.model, data=self.data, method=self.method.text)

    def row(self, metric: str = "", value: float | None = None, **more: Any) -> Row:
        """A row of this cell; no value is stored as NaN."""
        own = {"model": self.model, "data": self.data, "kind": self.kind, "cell": self.id, "metric": metric}
        texts = {"image": "", "label": -1, "variant": "", "source": "", "status": "ok", "flags": ""}
        number = float("nan") if value is None else float(value)
        return {**own, **texts, "value": number, "forwards": 0.0, "backwards": 0.0, "seconds": 0.0, **more}

    def per_image(
        self,
        ids: Sequence[str],
        labels: Tensor | Sequence[int] | None,
        values: Mapping[str, Tensor],
        cost: Mapping[str, float],
        flags: Sequence[str] = (),
        **more: str,
    ) -> Iterator[Row]:
        """A row for each image and metric. ``values`` are (N,) by metric, ``flags`` one an image, ``more`` in all rows.

        Of an image flagged with ``NON_FINITE`` what has no value has failed.
        """
        own = {**self.row(), **cost, **more}
        classes = [-1] * len(ids) if labels is None else torch.as_tensor(labels).tolist()
        for i, (image, label) in enumerate(zip(ids, classes, strict=True)):
            doubts = flags[i] if flags else ""
            no_answer = NON_FINITE in doubts
            image_row = {**own, "image": image, "label": label, "flags": doubts}
            for metric, column in values.items():
                value = float(column[i])
                status = "failed" if no_answer and math.isnan(value) else "ok"
                yield {**image_row, "metric": metric, "value": value, "status": status}

    def subject(self, setup: Setup) -> Subject:
        """The model, which must be the one that was planned with."""
        return planned_subject(self.model, self.model_digest, setup.device)

    def batches(self, setup: Setup, needs: Collection[str] = ()) -> Iterator[Batch]:
        """The images at the model's size; those that cannot be decoded are left to the data's own cell."""
        examples = readable(dataset(self.data, self.limit, self.subject(setup)), needs)
        for batch in in_batches(examples, setup.batch_size):
            yield Batch.of(batch, setup.device)

    @torch.no_grad()
    def answers(self, setup: Setup) -> Iterator[tuple[Batch, Tensor, Cost]]:
        """Each batch with the model's logits (N, K) and what they cost."""
        model = self.subject(setup)
        for batch in self.batches(setup):
            with meter(model, len(batch.ids), setup.device) as cost:
                logits = model(batch.images)
            yield batch, logits, cost

    @torch.no_grad()
    def first_right(self, model: Subject, setup: Setup, count: int) -> Batch:
        """The first images that the model has right; where it has too few, the first images."""
        examples: list[Example] = []
        spare: list[Example] = []
        for batch in self.batches(setup):
            right = (predicted(model(batch.images)) == batch.labels).tolist()
            for example, is_right in zip(batch.examples, right, strict=True):
                (examples if is_right else spare).append(example)
            if len(examples) >= count:
                break
        return Batch.of((examples + spare)[:count], setup.device)

    def draws(self, ids: Sequence[str]) -> Draws:
        """The random streams of the cell's method."""
        return draws_for(self.seed, self.model_digest, self.method.text, ids)


def draws_for(seed: int, model_digest: str, method: str, ids: Sequence[str]) -> Draws:
    """The random streams of a method (its text) on a model: one per image id."""
    return Draws.hashed(f"{seed}|{model_digest}|{method}", ids)


@contextmanager
def meter(model: nn.Module | None, count: int, device: torch.device | str) -> Iterator[Cost]:
    """What the block costs, shared evenly by ``count`` images; filled in on the way out."""
    clock = torch.device(device)
    cost: Cost = {}
    start = now(clock)
    with nullcontext() if model is None else counting(model) as passes:
        yield cost
    if passes is not None:
        cost |= {"forwards": passes.forwards / count, "backwards": passes.backwards / count}
    cost["seconds"] = (now(clock) - start) / count


def predicted(logits: Tensor) -> Tensor:
    """The class of the largest of ``logits`` (N, K), (N,); -1, which is no label, where they name none.

    They do not where one is NaN, nor where the largest is infinite; a class that is masked with minus infinity does no
    harm.
    """
    return logits.argmax(1).where(answered(logits), -1)


def finite_flags(*logits: Tensor) -> list[str]:
    """``NON_FINITE`` for each image for which some of ``logits`` (N, K) name no class, else nothing."""
    whole = torch.stack([predicted(each) >= 0 for each in logits]).all(0)
    return ["" if is_whole else NON_FINITE for is_whole in whole.tolist()]


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8 from (N, C, H, W) in [0, 1]."""
    pixels: NDArray[np.uint8] = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return pixels


def floats(values: Tensor) -> NDArray[np.float32]:
    """As it is stored."""
    return values.detach().cpu().numpy().astype(np.float32)
