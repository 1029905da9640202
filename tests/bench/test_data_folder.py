"""Photographs on disk: layout, decoding, masks, sizes, labels; and sets that torchvision reads."""

import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform

from assay.bench.data import DecodeError, Folder, load
from assay.bench.data.base import pixels_sha256
from assay.bench.data.folder import RESAMPLING, fit, picture_sha256
from assay.bench.data.picture_files import decode, decode_mask
from assay.core.errors import AssayError
from tests.bench.real import mnist

RNG = np.random.default_rng(0)


def _pixels(h: int = 20, w: int = 30) -> NDArray[np.uint8]:
    return RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)


def _save(path: Path, pixels: NDArray[np.uint8] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_pixels() if pixels is None else pixels).save(path)
    return path


def _folder(path: Path) -> Folder:
    data = load(f"folder:{path}")
    assert isinstance(data, Folder)
    return data


def test_layout(tmp_path: Path) -> None:
    for name in ("dog/b.png", "dog/A.JPG", "cat/deep/er/c.webp", "cat/.hidden.png", ".git/x.png", "masks/dog/b.png"):
        _save(tmp_path / name)
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / "empty").mkdir()
    data = _folder(tmp_path)
    assert data.classes == ("cat", "dog", "empty")
    assert data.ids == ["cat/deep/er/c.webp", "dog/A.JPG", "dog/b.png"]
    assert data.labels == [0, 1, 1]
    assert data.spec == f"folder:{tmp_path}"
    assert load(f"folder:{tmp_path}/").spec == data.spec
    assert data[2].image.shape == (3, 20, 30)
    assert data[1].mask is None
    assert data.take(2).ids == ["cat/deep/er/c.webp", "dog/A.JPG"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    _save(tmp_path / "real" / "a.png")
    root = tmp_path / "data"
    (root / "x").mkdir(parents=True)
    (root / "x" / "link.png").symlink_to(tmp_path / "real" / "a.png")
    (root / "x" / "loop").symlink_to(root / "x")
    (root / "y").symlink_to(tmp_path / "real")
    assert _folder(root).ids == ["x/link.png", "y/a.png"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="holds no class folders"):
        load(f"folder:{tmp_path}")
    (tmp_path / "dog").mkdir()
    with pytest.raises(AssayError, match="no pictures in the folders of"):
        load(f"folder:{tmp_path}")
    _save(tmp_path / "splits" / "train" / "dog" / "a.png")
    _save(tmp_path / "splits" / "val" / "dog" / "a.png")
    with pytest.raises(AssayError, match=r"holds splits \(train, val\).*folder:.*splits/val"):
        load(f"folder:{tmp_path / 'splits'}")


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        (("Train/dog/a.png", "Test/dog/a.png"), r"splits \(Test, Train\).*folder:.*Test"),
        (("train/dog/a.png", "val/dog/a.png", "annotations/a.xml"), r"splits \(train, val\).*folder:.*val"),
        (("train2017/a.png", "val2017/a.png"), r"splits \(train2017, val2017\).*folder:.*val2017"),
        (("train/dog/a.png", "annotations/a.xml"), r"splits \(train\).*folder:.*train"),
        (("Validation/dog/a.png",), r"splits \(Validation\)"),
        (("dog/a.png", "masks/a.png"), "masks holds pictures itself; masks lie in masks/CLASS"),
    ],
)
def test_splits_and_loose_masks_are_no_classes(tmp_path: Path, layout: tuple[str, ...], told: str) -> None:
    for name in layout:
        if name.endswith(".png"):
            _save(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text("<x/>")
    with pytest.raises(AssayError, match=told):
        load(f"folder:{tmp_path}")


def test_a_train_is_a_class_among_others(tmp_path: Path) -> None:
    for name in ("bus", "car", "train"):
        _save(tmp_path / name / "a.png")
    assert _folder(tmp_path).classes == ("bus", "car", "train")


def test_what_pillow_opens_is_read_and_the_rest_is_told(tmp_path: Path) -> None:
    for suffix in (".avif", ".jfif", ".jp2", ".JPE", ".tga", ".webp", ".qoi"):
        _save(tmp_path / "dog" / f"a{suffix}")
    for name in ("dog/b.heic", "dog/c.HEIC", "dog/notes.txt", "dog/noend", "dog/d.eps", "cat/e.heic", "dog/._a.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0")
    _save(tmp_path / "loose.png")
    data = _folder(tmp_path)
    assert [Path(id_).suffix for id_ in data.ids] == [".JPE", ".avif", ".jfif", ".jp2", ".qoi", ".tga", ".webp"]
    assert all(data.example(i).image.shape == (3, 20, 30) for i in range(len(data)))
    assert data.vacant == {0}
    assert data.notes == (
        "classes without pictures: 'cat'",
        "files of kinds that are not read: 1 .eps, 3 .heic, 1 .txt, 1 without a suffix",
        "pictures beside the class folders, which are of no class: 1",
    )
    (tmp_path / "dog" / "d.eps").rename(tmp_path / "dog" / "d.png")
    with pytest.raises(DecodeError, match=r"d\.png cannot be decoded: cannot identify"):  # no program is run for it
        decode(tmp_path / "dog" / "d.png")


def test_a_digest_is_of_all_rows_of_a_picture(tmp_path: Path) -> None:
    for shape in ((1, 1), (256, 3), (257, 2), (700, 5)):
        path = _save(tmp_path / "dog" / "a.png", _pixels(*shape))
        assert _folder(tmp_path).sha256(0) == pixels_sha256(np.asarray(Image.open(path)))
    assert picture_sha256(Image.new("L", (3, 300), 7)) == pixels_sha256(np.full((300, 3), 7, np.uint8))


def test_reduced_pictures_are_small_and_keep_their_masks(tmp_path: Path) -> None:
    _save(tmp_path / "dog" / "a.png", _pixels(400, 300))
    _save(tmp_path / "masks" / "dog" / "a.png", np.pad(np.ones((200, 300), np.uint8), ((200, 0), (0, 0))))
    _save(tmp_path / "dog" / "b.png", _pixels(20, 900))
    large, narrow = _folder(tmp_path).reduced(96)[0], _folder(tmp_path).reduced(96)[1]
    assert (large.image.shape, narrow.image.shape) == ((3, 128, 96), (3, 20, 900))
    assert large.mask is not None
    assert torch.equal(large.mask, torch.arange(128)[:, None].expand(128, 96) >= 64)


@pytest.mark.skipif(sys.platform == "win32", reason="pipes and links")
def test_pipes_and_links_upwards_end(tmp_path: Path) -> None:
    root = tmp_path / "data"
    _save(root / "cat" / "a.png")
    _save(root / "dog" / "b.png")
    (root / "cat" / "up").symlink_to(root)
    (root / "dog" / "top").symlink_to("/")
    os.mkfifo(root / "dog" / "pipe.png")
    (root / "dog" / "zero.png").symlink_to("/dev/zero")
    data = _folder(root)
    assert data.ids == ["cat/a.png", "dog/b.png", "dog/pipe.png", "dog/zero.png"]
    for i in (2, 3):
        with pytest.raises(DecodeError, match="is no regular file"):
            data.example(i)


@pytest.mark.skipif(sys.platform != "linux", reason="file names of arbitrary bytes")
def test_ids_are_text_whatever_the_file_system_holds(tmp_path: Path) -> None:
    _save(tmp_path / "dog" / "a.png")
    (tmp_path / "dog" / "a.png").rename(tmp_path / "dog" / os.fsdecode(b"\xff.png"))
    data = _folder(tmp_path)
    assert data.ids == ["dog/\\xff.png"]
    assert len(data.digest) == 64


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    levels = np.repeat(RNG.integers(0, 256, (6, 5, 1), dtype=np.uint8), 3, 2)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    if mode == "I;16":
        Image.fromarray(levels[..., 0].astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(levels[..., 0] if mode == "P" else levels).convert(mode).save(path)
    picture = decode(path)
    assert (picture.mode, picture.size) == ("RGB", (5, 6))
    if mode != "1":
        assert np.abs(np.asarray(picture).astype(int) - levels).max() == 0


def test_palette_with_transparency_keeps_its_colours(tmp_path: Path) -> None:
    picture = Image.fromarray(_pixels(8, 8)).quantize(16)
    picture.save(tmp_path / "a.png", transparency=bytes([0] * 8 + [255] * 8))
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.asarray(picture.convert("RGB")))


def test_orientation_is_respected(tmp_path: Path) -> None:
    pixels = _pixels(4, 6)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(np.asarray(decode(tmp_path / "a.png")), np.rot90(pixels, -1))


def _broken(kind: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a picture")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-800])
    elif kind == "corrupt":
        data = bytearray(path.read_bytes())
        data[60:200] = bytes(140)
        path.write_bytes(bytes(data))
    elif kind == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    elif kind == "gone":
        path.unlink()
    else:
        Image.fromarray(np.ones((4, 4), np.float32)).save(path, "tiff")


@pytest.mark.parametrize("kind", ["empty", "text", "truncated", "corrupt", "bomb", "gone", "float"])
def test_a_picture_that_cannot_be_read_is_a_decode_error(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = _save(tmp_path / "dog" / "a.png"), _save(tmp_path / "dog" / "b.png", _pixels(5, 5))
    data = _folder(tmp_path)
    whole = data.digest
    _broken(kind, path, monkeypatch)
    with pytest.raises(DecodeError, match=r"a\.png") as caught:
        data[0]
    assert "\n" not in str(caught.value)
    assert data[1].image.shape == (3, 5, 5)
    assert other.exists()
    again = _folder(tmp_path) if kind != "gone" else None
    assert again is None or again.digest != whole


def test_digest_follows_the_pixels_not_the_file(tmp_path: Path) -> None:
    path = _save(tmp_path / "one" / "dog" / "a.png")
    digest = _folder(tmp_path / "one").digest
    Image.open(path).save(path, compress_level=0)
    (tmp_path / "one").rename(tmp_path / "two")
    assert _folder(tmp_path / "two").digest == digest == _folder(tmp_path / "two").at((3, 7, 7)).digest
    pixels = np.array(Image.open(tmp_path / "two" / "dog" / "a.png"))
    pixels[0, 0, 0] ^= 1
    _save(tmp_path / "two" / "dog" / "a.png", pixels)
    assert _folder(tmp_path / "two").digest != digest


def test_masks_in_both_places(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[5:10, 8:20] = 1
    _save(tmp_path / "dog" / "a.jpg")
    _save(tmp_path / "masks" / "dog" / "a.png", mask)
    _save(tmp_path / "dog" / "b.jpg")
    _save(tmp_path / "dog" / "b_mask.png", mask * 255)
    _save(tmp_path / "dog" / "c_mask.png")  # no picture c: a picture of its own
    data = _folder(tmp_path)
    assert data.ids == ["dog/a.jpg", "dog/b.jpg", "dog/c_mask.png"]
    assert data.has == {"masks"}
    for i in (0, 1):
        found = data[i].mask
        assert found is not None
        assert np.array_equal(found.numpy(), mask > 0)
    assert data[2].mask is None
    assert data.example(0).mask is None
    _save(tmp_path / "masks" / "dog" / "a.png", mask[:10])
    assert data.example(0).image.shape == (3, 20, 30)
    with pytest.raises(DecodeError, match=r"dog/a\.jpg: its mask is \(30, 10\), the picture \(30, 20\)"):
        data[0]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_masks_of_all_modes(tmp_path: Path, mode: str) -> None:
    levels = np.zeros((4, 5), np.uint8)
    levels[1, 2] = 255
    mask = Image.fromarray(levels).convert(mode)
    mask.save(tmp_path / "m.png")
    assert np.array_equal(np.asarray(decode_mask(tmp_path / "m.png")), levels)


def test_a_mask_moves_with_its_picture(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:26, 24:44] = 255
    _save(tmp_path / "dog" / "a.png", pixels)
    _save(tmp_path / "masks" / "dog" / "a.png", pixels[..., 0])
    example = _folder(tmp_path).at((1, 21, 21), crop_pct=0.8)[0]
    assert example.mask is not None
    assert (example.image.shape, example.mask.shape) == ((1, 21, 21), (21, 21))
    assert ((example.image[0] > 0.5) == example.mask).float().mean() > 0.97


@pytest.mark.parametrize("shape", [(299, 299), (50, 80), (90, 41), (20, 31)])
@pytest.mark.parametrize("crop_pct", [0.875, 0.9, 1.0])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_sizes_are_timms(shape: tuple[int, int], crop_pct: float, interpolation: str) -> None:
    picture = Image.fromarray(_pixels(*shape))
    peer = create_transform((3, 32, 32), crop_pct=crop_pct, interpolation=interpolation, mean=(0,) * 3, std=(1,) * 3)
    ours = np.asarray(fit(picture, (32, 32), crop_pct, RESAMPLING[interpolation]))
    assert np.array_equal(ours, np.round(peer(picture).permute(1, 2, 0).numpy() * 255))


@pytest.mark.parametrize("size", [(32, 48), (48, 20)])
def test_other_shapes_are_covered(size: tuple[int, int]) -> None:
    picture = Image.new("RGB", (70, 50), (255, 255, 255))
    fitted = np.asarray(fit(picture, size, 0.9, RESAMPLING["bicubic"]))
    assert fitted.shape == (*size, 3)
    assert fitted.min() == 255


def test_unknown_interpolation_is_refused(tmp_path: Path) -> None:
    _save(tmp_path / "dog" / "a.png")
    with pytest.raises(AssayError, match="did you mean bicubic"):
        _folder(tmp_path).at((3, 8, 8), interpolation="bicubik")


def test_wnids_become_imagenet_labels(tmp_path: Path) -> None:
    for wnid in ("n01484850", "n02012849", "n03126707"):
        _save(tmp_path / wnid / "a.png")
    data = _folder(tmp_path)
    assert data.classes == ("great white shark", "crane (n02012849)", "crane (n03126707)")
    assert data.labels == [0, 1, 2]
    big = data.at((3, 8, 8), num_classes=1000)
    assert big.labels == [2, 134, 517]
    assert len(big.classes) == len(set(big.classes)) == 1000
    assert (big.classes[2], big.classes[134]) == ("great white shark", "crane (n02012849)")
    assert big[1].label == 134
    assert big.digest == data.digest
    assert data.at((3, 8, 8), num_classes=3).labels == [0, 1, 2]
    with pytest.raises(AssayError, match="has 3 classes and the model 10"):
        data.at((3, 8, 8), num_classes=10)
    _save(tmp_path / "n00000001" / "a.png")
    with pytest.raises(AssayError, match="n00000001 is no class of imagenet-1k"):
        _folder(tmp_path).at((3, 8, 8), num_classes=1000)


def _idx(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes())


def test_torchvision_reads_what_is_there(tmp_path: Path) -> None:
    images = RNG.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    labels = np.arange(12, dtype=np.uint8) % 10
    for prefix in ("train", "t10k"):
        _idx(tmp_path / "MNIST" / "raw" / f"{prefix}-images-idx3-ubyte", images)
        _idx(tmp_path / "MNIST" / "raw" / f"{prefix}-labels-idx1-ubyte", labels)
    data = load(f"torchvision:mnist?root={tmp_path}")
    assert data.spec == f"torchvision:MNIST?root={tmp_path}"
    assert data.labels == labels.tolist()
    assert data.classes[3] == "3 - three"
    assert data.ids[3] == "test-00003"
    assert np.array_equal(data[3].image[0].numpy(), images[3].astype(np.float32) / 255)
    assert data.at((1, 28, 28))[3].image.equal(data[3].image)
    colour = data.at((3, 14, 14), num_classes=10)[3].image
    assert colour.shape == (3, 14, 14)
    assert torch.equal(colour[0], colour[1])
    assert data.digest == data.at((3, 14, 14)).digest


@pytest.mark.real
def test_real_mnist(tmp_path: Path) -> None:
    digits = load(mnist(tmp_path))
    assert len(digits) == 10_000
    assert digits.labels[:5] == [7, 2, 1, 0, 4]
