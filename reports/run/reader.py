"""What a run left on disk, as frames."""

import json
import re
import zipfile
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from assay.core.errors import AssayError, brief
from assay.core.text import is_file, is_folder, read_text, to_json
from assay.reports.run import labels, schema1
from assay.reports.run.records import COSTS, ROW, SCHEMA, TEXT, Cell, Info, Method, Metric

SCHEMAS = (1, SCHEMA)  # that this version reads
UNREADABLE = (  # what reading a damaged file raises
    *(OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, MemoryError, NotImplementedError),
    *(OverflowError, RecursionError, zipfile.BadZipFile, zlib.error, pa.ArrowException),
)
COLUMNS = (*ROW, "method")
NON_FINITE = "non-finite-logits"  # the flag of an image to which the model has no answer
UNANSWERED = {"accuracy": 0.0, "robust_accuracy": 0.0, "error_rate": 1.0}  # what such an image counts as
ORDER = ("model", "data", "kind", "method", "source", "variant", "metric", "image", "value", "status", "flags")


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """Everything a report is made of; rows are those of the cells that ``run.json`` lists, in a fixed order."""

    path: Path
    rows: pd.DataFrame  # COLUMNS, status "ok"; ``method`` is the text of the cell's method
    failures: pd.DataFrame  # COLUMNS, status "skipped" or "failed", the reason in flags
    info: Info
    missing: tuple[Cell, ...]  # listed cells that have neither rows nor a failure

    def metric(self, name: str) -> Metric:
        """What the metric's numbers are; plain defaults for one that the run does not describe."""
        return self.info.metrics.get(name) or Metric()

    def method(self, text: str) -> Method:
        """The method of that text; nothing but its text where the run does not describe it."""
        unknown = schema1.method if self.info.schema == 1 else Method
        return self.info.methods.get(text) or unknown(text=text)

    def methods(self, texts: Iterable[str]) -> dict[str, Method]:
        """The method of each text, by text."""
        return {text: self.method(text) for text in sorted(set(texts))}

    def select(self, kind: str, metric: str | None = None, **values: object) -> pd.DataFrame:
        """The rows of a kind, of one metric unless all are wanted, and with those values in other columns."""
        return where(self.rows, kind=kind, **({} if metric is None else {"metric": metric}), **values)

    def short(self, texts: Iterable[str], always: Collection[str] = ()) -> dict[str, str]:
        """A short name for each method; see ``labels.short``."""
        return labels.short([self.method(text) for text in dict.fromkeys(texts)], always)

    @property
    def models(self) -> list[str]:
        """Names in the order of ``run.json``, then those that only rows mention."""
        return _in_order(self.info.models, self.rows["model"], self.failures["model"])

    @property
    def data(self) -> list[str]:
        """Data specs in the order of ``run.json``, then those that only rows mention."""
        return _in_order(self.info.data, self.rows["data"], self.failures["data"])

    def classes(self, data: str) -> list[str]:
        """Names of the classes of a data set; none where the run does not know them."""
        return [str(name) for name in self.info.data.get(data, {}).get("classes") or []]

    @cached_property
    def labels(self) -> dict[tuple[str, str], int]:
        """The class of an image among those of its data, by data set and id, in the order of the classes.

        Rows of a model have its own number for it: what the data's rows tell comes first.
        """
        rows = self.rows.dropna(subset="label")
        rows = rows[rows["label"] >= 0].sort_values(["model", "label"], kind="stable")
        rows = rows.drop_duplicates(["data", "image"]).sort_values("label", kind="stable")
        keys = zip(rows["data"], rows["image"], strict=True)
        return dict(zip(keys, map(int, rows["label"]), strict=True))

    def cells(self, kind: str) -> list[Cell]:
        """The listed cells of one kind, by model, data set and method."""
        return sorted((cell for cell in self.info.cells if cell.kind == kind), key=lambda cell: (*cell.key, cell.id))

    def done(self, cell: Cell) -> bool:
        """Whether the cell is measured."""
        return (self.path / "cells" / f"{cell.id}.parquet").is_file()


def where(frame: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows of a frame that have those values in those columns."""
    mask = pd.Series(True, frame.index)
    for name, value in values.items():
        mask &= frame[name] == value
    return frame[mask]


def load(run: Path) -> Run:
    """Read RUN. Raises ``AssayError`` where there is no run, or a listed file cannot be read."""
    run = Path(run)
    if not is_folder(run):
        raise AssayError(f"no run at {run}: {'it is a file' if is_file(run) else 'there is no such folder'}")
    info = read_info(run / "run.json")
    frames, missing = [], []
    for cell in info.cells:
        done, failed = (run / folder / f"{cell.id}.parquet" for folder in ("cells", "failed"))
        if done.is_file() or failed.is_file():
            frames.append(_shard(done if done.is_file() else failed, cell, info))
        else:
            missing.append(cell)
    frames = [frame for frame in frames if len(frame)]
    rows = pd.concat(frames, ignore_index=True) if frames else _with_types(pd.DataFrame(columns=list(COLUMNS)))
    rows = _counted(rows)
    rows = rows.sort_values(list(ORDER), kind="stable", ignore_index=True)
    fine = rows["status"] == "ok"
    return Run(
        path=run,
        rows=rows[fine].reset_index(drop=True),
        failures=rows[~fine].reset_index(drop=True),
        info=info,
        missing=tuple(missing),
    )


def read_info(path: Path) -> Info:
    """What ``path``, a ``run.json``, tells. Raises ``AssayError`` where it cannot be read."""
    if not is_file(path):
        raise AssayError(f"no run at {path.parent}: it has no run.json")
    try:
        stored: Any = json.loads(read_text(path))
        if not isinstance(stored, dict):
            raise TypeError("it is not an object")
        schema = stored.get("schema")
        if schema in SCHEMAS:
            stored = json.loads(to_json(stored))  # without halves of letters, which no file can be written with
            info = Info.from_json(schema1.migrate(stored) if schema == 1 else stored)
            for cell in info.cells:
                if not re.fullmatch(r"[0-9A-Za-z_-]{1,99}", cell.id):
                    raise ValueError(f"{cell.id!r} is not a cell's id")
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise AssayError(f"cannot read {path}: {error}") from None
    if schema not in SCHEMAS:
        schemas = " and ".join(map(str, SCHEMAS))
        raise AssayError(f"{path} has schema {brief(schema)}, this version reads {schemas}; make the run again")
    return info


def _shard(path: Path, cell: Cell, info: Info) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
        if "method" in frame:
            frame = schema1.variants(frame, [cell], info.methods)
        return _with_types(frame.assign(cell=cell.id, method=cell.method).reindex(columns=list(COLUMNS)))
    except UNREADABLE as error:
        raise AssayError(f"cannot read {path}: {str(error).partition(chr(10))[0]}") from None


def _with_types(frame: pd.DataFrame) -> pd.DataFrame:
    names = (*TEXT, "method")
    text = {name: frame[name].astype("object").where(frame[name].notna(), "").astype("str") for name in names}
    numbers = {name: pd.to_numeric(frame[name]).astype("float64") for name in ("value", *COSTS)}
    label = pd.to_numeric(frame["label"]).astype("Int64")
    frame = frame.assign(**text, **numbers, label=label)
    return frame.assign(status=frame["status"].mask(frame["status"] == "", "ok"))


def _counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Images without an answer count against the model; earlier versions stored them as failed, without a value."""
    lost = frame["flags"].str.contains(NON_FINITE, regex=False) & frame["metric"].isin(list(UNANSWERED))
    lost &= (frame["status"] == "failed") & frame["value"].isna()
    value = frame["value"].mask(lost, frame["metric"].map(UNANSWERED))
    return frame.assign(value=value, status=frame["status"].mask(lost, "ok"))


def _in_order(first: Iterable[str], *columns: "pd.Series[str]") -> list[str]:
    names = list(first)
    return [*names, *sorted({name for column in columns for name in column.unique() if name} - set(names))]
