"""A page for each method: its settings, and what it did on every model."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import pandas as pd

from assay.reports.context import Context
from assay.reports.drawing.grids import Grid, made_on, model_grid
from assay.reports.kinds import all_kinds, kind_of
from assay.reports.kinds.base import records
from assay.reports.run.flags import name_of
from assay.reports.run.glossary import flags
from assay.reports.run.reader import where
from assay.reports.run.records import COSTS
from assay.reports.site.notes import pretty


class Entry(NamedTuple):
    """A method in the list of methods."""

    label: str
    file: str
    about: str
    cost: Mapping[str, float]


def entries(context: Context) -> list[tuple[str, list[Entry]]]:
    """All methods, by kind."""
    cost = costs(context)
    groups: dict[str, list[Entry]] = {}
    for (kind, method), file in context.files.methods.items():
        about = context.run.method(method).about
        entry = Entry(context.short(method), file, about, cost.get((kind, method), {}))
        groups.setdefault(kind_of(kind).heading, []).append(entry)
    headings = dict.fromkeys(kind.heading for kind in all_kinds())
    return [(heading, groups[heading]) for heading in headings if heading in groups]


def pages(context: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and content of each method's page."""
    cost = costs(context)
    for (kind, text), file in context.files.methods.items():
        rows = where(context.tables["summary"], kind=kind, method=text)
        method = context.run.method(text)
        facts = [(key, pretty(value)) for key, value in method.settings.items()]
        facts += [("goal", method.goal)] if method.goal else []
        facts += [("access", method.access)] if method.access else []
        facts += [("norm", method.norm)] if method.norm and "norm" not in method.settings else []
        yield (
            file,
            {
                "heading": kind_of(kind).heading,
                "label": context.short(text),
                "method": method,
                "facts": facts,
                "cost": cost.get((kind, text)),
                "grids": list(_grids(context, rows)),
                "flags": _flags(rows),
                "failures": records(where(context.tables["failures"], kind=kind, method=text)),
            },
        )


def _grids(context: Context, rows: pd.DataFrame) -> Iterator[tuple[str, Grid]]:
    """A table for each data set, source and variant, with a few words that tell them apart."""
    for data in [*context.run.data, ""]:
        for (source, variant), group in where(rows, data=data).groupby(["source", "variant"]):
            words = (context.specs.get(data, ""), made_on(context, str(source)), str(variant))
            yield ", ".join(filter(None, words)), model_grid(context, group)


def _flags(rows: pd.DataFrame) -> list[tuple[str, str]]:
    words = flags()
    names = sorted({part.rpartition(":")[0].strip() for text in rows["flags"] for part in text.split(";") if part})
    return [(flag, words.get(name_of(flag), "")) for flag in names if flag not in ("skipped", "failed")]


def costs(context: Context) -> dict[tuple[str, str], dict[str, float]]:
    """Mean cost of an image over models, by kind and method."""
    table = context.tables["costs"]
    table = table[table["kind"].map(cache(lambda kind: kind_of(kind).summary)).astype(bool)]
    keys = ["kind", "method"]
    other = table["source"] != ""  # what images made on another model cost is shared by all that they are shown to
    whole = table[other].groupby([*keys, "source"])[list(COSTS)].sum().reset_index()
    means = pd.concat([table[~other], whole]).groupby(keys)[list(COSTS)].mean().reset_index()
    return {(row["kind"], row["method"]): {key: row[key] for key in COSTS} for row in records(means)}
