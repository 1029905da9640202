"""The images of a data set: which can be read, and small pictures of them."""

from typing import NamedTuple

from assay.reports.context import Context
from assay.reports.drawing.album import Album, Picture, art, has_art, pictures
from assay.reports.kinds.base import Block, Kind, Part, metric
from assay.reports.run.reader import Run
from assay.reports.run.records import Cell

SAMPLES = 24  # pictures


class Thumbnails(NamedTuple):
    """Small pictures of images, by id."""

    model: str
    data: str
    pictures: dict[str, Picture]


class Tile(NamedTuple):
    """A picture with its class and a few words."""

    image: str
    label: str
    picture: Picture | None
    words: str = ""


def tile(context: Context, data: str, image: str, words: str = "") -> Tile:
    """An image of a data set, with its picture where the run kept it."""
    tiles = (each.pictures[image] for each in context.art("data", data) if image in each.pictures)
    return Tile(image, context.classes.get((data, image), ""), next(tiles, None), words)


def _read(run: Run, cell: Cell, album: Album) -> Thumbnails | None:
    if not has_art(run, cell, "pictures.npz"):
        return None
    arrays, meta = art(run, cell, "pictures.npz")
    images = zip(map(str, meta["images"]), pictures(arrays["images"]), strict=True)
    return Thumbnails("", cell.data, {key: album.add(image, f"Image {key}", exact=True) for key, image in images})


def _samples(context: Context, data: str) -> list[Part]:
    ids = [image for each in context.art("data", data) for image in each.pictures]
    tiles = [tile(context, data, image) for image in ids[:SAMPLES]]
    return [Part("samples", "Images", "", [Block("tiles", tiles)])] if tiles else []


KIND = Kind(
    name="data",
    metrics={"decoded": metric("higher", "share", "share of images that can be decoded", interval="wilson")},
    summary=False,
    label="decoding",
    ignored=("pictures.npz:images",),
    read=_read,
    on_data=_samples,
)
