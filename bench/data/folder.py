"""Photographs on disk: ``folder:PATH`` in ImageFolder layout, and what all decoded pictures share."""

import hashlib
import math
import os
import re
import warnings
from abc import abstractmethod
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image, ImageOps

from assay.bench.data.base import DataSet, DecodeError, Example, Size, pixels_sha256, to_image
from assay.core.errors import AssayError, unknown

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SPLIT_NAMES = frozenset({"train", "val", "valid", "validation", "test"})
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
        image = to_image(np.asarray(picture), self.size and self.size[0])
        return Example(
            self.ids[i], image, self.labels[i], None if mask is None else torch.from_numpy(np.asarray(mask) > 0)
        )

    def sha256(self, i: int) -> str:
        return pixels_sha256(np.asarray(self.picture(i)))

    def _resize(self, size: Size, crop_pct: float, interpolation: str, crop_mode: str) -> Self:
        if interpolation not in RESAMPLING:
            raise unknown("interpolation", interpolation, RESAMPLING)
        if crop_mode not in CROP_MODES:
            raise unknown("crop mode", crop_mode, CROP_MODES)
        return replace(self, size=size, crop_pct=crop_pct, interpolation=interpolation, squash=crop_mode == "squash")


@dataclass(frozen=True, kw_only=True, eq=False)
class Folder(Pictures):
    """PATH/<class>/**/<picture>; classes are sorted by folder name, ids are paths below PATH.

    A mask is PATH/masks/<class>/<stem>.png, or <stem>_mask.png beside the picture; what is not zero is the object.
    ``has`` holds ``masks`` as soon as one picture has one; a picture without has None. Files that are no pictures
    by their suffix, and names that begin with a dot, are passed over. Where all class folders are wnids (n01440764),
    ``classes`` are ImageNet's names, and ``at(..., num_classes=1000)`` gives ImageNet-1k labels, also when only some
    classes are there (likewise the 12k and 21k sets that timm knows by their number of classes).
    """

    root: Path
    folders: tuple[str, ...]
    paths: list[Path]
    masks: list[Path | None]

    @classmethod
    def from_spec(cls, rest: str) -> "Folder":
        if len(rest) < 2 or rest[0] != ":":
            raise AssayError("which folder? write folder:PATH, with one folder per class in PATH")
        root = Path(rest[1:]).expanduser()
        folders = _class_folders(root)
        paths, masks, labels = [], [], []
        for label, folder in enumerate(folders):
            for path, mask in _pictures(root, folder):
                paths.append(path)
                masks.append(mask)
                labels.append(label)
        if not paths:
            raise AssayError(f"no pictures in the folders of {root}; known suffixes: {' '.join(sorted(SUFFIXES))}")
        return cls(
            spec=f"folder:{root.as_posix()}",
            classes=_names(folders),
            ids=[_text(path.relative_to(root)) for path in paths],
            labels=labels,
            rows=list(range(len(paths))),
            has=frozenset({"masks"}) if any(masks) else frozenset(),
            root=root,
            folders=tuple(folders),
            paths=paths,
            masks=masks,
        )

    def picture(self, i: int) -> Image.Image:
        return decode(self.paths[self.rows[i]])

    def mask(self, i: int) -> Image.Image | None:
        path = self.masks[self.rows[i]]
        return None if path is None else decode_mask(path)

    def _pixels_key(self, i: int) -> str:
        """The picture's, and its mask's bytes: both decide scores."""
        mask = self.masks[self.rows[i]]
        beside = hashlib.sha256(mask.read_bytes()).hexdigest() if mask else ""
        return super()._pixels_key(i) + beside

    def _label_key(self, i: int) -> str:
        return self.ids[i].partition("/")[0]

    def _for_classes(self, num_classes: int) -> Self:
        from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset

        subset = infer_imagenet_subset({"num_classes": num_classes}) if _are_wnids(self.folders) else None
        if subset is not None:
            index = {wnid: i for i, wnid in enumerate(ImageNetInfo(subset).label_names())}
            missing = [folder for folder in self.folders if folder not in index]
            if missing:
                raise AssayError(f"{self.spec}: {missing[0]} is no class of {subset}, which this model was trained on")
            labels = [index[self._label_key(i)] for i in range(len(self))]
            return replace(self, classes=_names(list(index)), labels=labels)
        return super()._for_classes(num_classes)


def decode(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF orientation says; the first frame of several.

    Alpha is dropped, as torchvision's loader does; 16-bit grey is scaled to 8 bits. Raises ``DecodeError`` for what
    cannot be read to its end, and for more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    picture = _read(path)
    if picture.mode.startswith("I"):
        deep = np.asarray(picture)
        if deep.min() < 0 or deep.max() > 65535:
            raise DecodeError(f"{path}: grey levels beyond 16 bits")
        picture = Image.fromarray((deep.astype(np.float64) / 257 + 0.5).astype(np.uint8))
    if picture.mode in ("F", "LAB", "HSV"):
        raise DecodeError(f"{path}: pictures of mode {picture.mode} are not read; save it as 8-bit RGB")
    if picture.mode in ("P", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
    return picture.convert("RGB")


def decode_mask(path: Path) -> Image.Image:
    """A mask as L, 255 where any channel but alpha, or the palette's index, is not zero. Raises ``DecodeError``."""
    values = np.atleast_3d(np.asarray(_read(path)))
    colours = 3 if values.shape[2] >= 3 else 1
    return Image.fromarray(np.where((values[..., :colours] != 0).any(2), 255, 0).astype(np.uint8))


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


def _read(path: Path) -> Image.Image:
    """The decoded file, upright. A decoder may raise anything on a broken file: all of it is a ``DecodeError``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                file.load()
                return ImageOps.exif_transpose(file)
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DecodeError(f"{path} cannot be decoded: {reason}") from error


def _class_folders(root: Path) -> list[str]:
    if not root.is_dir():
        raise AssayError(f"{root} is not a folder")
    folders = sorted(p.name for p in root.iterdir() if p.is_dir() and p.name != "masks" and p.name[0] != ".")
    if not folders:
        raise AssayError(f"{root} holds no class folders; put the pictures into one folder per class")
    if SPLIT_NAMES.issuperset(folders) and any(p.is_dir() for p in (root / folders[0]).iterdir()):
        raise AssayError(
            f"{root} holds splits ({', '.join(folders)}), not classes; name one: folder:{root / folders[-1]}"
        )
    return folders


def _pictures(root: Path, folder: str) -> list[tuple[Path, Path | None]]:
    """The pictures of a class with their masks, sorted; a link to a folder is followed once."""
    files: list[Path] = []
    walked: set[str] = set()
    for at, inner, names in os.walk(root / folder, followlinks=True):
        real = os.path.realpath(at)
        inner[:] = [] if real in walked else sorted(name for name in inner if name[0] != ".")
        if real not in walked:
            files += [Path(at, name) for name in names if name[0] != "." and Path(name).suffix.lower() in SUFFIXES]
        walked.add(real)
    beside = {path: path.with_name(f"{path.stem}_mask.png") for path in files}
    masks = set(beside.values())
    return [(path, _mask_of(root, folder, path, beside[path])) for path in sorted(files) if path not in masks]


def _mask_of(root: Path, folder: str, path: Path, beside: Path) -> Path | None:
    below = path.relative_to(root / folder).with_suffix(".png")
    return next((mask for mask in (root / "masks" / folder / below, beside) if mask.is_file()), None)


def _are_wnids(folders: Collection[str]) -> bool:
    return all(re.fullmatch(r"n\d{8}", folder, re.ASCII) for folder in folders)


def _names(folders: list[str]) -> tuple[str, ...]:
    """Class names: ImageNet's first word for wnids, with the wnid behind where two classes share it."""
    if not _are_wnids(folders):
        return tuple(map(_text, folders))
    from timm.data.imagenet_info import ImageNetInfo

    lemmas = ImageNetInfo("imagenet-22k").label_descriptions(as_dict=True)
    names = {wnid: str(lemmas.get(wnid, wnid)).partition(",")[0] for wnid in folders}
    counts = Counter(names.values())
    return tuple(name if counts[name] == 1 else f"{name} ({wnid})" for wnid, name in names.items())


def _text(path: Path | str) -> str:
    """A path as UTF-8 text with forward slashes, whatever bytes the file system holds."""
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")
