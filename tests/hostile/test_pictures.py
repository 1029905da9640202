"""Hostile pictures: broken, odd and dangerous files, alone and among others."""

import io
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.bench.data import DecodeError
from assay.bench.data.picture_files import decode
from tests.hostile.kit import MODEL, RUN, Hostile, broken, pictures, write

ONE = ["explain", MODEL, "x.png", "--method", "saliency"]
BAD = "cannot be decoded: "


@cache
def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **how: Any) -> bytes:
    """A picture as a file of that kind."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).save(file, kind, **how)
    return file.getvalue()


def png(width: int, height: int) -> bytes:
    """A file of 57 bytes that claims such a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def x(content: bytes, name: str = "x.png") -> Callable[[], object]:
    return partial(write, name, content)


def exif(orientation: int) -> bytes:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return encoded.__wrapped__("PNG", exif=tags)


UNREADABLE = tuple(
    Hostile(name, ONE, line, x(content))
    for name, content, line in (
        ("empty", b"", BAD),
        ("one-byte", b"\x89", BAD),
        ("text", b"not a picture", BAD),
        ("html", b"<!doctype html><img src=x>", BAD),
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg"/>', BAD),
        ("postscript", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", BAD),
        ("pdf", b"%PDF-1.7\n", BAD),
        ("zip", b"PK\x03\x04" + bytes(60), BAD),
        ("pickle", b"\x80\x04\x95" + bytes(60), BAD),
        ("a-macs-double", b"\0\5\26\7" + bytes(100), BAD),
        ("only-a-signature", b"\x89PNG\r\n\x1a\n", BAD),
        ("cut-png", encoded("PNG")[:-900], BAD),
        ("cut-jpeg", encoded("JPEG")[:300], BAD),
        ("cut-gif", encoded("GIF")[:300], BAD),
        ("cut-tiff", encoded("TIFF")[:300], BAD),
        ("cut-webp", encoded("WEBP")[:300], BAD),
        ("cut-bmp", encoded("BMP")[:300], BAD),
        ("bomb", png(50_000, 50_000), BAD + ".*exceeds limit"),
        ("large-claim", png(9_000, 9_000), BAD),
        ("no-width", png(0, 9), BAD),
        ("huge-numbers", png(2**31 - 1, 2**31 - 1), BAD),
        ("ppm-of-negatives", b"P6 -3 -3 255\n" + bytes(27), BAD),
        ("ppm-too-large", b"P6 99999999 99999999 255\n", BAD),
        ("floats", encoded("TIFF", "F"), "pictures of mode F are not read"),
        ("lab", encoded("TIFF", "LAB"), "pictures of mode LAB are not read"),
    )
)
NO_FILE = (
    Hostile("nowhere", ["explain", MODEL, "nowhere.png"], "no picture at nowhere"),
    Hostile("nul", ["explain", MODEL, "a\0b.png"], "holds a NUL"),
    Hostile("long", ["explain", MODEL, "a" * 5000 + ".png"], "no picture at"),
    Hostile("a-url", ["explain", MODEL, "https://example.org/x.png"], "no picture at https"),
    Hostile("a-folder", ["explain", MODEL, "x.png"], "no picture at", lambda: Path("x.png").mkdir()),
    Hostile("nothing", ["explain", MODEL, ""], "no picture at"),
    Hostile("a-style", ["train", "style", "nowhere.png", "--content", "pictures"], "no picture nowhere.png", pictures),
    Hostile("a-sample", ["synthesize", "texture", "x.png"], BAD, x(b"GIF89a")),
    Hostile("attack-it", ["attack", MODEL, "x.png", "--label", "0"], BAD, x(b"BM")),
)  # fmt: skip
FINE = tuple(
    Hostile(name, ONE, "saliency|explained", x(content), 0)
    for name, content in (
        ("one-pixel", encoded("PNG", size=(1, 1))),
        ("one-row", encoded("PNG", size=(2000, 1))),
        ("one-column", encoded("PNG", size=(1, 2000))),
        ("palette", encoded("PNG", "P")),
        ("one-bit", encoded("PNG", "1")),
        ("alpha", encoded("PNG", "RGBA")),
        ("grey-alpha", encoded("PNG", "LA")),
        ("cmyk", encoded("JPEG", "CMYK")),
        ("other-suffix", encoded("JPEG")),
        ("progressive", encoded("JPEG", progressive=True)),
        ("a-frame-of-many", encoded("GIF", save_all=True)),
        ("jpeg-2000", encoded("JPEG2000")),
        ("avif", encoded("AVIF")),
        ("icon", encoded("ICO")),
        ("targa", encoded("TGA")),
        ("trailing-bytes", encoded("JPEG") + b"<script>" * 99),
        ("turned", exif(6)),
        ("turned-to-nowhere", exif(99)),
        ("turned-by-nothing", exif(0)),
    )
)


def spoilt(count: int, of: int = 4) -> None:
    """Some of the pictures of two classes are no pictures."""
    pictures("data", n=of // 2)
    for path in sorted(Path("data").rglob("*.png"))[:count]:
        path.write_bytes(b"no picture")


def masked(content: bytes) -> None:
    pictures("data")
    write("data/masks/a/0.png", content)


DATA = [*RUN, "--models", MODEL, "--data", "folder:data"]
AMONG = (
    Hostile("one", DATA, "0 failed; 1 images cannot be read$", partial(spoilt, 1), 1),
    Hostile("five", DATA, "0 failed; 5 images cannot be read$", partial(spoilt, 5, 8), 1),
    Hostile("a-whole-class", DATA, "0 failed; 2 images cannot be read$", partial(spoilt, 2), 1),
    Hostile("all", DATA, "4 images cannot be read$", partial(spoilt, 4), 1),
    Hostile("a-mask-that-is-none", DATA, "0 failed; 1 images cannot be read$", partial(masked, b"x"), 1),
    Hostile("a-mask-of-another-size", DATA, "0 failed; 1 images cannot be read$", partial(masked, encoded("PNG")), 1),
    Hostile("a-mask-that-fits", DATA, "0 failed$", partial(masked, encoded("PNG", "L", (8, 8))), 0),
)


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{group}-{case}") for group, cases in
             {"unreadable": UNREADABLE, "no-file": NO_FILE, "fine": FINE, "among": AMONG}.items() for case in cases]
)  # fmt: skip
def test_hostile_pictures(case: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    if case.name != "all":  # of which pages are made, too
        monkeypatch.setattr("assay.reports.write", lambda folder: folder)
    if case.status == 2:
        case.check()
    else:
        ending = replace(case, line="").check()
        assert any(re.search(case.line, line) for line in ending.out), ending


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and devices")
@pytest.mark.parametrize("make", [lambda: os.mkfifo("x.png"), lambda: Path("x.png").symlink_to("/dev/zero")])
def test_pipes_and_devices_are_not_waited_for(make: Callable[[], object]) -> None:
    Hostile("pipe", ONE, "no picture at x.png", make).check()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP", "JPEG2000", "AVIF", "TGA", "ICO", "PPM"])
def test_damaged_files_are_pictures_or_one_line(kind: str) -> None:
    path = Path("x.png")
    for content in broken(encoded(kind, size=(24, 16)), 25, seed=0):
        path.write_bytes(content)
        try:
            picture = decode(path)
        except DecodeError as error:
            assert "\n" not in str(error)  # noqa: PT017
        else:
            assert picture.mode == "RGB"
            assert min(picture.size) > 0


def test_grey_levels_of_32_bits_are_refused() -> None:
    Image.fromarray(np.full((3, 3), 2**20, np.int32)).save("x.tif")
    with pytest.raises(DecodeError, match="grey levels beyond 16 bits"):
        decode(Path("x.tif"))
