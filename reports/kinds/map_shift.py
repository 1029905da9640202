"""Heatmaps under attack: how far they move, and what an attack on a heatmap looks like."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.reports.run import labels as names
from assay.reports.run.intervals import Estimate, estimate
from assay.reports.drawing.theme import HUES, Identity, Look, Plot, canvas
from assay.reports.drawing.album import Album, art, each, overlay
from assay.reports.run.reader import Run

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


def scenes(run: Run, album: Album) -> list[Scene]:
    """One for each cell that kept pictures."""
    return each(run, "moved", album, _scene)


def _scene(run: Run, cell: dict[str, str], album: Album) -> Scene | None:
    if not (run.path / "art" / cell["id"] / "moved.npz").is_file():
        return None
    arrays, meta = art(run, cell, "moved.npz")
    pairs = zip(arrays["clean_heat"], arrays["deceived_heat"], strict=True)
    with np.errstate(invalid="ignore"):
        likeness = [np.corrcoef(one.ravel(), two.ravel())[0, 1] for one, two in pairs]
    i = int(np.argmin(np.nan_to_num(likeness, nan=1.0)))
    label = str(meta["classes"][meta["labels"][i]])
    shown = {name: arrays[name][i] for name in PICTURES}
    return Scene(cell["model"], cell["data"], cell["method"], label, len(likeness), float(meta["eps"]), shown)


def figures(run: Run, found: list[Scene], data: str, marks: dict[str, Identity], prefix: str) -> list[Plot]:
    """The figures of one data set; none where no map was attacked."""
    rows = run.rows
    rows = rows[(rows["kind"] == "moved") & (rows["data"] == data) & rows["metric"].isin(list(CHANGES))]
    rows = rows.dropna(subset="value")
    here = [scene for scene in found if scene.data == data]
    eps = f"L\N{INFINITY} {names.radius(here[0].eps)}" if here else "the same size"
    plots = []
    if len(rows):
        plots.append(_distances(rows, eps, f"{prefix}-moved"))
    shown = [scene for model in marks for scene in here if scene.model == model]
    shown = [scene for scene in shown if scene.model == shown[0].model]
    if shown:
        plots.append(_example(shown, marks[shown[0].model].label, eps, f"{prefix}-moved-example"))
    return plots


def _distances(rows: Any, eps: str, name: str) -> Plot:
    values: dict[str, dict[str, Estimate]] = {}
    for (method, metric), group in rows.groupby(["method", "metric"]):
        per_image = group.groupby("image")["value"].mean()
        values.setdefault(method, {})[metric] = estimate(per_image, key=f"{method}\x1f{metric}")
    order = sorted(values, key=lambda m: values[m].get("map_similarity_deceived", Estimate(2, 0, 0, 0)).value)
    brief = names.short(order)

    def draw(look: Look) -> Figure:
        figure = canvas(8.6, 1.3 + 0.42 * len(order))
        ax = figure.subplots()
        for i, (metric, label) in enumerate(CHANGES.items()):
            for y, method in enumerate(order):
                found = values[method].get(metric)
                if found is not None:
                    place = y + 0.18 * (1 - i)
                    ax.plot([found.low, found.high], [place, place], color=HUES[i], lw=2, solid_capstyle="round")
                    ax.plot(found.value, place, "osD"[i], color=HUES[i], ms=5.5, label=label if y == 0 else None)
        ax.axvline(0, color=look.soft, lw=1)
        ax.set_yticks(range(len(order)), [brief[method] for method in order])
        ax.set_ylim(-0.6, len(order) - 0.4)
        ax.set_xlim(min([-0.1, *(f.low for m in values.values() for f in m.values() if f.low == f.low)]) - 0.02, 1.02)
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


def _example(found: list[Scene], model: str, eps: str, name: str) -> Plot:
    brief = names.short([scene.method for scene in found])

    def draw(look: Look) -> Figure:
        figure = canvas(9.4, 0.35 + 1.5 * len(found))
        axes = figure.subplots(len(found), len(PICTURES), squeeze=False)
        for line, scene in zip(axes, found, strict=True):
            for i, ax in enumerate(line):
                picture = scene.arrays[PICTURES[i]]
                shown = overlay(_coloured(scene.arrays[PICTURES[i - 1]]), picture) if i % 2 else _coloured(picture)
                _show(ax, shown)
            line[0].set_ylabel(brief[scene.method], rotation=90)
        for ax, title in zip(axes[0], TITLES, strict=True):
            ax.set_title(title, fontweight="normal", fontsize=8.5, loc="center")
        return figure

    return Plot(
        name,
        "The same prediction, another explanation",
        f"{model}, for each method the image of {found[0].among} whose map moved most, within {eps}. Left: as it is. "
        "Middle: attacked until the class changes; the map is still that of the true class. Right: attacked so that "
        "the heat goes to the corner where it was least, while the prediction stays.",
        f"Images and heatmaps of {len(found)} methods before and after an attack on the class and one on the map.",
        draw,
    )


def _show(ax: Axes, pixels: NDArray[np.uint8]) -> None:
    ax.imshow(pixels, interpolation="nearest")
    ax.set_xticks([])
    ax.set_yticks([])
    ax.grid(visible=False)
    for spine in ax.spines.values():
        spine.set_visible(False)


def _coloured(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels
