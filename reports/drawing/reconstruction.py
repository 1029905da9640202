"""Pictures made again, in the report: what layers keep of an image with depth, and what they dream of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.reports.run import labels as names
from assay.reports.drawing.theme import Identity, Look, Plot, canvas
from assay.reports.drawing.album import Album, art, each
from assay.reports.run.reader import Run

Array = NDArray[Any]
SHOWN = 3  # images in the figure of a model
CURVES = (("inversion_error", "Distance of the codes"), ("inversion_ssim", "SSIM with the image"))


class Words(NamedTuple):
    """What is said of a kind of sheet."""

    title: str
    how: str
    first: str  # over the first column
    metric: str  # under the others
    text: str


SHEETS = {
    "inversion": Words(
        "what its layers keep of an image",
        "Left the image, then a picture that the layer answers alike: what is gone or changed, the layer does not "
        "tell. SSIM is the likeness to the image, the mean over the images.",
        "image",
        "inversion_ssim",
        "SSIM {:.2f}",
    ),
    "dream": Words(
        "what it dreams of an image",
        "Left the image, then the same with more and more of what the layer sees in it; the number is how much larger "
        "its activations became at full size.",
        "image",
        "dream_growth",
        "{:.1f} x",
    ),
    "texture": Words(
        "more of a texture",
        "Left the sample, then a texture of twice its sides. What is copied verbatim is the side of a square.",
        "sample",
        "texture_copy",
        "copies of {:.1f} pixels",
    ),
    "style": Words(
        "a photograph in a style",
        "Left the photograph and the style, then the photograph painted with more and more steps; the loss is that of "
        "the style.",
        "photograph",
        "style_loss",
        "style loss {:.3g}",
    ),
}


@dataclass(frozen=True, eq=False, slots=True)
class Remade:
    """What one cell kept: images (G, H, W, C), those made of them at each layer, and the layers' scores by image."""

    kind: str
    model: str
    data: str
    method: str
    images: Array
    made: list[Array]
    layers: list[dict[str, Any]]


def read(run: Run, album: Album) -> list[Remade]:
    """What was made again and painted, whose art can be read; the others are noted in ``album.unreadable``."""
    return [one for kind in SHEETS for one in each(run, kind, album, _read)]


def _read(run: Run, cell: dict[str, str], album: Album) -> Remade | None:
    if not (run.path / "art" / cell["id"] / f"{cell['kind']}.npz").is_file():
        return None
    arrays, meta = art(run, cell, f"{cell['kind']}.npz")
    made = [arrays[f"made_{i}"] for i in range(len(meta["layers"]))]
    return Remade(cell["kind"], cell["model"], cell["data"], cell["method"], arrays["images"], made, meta["layers"])


def compared(found: Sequence[Remade], data: str, marks: dict[str, Identity], prefix: str) -> list[Plot]:
    """The curves of all models on one data set; none where nothing was inverted at several layers."""
    here = sorted((one for one in found if one.data == data), key=lambda one: list(marks).index(one.model))
    inverted = [one for one in here if one.kind == "inversion" and len(one.layers) > 1]
    return [_curves(inverted, marks, f"{prefix}-inversion")] if inverted else []


def textures(found: Sequence[Remade]) -> list[Plot]:
    """Textures that were made without a model."""
    return [
        own(one, names.short([one.method])[one.method], f"texture-{i}") for i, one in enumerate(found) if not one.model
    ]


def own(one: Remade, name_of: str, name: str) -> Plot:
    """The pictures of one cell, of a model or a method called ``name_of``."""
    words = SHEETS[one.kind]
    titles = [
        f"{layer['layer']}\n{words.text.format(_mean(layer[words.metric]))}"
        if layer.get(words.metric)
        else layer["layer"]
        for layer in one.layers
    ]
    return _sheet(one, name, f"{name_of}: {words.title}", words.how, [words.first, *titles])


def _curves(found: Sequence[Remade], marks: dict[str, Identity], name: str) -> Plot:
    def draw(look: Look) -> Figure:
        figure = canvas(9.4, 3.3)
        for ax, (metric, label) in zip(figure.subplots(1, len(CURVES)), CURVES, strict=True):
            for one in found:
                mark, values = marks[one.model], [_mean(layer.get(metric)) for layer in one.layers]
                depth = np.linspace(0, 1, len(values))
                ax.plot(depth, values, color=mark.colour, ls=mark.line, marker=mark.marker, ms=4.5, label=mark.label)
            ax.set_xticks([0, 1], ["input", "last grid"])
            ax.set_title(label, fontweight="normal")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper")
        return figure

    return Plot(
        name,
        "What is lost with depth",
        "An image made again from the activations of a layer alone: how far its activations are from the wanted ones, "
        "and how much it looks like the image. Layers stand evenly from the input to the last one with a grid.",
        f"Curves of inversion error and structural similarity with depth for {len(found)} models.",
        draw,
    )


def _sheet(one: Remade, name: str, title: str, how: str, titles: Sequence[str]) -> Plot:
    count = min(len(one.images), SHOWN)

    def draw(look: Look) -> Figure:
        ratio = one.images.shape[1] / one.images.shape[2]
        across = max(len(titles), 4)
        side = min(9.4 / across, 1.9)
        figure = canvas(side * len(titles), 0.45 + count * side * ratio)
        axes = figure.subplots(count, len(titles), squeeze=False)
        for i, line in enumerate(axes):
            row = [one.images[i], *(made[i] for made in one.made)]
            size = (max(len(pixels) for pixels in row), max(pixels.shape[1] for pixels in row))
            for ax, pixels in zip(line, row, strict=True):
                _show(ax, pixels, size)
        for ax, text in zip(axes[0], titles, strict=True):
            ax.set_title(text, fontweight="normal", fontsize=7.5, loc="center")
        return figure

    return Plot(name, title, how, f"{count} images and what was made of them at {len(one.layers)} layers.", draw)


def _show(ax: Axes, pixels: Array, size: tuple[int, int]) -> None:
    """The picture in a place for one of ``size``, so that pictures in a line have one scale."""
    height, width = pixels.shape[:2]
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    ax.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="antialiased", extent=(0, width, height, 0))
    ax.set(xlim=(0, size[1]), ylim=(size[0], 0))
    ax.axis("off")


def _mean(values: Any) -> float:
    return float(pd.Series(values, dtype="float64").mean()) if values else float("nan")
