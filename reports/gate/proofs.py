"""Proofs: heatmaps as the report renders them. A wrong colour map changes no array, so these are compared as pixels.

One sheet for each cell of a kind that renders some: a gallery's first image under each heatmap, then the change.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from assay.core.errors import AssayError
from assay.reports.gate.art import Key, Picture, thinned
from assay.reports.kinds import all_kinds
from assay.reports.run.reader import UNREADABLE, Run
from assay.reports.run.records import Cell

FOLDER = Path("report") / "proofs"
INDEX = "proofs.json"
OWNER = ("model", "data", "kind", "method")
CHANGE = "change"  # the tile that shows what the attack changed
SIDE = 32  # pixels: the largest side of a tile; a colour map is seen in few
Pixels = NDArray[np.uint8]


def write(run: Run, folder: Path) -> None:
    """Render the sheets of a run into a folder (RUN/report/proofs), replacing those that are there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = []
    for cell, tiles in _sheets(run):
        sheet = np.concatenate(list(tiles.values()), axis=1)
        name = hashlib.sha256(sheet.shape.__repr__().encode() + sheet.tobytes()).hexdigest()[:16] + ".png"
        Image.fromarray(sheet).save(folder / name, optimize=True)
        owner = dict(zip(OWNER, cell.key, strict=True))
        index.append({**owner, "file": name, "tiles": list(tiles)})
    (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(run: Run) -> dict[Key, Picture]:
    """The proofs that the run's report holds, as they were rendered then; rendered now where there are none."""
    folder = run.path / FOLDER
    if not (folder / INDEX).is_file():
        sheets = ((cell.key, tiles) for cell, tiles in _sheets(run))
        return {_key(key, name): _proof(name, tile) for key, tiles in sheets for name, tile in tiles.items()}
    proofs: dict[Key, Picture] = {}
    try:
        for entry in json.loads((folder / INDEX).read_text(encoding="utf-8")):
            if Path(entry["file"]).name != entry["file"]:
                raise ValueError(f"{entry['file']!r} is not a file of this folder")
            with Image.open(folder / entry["file"]) as picture:
                sheet = np.asarray(picture)
            names = entry["tiles"]
            key = entry["model"], entry["data"], entry["kind"], entry["method"]
            for name, tile in zip(names, np.split(sheet, len(names), axis=1), strict=True):
                proofs[_key(key, name)] = _proof(name, tile)
    except UNREADABLE as error:
        raise AssayError(f"cannot read {folder}: {error}; write it again: assay report {run.path}") from error
    return proofs


def _sheets(run: Run) -> Iterator[tuple[Cell, dict[str, Pixels]]]:
    """The tiles of each cell by name; none where its art cannot be read, which the arrays' check says."""
    for kind in all_kinds():
        for cell in run.cells(kind.name) if kind.proofs else ():
            try:
                tiles = kind.proofs(run, cell) if kind.proofs else {}
                if tiles:
                    yield cell, {name: thinned(_proof(name, tile), SIDE).array for name, tile in tiles.items()}
            except UNREADABLE:
                continue


def _key(owner: tuple[str, str, str, str], name: str) -> Key:
    return Key(*owner, "proof", name)


def _proof(name: str, tile: Pixels) -> Picture:
    return Picture("proof-attack" if name == CHANGE else "proof", tile, tile.shape)
