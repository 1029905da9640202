"""Parts of scenes and the units that find them, and what learning is measured by: random weights."""

import copy
import itertools
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from assay.bench.data import DataSet
from assay.bench.layer_views import BATCH, shown
from assay.bench.models import Subject
from assay.core.errors import AssayError
from assay.explain.metrics.sanity import randomize
from assay.explain.representation.codes import Array
from assay.explain.representation.units import Dissection, unit_masks
from assay.reports.drawing import code_figures as figures

TILE = 48  # pixels: the longer side of a thumbnail
PICTURES = 6  # of a part, at most


def randomized(model: Subject, seed: int) -> Subject:
    """A copy with all parameters drawn anew, each with the mean and deviation it had: what learning is measured by."""
    copy_ = copy.deepcopy(model)
    randomize(copy_, [name for name, _ in copy_.named_parameters()], seed)
    return copy_


def thumbnails(images: Tensor) -> Array:
    """Small pictures (N, h, w, 3) or (N, h, w) of images (N, C, H, W)."""
    small = F.adaptive_avg_pool2d(images, (min(TILE, images.shape[2]), min(TILE, images.shape[3])))
    return np.stack([shown(tile) for tile in small])


class PartMaps:
    """Images (n, C, H, W) and maps (n, H, W) of a data set in batches, as often as asked.

    A map has i + 1 where the part ``names[i]`` shows and 0 where there is none; ``holds`` are the numbers by picture.
    """

    def __init__(self, data: DataSet) -> None:
        part_names = [data.part_names(i) for i in range(len(data))]
        self.data = data
        self.names = list(dict.fromkeys(name for each in part_names for name in each))
        self.holds = [np.array([0, *(self.names.index(name) + 1 for name in each)], np.uint8) for each in part_names]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.data), BATCH):
            pairs = [self.pair(i) for i in range(start, min(start + BATCH, len(self.data)))]
            yield torch.stack([image for image, _ in pairs]), torch.stack([numbers for _, numbers in pairs])

    def pair(self, i: int) -> tuple[Tensor, Tensor]:
        """Picture ``i`` (C, H, W) and its map (H, W)."""
        example = self.data.example(i, self.data.has & {"parts", "masks"})
        own = example.parts if example.parts is not None else example.mask
        if own is None:
            return example.image, torch.zeros(example.image.shape[1:], dtype=torch.uint8)
        return example.image, torch.from_numpy(self.holds[i])[own.long()]


def part_maps(data: DataSet) -> PartMaps:
    """What the units of a model are compared with; ``AssayError`` for data without parts and masks."""
    if not data.has & {"parts", "masks"}:
        raise AssayError(f"{data.spec} says nothing of parts: take scenes, or a folder with masks")
    return PartMaps(data)


def part_unit(model: Subject, maps: PartMaps, dissection: Dissection, part: int) -> figures.UnitAndPart:
    """Pictures that show the part, where its best unit is on, and the part."""
    unit = int(dissection.best[part])
    holding = (i for i in range(len(maps.data)) if part + 1 in maps.holds[i])
    pairs = [maps.pair(i) for i in itertools.islice(holding, PICTURES)]
    images = torch.stack([image for image, _ in pairs])
    images = images.to(next(model.parameters()).device)
    on = unit_masks(model, images, dissection.layer, unit, float(dissection.thresholds[unit, part]))
    return figures.UnitAndPart(
        f"{maps.names[part]}: unit {unit}, IoU {dissection.iou[unit, part]:.2f}",
        [shown(image) for image in images],
        list(on.cpu().numpy()),
        [(numbers == part + 1).numpy() for _, numbers in pairs],
    )
