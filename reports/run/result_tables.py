"""The tables of a run."""

import json

import numpy as np
import pandas as pd

from assay.reports.kinds import all_kinds, kind_of
from assay.reports.run.flags import SHARED, Doubts, name_of, raised
from assay.reports.run.intervals import estimate
from assay.reports.run.ranking import ranking
from assay.reports.run.reader import NON_FINITE, Run
from assay.reports.run.records import COSTS

CELL = ["model", "data", "kind", "method", "source", "variant"]  # what a row is of
METHOD = ["name", "norm", "eps", "goal"]  # of a method, beside it in every table
SUMMARY = [*CELL, "metric", "value", "low", "high", "n", "direction", "flags"]
IMAGES = ["model", "data", "image", "label", *CELL[2:], "metric", "value", "status", "flags"]


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Each table under the name of its file in RUN/tables.

    All but ``costs`` are functions of the outcomes alone: they do not depend on time, nor on the order of rows.
    """
    totals = summary(run, doubts(run))
    general = {
        "summary": totals,
        "ranking": ranking(run, totals),
        "models": models(run),
        "images": images(run),
        "costs": costs(run),
        "failures": failures(run),
    }
    special = (kind.tables(run, totals) for kind in all_kinds() if kind.tables)
    whole = general | {name: table for group in special for name, table in group.items()}
    return {name: with_methods(run, table) for name, table in whole.items()}


def doubts(run: Run) -> Doubts:
    """Flags that only all cells of a kind together raise, by cell."""
    return {cell: flags for kind in all_kinds() if kind.doubts for cell, flags in kind.doubts(run).items()}


def with_methods(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """The table with name, norm, radius and goal beside its methods, where it has no such columns of its own."""
    if "method" not in table:
        return table
    methods = run.methods(table["method"])
    place = list(table).index("method")
    table = table.copy()
    for column in (name for name in METHOD if name not in table):
        place += 1
        values = table["method"].map({text: getattr(method, column) for text, method in methods.items()})
        table.insert(place, column, values.astype("float64" if column == "eps" else "str"))
    return table


def summary(run: Run, doubts: Doubts | None = None) -> pd.DataFrame:
    """One row per model, data set, method, source, variant and metric; see ``intervals.estimate``.

    ``flags`` counts images, ``boundary:3``; images without a result count as ``skipped`` and ``failed``. Those of the
    cell's ``doubts`` come last.
    """
    rows, failed = (_numbers(frame) for frame in (run.rows, run.failures))
    keys = [*CELL, "metric"]
    values = {key: group.to_numpy() for key, group in rows.groupby(keys)["value"]}
    flags = _flags(rows, failed)
    empty = np.empty(0)
    records = []
    for key in sorted({*values, *(tuple(row) for row in failed[keys].drop_duplicates().to_numpy())}):
        *cell, source, variant, metric = key
        facts = run.metric(metric)
        seed = "\x1f".join([*cell, *filter(None, (source, variant)), metric])
        number = estimate(values.get(key, empty), facts.statistic, facts.interval, seed)
        against = (doubts or {}).get(tuple(cell), {})
        words = [flags.get(key, ""), *(f"{flag}:{count}" for flag, count in sorted(against.items()))]
        records.append((*key, *number, facts.direction, ";".join(filter(None, words))))
    return pd.DataFrame(records, columns=SUMMARY).astype(dict.fromkeys(("value", "low", "high"), "float64"))


def images(run: Run) -> pd.DataFrame:
    """Every outcome of every image, without what it cost."""
    both = [frame for frame in (run.rows, run.failures) if len(frame)]
    frame = pd.concat(both) if both else run.rows
    return frame.sort_values([*CELL, "image", "metric"], kind="stable")[IMAGES].reset_index(drop=True)


def costs(run: Run) -> pd.DataFrame:
    """Samples through the model and seconds, per image; an image's metrics share one cost, so it counts once."""
    per_image = run.rows.groupby([*CELL, "image"])[list(COSTS)].max()
    return per_image.groupby(CELL).mean().reset_index()


def failures(run: Run) -> pd.DataFrame:
    """What did not run, or had no meaning, and why; ``images`` counts them, ``example`` is the first."""
    failed = run.failures.rename(columns={"flags": "reason"})
    failed["reason"] = failed["reason"].mask(failed["reason"].str.contains(NON_FINITE, regex=False), NON_FINITE)
    failed["image"] = failed["image"].mask(failed["image"] == "")  # a whole cell's row names no image
    keys = ["status", *CELL, "reason"]
    groups = failed.groupby(keys)["image"].agg(images="nunique", example="first").reset_index().fillna({"example": ""})
    rest = pd.DataFrame(
        [("missing", *cell.key, "", "", "not run yet", 0, "") for cell in run.missing], columns=groups.columns
    )
    return pd.concat([frame for frame in (groups, rest) if len(frame)] or [groups], ignore_index=True)


def models(run: Run) -> pd.DataFrame:
    """The facts that ``run.json`` holds about each model; nested ones as JSON."""
    facts = run.info.models
    records = [
        {"model": name, **{key: _cell(value) for key, value in facts.get(name, {}).items()}} for name in run.models
    ]
    return pd.DataFrame(records, columns=list(dict.fromkeys(["model", *(key for record in records for key in record)])))


def _cell(value: object) -> object:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _numbers(frame: pd.DataFrame) -> pd.DataFrame:
    numbers = frame["kind"].map({kind: kind_of(kind).summary for kind in frame["kind"].unique()}).astype(bool)
    return frame[numbers & (frame["metric"] != "")]


def _flags(rows: pd.DataFrame, failed: pd.DataFrame) -> dict[tuple[str, ...], str]:
    keys = [*CELL, "metric"]
    on_images = raised(rows, [*keys, "image"])
    on_images = on_images[on_images["flag"].map(name_of) != SHARED]  # of the costs, which are not in this table
    both = pd.concat([on_images, failed[[*keys, "status"]].rename(columns={"status": "flag"})])
    flags: dict[tuple[str, ...], list[str]] = {}
    for key, count in both.groupby([*keys, "flag"]).size().items():
        *cell, flag = key if isinstance(key, tuple) else (key,)
        flags.setdefault(tuple(map(str, cell)), []).append(f"{flag}:{count}")
    return {cell: ";".join(counts) for cell, counts in flags.items()}
