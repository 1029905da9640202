"""Pictures made again: what layers keep of an image with depth, what they dream of it, textures and styles.

The kinds inversion, dream, texture and style keep the same arrays and are drawn the same way.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.reports.context import Context
from assay.reports.drawing.album import Album, art, has_art
from assay.reports.drawing.theme import Look, Plot, canvas
from assay.reports.gate.tolerances import OPTIMISED
from assay.reports.kinds.base import Arrays, Block, Figures, Kind, Part, Section, plots
from assay.reports.run.reader import Run
from assay.reports.run.records import Cell

Array = NDArray[Any]
ROWS = 3  # images in the figure of a model


class Words(NamedTuple):
    """What is said of a kind of sheet."""

    title: str
    how: str
    first: str  # over the first column
    metric: str  # under the others
    text: str


@dataclass(frozen=True, eq=False, slots=True)
class Reconstruction:
    """What one cell kept: images (G, H, W, C), those made of them at each layer, and the layers' scores by image."""

    model: str
    data: str
    method: str
    images: Array
    pictures: list[Array]
    layers: list[dict[str, Any]]

    def means(self, metric: str) -> list[float]:
        """The mean of a score over images, layer by layer; NaN where there is none."""
        scores = (layer.get(metric) for layer in self.layers)
        return [float(pd.Series(values, dtype="float64").mean()) if values else float("nan") for values in scores]


def read(run: Run, cell: Cell, _: Album) -> Reconstruction | None:
    """What the cell kept."""
    file = f"{cell.kind}.npz"
    if not has_art(run, cell, file):
        return None
    arrays, meta = art(run, cell, file)
    pictures = [arrays[f"made_{i}"] for i in range(len(meta["layers"]))]
    return Reconstruction(cell.model, cell.data, cell.method, arrays["images"], pictures, meta["layers"])


def reconstruction(name: str, words: Words, **settings: Any) -> Kind:
    """A kind of reconstruction: its pictures are compared, and stand on the pages of their models."""
    return Kind(
        name=name,
        arrays=(Arrays(f"{name}.npz", "made_*", "made", ("images",)),),
        ignored=(f"{name}.npz:images",),
        tolerances=(OPTIMISED,),
        read=read,
        parts=parts(name, words),
        **settings,
    )


def section(figures: Figures) -> Section:
    """Where figures of all models stand."""
    text = "What the layers of a model keep of an image, and what they see in it."
    return Section(id="remade", page="learned", title="Made again", text=text, figures=figures, place=1)


def parts(name: str, words: Words) -> Callable[[Context, str], list[Part]]:
    """The sheets of one model."""

    def on_model(context: Context, model: str) -> list[Part]:
        blocks: list[Block] = []
        for i, each in enumerate(context.art(name)):
            if each.model == model:
                figure = sheet(each, words, context.label(model), f"{name}-{i}")
                blocks += [*data_label(context, each.data), *plots([figure])]
        return [Part("learned", "What it has learned", "", blocks)] if blocks else []

    return on_model


def data_label(context: Context, data: str) -> list[Block]:
    """The name of the data set, where there are several."""
    return [Block("small", context.specs.get(data, data))] if data and len(context.specs) > 1 else []


def without_model(name: str, words: Words) -> Callable[[Context, str, str], list[Plot]]:
    """The sheets of methods that need no model."""

    def figures(context: Context, data: str, prefix: str) -> list[Plot]:
        alone = [(i, each) for i, each in enumerate(context.art(name)) if not each.model and each.data == data]
        return [sheet(each, words, context.run.short([each.method])[each.method], f"{name}-{i}") for i, each in alone]

    return figures


def sheet(each: Reconstruction, words: Words, subject: str, name: str) -> Plot:
    """The pictures of one cell, of a model or a method called ``subject``: a line for each image."""
    scores = each.means(words.metric)
    titles = [
        layer["layer"] + (f"\n{words.text.format(score)}" if layer.get(words.metric) else "")
        for layer, score in zip(each.layers, scores, strict=True)
    ]
    heads = [words.first, *titles]
    count = min(len(each.images), ROWS)

    def draw(look: Look) -> Figure:
        ratio = each.images.shape[1] / each.images.shape[2]
        side = min(9.4 / max(len(heads), 4), 1.9)
        figure = canvas(side * len(heads), 0.45 + count * side * ratio)
        axes = figure.subplots(count, len(heads), squeeze=False)
        for i, line in enumerate(axes):
            row = [each.images[i], *(pictures[i] for pictures in each.pictures)]
            size = (max(len(pixels) for pixels in row), max(pixels.shape[1] for pixels in row))
            for ax, pixels in zip(line, row, strict=True):
                _place(ax, pixels, size)
        for ax, text in zip(axes[0], heads, strict=True):
            ax.set_title(text, fontweight="normal", fontsize=7.5, loc="center")
        return figure

    alt = f"{count} images and what was made of them at {len(each.layers)} layers."
    return Plot(name, f"{subject}: {words.title}", words.how, alt, draw)


def _place(ax: Axes, pixels: Array, size: tuple[int, int]) -> None:
    """The picture in a place for one of ``size``, so that pictures in a line have one scale."""
    height, width = pixels.shape[:2]
    picture = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="antialiased", extent=(0, width, height, 0))
    ax.set(xlim=(0, size[1]), ylim=(size[0], 0))
    ax.axis("off")


def by_depth(context: Context, cells: Sequence[Reconstruction], curves: Sequence[tuple[str, str]], name: str) -> Plot:
    """Scores of each model, with their labels, from its input to its last layer."""
    tracks = [(context.marks[each.model], [each.means(metric) for metric, _ in curves]) for each in cells]

    def draw(look: Look) -> Figure:
        figure = canvas(9.4, 3.3)
        for i, (ax, (_, label)) in enumerate(zip(figure.subplots(1, len(curves)), curves, strict=True)):
            for mark, scores in tracks:
                depth = np.linspace(0, 1, len(scores[i]))
                ax.plot(depth, scores[i], color=mark.colour, ls=mark.line, marker=mark.marker, ms=4.5, label=mark.label)
            ax.set_xticks([0, 1], ["input", "last grid"])
            ax.set_title(label, fontweight="normal")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
        return figure

    return Plot(
        name,
        "What is lost with depth",
        "An image made again from the activations of a layer alone: how far its activations are from the wanted ones, "
        "and how much it looks like the image. Layers stand evenly from the input to the last one with a grid.",
        f"Curves of inversion error and structural similarity with depth for {len(cells)} models.",
        draw,
    )
