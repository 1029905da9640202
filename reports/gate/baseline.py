"""A baseline on disk: small enough to be committed.

``baseline.json`` holds the facts and the names of the pictures, ``images.parquet`` the outcomes, ``pictures.npz``
each distinct picture once, by the hash of its content.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from assay.core.errors import AssayError
from assay.core.text import is_file, is_folder
from assay.reports.gate.art import Key, Picture
from assay.reports.run import schema1
from assay.reports.run.reader import UNREADABLE
from assay.reports.run.records import MODEL, Info

SCHEMA = 2
INDEX = "baseline.json"
IMAGES = "images.parquet"
PICTURES = "pictures.npz"
SIDE = 32  # pixels
SORTS = ("image", "heat", "attacked", "drawn", "made", "surface", "filter", "proof", "proof-attack")
OLD = ("model", "data", "kind", "method")  # the columns of a cell in a baseline of schema 1
METRIC = ("direction", "unit", "statistic", "interval")
FACTS = ("schema", "created", "preset", "seed", "code", "packages", "hardware")
STATES = ("done", "skipped", "failed", "missing")
CELL = (*OLD, "source", "variant")
ROWS = (*CELL, "metric", "image", "label", "value", "status", "flags")
TEXT = (*CELL, "metric", "image", "status", "flags")


def exists(folder: Path) -> bool:
    """Whether the folder holds a baseline."""
    return is_file(folder / INDEX)


def write(folder: Path, facts: dict[str, Any], rows: pd.DataFrame, pictures: dict[Key, Picture]) -> Path:
    """Write the folder, replacing a baseline that is there; returns it.

    Raises ``AssayError`` for a run's folder, and for one that holds anything but a baseline.
    """
    if is_file(folder / "run.json"):
        raise AssayError(f"{folder} is a run; write the baseline into a folder of its own")
    if is_folder(folder) and any(folder.iterdir()) and not exists(folder):
        raise AssayError(f"{folder} holds something else than a baseline; name an empty folder with --out")
    stored: dict[str, Any] = {}
    index = []
    for key, picture in sorted(pictures.items()):
        array = np.ascontiguousarray(picture.array)
        name = hashlib.sha256(f"{array.shape}{array.dtype}".encode() + array.tobytes()).hexdigest()[:16]
        stored[name] = array
        index.append([*key, picture.sort, list(picture.size), name])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / INDEX).unlink(missing_ok=True)
        small = rows.astype(dict.fromkeys(TEXT, "category"))
        small.to_parquet(folder / IMAGES, index=False, compression="zstd", compression_level=9)
        np.savez_compressed(folder / PICTURES, **stored)
        about = {"baseline": SCHEMA, "side": SIDE, **facts, "pictures": index}
        text = json.dumps(about, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        (folder / INDEX).write_text(text.replace('],["', '],\n["') + "\n", encoding="utf-8")
    except OSError as error:
        raise AssayError(f"cannot write to {folder}: {error.strerror or error}") from error
    except UnicodeEncodeError as error:
        raise AssayError(f"cannot write to {folder}: a name holds {error.object[error.start]!a}, no text") from error
    return folder


def read(folder: Path) -> tuple[dict[str, Any], pd.DataFrame, dict[Key, Picture]]:
    """Facts, rows and pictures. Raises ``AssayError`` where the folder cannot be read or is of another version."""
    try:
        facts = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        is_known = facts.get("baseline") in (1, SCHEMA) and facts.get("side") == SIDE
        if is_known:
            facts, rows, pictures = _contents(folder, facts)
    except UNREADABLE as error:
        raise AssayError(f"cannot read the baseline {folder}: {str(error).partition(chr(10))[0]}") from error
    if not is_known:
        raise AssayError(f"{folder} was written by another version; make it again: assay baseline RUN --out DIR")
    return facts, rows, pictures


def _contents(folder: Path, facts: dict[str, Any]) -> tuple[dict[str, Any], pd.DataFrame, dict[Key, Picture]]:
    rows = pd.read_parquet(folder / IMAGES)
    if facts["baseline"] == 1:
        facts, rows = schema1.baseline(facts, rows.astype(dict.fromkeys(OLD, "str")))
    rows = rows[[*ROWS]].astype({**dict.fromkeys(TEXT, "str"), "value": "float32", "label": "int32"})
    with (folder / PICTURES).open("rb") as file, np.load(file, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    pictures = {
        Key(*map(str, entry[:6])): Picture(str(entry[6]), arrays[entry[8]], tuple(map(int, entry[7])))
        for entry in facts["pictures"]
    }
    return _whole(facts), rows, pictures


def _whole(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with all that a check reads. Raises ``ValueError``, ``TypeError`` or ``LookupError`` for another shape."""
    info = Info.from_json({**facts, "cells": [{"id": "", **cell} for cell in facts["cells"]]})
    return {
        **{name: getattr(info, name) for name in FACTS},
        "models": {name: {**dict.fromkeys(MODEL), **about} for name, about in info.models.items()},
        "data": {name: {"digest": None, "n": None, "classes": [], **about} for name, about in info.data.items()},
        "metrics": {name: {key: getattr(metric, key) for key in METRIC} for name, metric in info.metrics.items()},
        "methods": {text: method.as_json() for text, method in info.methods.items()},
        "cells": [{**cell, "state": STATES[STATES.index(cell["state"])]} for cell in facts["cells"]],
    }
