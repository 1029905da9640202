"""Pictures of a run: heatmaps over images, and an album that stores each picture once.

Files are named by their content, so equal pictures are stored once and no user text reaches a file name.
"""

import hashlib
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from assay.reports.run.reader import UNREADABLE, Run
from assay.reports.run.records import Cell

TILE = 108  # CSS pixels: the width of one picture on the page
HEAT = 112  # pixels: the width of one stored heatmap
GAP = 4  # pixels between the heatmaps of a strip, transparent
Pixels = NDArray[np.uint8]
Heat = NDArray[np.float32]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture:
    """A stored picture: file name and size in pixels, and what it shows."""

    file: str
    width: int
    height: int
    alt: str
    pixelated: bool = False


@dataclass(slots=True)
class Album:
    """Writes pictures into a folder, each content once."""

    folder: Path
    unreadable: list[str] = field(default_factory=list)

    def add(self, pixels: Pixels, alt: str, *, exact: bool) -> Picture:
        """Store (H, W, 3 or 4) uint8 as WebP: every pixel of a small ``exact`` picture, else what takes less room."""
        pixels = np.ascontiguousarray(pixels)
        whole = exact and max(pixels.shape[:2]) <= TILE
        key = hashlib.sha256(f"{pixels.shape}{whole}".encode() + pixels.tobytes()).hexdigest()[:16]
        path = self.folder / f"{key}.webp"
        if not path.exists():
            quality = 75 if exact else 60
            encodings = [_webp(pixels, lossless=True, quality=60)] + [_webp(pixels, False, quality)] * (not whole)
            path.write_bytes(min(encodings, key=len))
        height, width = pixels.shape[:2]
        return Picture(path.name, width, height, alt, pixelated=whole and width < TILE)

    def each(self, run: Run, kind: str, read: Callable[[Run, Cell, "Album"], T | None]) -> list[T]:
        """What ``read`` makes of every finished cell of a kind; art that cannot be read is noted in ``unreadable``."""
        records = []
        for cell in run.cells(kind):
            if not run.done(cell):
                continue
            try:
                record = read(run, cell, self)
            except UNREADABLE as error:
                reason = f"{cell.model}, {cell.data}: {type(error).__name__}: {error}"
                self.unreadable.append(reason.splitlines()[0])
                continue
            if record is not None:
                records.append(record)
        return records


def _webp(pixels: Pixels, lossless: bool, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=lossless, quality=quality, method=2)
    return stream.getvalue()


def has_art(run: Run, cell: Cell, file: str) -> bool:
    """Whether the cell kept a file of art."""
    return (run.path / "art" / cell.id / file).is_file()


def art(run: Run, cell: Cell, file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays in a file of a cell's art, and its ``meta.json``."""
    folder = run.path / "art" / cell.id
    with (folder / file).open("rb") as raw, np.load(raw, allow_pickle=False) as stored:
        arrays = dict(stored)
    return arrays, json.loads((folder / "meta.json").read_text(encoding="utf-8"))


def amplified(original: Pixels, adversarial: Pixels) -> tuple[Pixels, int]:
    """The difference on grey, times the largest power of two that fits; factor 0 where there is none."""
    difference = adversarial.astype(np.int16) - original
    most = int(np.abs(difference).max(initial=0))
    factor = 2 ** max(0, math.floor(math.log2(127 / most))) if most else 0
    return np.clip(128 + factor * difference, 0, 255).astype(np.uint8), factor


def overlay(image: Pixels, heat: Heat) -> Pixels:
    """Heat over the greyed image, (H, W, 3): each map on its own scale, up to its 99.5th percentile.

    Without negative values from dark to bright (magma), else blue for negative and red for positive.
    """
    heat = np.nan_to_num(heat.astype(np.float32), posinf=0, neginf=0)
    size = np.abs(heat)
    top = float(np.percentile(size, 99.5)) or float(size.max()) or 1.0
    strength = np.clip(size / top, 0, 1)
    grey = image.astype(np.float32).mean(axis=2, keepdims=True) / 255
    if (heat < 0).any():
        colour = mpl.colormaps["coolwarm"](0.5 + 0.5 * np.sign(heat) * strength)[..., :3]
    else:
        colour = mpl.colormaps["inferno"](strength)[..., :3]
    alpha = (0.15 + 0.75 * strength**0.6)[..., None]
    blend: Heat = 255 * ((1 - alpha) * (0.35 + 0.55 * grey) + alpha * colour)
    return np.clip(blend, 0, 255).astype(np.uint8)


def strip(image: Pixels, heats: Heat) -> Pixels:
    """Overlays side by side, (h, w, 4), each ``HEAT`` wide."""
    tiles: list[Pixels] = []
    for heat in heats:
        tile = overlay(image, heat)
        height, width = tile.shape[:2]
        size = (HEAT, max(1, round(HEAT * height / width)))
        how = Image.Resampling.NEAREST if width < TILE // 2 else Image.Resampling.LANCZOS
        tiles += [np.asarray(Image.fromarray(tile).resize(size, how).convert("RGBA"))]
        tiles += [gap(tiles[-1], axis=1)]
    return np.concatenate(tiles[:-1], axis=1)


def gap(beside: Pixels, axis: int) -> Pixels:
    """Transparent pixels that lie beside a picture."""
    shape = list(beside.shape)
    shape[axis] = GAP
    return np.zeros(shape, np.uint8)


def coloured(pixels: NDArray[Any]) -> Pixels:
    """Pictures (..., 3) of one or three channels (..., C)."""
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def pictures(images: ArrayLike) -> Pixels:
    """(N, H, W, 3) uint8 from one or three channels. Raises ``ValueError`` for anything else."""
    pixels = np.asarray(images)
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[-1] not in (1, 3):
        raise ValueError(f"expected pictures (N, H, W, 1 or 3) uint8, found {pixels.shape} {pixels.dtype}")
    return coloured(pixels)


def probability(value: float | None) -> str:
    """In percent; empty where it is unknown."""
    return "" if value is None or math.isnan(value) else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
