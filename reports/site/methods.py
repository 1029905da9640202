"""A page for each method: its settings, and what it found on every model."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from assay.reports.run import labels as names
from assay.reports.site.files import KINDS, method_of
from assay.reports.site.gathered import Gathered
from assay.reports.site.grids import Grid, grid
from assay.reports.site.notes import costs, pretty, records
from assay.reports.run.reader import COSTS
from assay.reports.run.glossary import FLAGS


class Entry(NamedTuple):
    """A method in the list of methods."""

    kind: str
    label: str
    file: str
    about: str
    cost: dict[str, float]


class On(NamedTuple):
    """A method on one data set."""

    label: str
    table: Grid


def entries(found: Gathered) -> list[tuple[str, list[Entry]]]:
    """All methods, by kind."""
    cost = _costs(found)
    groups: dict[str, list[Entry]] = {}
    for (kind, method), file in found.files.methods.items():
        entry = Entry(kind, found.short(method), file, about(found, method), cost.get((kind, method), {}))
        groups.setdefault(KINDS[kind], []).append(entry)
    return [(head, groups[head]) for head in KINDS.values() if head in groups]


def about(found: Gathered, method: str) -> str:
    """The first sentence of the method's own documentation, where the run knows it."""
    known: dict[str, Any] = found.run.info.get("methods") or {}
    return str(known.get(names.read(method).name) or "").replace("``", "")


def pages(found: Gathered) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and context of each method's page."""
    summary, cost = found.tables["summary"], _costs(found)
    lost = found.tables["failures"]
    of, lost_of = _own(found, summary), _own(found, lost)
    for (kind, method), file in found.files.methods.items():
        rows = summary[(summary["kind"] == kind) & (of == method)]
        parsed = names.read(method)
        yield (
            file,
            {
                "kind": KINDS[kind],
                "label": found.short(method),
                "name": method,
                "about": about(found, method),
                "settings": [(key, pretty(value)) for key, value in parsed.settings.items()],
                "goal": parsed.goal,
                "facts": (found.run.info.get("attacks") or {}).get(method) if kind == "attack" else None,
                "cost": cost.get((kind, method)),
                "on": list(_tables(found, kind, rows)),
                "flags": _flags(rows),
                "failures": lost[(lost["kind"] == kind) & (lost_of == method)].to_dict("records"),
            },
        )


def _own(found: Gathered, rows: pd.DataFrame) -> "pd.Series[str]":
    """The method that each row is of; see ``method_of``."""
    pairs = list(zip(rows["kind"], rows["method"], strict=True))
    known = {pair: method_of(found.run, *pair) for pair in dict.fromkeys(pairs)}
    return pd.Series([known[pair] for pair in pairs], rows.index, dtype="object")


def _tables(found: Gathered, kind: str, rows: pd.DataFrame) -> Iterator[On]:
    marks = found.marks
    for data in [*found.run.data, ""]:
        here = rows[rows["data"] == data]
        for text, group in here.groupby("method"):
            made = _what(found, kind, str(text), list(here["method"].unique()))
            order = [model for model in marks if model in set(group["model"])]
            table = grid(
                found.run,
                group,
                "model",
                "Model",
                lambda model: marks[model].label if model in marks else model or "without a model",
                lambda model: found.files.models.get(model, ""),
                order,
            )
            yield On(", ".join(filter(None, [found.specs.get(data, ""), made])), table)


def _what(found: Gathered, kind: str, text: str, all_: list[str]) -> str:
    """What tells the rows of a method apart: the model an attack was made on, or the settings that a row fills in."""
    if kind == "transfer":
        source = text.rpartition(" from ")[2]
        return f"made on {found.marks[source].label if source in found.marks else source}"
    return names.short(all_)[text].removeprefix(names.read(text).name).strip() if len(all_) > 1 else ""


def _flags(rows: pd.DataFrame) -> list[tuple[str, str]]:
    raised = sorted({part.rpartition(":")[0].strip() for flags in rows["flags"] for part in flags.split(";") if part})
    return [(flag, FLAGS.get(flag.partition("=")[0], "")) for flag in raised if flag not in ("skipped", "failed")]


def _costs(found: Gathered) -> dict[tuple[str, str], dict[str, float]]:
    table = found.tables["costs"]
    shown = table["kind"] == "transfer"  # what images cost is shared by the models that they are shown to
    whole = table[shown].groupby(["kind", "method"])[list(COSTS)].sum().reset_index()
    table = pd.concat([table[~shown], whole]) if len(whole) else table
    rows = records(costs(table.assign(method=_own(found, table))))
    return {(row["kind"], row["method"]): {key: row[key] for key in COSTS} for row in rows}
