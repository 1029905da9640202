"""The tables of a run."""

import json
from typing import Any

import numpy as np
import pandas as pd

from assay.reports.run import cross_attack_checks as checks
from assay.reports.run import curves
from assay.reports.kinds import learned as learned_models
from assay.reports.run import explainer_statistics as methods
from assay.reports.run import ranking
from assay.reports.kinds import shortcut
from assay.reports.kinds import transfer
from assay.reports.run.outcomes import all_facts, outcomes
from assay.reports.run.intervals import estimate
from assay.reports.run.reader import COSTS, Run

CELL = ["model", "data", "kind", "method"]
SUMMARY = [*CELL, "metric", "value", "low", "high", "n", "direction", "flags"]
IMAGES = ["model", "data", "image", "label", "kind", "method", "metric", "value", "status", "flags"]
PICTURES_ONLY = ("gallery", "data")


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Each table under the name of its file in RUN/tables.

    All but ``costs`` are functions of the outcomes alone: they do not depend on time, nor on the order of rows.
    """
    checked, flags = checks.run(run)
    totals = summary(run, flags)
    every = outcomes(run)
    known = all_facts(run, every["method"])
    scores = methods.scores(run)
    return {
        "summary": totals,
        "ranking": ranking.ranking(run, totals),
        "models": models(run),
        "images": images(run),
        "costs": costs(run),
        "failures": failures(run),
        "curves": curves.curves(every, known),
        "optimality": curves.optimality_table(every, known),
        "transfer": transfer.table(run),
        "explainers": methods.methods(scores),
        "explainer_pairs": methods.pairs(scores),
        "shortcut": shortcut.table(run),
        "learned": learned_models.table(run, totals),
        "metric_agreement": methods.agreement(scores),
        "checks": checked,
    }


def summary(run: Run, contradicted: checks.Flags | None = None) -> pd.DataFrame:
    """One row per model, data set, method and metric; see ``intervals.estimate``.

    ``flags`` counts images, ``boundary:3``; images without a result count as ``skipped`` and ``failed``. Those that
    another attack ``contradicted`` come last.
    """
    rows, lost = (_measured(frame) for frame in (run.rows, run.failures))
    keys = [*CELL, "metric"]
    values = {key: group.to_numpy() for key, group in rows.groupby(keys)["value"]}
    flags = _flags(rows, lost)
    empty = np.empty(0)
    records = []
    for key in sorted({*values, *(tuple(row) for row in lost[keys].drop_duplicates().to_numpy())}):
        facts = run.metric(key[-1])
        found = estimate(values.get(key, empty), facts["statistic"], facts["interval"], "\x1f".join(key))
        model, data, kind, method, _ = key
        against = (contradicted or {}).get((model, data, method), {}) if kind == "attack" else {}
        words = [flags.get(key, ""), *(f"{flag}:{count}" for flag, count in sorted(against.items()))]
        records.append((*key, *found, facts["direction"], ";".join(filter(None, words))))
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
    lost = run.failures.rename(columns={"flags": "reason"})
    lost["image"] = lost["image"].mask(lost["image"] == "")  # a whole cell's row names no image
    keys = ["status", *CELL, "reason"]
    found = lost.groupby(keys)["image"].agg(images="nunique", example="first").reset_index().fillna({"example": ""})
    rest = pd.DataFrame(
        [
            {
                "status": "missing",
                **{key: cell[key] for key in CELL},
                "reason": "not run yet",
                "images": 0,
                "example": "",
            }
            for cell in run.missing
        ],
        columns=found.columns,
    )
    return pd.concat([frame for frame in (found, rest) if len(frame)] or [found], ignore_index=True)


def models(run: Run) -> pd.DataFrame:
    """The facts that ``run.json`` holds about each model; nested ones as JSON."""
    facts: dict[str, dict[str, Any]] = run.info.get("models") or {}
    records = [
        {"model": name, **{key: _cell(value) for key, value in facts.get(name, {}).items()}} for name in run.models
    ]
    return pd.DataFrame(records, columns=list(dict.fromkeys(["model", *(key for record in records for key in record)])))


def _cell(value: object) -> object:
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list) else value


def _measured(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[~frame["kind"].isin(PICTURES_ONLY) & (frame["metric"] != "")]


def _flags(rows: pd.DataFrame, lost: pd.DataFrame) -> dict[tuple[str, ...], str]:
    keys = [*CELL, "metric"]
    raised = rows.loc[rows["flags"] != "", [*keys, "flags"]]
    raised = raised.assign(flags=raised["flags"].str.split(";")).explode("flags")
    raised["flags"] = raised["flags"].str.strip()
    raised = raised[~raised["flags"].str.startswith("shared=")]  # of the costs alone, which are not in this table
    both = pd.concat([raised[raised["flags"] != ""], lost[[*keys, "status"]].rename(columns={"status": "flags"})])
    found: dict[tuple[str, ...], list[str]] = {}
    for key, count in both.groupby([*keys, "flags"]).size().items():
        *cell, flag = key if isinstance(key, tuple) else (key,)
        found.setdefault(tuple(map(str, cell)), []).append(f"{flag}:{count}")
    return {cell: ";".join(counts) for cell, counts in found.items()}
