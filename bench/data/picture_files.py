"""Picture files: which there are below a folder, and what they hold."""

import os
import stat
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from assay.bench.data.base import DecodeError
from assay.core.errors import AssayError

DEEPEST = 64  # folders inside one another
NOT_READ = frozenset(
    {"BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
)  # Pillow runs a program for them, or cannot
SYSTEM = frozenset({"/proc", "/sys"})  # whose links lead everywhere


class Listing(NamedTuple):
    """The picture files below a folder in the order of their paths, and how many others there are, by suffix."""

    paths: list[Path]
    others: Counter[str]


def formats() -> list[str]:
    """What Pillow opens by itself, with the plugins that are imported."""
    Image.preinit()
    Image.init()
    return [name for name in Image.ID if name not in NOT_READ]


def suffixes() -> frozenset[str]:
    """Of the files of these formats, in lower case."""
    known = {*formats(), "MPO"}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def checked_folder(text: str | Path) -> Path:
    """The path of a folder that is there; ``AssayError`` where there is none, or one of the system's."""
    try:
        folder = Path(text).expanduser()
    except RuntimeError as error:  # a home that nobody has
        raise AssayError(f"{text} is not a folder: {error}") from error
    if not _is_folder(folder):
        raise AssayError(f"{folder} is not a folder")
    if SYSTEM.intersection(map(str, (folder.resolve(), *folder.resolve().parents))):
        raise AssayError(f"{folder} is the system's and holds no pictures")
    return folder


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long
        return False


def picture_files(folder: Path, root: Path | None = None) -> Listing:
    """All below ``folder``, a folder inside ``root``.

    Names that begin with a dot are passed over. A link to a folder is followed once, and never to one that holds
    ``folder`` or ``root``. Raises ``AssayError`` for a folder that cannot be listed, or ``DEEPEST`` others deep.
    """
    above = [*folder.resolve().parents, *([root, *root.resolve().parents] if root else [])]
    walked = {_key(path) for path in above}
    pictures, others, known = [], Counter[str](), suffixes()
    for at, inner, names in os.walk(folder, followlinks=True, onerror=_refuse):
        if (key := _key(at)) in walked:
            inner.clear()
            continue
        walked.add(key)
        if len(Path(at).relative_to(folder).parts) > DEEPEST:
            raise AssayError(f"{folder} has folders more than {DEEPEST} deep; no pictures are looked for so far down")
        inner[:] = sorted(name for name in inner if name[0] != ".")
        for name in (name for name in names if name[0] != "."):
            suffix = Path(name).suffix.lower()
            if suffix in known:
                pictures.append(Path(at, name))
            else:
                others[suffix or "without a suffix"] += 1
    return Listing(sorted(pictures), others)


def _key(path: str | Path) -> tuple[int, int]:
    """What a folder is, by whatever name."""
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _refuse(error: OSError) -> None:
    raise AssayError(f"{error.filename} cannot be listed: {error.strerror}") from error


def decode(path: Path) -> Image.Image:
    """A picture as RGB, turned as its EXIF orientation says; the first frame of several.

    Alpha is dropped, as torchvision's loader does; 16-bit grey is scaled to 8 bits. Raises ``DecodeError`` for what
    cannot be read to its end, is no regular file, or has more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
    """
    return to_rgb(_read(path), str(path))


def to_rgb(picture: Image.Image, name: str) -> Image.Image:
    """As ``decode`` gives it; ``name`` is of the picture, for errors."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture)
        if deep.min() < 0 or deep.max() > 65535:
            raise DecodeError(f"{name}: grey levels beyond 16 bits")
        picture = Image.fromarray((deep.astype(np.float64) / 257 + 0.5).astype(np.uint8))
    if picture.mode in ("F", "LAB", "HSV"):
        raise DecodeError(f"{name}: pictures of mode {picture.mode} are not read; save it as 8-bit RGB")
    if picture.mode in ("P", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA")
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def decode_mask(path: Path) -> Image.Image:
    """A mask as L, 255 where any channel but alpha, or the palette's index, is not zero. Raises ``DecodeError``."""
    values = np.atleast_3d(np.asarray(_read(path)))
    colours = 3 if values.shape[2] >= 3 else 1
    return Image.fromarray(np.where((values[..., :colours] != 0).any(2), 255, 0).astype(np.uint8))


def check_header(path: Path) -> None:
    """Raise ``DecodeError`` for a file that does not begin as a picture does."""
    _read(path, whole=False)


def _read(path: Path, whole: bool = True) -> Image.Image:
    """The file, upright. A decoder may raise anything on a broken file: all of it is a ``DecodeError``."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no regular file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=formats()) as file:
                if whole:
                    file.load()
                    ImageOps.exif_transpose(file, in_place=True)
                return file
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DecodeError(f"{path} cannot be decoded: {reason}") from error
