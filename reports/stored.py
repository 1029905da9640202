"""What a run left on disk, as frames."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from assay.core.errors import AssayError

TEXT = ("model", "data", "image", "kind", "method", "metric", "status", "flags")
COSTS = ("forwards", "backwards", "seconds")
COLUMNS = ("model", "data", "image", "label", "kind", "method", "metric", "value", "status", "flags", *COSTS)
NO_METRIC: dict[str, str] = {
    "direction": "none",
    "unit": "",
    "statistic": "mean",
    "interval": "bootstrap",
    "meaning": "This run does not say what it means.",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """Everything a report is made of; rows are those of the cells that ``run.json`` lists, in a fixed order."""

    path: Path
    rows: pd.DataFrame  # COLUMNS, status "ok"
    failures: pd.DataFrame  # COLUMNS, status "skipped" or "failed", the reason in flags
    info: dict[str, Any]  # run.json
    missing: tuple[dict[str, str], ...]  # listed cells that have neither rows nor a failure

    def metric(self, name: str) -> dict[str, str]:
        """Direction, unit, statistic, interval and meaning; plain defaults for a metric the run does not describe."""
        return {**NO_METRIC, **(self.info.get("metrics") or {}).get(name, {})}

    @property
    def models(self) -> list[str]:
        """Names in the order of ``run.json``, then those that only rows mention."""
        return _ordered(self.info.get("models"), self.rows["model"], self.failures["model"])

    @property
    def data(self) -> list[str]:
        """Data specs in the order of ``run.json``, then those that only rows mention."""
        return _ordered(self.info.get("data"), self.rows["data"], self.failures["data"])

    def cells(self, kind: str) -> list[dict[str, str]]:
        """The listed cells of one kind, by model, data set and method."""
        found = [cell for cell in self.info["cells"] if cell["kind"] == kind]
        return sorted(found, key=lambda cell: (cell["model"], cell["data"], cell["method"], cell["id"]))


def load(run: Path) -> Results:
    """Read RUN. Raises ``AssayError`` where there is no run, or a listed file cannot be read."""
    run = Path(run)
    if not run.is_dir():
        raise AssayError(f"no run at {run}: there is no such folder")
    info = _run_json(run / "run.json")
    frames, missing = [], []
    for cell in info["cells"]:
        done, failed = (run / folder / f"{cell['id']}.parquet" for folder in ("cells", "failed"))
        if done.is_file() or failed.is_file():
            frames.append(_shard(done if done.is_file() else failed))
        else:
            missing.append(cell)
    frames = [frame for frame in frames if len(frame)]
    rows = _typed(pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=list(COLUMNS)))
    order = ["model", "data", "kind", "method", "metric", "image", "value", "status", "flags"]
    rows = rows.sort_values(order, kind="stable", ignore_index=True)
    fine = rows["status"] == "ok"
    return Results(
        path=run,
        rows=rows[fine].reset_index(drop=True),
        failures=rows[~fine].reset_index(drop=True),
        info=info,
        missing=tuple(missing),
    )


def _run_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise AssayError(f"no run at {path.parent}: it has no run.json")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise AssayError(f"cannot read {path}: {error}") from None
    if not isinstance(info, dict):
        raise AssayError(f"cannot read {path}: it is not an object")
    cells = [
        {key: str(cell.get(key) or "") for key in ("id", "kind", "model", "data", "method")}
        for cell in info.get("cells") or []
    ]
    for cell in cells:
        if not re.fullmatch(r"[0-9A-Za-z_-]+", cell["id"]):
            raise AssayError(f"cannot read {path}: {cell['id']!r} is not a cell's id")
    return {**info, "cells": cells}


def _shard(path: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise AssayError(f"cannot read {path}: {str(error).splitlines()[0]}") from None
    return frame.reindex(columns=list(COLUMNS)).astype({"value": "float64"})


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    text = {name: frame[name].astype("object").where(frame[name].notna(), "").astype("str") for name in TEXT}
    numbers = {name: pd.to_numeric(frame[name]).astype("float64") for name in ("value", *COSTS)}
    label = pd.to_numeric(frame["label"]).astype("Int64")
    frame = frame.assign(**text, **numbers, label=label)
    return frame.assign(status=frame["status"].mask(frame["status"] == "", "ok"))


def _ordered(first: object, *columns: "pd.Series[str]") -> list[str]:
    names = list(first) if isinstance(first, dict) else []
    rest = sorted({name for column in columns for name in column.unique() if name} - set(names))
    return [*names, *rest]
