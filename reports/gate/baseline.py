"""A baseline on disk: small enough to be committed.

``baseline.json`` holds the facts and the names of the pictures, ``images.parquet`` the outcomes, ``pictures.npz``
each distinct picture once, by the hash of its content.
"""

import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from assay.core.errors import AssayError
from assay.core.text import is_file
from assay.reports.gate.art import Key, Picture
from assay.reports.run import schema1

SCHEMA = 2
INDEX = "baseline.json"
IMAGES = "images.parquet"
PICTURES = "pictures.npz"
SIDE = 32  # pixels
SORTS = ("image", "heat", "attacked", "drawn", "made", "surface", "filter", "proof", "proof-attack")
OLD = ("model", "data", "kind", "method")  # the columns of a cell in a baseline of schema 1
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
    if (folder / "run.json").exists():
        raise AssayError(f"{folder} is a run; write the baseline into a folder of its own")
    if folder.is_dir() and any(folder.iterdir()) and not exists(folder):
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
        if facts.get("baseline") not in (1, SCHEMA) or facts.get("side") != SIDE:
            raise AssayError(f"{folder} was written by another version; make it again: assay baseline RUN --out DIR")
        rows = pd.read_parquet(folder / IMAGES)
        if facts["baseline"] == 1:
            facts, rows = schema1.baseline(facts, rows.astype(dict.fromkeys(OLD, "str")))
        rows = rows[[*ROWS]].astype(dict.fromkeys(TEXT, "str"))
        with np.load(folder / PICTURES, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        pictures = {
            Key(*entry[:6]): Picture(str(entry[6]), arrays[entry[8]], tuple(entry[7]))
            for entry in facts.pop("pictures")
        }
    except AssayError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        pa.ArrowInvalid,
    ) as error:
        raise AssayError(f"cannot read the baseline {folder}: {str(error).splitlines()[0]}") from error
    return facts, rows, pictures
