"""The models and data of a process, loaded once and held while they are used."""

import itertools
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from typing import Protocol

from assay.bench.data import DataSet, DecodeError, Example
from assay.bench.data import load as load_data
from assay.bench.data.class_names import Classes, Match, Named, match
from assay.bench.models import specs
from assay.bench.models.subject import Fit, Subject
from assay.core.errors import AssayError

CAPACITY = 16  # models, and data sets at the size of a model, that a process keeps


class Classifier(Named, Protocol):
    """What data have to know of a model."""

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
def _at_fit(spec: str, limit: int, skip: int, fit: Fit) -> DataSet:
    """Images as models of one fit take them."""
    return load_data(spec).take(limit, skip).at(**fit._asdict())


@lru_cache(maxsize=CAPACITY)
def _match(spec: str, limit: int, skip: int, fit: Fit, classes: Classes) -> Match:
    return match(_at_fit(spec, limit, skip, fit), classes)


@lru_cache(maxsize=CAPACITY)
def _labelled(spec: str, limit: int, skip: int, fit: Fit, match: Match) -> DataSet:
    """One object for all models of one fit and the same classes."""
    return _at_fit(spec, limit, skip, fit).labelled(match)


def dataset(spec: str, limit: int, model: Classifier, skip: int = 0) -> DataSet:
    """The first ``limit`` images after ``skip`` as ``model`` takes them, with its labels and names of classes.

    ``class_names.match`` says how; raises ``AssayError`` where they do not belong together.
    """
    classes = Classes(model.name, model.classes, model.has_names)
    return _labelled(spec, limit, skip, model.fit, _match(spec, limit, skip, model.fit, classes))


def readable(data: DataSet, needs: Collection[str] = ()) -> Iterator[Example]:
    """The pictures that can be decoded, in their order."""
    for i in range(len(data)):
        try:
            yield data.example(i, needs)
        except DecodeError:
            continue


def in_batches(examples: Iterable[Example], size: int) -> Iterator[list[Example]]:
    """``size`` examples at a time, the last ones fewer."""
    rest = iter(examples)
    while batch := list(itertools.islice(rest, size)):
        yield batch


def forget() -> None:
    """Drop what is held: names do not mean what they meant before."""
    subject.cache_clear()
    _at_fit.cache_clear()
    _match.cache_clear()
    _labelled.cache_clear()
