"""What a kind of measurement tells the rest of the reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from numpy.typing import NDArray

from assay.reports.drawing.theme import Plot
from assay.reports.run.flags import Doubts
from assay.reports.run.records import Cell, Metric

if TYPE_CHECKING:
    from assay.reports.context import Context
    from assay.reports.drawing.album import Album
    from assay.reports.gate.tolerances import MetricRule, PictureRule
    from assay.reports.run.reader import Run

Tables = dict[str, pd.DataFrame]
Figures = Callable[["Context", str, str], list[Plot]]  # of a data set; the third names their files apart


class Block(NamedTuple):
    """A piece of a page: a macro of ``templates/blocks.html`` and what it shows."""

    macro: str
    content: Any
    place: int = 0  # among the blocks of a model on a data set


class Part(NamedTuple):
    """A part of a page with a heading; parts of one ``id`` on one page are one."""

    id: str
    title: str
    text: str
    blocks: list[Block]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page that compares models, data set by data set. Without blocks it is left out."""

    id: str  # sections of one id are one
    page: str  # of ``site.pages.PAGES``
    title: str
    text: str
    figures: Figures | None = None
    blocks: Callable[["Context", str, str], Iterable[Block]] | None = None  # as ``figures``, for more than figures
    place: int = 0  # among the sections of its page
    note: str = ""  # HTML under it
    front: bool = False  # whether the first page shows it as well

    def of(self, context: "Context", data: str, prefix: str) -> list[Block]:
        """Its blocks on a data set; "" is what was measured on none."""
        blocks = list(self.blocks(context, data, prefix)) if self.blocks else []
        return blocks + (plots(self.figures(context, data, prefix)) if self.figures else [])


class Arrays(NamedTuple):
    """Arrays of one name in a file of art that the gate compares."""

    file: str
    name: str  # may be a wildcard
    sort: str  # of ``gate.art.SORTS``
    axes: tuple[str, ...] = ()  # facts of ``meta.json`` that name the entries
    before: str = ""  # of attacked images: the array of the same file with the images before the attack


def metric(direction: str, unit: str, meaning: str, *, interval: str = "bootstrap", statistic: str = "mean") -> Metric:
    """What a metric of a kind says."""
    return Metric(direction=direction, unit=unit, meaning=meaning, interval=interval, statistic=statistic)


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, by column."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def plots(figures: Iterable[Plot]) -> list[Block]:
    """Figures as blocks."""
    return [Block("plot", figure) for figure in figures]


def nothing(*_: Any) -> tuple[()]:
    """No blocks."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of measurement, as it is told, compared and drawn; ``bench.measurements`` measures it."""

    name: str
    heading: str = ""  # over its methods, which then have pages of their own
    metrics: Mapping[str, Metric] = field(default_factory=dict)  # of its rows
    terms: Mapping[str, Metric] = field(default_factory=dict)  # numbers of its tables that are in no row
    flags: Mapping[str, str] = field(default_factory=dict)  # what flags of its rows say
    summary: bool = True  # whether its rows are numbers, which the table "summary" holds
    label: str = "{kind} {method}"  # of a cell in the gate's lines; may name settings of the method
    adversarial: bool = False  # finding less on the same weights means a weaker attack, however good it looks
    arrays: tuple[Arrays, ...] = ()
    ignored: tuple[str, ...] = ()  # arrays that are stored and not compared, "file:name", wildcards allowed
    tolerances: tuple["MetricRule | PictureRule", ...] = ()  # after those of gate/default.toml, for this kind alone
    read: Callable[["Run", Cell, "Album"], Any] | None = None  # the art of a cell with ``model, data``; None without
    tables: Callable[["Run", pd.DataFrame], Tables] | None = None  # from the run and its summary
    doubts: Callable[["Run"], Doubts] | None = None  # flags that only all cells together raise
    proofs: Callable[["Run", Cell], dict[str, NDArray[Any]]] | None = None  # pictures as the report renders them
    sections: tuple[Section, ...] = ()
    on_data: Callable[["Context", str], Iterable[Part]] = nothing  # on a data set's page
    on_model: Callable[["Context", str, str], Iterable[Block]] = nothing  # on a model's page, on a data set
    parts: Callable[["Context", str], Iterable[Part]] = nothing  # on a model's page, after the data sets
