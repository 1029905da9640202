"""The models and data of a process, loaded once and held while they are used."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

from assay.bench.data import DataSet, DecodeError, Example
from assay.bench.data import load as load_data
from assay.bench.models import specs
from assay.bench.models.subject import Fit, Subject
from assay.core.errors import AssayError

CAPACITY = 16  # models, and data sets at the size of a model, that a process keeps


class Classifier(Protocol):
    """What data have to know of a model."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def fit(self) -> Fit: ...


@lru_cache(maxsize=CAPACITY)
def subject(spec: str, device: str) -> Subject:
    """The model of a spec."""
    return specs.load(spec).to(device)


def planned_subject(spec: str, digest: str, device: str) -> Subject:
    """The model of a spec, which must be the one that was planned with."""
    model = subject(spec, device)
    if model.digest != digest:
        raise AssayError(
            f"{spec} is another model each time it is loaded; seed what makes its weights, and let it hold no times"
        )
    return model


@lru_cache(maxsize=CAPACITY)
def _at_fit(spec: str, limit: int, skip: int, classes: int, fit: Fit) -> DataSet:
    """Images as models of one fit take them."""
    return load_data(spec).take(limit, skip).at(**fit._asdict(), num_classes=classes)


def dataset(spec: str, limit: int, model: Classifier, skip: int = 0) -> DataSet:
    """The first ``limit`` images after ``skip`` as ``model`` takes them, labels in the model's order of class names."""
    data = _at_fit(spec, limit, skip, len(model.classes), model.fit)
    if model.classes == tuple(map(str, range(len(model.classes)))):
        return data  # the model's classes have no names: labels are its indices
    data_names, model_names = set(data.classes), set(model.classes)
    if not data_names & model_names:
        raise AssayError(
            f"{spec} has classes such as {data.classes[0]!r} and {model.name} such as {model.classes[0]!r}: "
            "labels would not match"
        )
    if data_names == model_names and len(data_names) == len(data.classes) and data.classes != model.classes:
        place = [model.classes.index(name) for name in data.classes]
        return replace(data, classes=model.classes, labels=[place[label] for label in data.labels])
    return data


def readable(data: DataSet, needs: Collection[str] = ()) -> Iterator[Example]:
    """The pictures that can be decoded, in their order."""
    for i in range(len(data)):
        try:
            yield data.example(i, needs)
        except DecodeError:
            continue


def forget() -> None:
    """Drop what is held: names do not mean what they meant before."""
    subject.cache_clear()
    _at_fit.cache_clear()
