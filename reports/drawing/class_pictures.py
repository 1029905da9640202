"""Pictures that models draw of classes; the kinds synthesis and fooling keep them alike."""

from collections.abc import Callable
from typing import NamedTuple

from assay.reports.context import Context
from assay.reports.drawing.album import TILE, Album, Picture, art, has_art, pictures, probability
from assay.reports.gate.tolerances import OPTIMISED
from assay.reports.kinds.base import Arrays, Block, Kind, Part, metric
from assay.reports.run.reader import Run
from assay.reports.run.records import Cell


class ClassPicture(NamedTuple):
    """One class as a model draws it; the probabilities are text, empty where unknown."""

    name: str
    picture: Picture
    own: str
    other: str


class ClassPictures(NamedTuple):
    """The class pictures of one model and method."""

    model: str
    data: str
    method: str
    pictures: list[ClassPicture]


METRICS = {
    "own_probability": metric("higher", "probability", "what the model itself gives the class in its picture"),
    "moved_probability": metric(
        "higher", "probability", "the same, mean over rolls, turns and scalings of the picture"
    ),
    "spectrum_distance": metric("lower", "dB", "how far the picture's spectrum is from that of the data's images"),
    "other_probability": metric("higher", "probability", "mean of what the other models give the class"),
    "other_agreement": metric("higher", "share", "share of the other models that see the class in the picture"),
}


def class_kind(name: str, *, heading: str, alt: str, place: str, text: str) -> Kind:
    """A kind of class pictures; ``alt`` is what a picture shows, ``place`` the id of its part of a page."""

    def read(run: Run, cell: Cell, album: Album) -> ClassPictures | None:
        return _read(run, cell, album, alt)

    return Kind(
        name=name,
        heading=heading,
        metrics=METRICS,
        arrays=(Arrays("pictures.npz", "images", "drawn", ("classes",)),),
        ignored=("pictures.npz:history",),
        tolerances=(OPTIMISED,),
        read=read,
        parts=_parts(name, place, heading, text),
    )


def _parts(name: str, place: str, title: str, text: str) -> Callable[[Context, str], list[Part]]:
    def on_model(context: Context, model: str) -> list[Part]:
        blocks = [Block("class_pictures", each) for each in context.art(name, model=model)]
        return [Part(place, title, text, blocks)] if blocks else []

    return on_model


def _read(run: Run, cell: Cell, album: Album, alt: str) -> ClassPictures | None:
    if not has_art(run, cell, "pictures.npz"):
        return None
    arrays, meta = art(run, cell, "pictures.npz")
    images = pictures(arrays["images"])
    tiles = []
    for k, image in enumerate(images):
        name = str(meta["classes"][k])
        who = ((meta.get(f"{who}_probability") or [None] * len(images))[k] for who in ("own", "other"))
        picture = album.add(image, f"{alt} {name}", exact=images.shape[1] < TILE // 2)
        tiles.append(ClassPicture(name, picture, *map(probability, who)))
    return ClassPictures(cell.model, cell.data, cell.method, tiles) if tiles else None
