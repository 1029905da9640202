"""Layers of a model as reports show them: their names, what channels answer to, and receptive fields."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from assay.bench.data import DataSet
from assay.bench.models import Subject
from assay.core.errors import AssayError, NotApplicable
from assay.core.probe import default_layer
from assay.core.receptive import Field, Traced
from assay.explain.representation.fields import LayerField, spread_layers
from assay.explain.representation.patches import Top, cell_field, crop
from assay.reports.drawing.layer_figures import Array, FieldRow

BATCH = 50


def batches(data: DataSet) -> Iterator[Tensor]:
    for start in range(0, len(data), BATCH):
        yield torch.stack([data.example(i).image for i in range(start, min(start + BATCH, len(data)))])


def patch_rows(data: DataSet, top: Top, trace: Traced, most: int) -> tuple[list[list[Array]], list[int]]:
    """What the strongest ``most`` channels answer to, a line for each, and their numbers."""
    peaks: list[int] = top.values[:, 0].sort(descending=True, stable=True).indices[:most].tolist()
    return [[_patch(data, top, trace, c, i) for i in range(top.values.shape[1])] for c in peaks], peaks


def _patch(data: DataSet, top: Top, trace: Traced, channel: int, rank: int) -> Array:
    """A unit's field, or the whole picture with a frame around its cell where the field is larger than that."""
    image = data.example(int(top.images[channel, rank])).image
    y, x = int(top.rows[channel, rank]), int(top.columns[channel, rank])
    size = image.shape[1:]
    if trace.reach is not None and max(trace.reach.size[0] / size[0], trace.reach.size[1] / size[1]) <= 1:
        return shown(crop(image, trace.reach.at(y, x)))
    return _with_frame(shown(image), cell_field(top.grid, size, y, x))


def _with_frame(picture: Array, field: Field) -> Array:
    """The picture in colours with a frame of two pixels in a hundred around a field."""
    canvas = np.array(picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, -1))
    width = max(round(len(canvas) / 60), 1)
    top, left, bottom, right = field.top, field.left, field.top + field.height, field.left + field.width
    inside = canvas[top + width : bottom - width, left + width : right - width].copy()
    canvas[top:bottom, left:right] = (1.0, 0.85, 0.1)
    canvas[top + width : bottom - width, left + width : right - width] = inside
    return canvas


def patch_note(trace: Traced, shape: tuple[int, ...]) -> str:
    """What the pictures of ``patch_rows`` show, for images of ``shape`` (C, H, W)."""
    if trace.reach is None:
        return f"The whole picture, a frame at the unit: {trace.reason}."
    sides = by(trace.reach.size)
    if max(trace.reach.size[0] / shape[1], trace.reach.size[1] / shape[2]) > 1:
        return f"The whole picture, a frame at the unit: its field of {sides} pixels is larger."
    scaling = ", scaled by a gate from the whole picture" if trace.reach.gated else ""
    return f"The unit's field, {sides} pixels{scaling}; grey lies beyond the picture."


def field_rows(rows: Sequence[LayerField]) -> list[FieldRow]:
    """Sides in pixels, the longer one of each field."""
    return [
        FieldRow(
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


def shown(image: Tensor) -> Array:
    """(H, W, 3) or (H, W) of an image (C, H, W)."""
    pixels = image.movedim(0, -1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


def by(sides: tuple[int, ...]) -> str:
    """``3x3``."""
    return "x".join(map(str, sides))


def depths(model: Subject, images: Tensor, count: int = 5) -> list[str]:
    """Layers from first to last whose codes are inverted, by their names inside the subject; none without grids."""
    return [plain(name) for name in spread_layers(model, images[:1], count)]
