"""Pictures that models were made to draw. Arrays in, figures out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.reports.learned import Sheet, sheets
from assay.reports.look import Plot

Array = NDArray[Any]


def depths(model: str, groups: Mapping[str, Sequence[tuple[str, Array]]]) -> Plot:
    """Pictures (H, W, 3 or 1) uint8 of channels and classes with their names, a line for each layer."""
    parts = [
        Sheet(layer, _tiles([tile for _, tile in tiles]), [name.partition(":")[2] or name for name, _ in tiles])
        for layer, tiles in groups.items()
    ]
    how = "What moves a channel most, up or down, from the first layers to the classes: pictures that climb its square."
    return sheets("depths", f"What {model} sees at every depth", how, f"Pictures of {len(parts)} depths", parts, 8)


def _tiles(pictures: Sequence[Array]) -> Array:
    stacked = np.stack(pictures) / 255
    return stacked[..., 0] if stacked.shape[-1] == 1 else stacked
