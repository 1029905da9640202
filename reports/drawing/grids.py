"""Tables of numbers with intervals, as pages show them."""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from assay.reports.context import Context
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
    by: Sequence[str],
    head: str,
    label: Callable[..., str],
    file: Callable[[str], str],
    order: Sequence[str] = (),
) -> Grid:
    """``summary`` as a table of ``by`` by metric; rows by the first of these in ``order``, else by label."""
    metrics = sorted(set(summary.dropna(subset="value")["metric"]), key=lambda name: (_first(name), worth(name)))
    keys = {tuple(row) for row in summary[list(by)].itertuples(index=False, name=None)}
    place = {name: i for i, name in enumerate(order)}
    ordered = sorted(keys, key=lambda key: (place.get(key[0], len(place)), label(*key)))
    numbers = {(tuple(row[name] for name in by), row["metric"]): row for row in summary.to_dict("records")}
    facts = {metric: run.metric(metric) for metric in metrics}
    columns = [Column(name, BETTER.get(each.direction, ""), each.meaning) for name, each in facts.items()]
    lines = [
        Line(
            label(*key),
            file(key[0]),
            key[0],
            [number(numbers.get((key, metric)), facts[metric].unit) for metric in metrics],
        )
        for key in ordered
    ]
    return Grid(head, columns, lines)


def method_grid(context: Context, data: str, model: str, kind: str, head: str) -> Grid | None:
    """What every method of a kind did on one model and data set; None where there was none."""
    rows = context.table("summary", data, model=model, kind=kind)
    if not len(rows):
        return None

    def label(method: str, source: str, variant: str) -> str:
        return ", ".join(filter(None, (context.short(method), made_on(context, source), variant)))

    def file(method: str) -> str:
        return context.files.methods.get((kind, method), "")

    return grid(context.run, rows, ("method", "source", "variant"), head, label, file)


def model_grid(context: Context, rows: pd.DataFrame) -> Grid:
    """What one method did on every model."""

    def label(model: str) -> str:
        return context.label(model) or "without a model"

    def file(model: str) -> str:
        return context.files.models.get(model, "")

    return grid(context.run, rows, ("model",), "Model", label, file, list(context.marks))


def made_on(context: Context, source: str) -> str:
    """Whose images a row is of, in words; empty for a model's own."""
    return f"made on {context.label(source)}" if source else ""


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


def _first(metric: str) -> int:
    return FIRST.index(metric) if metric in FIRST else len(FIRST)
