"""Filters, activations, patches and receptive fields of a model, for ``assay inspect``."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from assay.bench.cells import dataset
from assay.bench.data import DataSet
from assay.bench.inspect import Asked
from assay.bench.models import Subject
from assay.bench.single import read_picture
from assay.core.errors import AssayError, NotApplicable
from assay.core.probe import default_layer
from assay.core.receptive import Field, Traced, recursion
from assay.explain.learned import filters as weights
from assay.explain.learned.activations import lives, strongest_channels
from assay.explain.learned.fields import LayerField, growth, spread_layers
from assay.explain.learned.patches import Top, cell_field, crop, strongest
from assay.reports.drawing import layers as learned
from assay.reports.drawing.theme import LIGHT, Plot, themed

BATCH = 50
SHOWN = 128  # filters, at most


def draw(plot: Plot, out: Path) -> Path:
    """Write a figure as PNG."""
    path = out / f"{plot.name}.png"
    with themed(LIGHT):
        plot.draw(LIGHT).savefig(path, dpi=150)
    return path


def write(table: pd.DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False, float_format="%.6g")
    return path


def pictures(asked: Asked) -> DataSet:
    """The pictures asked for, as the model takes them."""
    return dataset(asked.data, asked.n, asked.model)


def batches(data: DataSet) -> Iterator[Tensor]:
    for start in range(0, len(data), BATCH):
        yield torch.stack([data.example(i).image for i in range(start, min(start + BATCH, len(data)))])


def filters(asked: Asked) -> Iterator[str]:
    """First-layer filters with Gabor fits, the weights of ``asked.layer``; class templates if no layer convolves."""
    model, out = asked.model, asked.out
    blank = torch.zeros(1, *model.input_size)
    try:
        first = weights.first_filters(model, blank)
    except NotApplicable as error:
        yield f"{model.name} has no first-layer picture: {error}"
    else:
        whole = tuple(first.weights.shape[2:]) == model.input_size[1:]
        yield from _first(first, out, fitted=not whole)
        yield from _templates(asked) if whole else ()
    if asked.layer is None:
        return
    try:
        found = weights.layer_weights(model, asked.layer)
    except NotApplicable as error:
        yield f"{model.name} has no deeper weights to show: {error}"
    else:
        path = draw(learned.layer_weights(asked.layer, weights.tiles(found, common=True).pixels.numpy()), out)
        yield f"{path}: weights of {asked.layer}, {_by(found.shape)}; not interpretable without the layers before"


def _templates(asked: Asked) -> Iterator[str]:
    """What the classes of a network without convolutions look for."""
    model = asked.model
    data = dataset(asked.data, min(asked.n, BATCH), model)
    count = min(len(model.classes), 10)
    found = weights.class_templates(model, next(batches(data)), torch.arange(count))
    plot = learned.templates(model.classes[:count], weights.tiles(found, common=False).pixels.numpy())
    yield f"{draw(plot, asked.out)}: templates of {count} classes, mean derivatives over {len(data)} pictures"


def _first(first: weights.Filters, out: Path, *, fitted: bool) -> Iterator[str]:
    """Tiles of the filters; how Gabor-like they are where they are smaller than the image."""
    fits = weights.gabors(first.weights.double().numpy()[:SHOWN]) if fitted else None
    common, each = (weights.tiles(first.weights[:SHOWN], common=which) for which in (True, False))
    largest = float(common.scale[0])
    quality = fits.quality.tolist() if fits else []
    plot = learned.filters(first.name, common.pixels.numpy(), each.pixels.numpy(), largest, quality)
    shown = f"{len(common.scale)} of {len(first.weights)} filters" if len(first.weights) > SHOWN else "filters"
    yield f"{draw(plot, out)}: {shown} of {first.name}, {first.kind} {_by(first.weights.shape)}"
    if fits is None:
        return
    table = pd.DataFrame(
        {
            "filter": range(len(fits.quality)),
            "largest_weight": each.scale.numpy(),
            "gabor_r2": fits.quality,
            "orientation_degrees": fits.orientation,
            "cycles_per_pixel": fits.frequency,
            "noise_r2": fits.chance,
        }
    )
    said = "no Gabor fits: kernels under five pixels"
    if np.isfinite(fits.share):
        middle = np.nanmedian(fits.quality)
        said = f"Gabor fits, median R2 {middle:.2f}; {fits.share:.0%} above the {fits.chance:.2f} that noise reaches"
    yield f"{write(table, out / 'filters.csv')}: {said}"


def activations(asked: Asked) -> Iterator[str]:
    """The strongest channels of a layer for one picture, and over the data set what every channel does."""
    model, out = asked.model, asked.out
    picture, _, name = read_picture(asked.image or f"{asked.data}#0", model)
    layer = asked.layer or usual_layer(model)
    found = strongest_channels(model, picture, layer, asked.top * 8)
    plot = learned.activations(plain(layer), shown(picture[0]), found.maps.numpy(), found.channels.tolist())
    yield f"{draw(plot, out)}: {len(found.channels)} channels of {plain(layer)} on {name}"
    data = pictures(asked)
    layers = [asked.layer] if asked.layer else spread_layers(model, picture)
    rows = []
    for each, life in lives(model, batches(data), layers).items():
        facts = {"low": life.low, "high": life.high, "positive": life.positive, "dead": life.dead}
        frame = pd.DataFrame({key: value.numpy() for key, value in facts.items()})
        frame.insert(0, "channel", range(len(frame)))
        frame.insert(0, "layer", plain(each))
        rows.append(frame)
    table = pd.concat(rows)
    dead = f"{int(table['dead'].sum())} of {len(table)} channels dead"
    yield f"{write(table, out / 'channels.csv')}: {dead} in {len(layers)} layers over {len(data)} pictures"


def patches(asked: Asked) -> Iterator[str]:
    """What in the data set the channels of a layer answer to most."""
    model, out, data = asked.model, asked.out, pictures(asked)
    layer = asked.layer or usual_layer(model)
    top = strongest(model, batches(data), [layer], asked.top)[layer]
    traced = recursion(model, torch.zeros(1, *model.input_size), [layer])[layer]
    rows, peaks = patch_rows(data, top, traced, asked.top + 3)
    plot = learned.patches(
        plain(layer), rows, peaks, top.values[peaks].numpy(), patch_note(traced, data.example(0).image.shape)
    )
    yield f"{draw(plot, out)}: {len(peaks)} channels of {plain(layer)} over {len(data)} pictures"
    table = pd.DataFrame(
        {
            "layer": plain(layer),
            "channel": np.repeat(np.arange(len(top.values)), top.values.shape[1]),
            "rank": np.tile(np.arange(1, top.values.shape[1] + 1), len(top.values)),
            "value": top.values.flatten().numpy(),
            "image": [data.ids[i] for i in top.images.flatten().tolist()],
            "label": [data.classes[data.labels[i]] for i in top.images.flatten().tolist()],
            "row": top.rows.flatten().numpy(),
            "column": top.columns.flatten().numpy(),
        }
    )
    yield f"{write(table, out / 'patches.csv')}: {len(table)} units"


def patch_rows(data: DataSet, top: Top, traced: Traced, most: int) -> tuple[list[list[learned.Array]], list[int]]:
    """What the strongest ``most`` channels answer to, a line for each, and their numbers."""
    peaks: list[int] = top.values[:, 0].sort(descending=True, stable=True).indices[:most].tolist()
    return [[_patch(data, top, traced, c, i) for i in range(top.values.shape[1])] for c in peaks], peaks


def _patch(data: DataSet, top: Top, traced: Traced, channel: int, rank: int) -> learned.Array:
    """A unit's field, or the whole picture with a frame around its cell where the field is larger than that."""
    image = data.example(int(top.images[channel, rank])).image
    y, x = int(top.rows[channel, rank]), int(top.columns[channel, rank])
    size = image.shape[1:]
    if traced.reach is not None and max(traced.reach.size[0] / size[0], traced.reach.size[1] / size[1]) <= 1:
        return shown(crop(image, traced.reach.at(y, x)))
    return _framed(shown(image), cell_field(top.grid, size, y, x))


def _framed(picture: learned.Array, field: Field) -> learned.Array:
    """The picture in colours with a frame of two pixels in a hundred around a field."""
    framed = np.array(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1))
    width = max(round(len(framed) / 60), 1)
    top, left, bottom, right = field.top, field.left, field.top + field.height, field.left + field.width
    inside = framed[top + width : bottom - width, left + width : right - width].copy()
    framed[top:bottom, left:right] = (1.0, 0.85, 0.1)
    framed[top + width : bottom - width, left + width : right - width] = inside
    return framed


def patch_note(traced: Traced, shape: tuple[int, ...]) -> str:
    """What the pictures of ``patch_rows`` show, for images of ``shape`` (C, H, W)."""
    if traced.reach is None:
        return f"The whole picture, a frame at the unit: {traced.reason}."
    sides = _by(traced.reach.size)
    if max(traced.reach.size[0] / shape[1], traced.reach.size[1] / shape[2]) > 1:
        return f"The whole picture, a frame at the unit: its field of {sides} pixels is larger."
    gated = ", scaled by a gate from the whole picture" if traced.reach.gated else ""
    return f"The unit's field, {sides} pixels{gated}; grey lies beyond the picture."


def receptive_field(asked: Asked) -> Iterator[str]:
    """How receptive fields grow with depth, by arithmetic, by derivatives and effective."""
    model, out = asked.model, asked.out
    data = dataset(asked.data, min(asked.n, 8), model)
    rows = growth(model, next(batches(data)), [asked.layer] if asked.layer else ())
    path = draw(learned.fields(field_rows(rows), max(model.input_size[1:])), out)
    yield f"{path}: {len(rows)} layers, weights over {len(data)} pictures"
    table = pd.DataFrame(
        {
            "layer": [plain(row.name) for row in rows],
            "grid": [_by(row.grid) for row in rows],
            "stride": [_by(row.reach.stride) if row.reach else "" for row in rows],
            "arithmetic": [_by(row.reach.size) if row.reach else "" for row in rows],
            "gated": [bool(row.reach and row.reach.gated) for row in rows],
            "reason": [row.reason for row in rows],
            "expected": [_by(row.expected[2:]) if row.expected else "" for row in rows],
            "measured": [_by(row.found[2:]) if row.found else "" for row in rows],
            "effective_side": [row.side for row in rows],
        }
    )
    yield f"{write(table, out / 'receptive-field.csv')}: {len(table)} layers"


def field_rows(rows: Sequence[LayerField]) -> list[learned.FieldRow]:
    """Sides in pixels, the longer one of each field."""
    return [
        learned.FieldRow(
            layer=plain(row.name),
            arithmetic=max(row.reach.size) if row.reach else float("nan"),
            measured=max(row.found[2:]) if row.found else float("nan"),
            effective=row.side,
            weight=row.weight.cpu().numpy(),
            box=row.found,
        )
        for row in rows
    ]


def usual_layer(model: Subject) -> str:
    try:
        return default_layer(model, torch.zeros(1, *model.input_size))
    except NotApplicable as error:
        raise AssayError(f"{error}; name one with --layer") from error


def plain(layer: str) -> str:
    """A layer's name inside the subject, which ``--layer`` takes too."""
    return layer.removeprefix("body.")


def shown(image: Tensor) -> learned.Array:
    """(H, W, 3) or (H, W) of an image (C, H, W)."""
    pixels = image.movedim(0, -1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def _by(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))
