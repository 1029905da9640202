"""Cells on zoo models and scenes."""

from typing import Any, TypeVar

from assay.bench.cells import Cell, dataset
from assay.bench.cells import subject as loaded
from assay.bench.models import Subject

C = TypeVar("C", bound=Cell)


def subject(spec: str) -> Subject:
    return loaded(spec, "cpu")


def zoo_cell(kind: type[C], spec: str, limit: int, **settings: Any) -> C:
    """A cell of that kind for the first scenes of the test set."""
    model, data = subject(spec), "scenes?split=test"
    return kind(
        model=spec, model_digest=model.digest, data=data, data_digest=dataset(data, limit, model).digest, limit=limit,
        seed=0, fit=model.fit, **settings,
    )  # fmt: skip
