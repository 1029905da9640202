"""Figures of what a model says around an image: along a gradient, and over two directions."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.reports.context import Context
from assay.reports.drawing.album import Album, art
from assay.reports.drawing.charts import WIDTH, Panels, panel_axes
from assay.reports.drawing.theme import DARK, Identity, Look, Plot, canvas, grid
from assay.reports.kinds.base import Arrays, Kind, Section, metric
from assay.reports.run.reader import Run
from assay.reports.run.records import Cell

OTHERS = 9  # classes beside the label whose logits are drawn: those that come highest
Array = NDArray[np.float64]
FEW = 8  # models beside each other at full size


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

    def place(self, image: str) -> int:
        """Which image it is; the first where the model was looked at on others."""
        return self.ids.index(image) if image in self.ids else 0

    def name(self, image: str) -> str:
        """The image's class."""
        label = self.labels[self.ids.index(image)]
        return self.classes[label] if label < len(self.classes) else f"class {label}"


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """Both figures, for the image that most models were looked at on."""
    cells: list[Landscape] = context.art("landscape", data)
    if not cells:
        return []
    linearity = context.table("summary", data, metric="linearity").set_index("model")["value"].dropna().to_dict()
    image = Counter(image for each in cells for image in each.ids).most_common(1)[0][0]
    first = next(each for each in cells if image in each.ids)
    subject = f"Image {image}, {first.name(image)}"
    return [
        _linearity(cells, image, subject, linearity, context.marks, f"{prefix}-linearity"),
        _surface(cells, image, subject, context.marks, f"{prefix}-surface"),
    ]


def _title(each: Landscape, image: str, marks: dict[str, Identity]) -> str:
    return marks[each.model].label + ("" if image in each.ids else f", {each.ids[0]}")


def _read(run: Run, cell: Cell, _: Album) -> Landscape | None:
    line, meta = art(run, cell, "line.npz")
    surface, _meta = art(run, cell, "surface.npz")
    labels = [int(label) for label in line["labels"]]
    logits, margin = np.asarray(line["logits"], np.float64), np.asarray(surface["margin"], np.float64)
    radii, axis = np.asarray(line["radii"], np.float64), np.asarray(surface["axis"], np.float64)
    n, side = len(labels), len(axis)
    if logits.shape[:2] != (n, len(radii)) or margin.shape != (n, side, side) or len(meta["ids"]) != n:
        raise ValueError(f"logits {logits.shape} and margins {margin.shape} do not fit {n} images")
    ids, classes = [str(image) for image in meta["ids"]], [str(name) for name in meta.get("classes") or []]
    return Landscape(cell.model, cell.data, ids, labels, classes, radii, logits, axis, margin) if n else None


def _linearity(
    cells: list[Landscape], image: str, subject: str, linearity: dict[Any, float], marks: dict[str, Identity], name: str
) -> Plot:
    def draw(look: Look) -> Figure:
        page = _panels(len(cells), 2.7)
        for ax, each in zip(page.axes, cells, strict=True):
            _logits(ax, each, each.place(image), marks[each.model], look)
            ax.set_title(_title(each, image, marks))
            if each.model in linearity:
                ax.set_title(f"R² {linearity[each.model]:.2f}", loc="right", fontweight="normal", color=look.soft)
        for ax in page.axes:
            ax.set_xlabel("Change, in 1/255")
        for ax in page.left:
            ax.set_ylabel("Logit")
        return page.figure

    return Plot(
        name,
        "What one step along the gradient does to the logits",
        f"{subject}: every pixel is moved by the sign of the loss's "
        "gradient, to the right against the label. Bold: the logit of the label; thin: the classes that rise highest; "
        "shaded: where the label wins. Straight lines are why one step fools (Goodfellow et al. 2015); R² says how "
        "straight the label's lead is, the mean over images.",
        f"Line plots of logits against the step for {len(cells)} models.",
        draw,
    )


def _logits(ax: Axes, each: Landscape, i: int, mark: Identity, look: Look) -> None:
    x, logits, label = 255 * each.radii, each.logits[i], each.labels[i]
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


def _surface(cells: list[Landscape], image: str, subject: str, marks: dict[str, Identity], name: str) -> Plot:
    fields = [each.margin[each.place(image)] for each in cells]
    limit = float(np.percentile(np.abs(np.concatenate([field.ravel() for field in fields])), 95)) or 1.0

    def draw(look: Look) -> Figure:
        page = _panels(len(cells), 2.75 if len(cells) <= FEW else 2.35)
        levels = np.linspace(-limit, limit, 17)
        colours, norm = _diverging(look), TwoSlopeNorm(0, -limit, limit)
        for ax, each, field in zip(page.axes, cells, fields, strict=True):
            axis = 255 * each.axis
            bands = ax.contourf(axis, axis, field.T, levels, cmap=colours, norm=norm, extend="both")
            bands.set_edgecolor("face")  # no seams between the bands in a browser
            if field.min() < 0 < field.max():
                ax.contour(axis, axis, field.T, [0], colors=[look.ink], linewidths=2.2)
            ax.plot(0, 0, "o", color=look.paper, mec=look.ink, ms=5.5, zorder=5)
            ax.set_title(_title(each, image, marks))
            ax.set_aspect("equal")
            ax.grid(visible=False)
            ax.set_xlabel("Gradient's sign, in 1/255")
        for ax in page.left:
            ax.set_ylabel("Random signs, in 1/255")
        scale = mpl.cm.ScalarMappable(norm, colours)
        bar = page.figure.colorbar(scale, ax=page.axes, label="Lead of the label's logit", fraction=0.025, pad=0.015)
        bar.outline.set_visible(False)
        return page.figure

    return Plot(
        name,
        "The neighbourhood of an image, and where it ends",
        f"{subject}, at the dot; a point is the image with that much of "
        "two directions added. Blue: the label leads; red: another class does; the bold line is the decision boundary. "
        "The nearer it comes to the dot, the smaller the change that fools; no line means none in view.",
        f"Contour plots of the margin over two directions for {len(cells)} models.",
        draw,
    )


def _panels(count: int, height: float) -> Panels:
    lines, columns = grid(count, most=4 if count <= FEW else 5)
    figure = canvas(WIDTH if columns > 2 else 3.4 * columns + 0.8, height * lines + 0.2)
    return Panels(figure, panel_axes(figure, lines, columns, count), columns)


def _diverging(look: Look) -> Colormap:
    red, blue = ("#d9603b", "#56b4e9") if look is DARK else ("#c2431c", "#0173b2")
    return LinearSegmentedColormap.from_list(f"assay-lead-{look.name}", [red, look.ramp[0], blue])


KIND = Kind(
    name="landscape",
    metrics={
        "linearity": metric(
            "none", "R²", "how straight the margin runs along the gradient's sign, 16/255 to both sides"
        )
    },
    label="{method}",
    arrays=(Arrays("line.npz", "logits", "surface", ("ids",)), Arrays("surface.npz", "margin", "surface", ("ids",))),
    ignored=(*(f"line.npz:{name}" for name in ("radii", "labels", "images")), "surface.npz:axis", "surface.npz:loss"),
    read=_read,
    sections=(
        Section(
            id="around",
            page="robustness",
            title="Around an image",
            text="What the model says of the images near one image: whether the way to a mistake is short, and "
            "whether it is straight.",
            figures=figures,
            place=2,
        ),
    ),
)
