"""Class pictures: what a model draws for its classes, scored by itself and by the others."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.bench.loading import dataset, in_batches, planned_subject, readable
from assay.bench.measurements.ask import Ask, Judge
from assay.bench.measurements.base import Batch, Cell, Measured, Row, Setup, floats, meter, predicted, to_bytes
from assay.bench.method_records import describe
from assay.bench.models import Subject, generators
from assay.core.targets import Logit, Margin, Probability
from assay.reports.run.records import Method
from assay.synthesis.scores import robust_probability, spectrum_distance
from assay.synthesis.visualize import Visualize

CLASSES = 10  # that are pictured, at most


class Pictures(NamedTuple):
    """Pictures (N, C, H, W) in [0, 1], flags for each, and what else is kept beside them."""

    images: Tensor
    flags: list[str]
    arrays: dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class ClassPictureCell(Cell):
    """A picture per class, scored by the model itself and by the other models that know the same classes."""

    classes: tuple[int, ...]
    judges: tuple[Judge, ...]
    natural: tuple[str, str]  # spec and digest of the data whose spectrum is natural

    @classmethod
    def commons(cls, ask: Ask) -> Iterator[dict[str, Any]]:
        """What each model's cells say of model, classes, judges and data."""
        for model, facts in ask.models.items():
            labels = dataset(ask.first, ask.options.limit, facts).labels
            natural = (ask.first, ask.digest(ask.first, ask.options.limit))
            classes = _classes(len(facts.classes), labels)
            yield {**ask.common(model), "classes": classes, "judges": ask.peers(model), "natural": natural}

    def details(self) -> dict[str, Any]:
        return {"judges": self.judges, "classes": self.classes, "natural": self.natural}

    @abstractmethod
    def draw(self, model: Subject, classes: Tensor, names: Sequence[str]) -> Pictures:
        """One picture for each of the classes (N,); ``names`` are the pictures' ids."""

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        classes = torch.tensor(self.classes, device=setup.device)
        names = [f"class-{k}" for k in self.classes]
        with meter(model, len(names), setup.device) as cost:
            pictures = self.draw(model, classes, names)
        with torch.no_grad():
            own = Probability(classes)(model, pictures.images)
            others = [planned_subject(*judge, setup.device)(pictures.images).softmax(1) for judge in self.judges]
        data = dataset(self.natural[0], self.limit, model)
        batches = in_batches(readable(data), setup.batch_size)
        values = {
            "own_probability": own,
            "moved_probability": robust_probability(model, pictures.images, classes),
            "spectrum_distance": spectrum_distance(
                pictures.images, (Batch.of(each, setup.device).images for each in batches)
            ),
        }
        if others:
            values["other_probability"] = torch.stack([p.gather(1, classes[:, None])[:, 0] for p in others]).nanmean(0)
            seen = [predicted(p) for p in others]
            agreement = [(classes == each).float().where(each >= 0, torch.nan) for each in seen]
            values["other_agreement"] = torch.stack(agreement).nanmean(0)
        rows: list[Row] = list(self.per_image(names, self.classes, values, cost, pictures.flags))
        meta = {
            "classes": [model.classes[k] for k in self.classes],
            "labels": list(self.classes),
            "own_probability": own.tolist(),
            "other_probability": values["other_probability"].tolist() if others else [None] * len(names),
        }
        arrays = {"images": to_bytes(pictures.images), **pictures.arrays}
        return Measured(rows, {"pictures.npz": arrays, "meta.json": meta})


@dataclass(frozen=True, kw_only=True)
class SynthesisCell(ClassPictureCell):
    """What a model is made to draw for its classes."""

    kind = "synthesis"

    synthesis: Visualize

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        records = ask.syntheses(Visualize)
        return (cls(**common, synthesis=each) for common in cls.commons(ask) for each in records)

    @property
    def method(self) -> Method:
        return describe(self.synthesis)

    def details(self) -> dict[str, Any]:
        generator = self._generator()
        return {**super().details(), **({"generator": generator.digest} if generator else {})}

    def _generator(self) -> generators.ImageGenerator | None:
        return generators.load("scenes") if self.synthesis.parametrisation == "latent" else None

    def draw(self, model: Subject, classes: Tensor, names: Sequence[str]) -> Pictures:
        generator = self._generator()
        target = Margin(classes) if generator else Logit(classes)  # of a picture of things, the class comes first
        own = generator and generator.to(classes.device)
        art = self.synthesis(model, target, self.draws(names), generator=own)
        return Pictures(art.images, [""] * len(names), {"history": floats(art.history)})


def _classes(count: int, labels: Sequence[int]) -> tuple[int, ...]:
    """The classes to picture: all of a small model's, else the first that the data shows."""
    if count <= CLASSES:
        return tuple(range(count))
    return tuple(dict.fromkeys(label for label in labels if label < count))[:CLASSES]


CELL = SynthesisCell
