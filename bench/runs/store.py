"""What a run keeps on disk: whole shards, written beside and renamed, so that existence means done."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from assay.bench.writing import writing
from assay.core.errors import AssayError
from assay.core.text import is_file, storable, to_json
from assay.reports.run.reader import read_info
from assay.reports.run.records import COSTS, ROW, SCHEMA, Info


class StoreError(AssayError):
    """A run that ended before its end: the disk is full, a worker was killed."""

    status = 1


_TYPES = {"label": pa.int64(), **dict.fromkeys(("value", *COSTS), pa.float64())}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in ROW], metadata={"assay_schema": str(SCHEMA)})


class Store:
    """The folder of a run. ``art`` of a cell is complete before its rows are there."""

    def __init__(self, run: Path) -> None:
        self.run = run

    def open(self) -> None:
        """Make the folders, and clear what a killed process left half written."""
        with writing(self.run):
            for folder in ("cells", "failed", "art"):
                (self.run / folder).mkdir(parents=True, exist_ok=True)
            for left in [*self.run.glob("*.part"), *self.run.glob("*/*.part")]:
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    def done(self, cell: str) -> bool:
        return (self.run / "cells" / f"{cell}.parquet").exists()

    def keep(self, cell: str, rows: Sequence[Mapping[str, Any]], art: Mapping[str, Any] | None = None) -> None:
        """Store a finished cell: its art (arrays by file name, or JSON values), then its rows."""
        with _writing(self.run):
            if art:
                folder = self.run / "art" / cell
                beside = folder.with_name(f"{cell}.{os.getpid()}.part")
                shutil.rmtree(beside, ignore_errors=True)
                beside.mkdir(parents=True)
                for name, content in art.items():
                    _keep_art(beside / name, content)
                shutil.rmtree(folder, ignore_errors=True)
                beside.replace(folder)
            _write_rows(self.run / "cells" / f"{cell}.parquet", rows)
            (self.run / "failed" / f"{cell}.parquet").unlink(missing_ok=True)

    def fail(self, cell: str, row: Mapping[str, Any]) -> None:
        """Store why a cell failed; it does not count as done."""
        with _writing(self.run):
            _write_rows(self.run / "failed" / f"{cell}.parquet", [row])

    def describe(self, info: Info) -> None:
        """Write ``run.json``."""
        with writing(self.run):
            _write_text(self.run / "run.json", to_json(info.as_json(), indent=2) + "\n")

    def sessions(self) -> list[dict[str, Any]]:
        """The commands that wrote into the folder, as the ``run.json`` that is there tells them."""
        path = self.run / "run.json"
        return list(read_info(path).sessions) if is_file(path) else []


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of one shard; another schema raises ``AssayError``."""
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise AssayError(f"{path} cannot be read; delete it and run again") from error
    schema = int((table.schema.metadata or {}).get(b"assay_schema", b"0"))
    if schema != SCHEMA:
        raise AssayError(f"{path} was written with schema {schema}, this version reads {SCHEMA}; run into a new folder")
    frame: pd.DataFrame = table.to_pandas()
    return frame


@contextmanager
def _writing(run: Path) -> Iterator[None]:
    """Turn a disk that fills up into one clear line."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"cannot write to {run}: {reason}; what is stored stays valid, the same command goes on from there"
        ) from error


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    texts = ({key: storable(value) if isinstance(value, str) else value for key, value in row.items()} for row in rows)
    table = pa.Table.from_pylist([{name: row.get(name) for name in ROW} for row in texts], schema=_SCHEMA)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        pq.write_table(table, beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _write_text(path: Path, text: str) -> None:
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _keep_art(path: Path, content: Mapping[str, NDArray[Any]] | Any) -> None:
    if path.suffix == ".npz":
        np.savez_compressed(path, **content)
    else:
        path.write_text(to_json(content, indent=2) + "\n", encoding="utf-8")
