"""Pictures of what a model has learned: weights, activations, patches, receptive fields. Arrays in, figures out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from assay.reports.drawing.theme import HUES, Look, Plot, canvas, grid

Array = NDArray[Any]
MARGIN = 0.06  # of a tile, left free around it
WIDE = 7.5  # inches: the width of a sheet


class Sheet(NamedTuple):
    """Tiles (n, h, w) grey or (n, h, w, 3) in [0, 1], and a few words under each of them, or none."""

    title: str
    tiles: Array
    words: Sequence[str] = ()


def channels_last(weights: Array) -> Array:
    """Tiles (n, h, w, 3) or (n, h, w) of pictures (n, C, h, w) with three channels or one."""
    return weights[:, 0] if weights.shape[1] == 1 else np.moveaxis(weights, 1, -1)


def sheets(name: str, title: str, how: str, alt: str, parts: Sequence[Sheet], columns: int = 0) -> Plot:
    """Sheets of equal tiles, one under the other; ``columns`` tiles a line, as wide as high together unless given."""

    def draw(look: Look) -> Figure:
        shapes = [_shape(part, columns) for part in parts]
        heights = [
            WIDE * lines * _line(part) / across + 0.35 for part, (lines, across) in zip(parts, shapes, strict=True)
        ]
        figure = canvas(WIDE, sum(heights))
        axes = figure.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, part, (_, across) in zip(axes, parts, shapes, strict=True):
            _draw_sheet(ax, part, across, look)
        return figure

    return Plot(name, title, how, alt, draw)


def _shape(part: Sheet, columns: int) -> tuple[int, int]:
    """Lines and columns."""
    count = max(len(part.tiles), 1)
    across = columns or max(math.ceil(math.sqrt(count * 2.5)), 8)
    return math.ceil(count / across), across


def _line(part: Sheet) -> float:
    """The height of a line of tiles, in widths of a tile."""
    return float(
        (1 - 2 * MARGIN) * part.tiles.shape[1] / part.tiles.shape[2] + MARGIN * 2 + (0.17 if part.words else 0)
    )


def _draw_sheet(axes: Axes, part: Sheet, across: int, look: Look) -> None:
    height = part.tiles.shape[1] / part.tiles.shape[2]
    line = _line(part)
    for i, tile in enumerate(part.tiles):
        x, y = i % across + MARGIN, (i // across) * line + MARGIN
        extent = (x, x + 1 - 2 * MARGIN, y + (1 - 2 * MARGIN) * height, y)
        how = "nearest" if max(tile.shape[:2]) < 64 else "antialiased"
        axes.imshow(np.clip(tile, 0, 1), cmap="gray", vmin=0, vmax=1, extent=extent, interpolation=how)
        if part.words:
            axes.text(x, extent[2] + 0.03, part.words[i], fontsize=min(75 / across, 6.5), va="top", color=look.soft)
    axes.set(xlim=(0, across), ylim=(math.ceil(len(part.tiles) / across) * line, 0), title=part.title)
    axes.set_aspect("equal")
    axes.axis("off")


def filters(layer: str, common: Array, each: Array, largest: float, quality: Sequence[float] = ()) -> Plot:
    """First-layer filters as tiles (F, C, h, w) in [0, 1], 0.5 a weight of 0: one scale for all, and one for each."""
    words = [f"{value:.2f}" if math.isfinite(value) else "" for value in quality]
    fit = ", and R² of its Gabor fit" if any(words) else ""
    parts = [
        Sheet(f"{layer}: one scale, 0.5 ± weight / {2 * largest:.3g}", channels_last(common)),
        Sheet(f"{layer}: a scale for each filter{fit}", channels_last(each), words if any(words) else ()),
    ]
    how = "A grey of one half is a weight of zero; brighter is positive. Colours are those that a filter adds up."
    return sheets("filters", "First-layer filters", how, f"{len(common)} first-layer filters as tiles", parts)


def layer_weights(layer: str, weights: Array, most: int = 16) -> Plot:
    """Weights (F, C, h, w) of a deeper layer in [0, 1]: a line for each filter, a column for each channel it reads."""
    corner = weights[:most, :most]
    tiles = corner.reshape(-1, *corner.shape[2:])
    title = f"{layer}: {len(corner)} of {len(weights)} filters x {corner.shape[1]} of {weights.shape[1]} channels, "
    title += "not interpretable alone"
    how = (
        "A line for each filter, a column for each channel that it reads. They are not interpretable: what a channel "
        "stands for is decided by the layers before."
    )
    parts = [Sheet(title, tiles)]
    return sheets(
        "weights", "Weights of a deeper layer", how, f"Weights of {layer} as grey tiles", parts, corner.shape[1]
    )


def templates(names: Sequence[str], pictures: Array) -> Plot:
    """Class templates (K, C, H, W) in [0, 1], 0.5 a derivative of 0."""
    how = "What raises a class's logit: the mean over pictures of its derivative, with one scale for each class."
    alt = f"Templates of {', '.join(names)}"
    parts = [Sheet("Class templates", channels_last(pictures), [str(name)[:18] for name in names])]
    return sheets("templates", "Class templates", how, alt, parts, min(max(len(names), 1), 5))


def activations(layer: str, image: Array, maps: Array, channels: Sequence[int]) -> Plot:
    """The picture (H, W, 3) or (H, W), and maps (k, h, w) of its strongest channels, each from its low to its high."""
    low, high = maps.min((1, 2), keepdims=True), maps.max((1, 2), keepdims=True)
    stretch = (maps - low) / np.maximum(high - low, 1e-12)
    words = [f"{c}: {top:.3g}" for c, top in zip(channels, high[:, 0, 0], strict=True)]
    parts = [Sheet("the picture", image[None]), Sheet(f"{layer}: strongest channels, highest value", stretch, words)]
    how = "Each channel from its smallest value, black, to its largest, white; the number is the largest."
    return sheets("activations", f"Activations of {layer}", how, f"{len(maps)} channels of {layer}", parts, 8)


def patches(layer: str, rows: Sequence[Sequence[Array]], channels: Sequence[int], values: Array, note: str) -> Plot:
    """Pictures (h, w, 3) or (h, w) that each channel answers to most: a line for each channel, falling."""
    alt = f"Pictures that {len(rows)} channels of {layer} answer to most"
    how = f"A line for each channel, the strongest first, one a picture. {note}"

    def draw(look: Look) -> Figure:
        across = max(len(row) for row in rows)
        shape = rows[0][0].shape
        size = min(0.8, (WIDE - 0.6) / across)
        figure = canvas(0.6 + across * size, 0.4 + len(rows) * size * shape[0] / shape[1])
        axes = figure.subplots(1, 1)
        height = shape[0] / shape[1]
        for j, row in enumerate(rows):
            for i, tile in enumerate(row):
                extent = (i + MARGIN, i + 1 - MARGIN, (j + 1 - MARGIN) * height, (j + MARGIN) * height)
                axes.imshow(tile, cmap="gray", vmin=0, vmax=1, extent=extent, interpolation="nearest")
            label = f"{channels[j]}\n{values[j][0]:.3g}"
            axes.text(-0.08, (j + 0.5) * height, label, ha="right", va="center", fontsize=6.5, color=look.soft)
        axes.set(xlim=(0, across), ylim=(len(rows) * height, 0), title=f"{layer}: channel, its largest value")
        axes.set_aspect("equal")
        axes.axis("off")
        return figure

    return Plot("patches", f"What {layer} answers to most", how, alt, draw)


class FieldRow(NamedTuple):
    """One layer of the figure of receptive fields; sides in pixels, NaN where there is none."""

    layer: str
    arithmetic: float
    measured: float
    effective: float
    weight: Array  # (H, W), 1 at most
    box: Sequence[int] | None  # top, left, height, width of what is measured


def fields(rows: Sequence[FieldRow], side: int) -> Plot:
    """How the field grows with depth, and where its weight lies; ``side`` is the image's, in pixels."""
    alt = f"Receptive fields of {len(rows)} layers, from {rows[0].layer} to {rows[-1].layer}"
    how = (
        "Side of the square that a unit reads: by the arithmetic of convolutions, padding included; by derivatives, "
        "which end at the image's border and count all paths; and effective, the square as large as what has over "
        "4.55 % of the largest weight. Below, that weight's square root, and a frame around all that is read."
    )

    def draw(look: Look) -> Figure:
        lines, across = grid(len(rows), most=6)
        figure = canvas(WIDE, 3.4 + 1.45 * lines)
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=(3.4, 1.45 * lines))[:, 0]
        _draw_growth(parts[0].subplots(), rows, side, look)
        small = parts[1].subplots(lines, across, squeeze=False).ravel()
        for axes, row in zip(small, rows, strict=False):
            axes.imshow(np.sqrt(row.weight), cmap=look.colours, vmin=0, vmax=1, interpolation="nearest")
            if row.box:
                top, left, height, width = row.box
                frame = Rectangle((left - 0.5, top - 0.5), width, height, fill=False, color=HUES[3], linewidth=1)
                axes.add_patch(frame)
            axes.set_title(_short(row.layer), fontsize=6, fontweight="normal", loc="center")
        for axes in small:
            axes.axis("off")
        return figure

    return Plot("receptive-field", "Receptive fields", how, alt, draw)


def _draw_growth(axes: Axes, rows: Sequence[FieldRow], side: int, look: Look) -> None:
    places = range(len(rows))
    axes.axhline(side, color=look.soft, linewidth=0.8, linestyle=(0, (2, 2)))
    axes.text(-0.4, side, "image", va="bottom", fontsize=7, color=look.soft)
    kinds = (("arithmetic", 0, "o", 5.0), ("measured", 1, "s", 1.6), ("effective", 2, "^", 1.6))
    for kind, hue, marker, width in kinds:
        values = [float(getattr(row, kind)) for row in rows]
        if any(map(math.isfinite, values)):
            axes.plot(
                places, values, marker=marker, markersize=width + 2.5, color=HUES[hue], linewidth=width, label=kind
            )
    axes.set_xticks(list(places), [_short(row.layer) for row in rows], rotation=35, ha="right", fontsize=7)
    axes.set(ylabel="side of the field, pixels", xlim=(-0.5, len(rows) - 0.5), title="Receptive field by depth")
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(kinds), borderaxespad=0.2)


def _short(layer: str, most: int = 22) -> str:
    return layer if len(layer) <= most else "…" + layer[-most + 1 :]


def depths(model: str, groups: Mapping[str, Sequence[tuple[str, Array]]]) -> Plot:
    """Pictures (H, W, 3 or 1) uint8 of channels and classes with their names, a line for each layer."""
    parts = [
        Sheet(layer, _tiles([tile for _, tile in tiles]), [name.partition(":")[2] or name for name, _ in tiles])
        for layer, tiles in groups.items()
    ]
    how = "What moves a channel most, up or down, from the first layers to the classes: pictures that climb its square."
    return sheets("depths", f"What {model} sees at every depth", how, f"Pictures of {len(parts)} depths", parts, 8)


def _tiles(pictures: Sequence[Array]) -> Array:
    tiles = np.stack(pictures) / 255
    return tiles[..., 0] if tiles.shape[-1] == 1 else tiles
