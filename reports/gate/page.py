"""The page of a check: what moved, and pictures side by side: old, new, difference."""

import re
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from assay.reports.gate.art import SORTS, Array
from assay.reports.gate.change import Change, Compared, Verdict, Words, plural
from assay.reports.drawing.album import Album, Picture
from assay.reports.templating import environment

SHOWN = 60  # pictures beyond tolerance on the page
NEAREST = 12  # of those within it
SIDE = 128  # CSS pixels: the width of one picture on the page
OWN = re.compile(r"[0-9a-f]{16}\.webp")  # the names of an album
Pixels = NDArray[np.uint8]


class Beside(NamedTuple):
    """One line of pictures."""

    where: str
    sort: str
    entry: str
    said: str
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
    moved = sorted((one for one in verdict.pictures if one.moved), key=lambda one: -one.near)
    still = sorted((one for one in verdict.pictures if not one.moved and one.near > 0), key=lambda one: -one.near)
    page = (
        environment()
        .get_template("check.html")
        .render(
            verdict=verdict,
            causes=[
                change
                for change in verdict.regressions
                if change.what in ("seed", "data", "model", "metric", "setting")
            ],
            worse=[
                change
                for change in verdict.regressions
                if change.what not in ("seed", "data", "model", "metric", "setting")
            ],
            better=verdict.of("improvement"),
            notes=verdict.of("note"),
            moved=[_beside(one, album, words) for one in _fairly(moved)],
            more=max(0, len(moved) - SHOWN),
            still=[_beside(one, album, words) for one in still[:NEAREST]],
            cells=len(verdict.cells),
            plural=plural,
            number=_number,
            width=SIDE,
        )
    )
    index = folder / "index.html"
    index.write_text(page, encoding="utf-8", errors="backslashreplace")
    return index


def _fairly(moved: list[Compared]) -> list[Compared]:
    """As many as are shown: the worst of each cell and sort first, so that no cell takes all places."""
    seen: dict[tuple[object, ...], int] = {}
    ranked = []
    for one in moved:
        group = (one.key.cell, one.new.sort)
        seen[group] = seen.get(group, 0) + 1
        ranked.append((seen[group], one))
    return [one for _, one in sorted(ranked, key=lambda pair: pair[0])[:SHOWN]]


def _beside(one: Compared, album: Album, words: Words) -> Beside:
    where, entry = words.cell(one.key.cell), words.entry(one.key.entry) or one.key.array
    same = one.measures is not None
    old, new = _rendered(one.old.array, one.new.array) if same else (_alone(one.old.array), _alone(one.new.array))
    difference, factor = _difference(one.old.array, one.new.array) if same else (None, "")
    said = ", ".join(one.moved) if not same else _measured(one)
    shots = [
        album.add(pixels, f"{which}: {where}, {entry}", exact=True) for which, pixels in (("old", old), ("new", new))
    ]
    shot = None if difference is None else album.add(difference, f"difference: {where}, {entry}", exact=True)
    return Beside(where, SORTS[one.new.sort], entry, said, shots[0], shots[1], shot, factor)


def _measured(one: Compared) -> str:
    assert one.measures is not None
    formats = {"relative": "relative error {:.2g}", "rank": "rank correlation {:.3f}", "block": "worst block {:.2g}"}
    formats |= {"mean": "mean {:.2g} levels", "most": "up to {:.0f} levels"}
    formats |= {"change": "change of the attack {:.2g}", "own": "{:.2g} as far as another class"}
    limited = (name for name in formats if getattr(one.rule, name) is not None)
    values = ((name, getattr(one.measures, name)) for name in limited)
    return ", ".join(formats[name].format(value) for name, value in values if not np.isnan(value))


def _rendered(old: Array, new: Array) -> tuple[Pixels, Pixels]:
    """Both as pixels; numbers on one scale, signed ones from blue to red."""
    if old.dtype == np.uint8:
        return _alone(old), _alone(new)
    both = np.nan_to_num(np.stack([old, new]).astype(np.float64), posinf=0, neginf=0)
    top = float(np.abs(both).max()) or 1.0
    one, two = (_coloured(array / top, signed=bool((both < 0).any())) for array in both)
    return one, two


def _alone(array: Array) -> Pixels:
    if array.dtype == np.uint8:
        pixels: Pixels = np.repeat(array, 3, axis=-1) if array.ndim == 3 and array.shape[-1] == 1 else array
        return pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=-1)
    return _rendered(array, array)[0]


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
    return _coloured(change / (most or 1.0), signed=True), f"× {scale / most:.3g}" if most and scale else "none"


def _coloured(values: NDArray[np.float64], *, signed: bool) -> Pixels:
    flat = values.reshape(len(values), -1)
    shades = mpl.colormaps["coolwarm"](0.5 + 0.5 * flat) if signed else mpl.colormaps["inferno"](flat)
    pixels: Pixels = (255 * shades[..., :3]).round().astype(np.uint8)
    return pixels


def _number(change: Change, which: str) -> str:
    value = getattr(change, which)
    return "" if value is None else value if isinstance(value, str) else f"{value:.4g}"
