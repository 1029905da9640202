"""Figures of what a model says around an image: along a gradient, and over two directions."""

from collections import Counter
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.reports.drawing.theme import DARK, Identity, Look, Plot, canvas, grid
from assay.reports.drawing.album import Album, art, each
from assay.reports.run.reader import Run

WIDTH = 11.0
OTHERS = 9  # classes beside the label whose logits are drawn: those that come highest
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Landscape:
    """One model around some images; radii and axis in pixel values."""

    model: str
    data: str
    ids: list[str]
    labels: list[int]
    classes: list[str]
    radii: Array  # (R,)
    logits: Array  # (n, R, K)
    axis: Array  # (S,)
    margin: Array  # (n, S, S): along the gradient's sign, then along random signs


def landscapes(run: Run, album: Album) -> list[Landscape]:
    """One for each landscape cell whose art can be read; the others are noted in ``album.unreadable``."""
    return each(run, "landscape", album, _read)


def figures(
    found: list[Landscape], summary: pd.DataFrame, data: str, marks: dict[str, Identity], prefix: str
) -> list[Plot]:
    """Both figures, for the image that most models were looked at on."""
    here = sorted((one for one in found if one.data == data), key=lambda one: list(marks).index(one.model))
    if not here:
        return []
    straight = summary[(summary["data"] == data) & (summary["metric"] == "linearity")].set_index("model")["value"]
    image = Counter(image for one in here for image in one.ids).most_common(1)[0][0]
    return [
        _linearity(here, image, straight, marks, f"{prefix}-linearity"),
        _surface(here, image, marks, f"{prefix}-surface"),
    ]


def _place(one: Landscape, image: str) -> int:
    """Where a model's landscape of the image is; its first one where it was looked at on others."""
    return one.ids.index(image) if image in one.ids else 0


def _title(one: Landscape, image: str, marks: dict[str, Identity]) -> str:
    return marks[one.model].label + ("" if image in one.ids else f", {one.ids[0]}")


def _read(run: Run, cell: dict[str, str], album: Album) -> Landscape | None:
    line, meta = art(run, cell, "line.npz")
    surface, _ = art(run, cell, "surface.npz")
    labels = [int(label) for label in line["labels"]]
    logits, margin = np.asarray(line["logits"], np.float64), np.asarray(surface["margin"], np.float64)
    radii, axis = np.asarray(line["radii"], np.float64), np.asarray(surface["axis"], np.float64)
    n, side = len(labels), len(axis)
    if logits.shape[:2] != (n, len(radii)) or margin.shape != (n, side, side) or len(meta["ids"]) != n:
        raise ValueError(f"logits {logits.shape} and margins {margin.shape} do not fit {n} images")
    ids, classes = [str(image) for image in meta["ids"]], [str(name) for name in meta.get("classes") or []]
    return Landscape(cell["model"], cell["data"], ids, labels, classes, radii, logits, axis, margin) if n else None


def _named(one: Landscape, image: str) -> str:
    label = one.labels[one.ids.index(image)]
    return one.classes[label] if label < len(one.classes) else f"class {label}"


def _linearity(found: list[Landscape], image: str, straight: pd.Series, marks: dict[str, Identity], name: str) -> Plot:
    def draw(look: Look) -> Figure:
        figure, axes = _panels(len(found), 2.7)
        for ax, one in zip(axes, found, strict=True):
            _logits(ax, one, _place(one, image), marks[one.model], look)
            ax.set_title(_title(one, image, marks))
            if one.model in straight.index and straight[one.model] == straight[one.model]:
                ax.set_title(f"R² {straight[one.model]:.2f}", loc="right", fontweight="normal", color=look.soft)
        for ax in axes:
            ax.set_xlabel("Change, in 1/255")
        for ax in axes[:: _grid(len(found))[1]]:
            ax.set_ylabel("Logit")
        return figure

    first = next(one for one in found if image in one.ids)
    return Plot(
        name,
        "What one step along the gradient does to the logits",
        f"Image {image}, {_named(first, image)}: every pixel is moved by the sign of the loss's "
        "gradient, to the right against the label. Bold: the logit of the label; thin: the classes that rise highest; "
        "shaded: where the label wins. Straight lines are why one step fools (Goodfellow et al. 2015); R² says how "
        "straight the label's lead is, the mean over images.",
        f"Line plots of logits against the step for {len(found)} models.",
        draw,
    )


def _logits(ax: Axes, one: Landscape, i: int, mark: Identity, look: Look) -> None:
    x, logits, label = 255 * one.radii, one.logits[i], one.labels[i]
    others = [k for k in np.argsort(-logits.max(axis=0), kind="stable") if k != label][:OTHERS]
    wins = logits[:, label] >= np.delete(logits, label, axis=1).max(axis=1, initial=-np.inf)
    low, high = float(logits[:, [label, *others]].min()), float(logits[:, [label, *others]].max())
    room = 0.05 * (high - low or 1.0)
    ax.fill_between(x, low - room, high + room, where=wins.tolist(), color=mark.colour, alpha=0.10, lw=0, zorder=0)
    ax.plot(x, logits[:, others], color=look.soft, lw=0.9, alpha=0.8)
    ax.plot(x, logits[:, label], color=mark.colour, lw=2.8, zorder=4)
    ax.axvline(0, color=look.soft, lw=0.8, ls=(0, (2, 2)))
    ax.set_xlim(float(x.min()), float(x.max()))
    ax.set_ylim(low - room, high + room)


def _surface(found: list[Landscape], image: str, marks: dict[str, Identity], name: str) -> Plot:
    fields = [one.margin[_place(one, image)] for one in found]
    limit = float(np.percentile(np.abs(np.concatenate([field.ravel() for field in fields])), 95)) or 1.0

    def draw(look: Look) -> Figure:
        figure, axes = _panels(len(found), 2.75 if len(found) <= 8 else 2.35)
        levels = np.linspace(-limit, limit, 17)
        colours, norm = _diverging(look), TwoSlopeNorm(0, -limit, limit)
        for ax, one, field in zip(axes, found, fields, strict=True):
            axis = 255 * one.axis
            filled = ax.contourf(axis, axis, field.T, levels, cmap=colours, norm=norm, extend="both")
            filled.set_edgecolor("face")  # no seams between the bands in a browser
            if field.min() < 0 < field.max():
                ax.contour(axis, axis, field.T, [0], colors=[look.ink], linewidths=2.2)
            ax.plot(0, 0, "o", color=look.paper, mec=look.ink, ms=5.5, zorder=5)
            ax.set_title(_title(one, image, marks))
            ax.set_aspect("equal")
            ax.grid(visible=False)
            ax.set_xlabel("Gradient's sign, in 1/255")
        for ax in axes[:: _grid(len(found))[1]]:
            ax.set_ylabel("Random signs, in 1/255")
        scale = mpl.cm.ScalarMappable(norm, colours)
        bar = figure.colorbar(scale, ax=axes, label="Lead of the label's logit", fraction=0.025, pad=0.015)
        bar.outline.set_visible(False)
        return figure

    first = next(one for one in found if image in one.ids)
    return Plot(
        name,
        "The neighbourhood of an image, and where it ends",
        f"Image {image}, {_named(first, image)}, at the dot; a point is the image with that much of "
        "two directions added. Blue: the label leads; red: another class does; the bold line is the decision boundary. "
        "The nearer it comes to the dot, the smaller the change that fools; no line means none in view.",
        f"Contour plots of the margin over two directions for {len(found)} models.",
        draw,
    )


def _grid(count: int) -> tuple[int, int]:
    return grid(count, most=4 if count <= 8 else 5)


def _panels(count: int, height: float) -> tuple[Figure, list[Axes]]:
    lines, columns = _grid(count)
    figure = canvas(WIDTH if columns > 2 else 3.4 * columns + 0.8, height * lines + 0.2)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def _diverging(look: Look) -> Colormap:
    red, blue = ("#d9603b", "#56b4e9") if look is DARK else ("#c2431c", "#0173b2")
    return LinearSegmentedColormap.from_list(f"assay-lead-{look.name}", [red, look.ramp[0], blue])
