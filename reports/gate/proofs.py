"""Proofs: heatmaps as the report renders them. A wrong colour map changes no array, so these are compared as pixels.

One sheet for each gallery: its first image under each explainer's heatmap, then what the attack changed.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from assay.core.errors import AssayError
from assay.reports.drawing import album as pictures
from assay.reports.gate.art import UNREADABLE, Cell, Key, Picture, thinned
from assay.reports.run.reader import Run

FOLDER = Path("report") / "proofs"
INDEX = "proofs.json"
CHANGE = "change"  # the tile that shows what the attack changed
SIDE = 32  # pixels: the largest side of a tile; a colour map is seen in few
Pixels = NDArray[np.uint8]


def write(run: Run, folder: Path) -> None:
    """Render the sheets of a run into a folder (RUN/report/proofs), replacing those that are there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    index = []
    for cell in run.cells("gallery"):
        tiles = _tiles(run, cell)
        if not tiles:
            continue
        sheet = np.concatenate(list(tiles.values()), axis=1)
        name = hashlib.sha256(sheet.shape.__repr__().encode() + sheet.tobytes()).hexdigest()[:16] + ".png"
        Image.fromarray(sheet).save(folder / name, optimize=True)
        index.append({**_owner(cell)._asdict(), "file": name, "tiles": list(tiles)})
    (folder / INDEX).write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(run: Run) -> dict[Key, Picture]:
    """The proofs that the run's report holds, as they were rendered then; rendered now where there are none."""
    folder = run.path / FOLDER
    found: dict[Key, Picture] = {}
    if not (folder / INDEX).is_file():
        for cell in run.cells("gallery"):
            for name, tile in _tiles(run, cell).items():
                found[_key(cell, name)] = _proof(name, tile)
        return found
    try:
        for entry in json.loads((folder / INDEX).read_text(encoding="utf-8")):
            if Path(entry["file"]).name != entry["file"]:
                raise ValueError(f"{entry['file']!r} is not a file of this folder")
            with Image.open(folder / entry["file"]) as picture:
                sheet = np.asarray(picture)
            names = entry["tiles"]
            for name, tile in zip(names, np.split(sheet, len(names), axis=1), strict=True):
                found[_key(entry, name)] = _proof(name, tile)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssayError(f"cannot read {folder}: {error}; write it again: assay report {run.path}") from error
    return found


def _tiles(run: Run, cell: Mapping[str, str]) -> dict[str, Pixels]:
    """The tiles of one gallery by explainer; none where its art cannot be read, which the arrays' check says."""
    try:
        arrays, meta = pictures.art(run, dict(cell), "gallery.npz")
        if not len(arrays["images"]):
            return {}
        image, attacked = (_coloured(arrays[name][0]) for name in ("images", "adversarial"))
        heats = zip(meta["explainers"], arrays["clean_heat"], strict=True)
        tiles = {str(name): pictures.overlay(image, heat[0]) for name, heat in heats}
        tiles[CHANGE] = pictures.amplified(image, attacked)[0]
        return {name: thinned(_proof(name, tile), SIDE).array for name, tile in tiles.items()}
    except UNREADABLE:
        return {}


def _coloured(image: NDArray[Any]) -> Pixels:
    return np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image


def _owner(cell: Mapping[str, str]) -> Cell:
    return Cell(*(cell[name] for name in Cell._fields))


def _key(cell: Mapping[str, str], name: str) -> Key:
    return Key(*_owner(cell), "proof", name)


def _proof(name: str, tile: Pixels) -> Picture:
    return Picture("proof-attack" if name == CHANGE else "proof", tile, tile.shape)
