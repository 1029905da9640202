"""Tables of numbers with intervals, as pages show them."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from assay.reports.run.ranking import worth
from assay.reports.run.reader import Run

BETTER = {"higher": "↑", "lower": "↓"}
FIRST = (  # columns of a table; then quality, then the rest
    *("accuracy", "robust_accuracy", "fooling_rate", "targeted_rate"),
    *("distance_linf", "distance_l2", "distance_l1", "distance_l0", "queries", "success_8bit"),
)


class Column(NamedTuple):
    """A metric as the head of a column: which way is better as an arrow, and what it means."""

    name: str
    arrow: str
    meaning: str


class Number(NamedTuple):
    """A value as text and for sorting, with its interval as text and what was flagged."""

    text: str
    value: float
    interval: str
    flags: str


class Line(NamedTuple):
    """A row: its label, its page, the full name, and one number a column."""

    label: str
    file: str
    name: str
    numbers: list[Number]


class Grid(NamedTuple):
    """A table of one kind of rows by metrics."""

    head: str
    columns: list[Column]
    lines: list[Line]


def grid(
    run: Run,
    summary: pd.DataFrame,
    by: str,
    head: str,
    label: Callable[[str], str],
    file: Callable[[str], str],
    order: Sequence[str] = (),
) -> Grid:
    """``summary`` as a table of ``by`` (``model`` or ``method``) by metric; rows in ``order``, else by label."""
    known = summary.dropna(subset="value")
    metrics = sorted(set(known["metric"]), key=lambda name: (*_first(name), worth(name)))
    there = sorted(set(summary[by]), key=label)
    there = [*(name for name in order if name in there), *(name for name in there if name not in order)]
    at = {(row[by], row["metric"]): row for row in summary.to_dict("records")}
    columns = []
    for metric in metrics:
        facts = run.metric(metric)
        columns.append(Column(metric, BETTER.get(facts["direction"], ""), facts["meaning"]))
    lines = []
    for name in there:
        rows = [(at.get((name, metric)), run.metric(metric)["unit"]) for metric in metrics]
        lines.append(Line(label(name), file(name), name, [number(row, unit) for row, unit in rows]))
    return Grid(head, columns, lines)


def number(row: dict[Hashable, Any] | None, unit: str) -> Number:
    """A row of the summary as text; shares in percent, other units with three digits."""
    if row is None:
        return Number("–", math.nan, "", "")
    value, low, high = (float(row[key]) for key in ("value", "low", "high"))
    flags = str(row["flags"])
    if math.isnan(value):
        return Number("–", math.nan, "", flags)
    interval = "" if math.isnan(low) else f"[{plain(low, unit)}, {plain(high, unit)}]"
    return Number(plain(value, unit) + ("\N{NO-BREAK SPACE}%" if unit == "share" else ""), value, interval, flags)


def plain(value: float, unit: str) -> str:
    """A number as its unit is read: 0.53 of shares is 53."""
    if unit == "share":
        return f"{100 * value:.0f}"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace(",", "\N{NO-BREAK SPACE}")
    return f"{value:.3f}" if 0.0005 <= abs(value) < 1 else f"{value:.3g}"


def _first(metric: str) -> tuple[int]:
    return (FIRST.index(metric) if metric in FIRST else len(FIRST),)
