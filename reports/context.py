"""What pages and figures are made of, read from a run once."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from assay.reports.drawing.album import Album
from assay.reports.drawing.theme import Identity, identities
from assay.reports.kinds import kind_of
from assay.reports.run import labels
from assay.reports.run.reader import Run, where
from assay.reports.run.result_tables import tables
from assay.reports.site.files import Files

ALWAYS = ("norm", "eps")  # settings that a method's short name always tells


@dataclass(frozen=True, kw_only=True)
class Context:
    """A run, its tables, the marks of its models, and what its cells kept as art."""

    run: Run
    tables: dict[str, pd.DataFrame]
    album: Album
    _art: dict[str, list[Any]] = field(default_factory=dict)

    @cached_property
    def marks(self) -> dict[str, Identity]:
        """Each model's label, colour and marker, the same everywhere."""
        return identities(labels.models(self.run.models))

    @cached_property
    def specs(self) -> dict[str, str]:
        """The label of each data set."""
        return labels.data(self.run.data)

    @cached_property
    def short(self) -> Callable[[str], str]:
        """A method's short name."""
        brief = self.run.short((cell.method for cell in self.run.info.cells), always=ALWAYS)
        return lambda method: brief.get(method) or self.run.short([method], always=ALWAYS)[method]

    @cached_property
    def files(self) -> Files:
        """The page of each model, method and data set."""
        return Files.of(self.run)

    @cached_property
    def classes(self) -> dict[tuple[str, str], str]:
        """The class's name of an image, by data set and id, in the order of the classes."""
        names = {spec: self.run.classes(spec) for spec in self.run.data}
        return {key: labels.class_name(names.get(key[0], []), label) for key, label in self.run.labels.items()}

    def label(self, model: str) -> str:
        """A model's label; its name where the run does not know it."""
        return self.marks[model].label if model in self.marks else model

    def ordered(self, models: Iterable[str]) -> list[str]:
        """Those models, in the order of the run."""
        present = set(models)
        return [model for model in self.marks if model in present]

    def table(self, name: str, data: str, **values: object) -> pd.DataFrame:
        """The rows of a table on one data set, and with those values in other columns."""
        return where(self.tables[name], data=data, **values)

    def art(self, kind: str, data: str | None = None, model: str | None = None) -> list[Any]:
        """What the kind's ``read`` makes of each finished cell, of one data set or model alone, by model.

        Art that cannot be read is noted in ``album``.
        """
        read = kind_of(kind).read
        if kind not in self._art:
            self._art[kind] = self.album.each(self.run, kind, read) if read else []
        place = {name: i for i, name in enumerate(self.marks)}
        cells = [each for each in self._art[kind] if data in (None, each.data) and model in (None, each.model)]
        return sorted(cells, key=lambda each: place.get(each.model, -1)) if data is not None else cells


def gather(run: Run, folder: Path) -> Context:
    """The context of a run; pictures are written into ``folder`` once a page asks for them."""
    return Context(run=run, tables=tables(run), album=Album(folder))


__all__ = ["Context", "gather"]
