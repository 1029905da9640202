"""Photographs without labels: those that scikit-image and scikit-learn ship, or a folder's."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from assay.bench.data.folder import SUFFIXES, decode
from assay.core.errors import AssayError

SCIKIT_IMAGE = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
SCIKIT_LEARN = ("china.jpg", "flower.jpg")


def photographs(folder: Path | None = None, side: int | None = None) -> list[Tensor]:
    """(3, H, W) in [0, 1], of every picture in ``folder`` and below, or of the shipped ones; shorter sides ``side``.

    Decoded in the order of their paths. Raises ``AssayError`` for a folder without pictures.
    """
    return [read(path, side) for path in (package_photographs() if folder is None else _below(folder))]


def package_photographs() -> list[Path]:
    """Photographs in colour that come with the packages; nothing is downloaded."""
    return _package_files("skimage", "data", SCIKIT_IMAGE) + _package_files("sklearn", "datasets/images", SCIKIT_LEARN)


def _package_files(package: str, folder: str, names: Sequence[str]) -> list[Path]:
    places = getattr(find_spec(package), "submodule_search_locations", ())
    return [Path(place) / folder / name for place in places for name in names]


def scikit_image(name: str, channels: int, longer: int | None = None) -> Tensor:
    """(C, H, W) in [0, 1] of a picture in scikit-image's data, its longer side that many pixels if told."""
    picture = read(next(path for path in _package_files("skimage", "data", [name])), longer=longer)
    return picture.expand(channels, -1, -1) if len(picture) == 1 else picture


def read(path: Path, shorter: int | None = None, longer: int | None = None) -> Tensor:
    """A picture file as (3, H, W) in [0, 1], its shorter or its longer side that many pixels if told."""
    if not path.is_file():
        raise AssayError(f"no picture {path}")
    picture = decode(path)
    share = shorter / min(picture.size) if shorter else longer / max(picture.size) if longer else 1.0
    if share != 1:
        size = (max(round(picture.width * share), 1), max(round(picture.height * share), 1))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255


def _below(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not paths:
        raise AssayError(f"no pictures in {folder}; known suffixes: {' '.join(sorted(SUFFIXES))}")
    return paths


def thumbnails(images: Sequence[Tensor], largest: int = 96) -> NDArray[np.uint8]:
    """The middle squares (N, S, S, C) uint8 of images (C, H, W) in [0, 1]; S is the first one's, or ``largest``."""
    side = min(largest, *images[0].shape[1:])
    squares = []
    for image in images:
        inner = min(image.shape[1:])
        top, left = ((length - inner) // 2 for length in image.shape[1:])
        square = image[None, :, top : top + inner, left : left + inner]
        squares.append(F.interpolate(square, (side, side), mode="bilinear", antialias=True)[0])
    tiles: NDArray[np.uint8] = (255 * torch.stack(squares).clamp(0, 1)).round().byte().permute(0, 2, 3, 1).numpy()
    return tiles
