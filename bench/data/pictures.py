"""Photographs without labels: those that scikit-image and scikit-learn ship, or a folder's."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from assay.bench.data.picture_files import check_header, checked_folder, decode, picture_files
from assay.core.errors import AssayError
from assay.core.text import is_file

KEPT = 256 * 2**20  # bytes of decoded photographs
SCIKIT_IMAGE = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
SCIKIT_LEARN = ("china.jpg", "flower.jpg")


class Photographs(Sequence[Tensor]):
    """Pictures (3, H, W) in [0, 1] by their files, decoded when asked for; the last ``KEPT`` bytes are kept."""

    def __init__(self, paths: Sequence[Path], shorter: int | None = None) -> None:
        self.paths, self.shorter = paths, shorter
        self._pixels: dict[int, Tensor] = {}
        self._size = 0

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, i: int) -> Tensor: ...
    @overload
    def __getitem__(self, i: slice) -> "Photographs": ...
    def __getitem__(self, i: int | slice) -> "Tensor | Photographs":
        """Raises ``DecodeError``."""
        if isinstance(i, slice):
            return Photographs(self.paths[i], self.shorter)
        pixels = self._pixels.pop(i, None)
        if pixels is None:
            pixels = _pixels(self.paths[i], self.shorter)
            self._size += pixels.nbytes
        self._pixels[i] = pixels
        while self._size > KEPT and len(self._pixels) > 1:
            self._size -= self._pixels.pop(next(iter(self._pixels))).nbytes
        return pixels.float() / 255


def photographs(folder: Path | None = None, side: int | None = None) -> Photographs:
    """Every picture in ``folder`` and below, in the order of their paths, or the shipped ones; shorter sides ``side``.

    Raises ``AssayError`` for a folder without pictures, and ``DecodeError`` for a file that is none.
    """
    paths = package_photographs() if folder is None else _below(folder)
    for path in paths:
        check_header(path)
    return Photographs(paths, side)


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
    if not is_file(path):
        raise AssayError(f"no picture {path}")
    return _pixels(path, shorter, longer).float() / 255


def _pixels(path: Path, shorter: int | None = None, longer: int | None = None) -> Tensor:
    picture = decode(path)
    share = shorter / min(picture.size) if shorter else longer / max(picture.size) if longer else 1.0
    if share != 1:
        size = (max(round(picture.width * share), 1), max(round(picture.height * share), 1))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def _below(folder: Path) -> list[Path]:
    try:
        paths, others = picture_files(checked_folder(folder))
    except AssayError as error:
        raise AssayError(f"no pictures in {folder}: {error}") from error
    if not paths:
        kinds = ", ".join(f"{n} {kind}" for kind, n in sorted(others.items()))
        raise AssayError(f"no pictures in {folder}" + (f"; files of kinds that are not read: {kinds}" if kinds else ""))
    return paths


def thumbnail(image: Tensor, side: int) -> NDArray[np.uint8]:
    """The middle square (S, S, C) uint8 of an image (C, H, W) in [0, 1]."""
    inner = min(image.shape[1:])
    top, left = ((length - inner) // 2 for length in image.shape[1:])
    square = image[None, :, top : top + inner, left : left + inner]
    small = F.interpolate(square, (side, side), mode="bilinear", antialias=True)[0]
    tile: NDArray[np.uint8] = (255 * small.clamp(0, 1)).round().byte().permute(1, 2, 0).numpy()
    return tile
