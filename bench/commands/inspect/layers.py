"""Filters, activations, patches and receptive fields of a model."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from assay.bench.commands.drawing import draw, write
from assay.bench.commands.inspect.base import Inspection
from assay.bench.layer_views import BATCH, batches, by, field_rows, patch_note, patch_rows, plain, shown, usual_layer
from assay.bench.one_image import read_picture
from assay.core.errors import NotApplicable
from assay.core.receptive import recursion
from assay.explain.representation import filters as weights
from assay.explain.representation.activations import lives, strongest_channels
from assay.explain.representation.fields import growth, spread_layers
from assay.explain.representation.patches import strongest
from assay.reports.drawing import layer_figures as figures

MOST_FILTERS = 128  # that are drawn and fitted


def filters(inspection: Inspection) -> Iterator[str]:
    """First-layer filters with Gabor fits, a deeper layer's weights; class templates if no layer convolves."""
    model, out = inspection.model, inspection.out
    blank = torch.zeros(1, *model.input_size)
    try:
        first = weights.first_filters(model, blank)
    except NotApplicable as error:
        yield f"{model.name} has no first-layer picture: {error}"
    else:
        whole = tuple(first.weights.shape[2:]) == model.input_size[1:]
        yield from _first(first, out, gabor=not whole)
        yield from _templates(inspection) if whole else ()
    if inspection.layer is None:
        return
    try:
        grids = weights.layer_weights(model, inspection.layer)
    except NotApplicable as error:
        yield f"{model.name} has no deeper weights to show: {error}"
    else:
        path = draw(figures.layer_weights(inspection.layer, weights.tiles(grids, common=True).pixels.numpy()), out)
        yield f"{path}: weights of {inspection.layer}, {by(grids.shape)}; not interpretable without the layers before"


def _templates(inspection: Inspection) -> Iterator[str]:
    """What the classes of a network without convolutions look for."""
    model = inspection.model
    data = inspection.pictures(BATCH)
    count = min(len(model.classes), 10)
    templates = weights.class_templates(model, next(batches(data)), torch.arange(count))
    plot = figures.templates(model.classes[:count], weights.tiles(templates, common=False).pixels.numpy())
    yield f"{draw(plot, inspection.out)}: templates of {count} classes, mean derivatives over {len(data)} pictures"


def _first(first: weights.Filters, out: Path, *, gabor: bool) -> Iterator[str]:
    """Tiles of the filters; how Gabor-like they are where they are smaller than the image."""
    fits = weights.gabors(first.weights.double().numpy()[:MOST_FILTERS]) if gabor else None
    common, single = (weights.tiles(first.weights[:MOST_FILTERS], common=which) for which in (True, False))
    largest = float(common.scale[0])
    quality = fits.quality.tolist() if fits else []
    plot = figures.filters(first.name, common.pixels.numpy(), single.pixels.numpy(), largest, quality)
    count = f"{len(common.scale)} of {len(first.weights)} filters" if len(first.weights) > MOST_FILTERS else "filters"
    yield f"{draw(plot, out)}: {count} of {first.name}, {first.kind} {by(first.weights.shape)}"
    if fits is None:
        return
    table = pd.DataFrame(
        {
            "filter": range(len(fits.quality)),
            "largest_weight": single.scale.numpy(),
            "gabor_r2": fits.quality,
            "orientation_degrees": fits.orientation,
            "cycles_per_pixel": fits.frequency,
            "noise_r2": fits.chance,
        }
    )
    note = "no Gabor fits: kernels under five pixels"
    if np.isfinite(fits.share):
        middle = np.nanmedian(fits.quality)
        note = f"Gabor fits, median R2 {middle:.2f}; {fits.share:.0%} above the {fits.chance:.2f} that noise reaches"
    yield f"{write(table, out / 'filters.csv')}: {note}"


def activations(inspection: Inspection) -> Iterator[str]:
    """The strongest channels of a layer for one picture, and over the data set what every channel does."""
    model, out = inspection.model, inspection.out
    picture, _, name = read_picture(inspection.image or f"{inspection.data}#0", model)
    layer = inspection.layer or usual_layer(model)
    top = strongest_channels(model, picture, layer, inspection.top * 8)
    plot = figures.activations(plain(layer), shown(picture[0]), top.maps.numpy(), top.channels.tolist())
    yield f"{draw(plot, out)}: {len(top.channels)} channels of {plain(layer)} on {name}"
    data = inspection.pictures()
    layers = [inspection.layer] if inspection.layer else spread_layers(model, picture)
    rows = []
    for name, life in lives(model, batches(data), layers).items():
        facts = {"low": life.low, "high": life.high, "positive": life.positive, "dead": life.dead}
        frame = pd.DataFrame({key: value.numpy() for key, value in facts.items()})
        frame.insert(0, "channel", range(len(frame)))
        frame.insert(0, "layer", plain(name))
        rows.append(frame)
    table = pd.concat(rows)
    dead = f"{int(table['dead'].sum())} of {len(table)} channels dead"
    yield f"{write(table, out / 'channels.csv')}: {dead} in {len(layers)} layers over {len(data)} pictures"


def patches(inspection: Inspection) -> Iterator[str]:
    """What in the data set the channels of a layer answer to most."""
    model, out, data = inspection.model, inspection.out, inspection.pictures()
    layer = inspection.layer or usual_layer(model)
    top = strongest(model, batches(data), [layer], inspection.top)[layer]
    trace = recursion(model, torch.zeros(1, *model.input_size), [layer])[layer]
    rows, peaks = patch_rows(data, top, trace, inspection.top + 3)
    plot = figures.patches(
        plain(layer), rows, peaks, top.values[peaks].numpy(), patch_note(trace, data.example(0).image.shape)
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


def receptive_field(inspection: Inspection) -> Iterator[str]:
    """How receptive fields grow with depth, by arithmetic, by derivatives and effective."""
    model, out = inspection.model, inspection.out
    data = inspection.pictures(8)
    rows = growth(model, next(batches(data)), [inspection.layer] if inspection.layer else ())
    path = draw(figures.fields(field_rows(rows), max(model.input_size[1:])), out)
    yield f"{path}: {len(rows)} layers, weights over {len(data)} pictures"
    table = pd.DataFrame(
        {
            "layer": [plain(row.name) for row in rows],
            "grid": [by(row.grid) for row in rows],
            "stride": [by(row.reach.stride) if row.reach else "" for row in rows],
            "arithmetic": [by(row.reach.size) if row.reach else "" for row in rows],
            "gated": [bool(row.reach and row.reach.gated) for row in rows],
            "reason": [row.reason for row in rows],
            "expected": [by(row.expected[2:]) if row.expected else "" for row in rows],
            "measured": [by(row.found[2:]) if row.found else "" for row in rows],
            "effective_side": [row.side for row in rows],
        }
    )
    yield f"{write(table, out / 'receptive-field.csv')}: {len(table)} layers"
