"""Heatmaps under attack: how far they move, and what an attack on a heatmap looks like."""

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.reports.context import Context
from assay.reports.drawing.album import Album, art, coloured, has_art, overlay
from assay.reports.drawing.charts import bar, blank, lines_of
from assay.reports.drawing.theme import HUES, Look, Plot, canvas
from assay.reports.gate.tolerances import MetricRule, PictureRule
from assay.reports.kinds.base import Arrays, Kind, Section, metric
from assay.reports.run import labels
from assay.reports.run.intervals import Estimate, estimate
from assay.reports.run.reader import Run
from assay.reports.run.records import Cell

FILE = "moved.npz"
CHANGES = {
    "map_similarity_noise": "random noise",
    "map_similarity_fooled": "attack that changes the class",
    "map_similarity_deceived": "attack on the map, same class",
}
PICTURES = ("images", "clean_heat", "fooled", "fooled_heat", "deceived", "deceived_heat")
TITLES = ("image", "its map", "class attacked", "its map", "map attacked", "its map")


class Scene(NamedTuple):
    """The image of one cell whose map the attack on it moved most, before and after each attack, with its maps."""

    model: str
    data: str
    method: str
    name: str  # the image's class
    among: int  # images that were looked at
    eps: float
    arrays: dict[str, NDArray[Any]]


def _read(run: Run, cell: Cell, _: Album) -> Scene | None:
    if not has_art(run, cell, FILE):
        return None
    arrays, meta = art(run, cell, FILE)
    pairs = zip(arrays["clean_heat"], arrays["deceived_heat"], strict=True)
    with np.errstate(invalid="ignore"):
        likeness = [np.corrcoef(before.ravel(), after.ravel())[0, 1] for before, after in pairs]
    i = int(np.argmin(np.nan_to_num(likeness, nan=1.0)))
    label = str(meta["classes"][meta["labels"][i]])
    scene = {name: arrays[name][i] for name in PICTURES}
    return Scene(cell.model, cell.data, cell.method, label, len(likeness), float(meta["eps"]), scene)


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """The figures of one data set; none where no map was attacked."""
    rows = context.run.select("map_shift", data=data)
    rows = rows[rows["metric"].isin(list(CHANGES))].dropna(subset="value")
    scenes = context.art("map_shift", data)
    eps = f"L\N{INFINITY} {labels.radius(scenes[0].eps)}" if scenes else "the same size"
    plots = []
    if len(rows):
        plots.append(_distances(rows, context.run.short(rows["method"].unique()), eps, f"{prefix}-moved"))
    scenes = [scene for scene in scenes if scene.model == scenes[0].model]
    if scenes:
        plots.append(_example(context, scenes, eps, f"{prefix}-moved-example"))
    return plots


def _distances(rows: pd.DataFrame, brief: dict[str, str], eps: str, name: str) -> Plot:
    values: dict[str, dict[str, Estimate]] = {}
    for (method, metric_), group in rows.groupby(["method", "metric"]):
        per_image = group.groupby("image")["value"].mean()
        values.setdefault(str(method), {})[str(metric_)] = estimate(per_image, key=f"{method}\x1f{metric_}")
    order = sorted(values, key=lambda m: values[m].get("map_similarity_deceived", Estimate(2, 0, 0, 0)).value)

    def draw(look: Look) -> Figure:
        figure = canvas(8.6, 1.3 + 0.42 * len(order))
        ax = figure.subplots()
        for i, (change, label) in enumerate(CHANGES.items()):
            for y, method in enumerate(order):
                mean = values[method].get(change)
                if mean is not None:
                    place = y + 0.18 * (1 - i)
                    bar(ax, mean.low, mean.high, place, HUES[i])
                    ax.plot(mean.value, place, "osD"[i], color=HUES[i], ms=5.5, label=label if y == 0 else None)
        ax.axvline(0, color=look.soft, lw=1)
        lines_of(ax, [brief[method] for method in order])
        ends = (mean.low for means in values.values() for mean in means.values())
        ax.set_xlim(min([-0.1, *(low for low in ends if low == low)]) - 0.02, 1.02)
        ax.set_xlabel("Rank correlation with the map of the clean image")
        figure.legend(loc="outside upper left", ncols=3)
        return figure

    return Plot(
        name,
        "How far a heatmap moves when the image hardly does",
        f"Three changes of {eps} of the same images: 1 is the same map, 0 is an unrelated one. Means over models and "
        "images with 95 % bootstrap intervals. A map that moves while the class stays says little about the class.",
        f"Dot plot of the rank correlation of heatmaps before and after three changes, for {len(order)} methods.",
        draw,
    )


def _example(context: Context, scenes: list[Scene], eps: str, name: str) -> Plot:
    brief = context.run.short([scene.method for scene in scenes])

    def draw(look: Look) -> Figure:
        figure = canvas(9.4, 0.35 + 1.5 * len(scenes))
        axes = figure.subplots(len(scenes), len(PICTURES), squeeze=False)
        for line, scene in zip(axes, scenes, strict=True):
            for i, ax in enumerate(line):
                pixels = scene.arrays[PICTURES[i]]
                heat = overlay(coloured(scene.arrays[PICTURES[i - 1]]), pixels) if i % 2 else coloured(pixels)
                ax.imshow(heat, interpolation="nearest")
                blank(ax)
            line[0].set_ylabel(brief[scene.method], rotation=90)
        for ax, title in zip(axes[0], TITLES, strict=True):
            ax.set_title(title, fontweight="normal", fontsize=8.5, loc="center")
        return figure

    return Plot(
        name,
        "The same prediction, another explanation",
        f"{context.label(scenes[0].model)}, for each method the image of {scenes[0].among} whose map moved most, "
        f"within {eps}. Left: as it is. "
        "Middle: attacked until the class changes; the map is still that of the true class. Right: attacked so that "
        "the heat goes to the corner where it was least, while the prediction stays.",
        f"Images and heatmaps of {len(scenes)} methods before and after an attack on the class and one on the map.",
        draw,
    )


KIND = Kind(
    name="map_shift",
    metrics={
        "map_similarity_noise": metric(
            "higher", "rank correlation", "Rank correlation of the heatmaps before and after random noise."
        ),
        "map_similarity_fooled": metric(
            "higher",
            "rank correlation",
            "Rank correlation of the label's heatmaps before and after an attack that fools.",
        ),
        "map_similarity_deceived": metric(
            "higher",
            "rank correlation",
            "Rank correlation of the heatmaps before and after an attack on the map, class kept.",
        ),
        "corner_mass_clean": metric(
            "none", "share", "Share of the absolute heat in the corner that an attack on the map aims at, before it."
        ),
        "corner_mass_deceived": metric(
            "none", "share", "Share of the absolute heat in the corner that an attack on the map aims at, after it."
        ),
    },
    flags={
        "no-derivative": "The map has no derivative by the image, so that an attack on it by gradients cannot be tried."
    },
    adversarial=True,
    arrays=(
        Arrays(FILE, "clean_heat", "heat", ("images",)),
        Arrays(FILE, "fooled", "attacked", ("images",)),
        Arrays(FILE, "deceived", "attacked", ("images",)),
        Arrays(FILE, "*_heat", "attacked-heat", ("images",)),
    ),
    ignored=(f"{FILE}:images",),
    tolerances=(
        MetricRule(absolute=0.1, statistical=0.99),  # an attack on a map by second derivatives
        MetricRule(metric=("*_fooled", "*_deceived"), absolute=0.1, statistical=0.99, undefined=math.inf),
        PictureRule(picture="attacked-heat"),
    ),
    read=_read,
    sections=(
        Section(
            id="moved",
            page="explanations",
            title="Explanations under attack",
            text="Whether a heatmap stays when the image hardly changes. Noise, an attack on the class and an attack "
            "on the heatmap itself, all of the same size.",
            figures=figures,
            place=1,
        ),
    ),
)
