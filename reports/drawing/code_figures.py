"""Pictures of codes and units: maps in two dimensions, grids of thumbnails, neighbours, similarity, parts."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from assay.reports.drawing.charts import Scale, heat_map
from assay.reports.drawing.theme import HUES, MARKERS, Look, Plot, canvas

Array = NDArray[Any]
WIDE = 7.5  # inches
LEGEND = 20  # classes, at most, that a legend names
DIM = 0.4  # of a picture's brightness stays where a unit is off
RIGHT, WRONG = HUES[2], HUES[3]


class Panel(NamedTuple):
    """One map: points (N, 2) and the share of them whose nearest others have their label."""

    title: str
    points: Array
    accuracy: float


class Near(NamedTuple):
    """One picture (h, w, 3) or (h, w) and the pictures nearest to it, each with whether it shares the label."""

    picture: Array
    label: str
    lines: Sequence[Sequence[tuple[Array, bool | None]]]


class UnitAndPart(NamedTuple):
    """A unit and its part: pictures that show it, where the unit is on and where the part is, (h, w) bool each."""

    title: str
    pictures: Sequence[Array]
    on: Sequence[Array]
    parts: Sequence[Array]


def maps(panels: Sequence[Panel], labels: Array, classes: Sequence[str], columns: int = 2) -> Plot:
    """Codes in two dimensions, a point a picture, coloured by ``labels`` (N,), which are indices of ``classes``."""
    present = np.unique(labels)
    n = len(labels)

    def draw(look: Look) -> Figure:
        lines = math.ceil(len(panels) / columns)
        legend = len(present) <= LEGEND
        figure = canvas(WIDE + (1.3 if legend else 0), 3.4 * lines)
        axes = figure.subplots(lines, columns, squeeze=False).ravel()
        colours = palette(len(present))
        for ax, panel in zip(axes, panels, strict=False):
            _scatter(ax, panel, labels, present, colours, n)
        for ax in axes[len(panels) :]:
            ax.remove()
        if legend:
            handles = axes[0].collections
            figure.legend(handles, [classes[k] for k in present], loc="outside right upper", markerscale=1.6)
        return figure

    titles = "; ".join(panel.title for panel in panels)
    how = (
        "A point is a picture, its colour the class. Points that lie together have like codes; in t-SNE the distance "
        "between groups says nothing. The number is how often a picture's nearest others in this map have its class."
    )
    return Plot("codes-map", f"Codes of {n} pictures in two dimensions", how, f"Scatter plots: {titles}", draw)


def palette(count: int) -> list[Any]:
    """So many colours: those of the figures, else evenly spaced hues."""
    return list(HUES[:count]) if count <= len(HUES) else list(sns.husl_palette(count, s=0.8, l=0.55))


def _scatter(ax: Axes, panel: Panel, labels: Array, present: Array, colours: Sequence[Any], n: int) -> None:
    for i, label in enumerate(present):
        points = panel.points[labels == label]
        marker = MARKERS[i % len(MARKERS)] if len(present) <= LEGEND else "o"
        size = min(18.0, 9000 / n)
        ax.scatter(points[:, 0], points[:, 1], s=size, color=colours[i], marker=marker, linewidths=0, alpha=0.85)
    accuracy = f", {panel.accuracy:.0%}" if math.isfinite(panel.accuracy) else ""
    ax.set_title(f"{panel.title}{accuracy}")
    ax.set(xticks=[], yticks=[])
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_color(mpl.colors.to_rgba(ax.spines["left"].get_edgecolor(), 0.3))


def cells(points: Array, columns: int) -> Array:
    """A cell of its own for each point (N, 2): (N, 2) columns and lines, near where it lies, y upwards.

    The assignment with the least sum of squared distances, on the smallest grid of ``columns`` columns that holds
    all. O(N^3); a thousand points take about a second.
    """
    n = len(points)
    lines = math.ceil(n / columns)
    grid = np.stack(np.meshgrid(np.arange(columns), np.arange(lines)), -1).reshape(-1, 2)
    low, high = points.min(0), points.max(0)
    unit = (points - low) / np.maximum(high - low, 1e-12)
    unit[:, 1] = 1 - unit[:, 1]
    places = unit * [columns - 1, lines - 1]
    cost = ((places[:, None] - grid[None]) ** 2).sum(2)
    nearest: Array = grid[linear_sum_assignment(cost)[1]]
    return nearest


def thumbnails(points: Array, pictures: Array, columns: int = 0) -> Plot:
    """Pictures (N, h, w, 3) or (N, h, w) in [0, 1] laid out by their map (N, 2), none over another."""
    across = columns or math.ceil(math.sqrt(len(pictures) * 1.2))
    places = cells(points, across)

    def draw(look: Look) -> Figure:
        lines = int(places[:, 1].max()) + 1
        h, w = pictures.shape[1:3]
        figure = canvas(WIDE, 0.3 + WIDE * lines * h / (across * w))
        ax = figure.subplots()
        paper = np.array(mpl.colors.to_rgb(look.paper), np.float32)
        sheet = np.ones((lines * h, across * w, 3), np.float32) * paper
        for (column, line), picture in zip(places, pictures, strict=True):
            colours = picture if picture.ndim == 3 else picture[..., None]
            sheet[line * h : (line + 1) * h, column * w : (column + 1) * w] = colours
        ax.imshow(sheet, interpolation="nearest")
        ax.set_title(f"{len(pictures)} pictures, alike beside alike")
        ax.axis("off")
        return figure

    how = "Every picture stands as near to its place in the map as it can without covering another."
    return Plot("codes-thumbnails", "The map as pictures", how, f"A grid of {len(pictures)} thumbnails", draw)


def neighbours(rows: Sequence[Near], spaces: Sequence[str]) -> Plot:
    """A line for each picture: itself, then its nearest others in each of ``spaces``, framed by right or wrong."""

    def draw(look: Look) -> Figure:
        k = len(rows[0].lines[0])
        across = 1 + len(spaces) * (k + 0.4)
        height = rows[0].picture.shape[0] / rows[0].picture.shape[1]
        tile = WIDE / across
        figure = canvas(WIDE, 0.4 + len(rows) * tile * (height + 0.22))
        ax = figure.subplots()
        for j, row in enumerate(rows):
            y = j * (height + 0.22)
            _tile(ax, row.picture, 0, y, None)
            ax.text(0, y + height + 0.02, row.label[:16], fontsize=6.5, va="top", color=look.soft)
            for s, line in enumerate(row.lines):
                for i, (picture, same) in enumerate(line):
                    _tile(ax, picture, 1.4 + s * (k + 0.4) + i, y, None if same is None else RIGHT if same else WRONG)
        for s, space in enumerate(spaces):
            ax.text(1.4 + s * (k + 0.4), -0.08, f"nearest in {space}", fontsize=8, fontweight="bold", va="bottom")
        ax.set(xlim=(0, across), ylim=(len(rows) * (height + 0.22), -0.45))
        ax.set_aspect("equal")
        ax.axis("off")
        return figure

    how = "The first picture of a line, then those nearest to it; green frames have its class, red ones another."
    alt = f"{len(rows)} pictures with their nearest others in {' and in '.join(spaces)}"
    return Plot("codes-neighbours", "Nearest pictures", how, alt, draw)


def _tile(ax: Axes, picture: Array, x: float, y: float, frame: str | None) -> None:
    height = picture.shape[0] / picture.shape[1]
    gap = 0.05
    extent = (x + gap, x + 1 - gap, y + height - gap, y + gap)
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="antialiased")
    if frame:
        box = Rectangle((x + gap, y + gap), 1 - 2 * gap, height - 2 * gap, fill=False, color=frame, linewidth=1.4)
        ax.add_patch(box)


def similarity(table: pd.DataFrame, n: int) -> Plot:
    """CKA of codes, each with each."""
    how = (
        f"1 means the same up to rotation and scale, 0 nothing in common; codes of the same {n} pictures, the estimate "
        "that does not grow with the number of dimensions."
    )
    scale = Scale("Linear CKA", ".2f", 0.0, 1.0)
    return heat_map(table.clip(lower=0), "codes-similarity", "How alike codes are", how, scale)


def accuracies(table: pd.DataFrame) -> Plot:
    """Accuracies in [0, 1] of several codes, a line each."""
    how = "How well the classes can be told apart in each space; pixels and random weights are what to beat."
    scale = Scale("Accuracy, %", ".0f", 0.0, 100.0)
    return heat_map(100 * table, "codes-accuracy", "What the codes tell", how, scale)


def parts(rows: Sequence[UnitAndPart]) -> Plot:
    """A line for each part: pictures where its best unit is on, dimmed elsewhere, the part's outline in colour."""

    def draw(look: Look) -> Figure:
        across = max(len(row.pictures) for row in rows)
        h, w = rows[0].pictures[0].shape[:2]
        line = h / w + 0.25
        figure = canvas(WIDE, 0.2 + len(rows) * WIDE / across * line)
        ax = figure.subplots()
        for j, row in enumerate(rows):
            y = j * line + 0.22
            ax.text(0.02, y - 0.02, row.title, fontsize=7.5, va="bottom", color=look.ink)
            for i, (picture, on, part) in enumerate(zip(row.pictures, row.on, row.parts, strict=True)):
                colours = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, 2)
                _tile(ax, np.where(on[..., None], colours, DIM * colours), i, y, None)
                xs, ys = i + 0.05 + (np.arange(w) + 0.5) / w * 0.9, y + 0.05 + (np.arange(h) + 0.5) / w * 0.9
                if part.any():
                    ax.contour(xs, ys, part.astype(float), levels=[0.5], colors=[HUES[1]], linewidths=1.0)
        ax.set(xlim=(0, across), ylim=(len(rows) * line, 0))
        ax.set_aspect("equal")
        ax.axis("off")
        return figure

    how = "Bright is where the unit is on, the outline is the part; both are the same where it finds the part."
    return Plot("units", "Units that find parts", how, f"Units for {len(rows)} parts on pictures", draw)
