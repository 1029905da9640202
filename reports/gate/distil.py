"""What a check needs of a run: facts, outcomes by image, pictures. A committed baseline holds the same, thinned."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.core.errors import AssayError
from assay.core.text import is_file, is_folder
from assay.reports.gate import art, baseline, proofs
from assay.reports.gate.art import Cell, Key, Picture
from assay.reports.gate.baseline import CELL, FACTS, METRIC, OLD, ROWS
from assay.reports.run.reader import SCHEMAS, UNREADABLE, Run
from assay.reports.run.reader import load as load_run
from assay.reports.run.records import Cell as Stored
from assay.reports.run.records import Method

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

    @property
    def methods(self) -> dict[str, Method]:
        """The methods by their text."""
        return {text: Method.from_json(method) for text, method in self.facts["methods"].items()}

    @property
    def cells(self) -> dict[Cell, dict[str, Any]]:
        """The listed cells, with their states."""
        return {Cell(*(listed[name] for name in OLD)): listed for listed in self.facts["cells"]}

    @property
    def done(self) -> set[Cell]:
        """The cells that are measured."""
        return {cell for cell, listed in self.cells.items() if listed["state"] == "done"}


def load(path: Path) -> Distilled:
    """A run or a baseline. Raises ``AssayError`` for a folder that is neither, or that cannot be read."""
    path = Path(path)
    if baseline.exists(path):
        facts, rows, pictures = baseline.read(path)
        return _checked(Distilled(path=path, facts=facts, rows=rows, pictures=pictures, side=baseline.SIDE))
    if is_folder(path) and not is_file(path / "run.json"):
        raise AssayError(f"{path} is neither a run nor a baseline: it has no run.json and no {baseline.INDEX}")
    return distil(load_run(path))


def distil(run: Run) -> Distilled:
    """Everything that a check compares, at the size at which the run stored it."""
    pictures: dict[Key, Picture] = {}
    unreadable = []
    for stored in filter(run.done, run.info.cells):
        cell = Cell(*stored.key)
        try:
            pictures.update(art.pictures(run.path / "art" / stored.id, cell))
        except UNREADABLE as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            unreadable.append((Key(*stored.key, "", ""), reason))
    pictures.update(proofs.read(run))
    whole = Distilled(
        path=run.path, facts=_facts(run), rows=_rows(run), pictures=pictures, unreadable=tuple(unreadable)
    )
    return _checked(whole)


def write(distilled: Distilled, folder: Path) -> Path:
    """Write a baseline into the folder; see ``baseline.write``. Raises ``AssayError`` for an unfinished run."""
    states = Counter(cell["state"] for cell in distilled.facts["cells"])
    if states["missing"] or not states["done"]:
        what = f"{states['missing']} of {states.total()} cells are missing"
        raise AssayError(f"{distilled.path} is no baseline: {what}; finish it: the same assay run again")
    small = thin(distilled, baseline.SIDE)
    pictures = {key: picture for key, picture in small.pictures.items() if picture.sort in baseline.SORTS}
    return baseline.write(folder, small.facts, small.rows, pictures)


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
    metrics = sorted({*info.metrics, *run.rows["metric"].unique()} - {""})
    return {
        **{name: getattr(info, name) for name in FACTS},
        "models": {name: _model(facts) for name, facts in info.models.items()},
        "data": {
            name: {key: facts.get(key) for key in ("digest", "n", "classes")} for name, facts in info.data.items()
        },
        "metrics": {name: {key: getattr(run.metric(name), key) for key in METRIC} for name in metrics},
        "methods": {text: method.as_json() for text, method in info.methods.items()},
        "cells": [
            {**dict(zip(OLD, cell.key, strict=True)), "state": state, **({"reason": reason} if reason else {})}
            for cell, state, reason in _states(run)
        ],
    }


def _model(facts: dict[str, Any]) -> dict[str, Any]:
    card = facts.get("card") or {}
    about = {key: facts.get(key) for key in ("digest", "spec", "input_size", "parameters")}
    return {**about, **{key: card[key] for key in NORMALISATION if key in card}}


def _states(run: Run) -> Iterable[tuple[Stored, str, str]]:
    """Each listed cell: done, skipped or failed as a whole and why, or missing."""
    failures = run.failures[run.failures["image"] == ""]
    whole = {
        cell: (status, flags) for cell, status, flags in failures[["cell", "status", "flags"]].itertuples(index=False)
    }
    missing = {cell.id for cell in run.missing}
    for cell in run.info.cells:
        if cell.id in missing:
            yield cell, "missing", ""
        elif run.done(cell):
            yield cell, "done", ""
        else:
            yield cell, *whole.get(cell.id, ("failed", ""))


def _rows(run: Run) -> pd.DataFrame:
    frames = [frame[[*ROWS]] for frame in (run.rows, run.failures) if len(frame)]
    rows = pd.concat(frames) if frames else run.rows[[*ROWS]]
    rows = rows[rows["metric"] != ""]
    rows = rows.assign(value=rows["value"].astype(np.float32), label=rows["label"].fillna(-1).astype(np.int32))
    return rows.sort_values([*CELL, "metric", "image"], kind="stable", ignore_index=True)
