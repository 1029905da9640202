"""What a kind of measurement tells the rest of the reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
from numpy.typing import NDArray

from assay.reports.run.records import Cell, Metric

if TYPE_CHECKING:
    from assay.reports.context import Context
    from assay.reports.drawing.album import Album
    from assay.reports.gate.tolerances import MetricRule, PictureRule
    from assay.reports.run.reader import Run

Tables = dict[str, pd.DataFrame]
Flags = Mapping[tuple[str, str, str, str], Mapping[str, int]]  # of a cell (model, data, kind, method): images by flag


class Block(NamedTuple):
    """A piece of a page: a macro of ``templates/blocks.html`` and what it shows."""

    macro: str
    content: Any
    title: str = ""  # a heading over it
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page that compares models, data set by data set. Without blocks it is left out."""

    id: str
    page: str  # of ``site.pages.PAGES``
    title: str
    text: str
    blocks: Callable[["Context", str, str], Iterable[Block]]  # of a data set; the third names figures apart
    place: int = 0  # among the sections of its page
    note: str = ""  # under it


class Part(NamedTuple):
    """A part of a model's page that is about no data set, or about one that its blocks name."""

    id: str
    title: str
    text: str
    blocks: list[Block]


@dataclass(frozen=True, kw_only=True)
class Arrays:
    """Arrays of one name in a file of art that the gate compares."""

    file: str
    name: str  # may be a wildcard
    sort: str  # of ``gate.art.SORTS``
    axes: tuple[str, ...] = ()  # facts of ``meta.json`` that name the entries
    clean: str = ""  # of attacked images: the array of the same file with the images before


def none(*_: Any) -> tuple[()]:
    """Nothing to show."""
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
    label: str = "{kind} {method}"  # of a cell in the gate's lines
    adversarial: bool = False  # finding less on the same weights means a weaker attack, however good it looks
    arrays: tuple[Arrays, ...] = ()
    ignored: tuple[str, ...] = ()  # arrays that are stored and not compared, "file:name"
    tolerances: tuple["MetricRule | PictureRule", ...] = ()  # after those of gate/default.toml, for this kind alone
    read: Callable[["Run", Cell, "Album"], Any] | None = None  # the art of a cell, None where it kept none
    tables: Callable[["Run", pd.DataFrame], Tables] | None = None  # from the run and its summary
    doubts: Callable[["Run"], Flags] | None = None  # flags that only all cells together raise
    proofs: Callable[["Run", Cell], dict[str, NDArray[Any]]] | None = None  # pictures as the report renders them
    sections: tuple[Section, ...] = ()
    on_data: Callable[["Context", str], Iterable[Block]] = none  # on a data set's page
    on_model: Callable[["Context", str, str], Iterable[Block]] = none  # on a model's page, on one data set
    parts: Callable[["Context", str], Iterable[Part]] = none  # on a model's page, after the data sets
