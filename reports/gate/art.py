"""Which arrays of a cell's art are pictures that a check compares, and what each of them is called."""

import fnmatch
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assay.reports.kinds import kind_of
from assay.reports.kinds.base import Arrays

Array = NDArray[Any]

SORTS = {
    "image": "images as the model sees them",
    "heat": "heatmaps of clean images",
    "attacked": "attacked images",
    "attacked-heat": "heatmaps of attacked images",
    "drawn": "class pictures",
    "made": "images made from codes, dreams, textures and styles",
    "surface": "logits and losses around images",
    "filter": "filters of the first layer",
    "proof": "rendered heatmaps",
    "proof-attack": "rendered differences of attacked images",
}


class Cell(NamedTuple):
    """What a row is of; fields that do not apply are empty."""

    model: str = ""
    data: str = ""
    kind: str = ""
    method: str = ""
    source: str = ""  # the model on which images were made that another model was shown
    variant: str = ""  # a layer, a number of steps

    @property
    def owner(self) -> "Cell":
        """The cell of the run that gave it."""
        return Cell(self.source or self.model, self.data, self.kind, self.method)


class Key(NamedTuple):
    """The name of a picture, which no version changes: whose it is, which array, and which entry of it."""

    model: str
    data: str
    kind: str
    method: str
    array: str
    entry: str  # image, class, or explainer and image

    @property
    def cell(self) -> Cell:
        return Cell(self.model, self.data, self.kind, self.method)


class Picture(NamedTuple):
    """Pixels (H, W, C) uint8, or numbers (H, W); ``size`` is that of the run, which a thinned array no longer has."""

    sort: str  # of SORTS
    array: Array
    size: tuple[int, ...]

    @property
    def mode(self) -> str:
        """What it is besides its size: kind of numbers and channels."""
        return f"{self.array.dtype.kind}{8 if self.array.dtype == np.uint8 else ''}{self.array.shape[2:]}"


def pictures(folder: Path, cell: Cell) -> Iterator[tuple[Key, Picture]]:
    """The pictures in the art of a cell. Raises one of ``UNREADABLE`` where it cannot be read."""
    arrays = kind_of(cell.kind).arrays
    meta: dict[str, Any] = {}
    if arrays and (folder / "meta.json").is_file():
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    for file in dict.fromkeys(each.file for each in arrays):
        if not (folder / file).is_file():
            continue  # a cell that found nothing to show keeps no arrays
        with (folder / file).open("rb") as raw, np.load(raw, allow_pickle=False) as content:
            for name in sorted(content.files):
                rule = arrays_of(cell.kind, name, file)
                if rule is None:
                    continue
                for entry, array in _entries(content[name], [meta[axis] for axis in rule.axes], name):
                    key = Key(cell.model, cell.data, cell.kind, cell.method, _name(name, meta), entry)
                    yield key, Picture(rule.sort, array, array.shape)


def arrays_of(kind: str, name: str, file: str | None = None) -> Arrays | None:
    """What the kind says of an array of that name; None where it is not compared."""
    arrays = (each for each in kind_of(kind).arrays if file in (None, each.file))
    return next((each for each in arrays if fnmatch.fnmatchcase(name, each.name)), None)


def thinned(picture: Picture, side: int) -> Picture:
    """Area means of at most ``side`` pixels a side: whole levels of pixels, numbers to 11 bits."""
    array = picture.array
    if array.ndim < 2 or max(array.shape[:2]) <= side:
        return picture._replace(array=array if array.dtype == np.uint8 else _coarse(array))
    means = _area(_area(array.astype(np.float32), 0, side), 1, side)
    small = np.round(means).astype(np.uint8) if array.dtype == np.uint8 else _coarse(means)
    return picture._replace(array=small)


def _coarse(array: Array) -> Array:
    """float32 with the precision of float16 but its own range, which compresses as well."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    coarse: Array = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return coarse


def _area(array: Array, axis: int, side: int) -> Array:
    """Means over the cells of ``side`` equal parts of an axis; a pixel on a border counts for its share in each."""
    length = array.shape[axis]
    if length <= side:
        return array
    edges = np.linspace(0, length, side + 1)
    sums = np.concatenate([np.zeros_like(array.take([0], axis)), array.cumsum(axis, dtype=np.float64)], axis)
    low = np.minimum(edges.astype(int), length - 1)
    share = (edges - low).reshape([-1 if i == axis else 1 for i in range(array.ndim)])
    at = sums.take(low, axis) + share * array.take(low, axis)
    means: Array = np.diff(at, axis=axis) * (side / length)
    return means


def _entries(array: Array, axes: Sequence[Sequence[object]], name: str) -> Iterator[tuple[str, Array]]:
    if not axes:
        yield "", _flat(array)
        return
    if array.ndim < len(axes) or array.shape[: len(axes)] != tuple(len(axis) for axis in axes):
        raise ValueError(f"{name} is {array.shape}, where meta.json names {[len(axis) for axis in axes]}")
    for place in np.ndindex(*array.shape[: len(axes)]):
        names = (str(axis[i]) for axis, i in zip(axes, place, strict=True))
        yield ", ".join(names), array[place]


def _flat(array: Array) -> Array:
    """Filters (F, C, h, w) as one picture (F, C * h * w)."""
    return array.reshape(len(array), -1) if len(array) else array.reshape(0, 1)


def _name(array: str, meta: Mapping[str, Any]) -> str:
    """``made_2`` by the layer or the number of steps that it is of."""
    place = array.removeprefix("made_")
    layers = meta.get("layers") or []
    if array != place and place.isdigit() and int(place) < len(layers):
        return f"made of {layers[int(place)].get('layer', place)}"
    return array
