"""What a check needs of a run: facts, outcomes by image, pictures. A committed baseline holds the same, thinned."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.core.errors import AssayError
from assay.reports.gate import art, baseline, proofs
from assay.reports.gate.art import Key, Picture
from assay.reports.gate.baseline import CELL, ROWS
from assay.reports.run.reader import Run
from assay.reports.run.reader import load as load_run

SCHEMAS = (1,)  # of runs that this version compares
METRIC = ("direction", "unit", "statistic", "interval")
NORMALISATION = ("mean", "std")


@dataclass(frozen=True, kw_only=True, slots=True)
class Distilled:
    """``facts`` are JSON: seed, models, data, metrics, cells with their states, code, packages."""

    path: Path
    facts: dict[str, Any]
    rows: pd.DataFrame  # ROWS: one per image and metric
    pictures: dict[Key, Picture]
    side: int | None = None  # pictures are thinned to so many pixels; None as the run stored them
    unreadable: tuple[tuple[Key, str], ...] = ()  # art that could not be read, and why


def load(path: Path) -> Distilled:
    """A run or a baseline. Raises ``AssayError`` for a folder that is neither, or that cannot be read."""
    path = Path(path)
    if baseline.here(path):
        facts, rows, pictures = baseline.read(path)
        return _checked(Distilled(path=path, facts=facts, rows=rows, pictures=pictures, side=baseline.SIDE))
    if path.is_dir() and not (path / "run.json").is_file():
        raise AssayError(f"{path} is neither a run nor a baseline: it has no run.json and no {baseline.INDEX}")
    return distil(load_run(path))


def distil(run: Run) -> Distilled:
    """Everything that a check compares, at the size at which the run stored it."""
    pictures: dict[Key, Picture] = {}
    unreadable = []
    for cell in run.info["cells"]:
        if not (run.path / "cells" / f"{cell['id']}.parquet").is_file():
            continue
        try:
            pictures.update(art.pictures(run.path / "art" / cell["id"], cell))
        except art.UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            unreadable.append((Key(cell["model"], cell["data"], cell["kind"], cell["method"], "", ""), reason))
    pictures.update(proofs.read(run))
    return _checked(
        Distilled(
            path=run.path,
            facts=_facts(run),
            rows=_rows(run),
            pictures=pictures,
            unreadable=tuple(unreadable),
        )
    )


def write(distilled: Distilled, folder: Path) -> Path:
    """Write a baseline into the folder; see ``baseline.write``. Raises ``AssayError`` for an unfinished run."""
    states = Counter(cell["state"] for cell in distilled.facts["cells"])
    if states["missing"] or not states["done"]:
        what = f"{states['missing']} of {states.total()} cells are missing"
        raise AssayError(f"{distilled.path} is no baseline: {what}; finish it: the same assay run again")
    small = thin(distilled, baseline.SIDE)
    kept = {key: picture for key, picture in small.pictures.items() if picture.sort in baseline.KEPT}
    return baseline.write(folder, small.facts, small.rows, kept)


def thin(distilled: Distilled, side: int | None) -> Distilled:
    """With pictures of at most ``side`` pixels, as a baseline keeps them."""
    if side is None or distilled.side == side:
        return distilled
    small = {key: art.thinned(picture, side) for key, picture in distilled.pictures.items()}
    return replace(distilled, pictures=small, side=side)


def _checked(distilled: Distilled) -> Distilled:
    schema = distilled.facts.get("schema")
    if schema not in SCHEMAS:
        known = ", ".join(map(str, SCHEMAS))
        raise AssayError(f"{distilled.path} has schema {schema}, this version compares {known}; make it again")
    return distilled


def _facts(run: Run) -> dict[str, Any]:
    info = run.info
    models = info.get("models") or {}
    return {
        "schema": info.get("schema"),
        "created": info.get("created"),
        "preset": info.get("preset"),
        "seed": info.get("seed"),
        "code": info.get("code") or {},
        "packages": info.get("packages") or {},
        "hardware": info.get("hardware") or {},
        "models": {name: _model(facts) for name, facts in models.items()},
        "data": {
            name: {key: facts.get(key) for key in ("digest", "n", "classes")}
            for name, facts in (info.get("data") or {}).items()
        },
        "metrics": {
            name: {key: run.metric(name)[key] for key in METRIC}
            for name in sorted({*(info.get("metrics") or {}), *run.rows["metric"].unique()} - {""})
        },
        "cells": [
            {**{key: cell[key] for key in CELL}, "state": state, **({"reason": reason} if reason else {})}
            for cell, state, reason in _states(run)
        ],
    }


def _model(facts: dict[str, Any]) -> dict[str, Any]:
    card = facts.get("card") or {}
    kept = {key: facts.get(key) for key in ("digest", "spec", "input_size", "parameters")}
    return {**kept, **{key: card[key] for key in NORMALISATION if key in card}}


def _states(run: Run) -> Iterable[tuple[dict[str, str], str, str]]:
    """Each listed cell: done, skipped or failed as a whole and why, or missing."""
    lost = run.failures[run.failures["image"] == ""]
    whole = {tuple(row[:4]): (row[4], row[5]) for row in lost[[*CELL, "status", "flags"]].itertuples(index=False)}
    missing = {cell["id"] for cell in run.missing}
    for cell in run.info["cells"]:
        if cell["id"] in missing:
            yield cell, "missing", ""
        elif (run.path / "failed" / f"{cell['id']}.parquet").is_file() and not (
            run.path / "cells" / f"{cell['id']}.parquet"
        ).is_file():
            yield cell, *whole.get(tuple(cell[key] for key in CELL), ("failed", ""))
        else:
            yield cell, "done", ""


def _rows(run: Run) -> pd.DataFrame:
    frames = [frame[[*ROWS]] for frame in (run.rows, run.failures) if len(frame)]
    rows = pd.concat(frames) if frames else run.rows[[*ROWS]]
    rows = rows[rows["metric"] != ""]
    rows = rows.assign(value=rows["value"].astype(np.float32), label=rows["label"].fillna(-1).astype(np.int32))
    return rows.sort_values([*CELL, "metric", "image"], kind="stable", ignore_index=True)
