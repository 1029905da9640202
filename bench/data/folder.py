"""Photographs on disk: ``folder:PATH`` in ImageFolder layout, and what all decoded pictures share."""

import hashlib
import math
import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image

from assay.bench.data.base import DataSet, DecodeError, Example, Size, lines_sha256, to_image
from assay.bench.data.class_names import are_wnids, listed, natural_key, wnid_names
from assay.bench.data.picture_files import checked_folder, decode, decode_mask, picture_files, suffixes
from assay.core.errors import AssayError, unknown
from assay.core.text import is_file

SPLITS = re.compile(r"(train|training|val|valid|validation|test|testing|dev|eval)[\d_-]*", re.IGNORECASE)
ROWS = 256  # of a picture, at a time
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
    "lanczos": Image.Resampling.LANCZOS,
}


CROP_MODES = ("center", "squash")


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures(DataSet):
    """Decoded pictures, cut to a model's size with timm's evaluation transform (resize, then centre crop)."""

    size: Size | None = None
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    squash: bool = False
    shorter: int | None = None  # at most so many pixels, where no model says the size

    @abstractmethod
    def picture(self, i: int) -> Image.Image:
        """Picture ``i``, mode RGB or L. Raises ``DecodeError``."""

    def mask(self, i: int) -> Image.Image | None:
        """The mask of picture ``i``, mode L, 255 the object; None where it has none. Raises ``DecodeError``."""
        return None

    def example(self, i: int, needs: Collection[str] = ()) -> Example:
        picture = self.picture(i)
        mask = self.mask(i) if "masks" in needs else None
        if mask is not None and mask.size != picture.size:
            raise DecodeError(f"{self.ids[i]}: its mask is {mask.size}, the picture {picture.size} (width, height)")
        if self.size is not None:
            picture = fit(picture, self.size[1:], self.crop_pct, RESAMPLING[self.interpolation], self.squash)
            mask = mask and fit(mask, self.size[1:], self.crop_pct, Image.Resampling.NEAREST, self.squash)
        elif self.shorter is not None:
            picture = shrunk(picture, self.shorter, Image.Resampling.BILINEAR)
            mask = mask and shrunk(mask, self.shorter, Image.Resampling.NEAREST)
        image = to_image(np.asarray(picture), self.size and self.size[0])
        return Example(
            self.ids[i], image, self.labels[i], None if mask is None else torch.from_numpy(np.asarray(mask) > 0)
        )

    def sha256(self, i: int) -> str:
        return picture_sha256(self.picture(i))

    def reduced(self, side: int) -> Self:
        return replace(self, shorter=side)

    def _resize(self, size: Size, crop_pct: float, interpolation: str, crop_mode: str) -> Self:
        if interpolation not in RESAMPLING:
            raise unknown("interpolation", interpolation, RESAMPLING)
        if crop_mode not in CROP_MODES:
            raise unknown("crop mode", crop_mode, CROP_MODES)
        return replace(self, size=size, crop_pct=crop_pct, interpolation=interpolation, squash=crop_mode == "squash")


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder(Pictures):
    """PATH/<class>/**/<picture>; classes stand in timm's order of folder names (2 before 10), ids are paths below PATH.

    A mask is PATH/masks/<class>/<stem>.png, or <stem>_mask.png beside the picture; what is not zero is the object.
    ``has`` holds ``masks`` as soon as one picture has one; a picture without has None. All that Pillow opens is read,
    but what needs another program; ``notes`` count the other files and name classes without pictures. Names that begin
    with a dot are passed over, and folders such as train beside val are refused. Where all class folders are wnids
    (n01440764), ``classes`` are ImageNet's names, and models of ImageNet-1k, 12k or 21k get their labels, also when
    only some classes are there.
    """

    root: Path
    folders: tuple[str, ...]
    paths: list[Path]
    masks: list[Path | None]

    @classmethod
    def from_spec(cls, rest: str) -> "Folder":
        if len(rest) < 2 or rest[0] != ":":
            raise AssayError("which folder? write folder:PATH, with one folder per class in PATH")
        root = checked_folder(rest[1:])
        folders = _class_folders(root)
        listings = [picture_files(root / folder, root) for folder in folders]
        pairs = [_with_masks(root, folder, each.paths) for folder, each in zip(folders, listings, strict=True)]
        vacant = frozenset(k for k, each in enumerate(pairs) if not each)
        others = sum((each.others for each in listings), Counter[str]())
        if len(vacant) == len(folders):
            files = "; ".join(_notes(root, (), others))
            raise AssayError(f"no pictures in the folders of {root}" + (f"; {files}" if files else ""))
        full = [folder for k, folder in enumerate(folders) if k not in vacant]
        if _splits(full) == full and any(path.is_dir() for path in (root / full[0]).iterdir()):
            raise _split_error(root, full)
        paths, masks = zip(*(pair for each in pairs for pair in each), strict=True)
        wnids = tuple(folders) if are_wnids(folders) else ()
        return cls(
            spec=f"folder:{root.as_posix()}",
            classes=wnid_names(wnids) if wnids else tuple(map(_text, folders)),
            ids=[_text(path.relative_to(root)) for path in paths],
            labels=[label for label, each in enumerate(pairs) for _ in each],
            rows=list(range(len(paths))),
            has=frozenset({"masks"}) if any(masks) else frozenset(),
            wnids=wnids,
            vacant=vacant,
            numbering="names",
            notes=tuple(_notes(root, [folders[k] for k in sorted(vacant)], others)),
            root=root,
            folders=tuple(folders),
            paths=list(paths),
            masks=list(masks),
        )

    def picture(self, i: int) -> Image.Image:
        return decode(self.paths[self.rows[i]])

    def mask(self, i: int) -> Image.Image | None:
        path = self.masks[self.rows[i]]
        return None if path is None else decode_mask(path)

    @cached_property
    def digest(self) -> str:
        """Of ids, class folders and pictures; of the order of the folders too, where these do not tell it."""
        keys = [self._label_key(i) for i in range(len(self))]
        lines = [
            f"{id_}\0{key}\0{self._pixels_key(i)}" for i, (id_, key) in enumerate(zip(self.ids, keys, strict=True))
        ]
        names = [_text(folder) for folder in self.folders]
        plain = are_wnids(self.folders) or names == sorted(set(keys))
        return lines_sha256(lines if plain else [*lines, "\0".join(names)])

    def _pixels_key(self, i: int) -> str:
        """The picture's, and its mask's bytes: both decide scores."""
        mask = self.masks[self.rows[i]]
        beside = hashlib.sha256(mask.read_bytes()).hexdigest() if mask else ""
        return super()._pixels_key(i) + beside

    def _label_key(self, i: int) -> str:
        return self.ids[i].partition("/")[0]


def fit(
    picture: Image.Image, size: tuple[int, int], crop_pct: float, resample: Image.Resampling, squash: bool = False
) -> Image.Image:
    """``picture`` resized until it covers ``size`` / ``crop_pct`` (H, W), then its centre of ``size``.

    ``squash`` resizes to exactly that and does not keep the proportions. Rounds as timm's and torchvision's
    transforms do, so pixels equal theirs.
    """
    height, width = size
    tall, wide = math.floor(height / crop_pct), math.floor(width / crop_pct)
    w, h = picture.size
    if squash:
        new = (wide, tall)
    elif tall == wide:
        new = (wide, int(tall * h / w)) if w <= h else (int(wide * w / h), tall)
    else:
        ratio = min(h / tall, w / wide)
        new = (round(w / ratio), round(h / ratio))
    if new != (w, h):
        picture = picture.resize(new, resample)
    left, top = round((new[0] - width) / 2), round((new[1] - height) / 2)
    return picture.crop((left, top, left + width, top + height))


def shrunk(picture: Image.Image, shorter: int, resample: Image.Resampling) -> Image.Image:
    """``picture`` with a shorter side of ``shorter`` pixels; as it is where that is no less."""
    share = shorter / min(picture.size)
    size = round(picture.width * share), round(picture.height * share)
    return picture.resize(size, resample) if share < 1 else picture


def picture_sha256(picture: Image.Image) -> str:
    """``pixels_sha256`` of a picture's pixels, some rows at a time."""
    width, height = picture.size
    channels = "" if picture.mode == "L" else f" {len(picture.getbands())}"
    digest = hashlib.sha256(f"uint8 {height} {width}{channels}\n".encode())
    for top in range(0, height, ROWS):
        digest.update(np.ascontiguousarray(picture.crop((0, top, width, min(top + ROWS, height)))).data)
    return digest.hexdigest()


def _class_folders(root: Path) -> list[str]:
    try:
        folders = [path.name for path in root.iterdir() if path.is_dir() and path.name[0] != "."]
    except OSError as error:
        raise AssayError(f"{root} cannot be listed: {error.strerror}") from error
    if "masks" in folders and any(path.suffix.lower() in suffixes() for path in (root / "masks").iterdir()):
        raise AssayError(f"{root / 'masks'} holds pictures itself; masks lie in masks/CLASS, and no class is called so")
    folders = sorted(set(folders) - {"masks"}, key=lambda name: (natural_key(name), name))
    if not folders:
        raise AssayError(f"{root} holds no class folders; put the pictures into one folder per class")
    if len(_splits(folders)) > 1:
        raise _split_error(root, folders)
    return folders


def _splits(folders: Collection[str]) -> list[str]:
    return [name for name in folders if SPLITS.fullmatch(name)]


def _split_error(root: Path, folders: Collection[str]) -> AssayError:
    splits = _splits(folders)
    one = next((name for name in splits if not name.lower().startswith("train")), splits[0])
    return AssayError(f"{root} holds splits ({', '.join(splits)}), not classes; name one: folder:{root / one}")


def _with_masks(root: Path, folder: str, files: list[Path]) -> list[tuple[Path, Path | None]]:
    """The pictures of a class with their masks."""
    beside = {path: path.with_name(f"{path.stem}_mask.png") for path in files}
    masks = set(beside.values())
    return [(path, _mask_of(root, folder, path, beside[path])) for path in files if path not in masks]


def _mask_of(root: Path, folder: str, path: Path, beside: Path) -> Path | None:
    below = path.relative_to(root / folder).with_suffix(".png")
    return next((mask for mask in (root / "masks" / folder / below, beside) if is_file(mask)), None)


def _notes(root: Path, vacant: Collection[str], others: Counter[str]) -> Iterator[str]:
    """What was passed over."""
    if vacant:
        yield f"classes without pictures: {listed(list(vacant))}"
    if others:
        yield f"files of kinds that are not read: {', '.join(f'{n} {kind}' for kind, n in sorted(others.items()))}"
    if loose := sum(path.suffix.lower() in suffixes() and path.name[0] != "." for path in root.iterdir()):
        yield f"pictures beside the class folders, which are of no class: {loose}"


def _text(path: Path | str) -> str:
    """A path as UTF-8 text with forward slashes, whatever bytes the file system holds."""
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")
