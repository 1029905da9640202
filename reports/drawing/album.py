"""Pictures of a run: galleries of adversarial images and heatmaps, and what models think classes look like.

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

from assay.reports.run import labels as names
from assay.reports.run.reader import Run

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


@dataclass(frozen=True, slots=True)
class Shot:
    """One row of a gallery."""

    image: str
    label: str
    original: Picture
    said: str
    right: bool
    adversarial: Picture
    said_adversarial: str
    right_adversarial: bool
    difference: Picture
    factor: str
    strip: Picture | None


@dataclass(frozen=True, slots=True)
class Gallery:
    """What fooled one model on one data set, and where it looked."""

    model: str
    data: str
    attack: str
    explainers: list[str]
    shots: list[Shot]
    signed: bool


@dataclass(frozen=True, slots=True)
class ClassPicture:
    """One class as a model draws it; the probabilities are text, empty where unknown."""

    name: str
    picture: Picture
    own: str
    other: str


@dataclass(frozen=True, slots=True)
class ClassPictures:
    """The class pictures of one model and method."""

    model: str
    data: str
    method: str
    pictures: list[ClassPicture]


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
            written = [_webp(pixels, lossless=True, quality=60)] + [_webp(pixels, False, quality)] * (not whole)
            path.write_bytes(min(written, key=len))
        height, width = pixels.shape[:2]
        return Picture(path.name, width, height, alt, pixelated=whole and width < TILE)


def _webp(pixels: Pixels, lossless: bool, quality: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", lossless=lossless, quality=quality, method=2)
    return stream.getvalue()


def galleries(run: Run, album: Album) -> list[Gallery]:
    """One for each gallery cell whose art can be read; the others are noted in ``album.unreadable``."""
    return each(run, "gallery", album, _gallery)


def class_pictures(run: Run, album: Album, kind: str = "synthesis") -> list[ClassPictures]:
    """One for each cell that stored class pictures: ``synthesis``, or ``fooling`` for images made from nothing."""
    return each(run, kind, album, _classes)


def thumbnails(run: Run, album: Album) -> dict[tuple[str, str], Picture]:
    """The pictures that the data's own cells kept, by data set and image id."""
    found: dict[tuple[str, str], Picture] = {}
    for shown in each(run, "data", album, _thumbnails):
        found |= shown
    return found


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
    mixed: Heat = 255 * ((1 - alpha) * (0.35 + 0.55 * grey) + alpha * colour)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def each(
    run: Run, kind: str, album: Album, make: Callable[[Run, dict[str, str], Album], T | None]
) -> list[T]:
    """What ``make`` makes of every finished cell of a kind; art that cannot be read is noted in ``album``."""
    found = []
    for cell in run.cells(kind):
        if not (run.path / "cells" / f"{cell['id']}.parquet").is_file():
            continue
        try:
            made = make(run, cell, album)
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            album.unreadable.append(f"{cell['model']}, {cell['data']}: {type(error).__name__}: {error}".splitlines()[0])
        else:
            found += [made] if made else []
    return found


def art(run: Run, cell: dict[str, str], file: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays in a file of a cell's art, and its ``meta.json``."""
    folder = run.path / "art" / cell["id"]
    with np.load(folder / file, allow_pickle=False) as stored:
        arrays = dict(stored)
    return arrays, json.loads((folder / "meta.json").read_text(encoding="utf-8"))


def _gallery(run: Run, cell: dict[str, str], album: Album) -> Gallery | None:
    arrays, meta = art(run, cell, "gallery.npz")
    images, adversarial = _coloured(arrays["images"]), _coloured(arrays["adversarial"])
    clean, attacked = (np.asarray(arrays[f"{which}_heat"], np.float32) for which in ("clean", "adversarial"))
    explainers = list(names.short(meta["explainers"]).values())
    shots = []
    for i, image in enumerate(meta["images"]):
        label, said, now = (_class(meta, key, i) for key in ("labels", "predicted", "predicted_adversarial"))
        difference, factor = amplified(images[i], adversarial[i])
        heats = [_strip(images[i], clean[:, i]), _strip(adversarial[i], attacked[:, i])] if explainers else []
        strip = np.concatenate([heats[0], _blank(heats[0], axis=0), heats[1]]) if heats else None
        shots.append(
            Shot(
                image=str(image),
                label=label,
                original=album.add(images[i], f"Image {image}, a {label}", exact=True),
                said=f"{said} {_percent(meta['confidence'][i])}",
                right=meta["predicted"][i] == meta["labels"][i],
                adversarial=album.add(adversarial[i], f"Image {image} after the attack", exact=True),
                said_adversarial=f"{now} {_percent(meta['confidence_adversarial'][i])}",
                right_adversarial=meta["predicted_adversarial"][i] == meta["labels"][i],
                difference=album.add(
                    difference, f"What the attack changed in image {image}, times {factor}", exact=False
                ),
                factor=f"× {factor}" if factor else "no change",
                strip=None
                if strip is None
                else album.add(
                    strip,
                    f"Heatmaps of image {image}: {', '.join(explainers)}; clean above, attacked below",
                    exact=False,
                ),
            )
        )
    if not shots:
        return None
    signed = bool((clean < 0).any() or (attacked < 0).any())
    return Gallery(cell["model"], cell["data"], str(meta["attack"]), explainers, shots, signed)


def _thumbnails(run: Run, cell: dict[str, str], album: Album) -> dict[tuple[str, str], Picture] | None:
    if not (run.path / "art" / cell["id"] / "pictures.npz").is_file():
        return None
    arrays, meta = art(run, cell, "pictures.npz")
    images = _coloured(arrays["images"])
    keys = zip(meta["images"], images, strict=True)
    return {(cell["data"], str(key)): album.add(image, f"Image {key}", exact=True) for key, image in keys}


def _classes(run: Run, cell: dict[str, str], album: Album) -> ClassPictures | None:
    if not (run.path / "art" / cell["id"] / "pictures.npz").is_file():
        return None
    arrays, meta = art(run, cell, "pictures.npz")
    images = _coloured(arrays["images"])
    shown = []
    for k in range(len(images)):
        name = str(meta["classes"][k])
        own, other = (_percent((meta.get(f"{who}_probability") or [None] * len(images))[k]) for who in ("own", "other"))
        picture = album.add(
            images[k],
            f"What the model takes for {name}" if cell["kind"] == "fooling" else f"What the model draws for {name}",
            exact=images.shape[1] < TILE // 2,
        )
        shown.append(ClassPicture(name, picture, own, other))
    return ClassPictures(cell["model"], cell["data"], cell["method"], shown) if shown else None


def _strip(image: Pixels, heats: Heat) -> Pixels:
    """Overlays side by side, (h, w, 4), each ``HEAT`` wide."""
    tiles: list[Pixels] = []
    for heat in heats:
        tile = overlay(image, heat)
        height, width = tile.shape[:2]
        size = (HEAT, max(1, round(HEAT * height / width)))
        how = Image.Resampling.NEAREST if width < TILE // 2 else Image.Resampling.LANCZOS
        tiles += [np.asarray(Image.fromarray(tile).resize(size, how).convert("RGBA"))]
        tiles += [_blank(tiles[-1], axis=1)]
    return np.concatenate(tiles[:-1], axis=1)


def _blank(like: Pixels, axis: int) -> Pixels:
    shape = list(like.shape)
    shape[axis] = GAP
    return np.zeros(shape, np.uint8)


def _coloured(images: ArrayLike) -> Pixels:
    """(N, H, W, 3) uint8 from one or three channels."""
    pixels = np.asarray(images)
    if pixels.ndim != 4 or pixels.dtype != np.uint8 or pixels.shape[-1] not in (1, 3):
        raise ValueError(f"expected pictures (N, H, W, 1 or 3) uint8, found {pixels.shape} {pixels.dtype}")
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels


def _class(meta: dict[str, Any], key: str, i: int) -> str:
    label, classes = meta[key][i], meta.get("classes") or []
    return str(classes[label]) if isinstance(label, int) and 0 <= label < len(classes) else str(label)


def _percent(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{100 * value:.0f}\N{NO-BREAK SPACE}%"
