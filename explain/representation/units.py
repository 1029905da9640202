"""Units and parts: does a channel of a layer light up where one part of the scene is?

Network dissection (Bau et al. 2017, arXiv:1704.05796): a unit's activation, enlarged to the picture, is cut at a
threshold that holds for the whole data set, and what stays is compared with the map of each part.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.borrow import evaluating
from assay.core.errors import AssayError
from assay.core.layers import many_activations

Array = NDArray[np.float64]

ELEMENTS = 2**22  # of enlarged activations held at once


class Dissection(NamedTuple):
    """The units of one layer against the parts, summed over the data set. IoU in [0, 1], NaN for a part never shown."""

    layer: str
    iou: Array  # (C, K)
    thresholds: Array  # (C, K): a unit is on where it exceeds it
    shares: Array  # (K,): of all pixels that show the part
    place: Array  # (K,): IoU of the pixels where the part is most often, the same in every picture
    n: int  # pictures

    @property
    def best(self) -> NDArray[np.int64]:
        """(K,): the unit with the largest IoU for each part."""
        units: NDArray[np.int64] = np.nan_to_num(self.iou).argmax(0)
        return units


def dissect(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    layers: Sequence[str],
    parts: int,
    *,
    top: float | None = None,
    cells: int = 50_000,
) -> list[Dissection]:
    """How well each unit of the ``layers`` finds each of so many ``parts``.

    ``batches`` are images (N, C, H, W) in [0, 1] with maps (N, H, W), 0 for no part and k + 1 for part k; they are
    gone through twice. The threshold is the value that a share ``top`` of the layer's grid cells exceeds at most
    (Bau et al. take .005, below the size of their parts, so that no IoU comes near 1). None takes each part's own share
    of the pixels: a unit that finds the part and nothing else has an IoU of 1. It is read off at most ``cells`` cells
    drawn at random, off all where there are no more. The control is ``place``: what a unit scores that knows nothing
    but where the part mostly is.
    """
    if top is not None and not 0 < top < 1:
        raise AssayError(f"top={top} must lie between 0 and 1")
    # places and cells
    samples = [_Sample(cells) for _ in layers]
    coverage, n = torch.zeros(0), 0
    for maps, grids in _passes(model, batches, layers):
        if not n:
            coverage = torch.zeros(parts, *maps.shape[1:], dtype=torch.float64)
        n += len(maps)
        coverage += torch.stack([(maps == part + 1).sum(0).double() for part in range(parts)])
        for sample, grid in zip(samples, grids, strict=True):
            sample.add(grid)
    if not n:
        raise AssayError("no pictures, no units")
    # thresholds by area
    counts = coverage.sum((1, 2))
    shares = counts / (n * coverage[0].numel())
    tops = shares if top is None else torch.full_like(shares, top)
    thresholds = [sample.quantiles(tops) for sample in samples]
    # pixels above them
    on = [torch.zeros(len(limits), parts, dtype=torch.float64) for limits in thresholds]
    overlaps = [torch.zeros_like(ons) for ons in on]
    for maps, grids in _passes(model, batches, layers):
        for grid, limits, ons, overlap in zip(grids, thresholds, on, overlaps, strict=True):
            _count(grid, maps, limits, ons, overlap)
    place = _place(coverage, tops, n)
    return [
        Dissection(
            layer,
            (overlap / (ons + counts - overlap)).masked_fill(counts == 0, torch.nan).numpy(),
            limits.double().numpy(),
            shares.numpy(),
            place,
            n,
        )
        for layer, limits, ons, overlap in zip(layers, thresholds, on, overlaps, strict=True)
    ]


def unit_masks(model: nn.Module, images: Tensor, layer: str, unit: int, threshold: float) -> Tensor:
    """Where a unit exceeds its threshold, (N, H, W) bool, at the size of the images."""
    with evaluating(model), torch.no_grad():
        (grid,) = many_activations(model, images, [layer])
        return _enlarge(grid[:, unit].float().cpu(), images.shape[-2:]) > threshold


def _passes(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], layers: Sequence[str]
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """The part maps and the activations (N, C, h, w) of each batch."""
    with evaluating(model), torch.no_grad():
        for images, maps in batches:
            if maps.shape != (len(images), *images.shape[-2:]):
                raise AssayError(f"part maps {tuple(maps.shape)} do not lie on images {tuple(images.shape)}")
            yield maps.cpu(), [grid.float().cpu() for grid in many_activations(model, images, layers)]


class _Sample:
    """At most ``most`` cells (C values each) of a stream of grids, each as likely as any other; all while they fit."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.chance = 1.0
        self.random = torch.Generator().manual_seed(0)
        self.keys, self.rows = torch.zeros(0), torch.zeros(0)

    def add(self, grid: Tensor) -> None:
        rows = grid.permute(0, 2, 3, 1).flatten(0, 2)
        keys = torch.rand(len(rows), generator=self.random)
        keep = keys < self.chance
        self.keys = torch.cat([self.keys, keys[keep]])
        self.rows = torch.cat([self.rows.reshape(-1, rows.shape[1]), rows[keep]])
        while len(self.rows) > self.most:
            self.chance /= 2
            keep = self.keys < self.chance
            self.keys, self.rows = self.keys[keep], self.rows[keep]

    def quantiles(self, shares: Tensor) -> Tensor:
        """(C, K): for each unit the least sampled values that at most these shares (K,) of its cells exceed."""
        last = len(self.rows) - 1
        index = (last - (shares * len(self.rows)).floor().long()).clamp(0, last)
        return self.rows.sort(0).values[index].T


def _count(grid: Tensor, maps: Tensor, limits: Tensor, on: Tensor, overlap: Tensor) -> None:
    """Add the pixels where each unit exceeds its threshold for each part, and those of them that show the part."""
    part_pixels = [(maps.flatten() == part + 1).nonzero().flatten().numpy() for part in range(limits.shape[1])]
    step = max(ELEMENTS // maps.numel(), 1)
    for start in range(0, grid.shape[1], step):
        values = _enlarge(grid[:, start : start + step].transpose(0, 1), maps.shape[1:]).flatten(1).numpy()
        for unit, row in enumerate(values, start):
            for part, (pixels, limit) in enumerate(zip(part_pixels, limits[unit].numpy(), strict=True)):
                on[unit, part] += int(np.count_nonzero(row > limit))
                overlap[unit, part] += int(np.count_nonzero(row[pixels] > limit))


def _enlarge(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear without aligned corners, as ``interpolate`` does it; two matrix products take a third of the time."""
    rows, columns = (
        F.interpolate(torch.eye(cells)[None], length, mode="linear", align_corners=False)[0]
        for cells, length in zip(grid.shape[-2:], size, strict=True)
    )
    return rows.T @ (grid @ columns)


def _place(coverage: Tensor, tops: Tensor, n: int) -> Array:
    """IoU of the ``tops`` share of pixels that show each part most often, of how often each shows it (K, H, W)."""
    place = []
    for counts, top in zip(coverage.flatten(1), tops.tolist(), strict=True):
        mask = max(round(top * len(counts)), 1)
        hits = counts.sort(descending=True).values[:mask].sum().item()
        total = counts.sum().item()
        place.append(hits / (n * mask + total - hits) if total else float("nan"))
    return np.array(place)
