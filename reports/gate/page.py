"""The page of a check: what moved, and pictures side by side: old, new, difference."""

import re
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from assay.reports.drawing.album import Album, Picture, coloured
from assay.reports.gate.art import SORTS, Array
from assay.reports.gate.change import Change, Pair, Verdict, Words, plural
from assay.reports.templating import environment

CAUSES = ("seed", "data", "model", "metric", "setting")
MOST = 60  # pictures beyond tolerance on the page
NEAREST = 12  # of those within it
SIDE = 128  # CSS pixels: the width of one picture on the page
OWN = re.compile(r"[0-9a-f]{16}\.webp")  # the names of an album
Pixels = NDArray[np.uint8]


class Beside(NamedTuple):
    """One line of pictures."""

    cell: str
    sort: str
    entry: str
    measures: str
    old: Picture
    new: Picture
    difference: Picture | None  # None where sizes or modes differ
    factor: str


def write_page(verdict: Verdict, folder: Path) -> Path:
    """Write index.html and its pictures into the folder; returns its path."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    for path in (folder / "pictures").iterdir():
        if OWN.fullmatch(path.name):
            path.unlink()
    album, words = Album(folder / "pictures"), Words(verdict.old, verdict.new)
    by_size = sorted(verdict.pictures, key=lambda each: -each.near)
    moved = [pair for pair in by_size if pair.excess]
    still = [pair for pair in by_size if not pair.excess and pair.near]
    page = (
        environment()
        .get_template("check.html")
        .render(
            verdict=verdict,
            causes=[change for change in verdict.regressions if change.what in CAUSES],
            worse=[change for change in verdict.regressions if change.what not in CAUSES],
            better=verdict.of("improvement"),
            notes=verdict.of("note"),
            moved=[_beside(each, album, words) for each in _fairly(moved)],
            more=max(0, len(moved) - MOST),
            still=[_beside(each, album, words) for each in still[:NEAREST]],
            cells=len(verdict.cells),
            plural=plural,
            number=_number,
            width=SIDE,
        )
    )
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8", errors="backslashreplace")
    return index


def _fairly(moved: list[Pair]) -> list[Pair]:
    """As many as the page has room for: the worst of each cell and sort first, so that no cell takes all places."""
    counts: dict[tuple[object, ...], int] = {}
    rounds = []
    for each in moved:
        group = (each.key.cell, each.new.sort)
        counts[group] = counts.get(group, 0) + 1
        rounds.append((counts[group], each))
    return [each for _, each in sorted(rounds, key=lambda pair: pair[0])[:MOST]]


def _beside(each: Pair, album: Album, words: Words) -> Beside:
    cell, entry = words.cell(each.key.cell), words.entry(each.key.entry) or each.key.array
    same, before, after = each.measures is not None, each.old.array, each.new.array
    old, new = _render(before, after) if same else (_alone(before), _alone(after))
    difference, factor = _difference(before, after) if same else (None, "")
    measures = _measures(each) if same else ", ".join(each.excess)
    first, second = (
        album.add(pixels, f"{side}: {cell}, {entry}", exact=True) for side, pixels in (("old", old), ("new", new))
    )
    shot = None if difference is None else album.add(difference, f"difference: {cell}, {entry}", exact=True)
    return Beside(cell, SORTS[each.new.sort], entry, measures, first, second, shot, factor)


def _measures(each: Pair) -> str:
    assert each.measures is not None
    formats = {"relative": "relative error {:.2g}", "rank": "rank correlation {:.3f}", "block": "worst block {:.2g}"}
    formats |= {"mean": "mean {:.2g} levels", "most": "up to {:.0f} levels"}
    formats |= {"change": "change of the attack {:.2g}", "own": "{:.2g} as far as another class"}
    names = (name for name in formats if getattr(each.rule, name) is not None)
    values = ((name, getattr(each.measures, name)) for name in names)
    return ", ".join(formats[name].format(value) for name, value in values if not np.isnan(value))


def _render(old: Array, new: Array) -> tuple[Pixels, Pixels]:
    """Both as pixels; numbers on one scale, signed ones from blue to red."""
    if old.dtype == np.uint8:
        return _alone(old), _alone(new)
    both = np.nan_to_num(np.stack([old, new]).astype(np.float64), posinf=0, neginf=0)
    top = float(np.abs(both).max()) or 1.0
    first, second = (_shade(array / top, signed=bool((both < 0).any())) for array in both)
    return first, second


def _alone(array: Array) -> Pixels:
    if array.dtype == np.uint8:
        return coloured(array if array.ndim == 3 else array[..., None])
    return _render(array, array)[0]


def _difference(old: Array, new: Array) -> tuple[Pixels, str]:
    """New less old, as large as it fits, and how much larger that is."""
    with np.errstate(invalid="ignore"):
        change = np.nan_to_num(new.astype(np.float64) - old.astype(np.float64), posinf=0, neginf=0)
    most = float(np.abs(change).max(initial=0))
    if old.dtype == np.uint8:
        factor = 127 / most if most else 1.0
        grey = np.clip(128 + factor * change, 0, 255).astype(np.uint8)
        return _alone(grey), f"× {factor:.3g}" if most else "none"
    scale = float(np.abs(np.nan_to_num(old.astype(np.float64), posinf=0, neginf=0)).max(initial=0))
    return _shade(change / (most or 1.0), signed=True), f"× {scale / most:.3g}" if most and scale else "none"


def _shade(values: NDArray[np.float64], *, signed: bool) -> Pixels:
    flat = values.reshape(len(values), -1)
    shades = mpl.colormaps["coolwarm"](0.5 + 0.5 * flat) if signed else mpl.colormaps["inferno"](flat)
    pixels: Pixels = (255 * shades[..., :3]).round().astype(np.uint8)
    return pixels


def _number(change: Change, which: str) -> str:
    value = getattr(change, which)
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"
