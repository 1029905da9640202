"""Cells on zoo models and scenes."""

from typing import Any, TypeVar

from assay.bench.loading import subject as load_subject
from assay.bench.measurements import Ask, Cell
from assay.bench.measurements.ask import RunOptions
from assay.bench.models import Subject

C = TypeVar("C", bound=Cell)


def subject(spec: str) -> Subject:
    return load_subject(spec, "cpu")


def zoo_cell(kind: type[C], spec: str, limit: int, **settings: Any) -> C:
    """A cell of that kind for the first scenes of the test set."""
    ask = Ask(RunOptions(models=(spec,), data=("scenes",), limit=limit))
    return kind(**ask.common(spec, "scenes"), **settings)
