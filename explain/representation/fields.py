"""How far the units of each layer see, and how that grows with depth."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import evaluating
from assay.core.layers import find_layout, record
from assay.core.probe import grid_layers, trunk
from assay.core.receptive import Field, Reach, clipped, effective, measured, recursion


class LayerField(NamedTuple):
    """The receptive field of one layer's units.

    ``reach`` is the arithmetic's, None with a ``reason``. ``expected`` is what of the middle unit's field lies in the
    image and ``found`` where its derivative is not zero. ``weight`` (H, W) says where its weight lies, 1 at most, and
    ``side`` how many pixels a side that is.
    """

    name: str
    grid: tuple[int, int]
    reach: Reach | None
    reason: str
    expected: Field | None
    found: Field | None
    weight: Tensor
    side: float


def growth(model: nn.Module, images: Tensor, names: Sequence[str] = (), most: int = 12) -> list[LayerField]:
    """The fields of the named layers; of at most ``most`` spread over the depth unless some are named.

    The effective field is the mean over images (N, C, H, W). One backward pass a layer over the images, one over noise.
    """
    names = list(names) or spread_layers(model, images, most)
    reaches = recursion(model, images, names)
    fields = dict(measured(model, images, names))
    size = images.shape[2:]
    with evaluating(model), torch.no_grad(), record(model, *names) as outputs:
        model(images[:1])
    rows = []
    for name, (weight, side) in effective(model, images, names):
        layout = find_layout(model, name, outputs[name], images[:1])
        reach, reason = reaches[name]
        inside = clipped(reach.at(layout.height // 2, layout.width // 2), size) if reach else None
        grid = (layout.height, layout.width)
        rows.append(LayerField(name, grid, reach, reason, inside, fields[name], weight, side))
    return rows


def spread_layers(model: nn.Module, images: Tensor, most: int = 12) -> list[str]:
    """At most ``most`` layers with grids on every path to the output, spread from the first to the last.

    Of layers in a row with the same field the last; any layers with grids where none lies on every path.
    """
    names = trunk(model, images) or grid_layers(model, images)
    reaches = recursion(model, images, names)
    distinct = [
        name
        for i, name in enumerate(names)
        if i + 1 == len(names) or reaches[name].reach is None or reaches[name].reach != reaches[names[i + 1]].reach
    ]
    if len(distinct) <= most:
        return distinct
    places = torch.linspace(0, len(distinct) - 1, most).round().long().tolist() if most > 1 else [len(distinct) - 1]
    return [distinct[i] for i in places]
