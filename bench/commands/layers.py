"""``assay layers``."""

from collections.abc import Iterator

import torch

from assay.bench.models import load
from assay.core import probe, receptive
from assay.core.errors import NotApplicable
from assay.core.probe import LayerInfo


def layers(model: str, /) -> Iterator[str]:
    """List the layers of MODEL with shape and grid, and mark the one that Grad-CAM uses."""
    subject = load(model, weights=False)
    images = torch.zeros(1, *subject.input_size)
    try:
        default, reason = probe.default_layer(subject.body, images), ""
    except NotApplicable as error:
        default, reason = "", str(error)
    infos = probe.describe(subject.body, images)
    grids = dict.fromkeys(info.name for info in infos if info.layout)
    fields = receptive.measured(subject.body, images, list(grids))
    reach: dict[str, receptive.Field | None] = {}
    width = max((len(info.name) for info in infos), default=4)
    yield f"{'layer':<{width}}  {'type':<20} {'shape':<14} {'grid':<14} receptive field, pixels"
    for info in infos:
        if info.layout and info.name not in reach:
            reach.update([next(fields)])
        yield f"{info.name:<{width}}  {_layer_columns(info, reach.get(info.name), info.name == default)}".rstrip()
    if reason:
        yield f"no Grad-CAM layer: {reason}"


def _layer_columns(info: LayerInfo, field: receptive.Field | None, marked: bool) -> str:
    shape = "x".join(map(str, info.shape))
    grid = f"{info.layout.height}x{info.layout.width} {info.layout.order}" if info.layout else "-"
    if info.layout and info.layout.prefix:
        grid += f" +{info.layout.prefix}"
    reach = f"{field.height}x{field.width}" if field else "-"
    return f"{info.kind:<20} {shape:<14} {grid:<14} {reach}{'  <- Grad-CAM' if marked else ''}"
