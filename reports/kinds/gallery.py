"""Images before and after an attack, with heatmaps of both."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.reports.context import Context
from assay.reports.drawing.album import (
    Album,
    Picture,
    amplified,
    art,
    coloured,
    gap,
    overlay,
    pictures,
    probability,
    strip,
)
from assay.reports.gate.tolerances import PictureRule
from assay.reports.kinds.base import Arrays, Block, Kind, metric
from assay.reports.run import labels
from assay.reports.run.reader import Run
from assay.reports.run.records import Cell

FILE = "gallery.npz"
CHANGE = "change"  # the proof that shows what the attack changed


@dataclass(frozen=True, slots=True)
class Shot:
    """One row of a gallery."""

    image: str
    label: str
    original: Picture
    answer: str
    right: bool
    adversarial: Picture
    answer_adversarial: str
    right_adversarial: bool
    difference: Picture
    factor: str
    strip: Picture | None


@dataclass(frozen=True, slots=True)
class Gallery:
    """What fooled one model on one data set, and where it looked."""

    id: str
    model: str
    data: str
    attack: str
    explainers: list[str]
    shots: list[Shot]


def _read(run: Run, cell: Cell, album: Album) -> Gallery | None:
    arrays, meta = art(run, cell, FILE)
    images, adversarial = pictures(arrays["images"]), pictures(arrays["adversarial"])
    clean, attacked = (np.asarray(arrays[f"{which}_heat"], np.float32) for which in ("clean", "adversarial"))
    explainers = list(run.short(meta["explainers"]).values())
    shots = []
    for i, image in enumerate(meta["images"]):
        label, before, after = (_class(meta, key, i) for key in ("labels", "predicted", "predicted_adversarial"))
        difference, factor = amplified(images[i], adversarial[i])
        shots.append(
            Shot(
                image=str(image),
                label=label,
                original=album.add(images[i], f"Image {image}, a {label}", exact=True),
                answer=f"{before} {probability(meta['confidence'][i])}",
                right=meta["predicted"][i] == meta["labels"][i],
                adversarial=album.add(adversarial[i], f"Image {image} after the attack", exact=True),
                answer_adversarial=f"{after} {probability(meta['confidence_adversarial'][i])}",
                right_adversarial=meta["predicted_adversarial"][i] == meta["labels"][i],
                difference=album.add(
                    difference, f"What the attack changed in image {image}, times {factor}", exact=False
                ),
                factor=f"× {factor}" if factor else "no change",
                strip=_strips(
                    album, str(image), explainers, (images[i], clean[:, i]), (adversarial[i], attacked[:, i])
                ),
            )
        )
    return Gallery(cell.id, cell.model, cell.data, str(meta["attack"]), explainers, shots) if shots else None


def _strips(album: Album, image: str, explainers: list[str], *sides: tuple[Any, Any]) -> Picture | None:
    """Heatmaps of the clean image above those of the attacked one."""
    if not explainers:
        return None
    clean, attacked = (strip(*side) for side in sides)
    alt = f"Heatmaps of image {image}: {', '.join(explainers)}; clean above, attacked below"
    return album.add(np.concatenate([clean, gap(clean, axis=0), attacked]), alt, exact=False)


def _class(meta: dict[str, Any], key: str, i: int) -> str:
    label = meta[key][i]
    return labels.class_name(meta.get("classes") or [], label) if isinstance(label, int) else str(label)


def _on_model(context: Context, model: str, data: str) -> list[Block]:
    return [Block("gallery", each, place=5) for each in context.art("gallery", data, model)]


def _proofs(run: Run, cell: Cell) -> dict[str, NDArray[Any]]:
    """The first image under each explainer's heatmap, then what the attack changed."""
    arrays, meta = art(run, cell, FILE)
    if not len(arrays["images"]):
        return {}
    image, attacked = (coloured(arrays[name][0]) for name in ("images", "adversarial"))
    heats = zip(meta["explainers"], arrays["clean_heat"], strict=True)
    return {str(name): overlay(image, heat[0]) for name, heat in heats} | {CHANGE: amplified(image, attacked)[0]}


KIND = Kind(
    name="gallery",
    metrics={"shown": metric("none", "images", "an image that the gallery shows")},
    summary=False,
    label="gallery of {images}: {attack}",
    arrays=(
        Arrays(FILE, "images", "image", ("images",)),
        Arrays(FILE, "adversarial", "attacked", ("images",), before="images"),
        Arrays(FILE, "clean_heat", "heat", ("explainers", "images")),
        Arrays(FILE, "adversarial_heat", "attacked-heat", ("explainers", "images")),
    ),
    tolerances=(PictureRule(picture="attacked-heat", relative=0.5),),
    read=_read,
    proofs=_proofs,
    on_model=_on_model,
)
