"""Does the heatmap lie on the object? All read the positive part of the heat; an empty mask gives NaN."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target
from assay.explain.metrics.base import Extra, Metric, Need
from assay.explain.segmentation import segment


@dataclass(frozen=True, kw_only=True, slots=True)
class PointingGame(Metric):
    """1 where the hottest pixel lies on the object, else 0 (Zhang et al. 2018, arXiv:1608.00507).

    Of several hottest pixels the share that lies there, so a blank map scores the object's share of the image.
    """

    needs: ClassVar[tuple[Need, ...]] = ("masks",)
    unit: ClassVar[str] = "share"
    interval: ClassVar[Literal["wilson", "bootstrap"]] = "wilson"
    meaning: ClassVar[str] = "Share of images whose hottest pixel lies on the object."

    tolerance: int = 0  # pixels from the object that still count, Euclidean; the paper allows 15

    def __post_init__(self) -> None:
        if self.tolerance < 0:
            raise AssayError(f"{self}: needs tolerance >= 0")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        heat, masks = heat.clamp(min=0), extra["masks"]
        hottest = heat == heat.amax((1, 2), keepdim=True)
        hits = hottest & _widen(masks, self.tolerance)
        return torch.where(masks.any(2).any(1), _count(hits) / _count(hottest), torch.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class MassAccuracy(Metric):
    """Share of the positive heat that lies on the object (CLEVR-XAI, Arras et al. 2022, arXiv:2003.07258).

    A map without positive heat scores as chance would: the object's share of the picture.
    """

    needs: ClassVar[tuple[Need, ...]] = ("masks",)
    unit: ClassVar[str] = "share"
    meaning: ClassVar[str] = "Share of the positive heat that lies on the object."

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        return mass_share(heat, extra["masks"])


@dataclass(frozen=True, kw_only=True, slots=True)
class RankAccuracy(Metric):
    """Share of the K hottest pixels that lies on the object of K pixels (CLEVR-XAI, arXiv:2003.07258).

    Where equal heat straddles the K-th place, the mean over all ways to break the tie.
    """

    needs: ClassVar[tuple[Need, ...]] = ("masks",)
    unit: ClassVar[str] = "share"
    meaning: ClassVar[str] = "Share of the hottest pixels, as many as the object has, that lies on the object."

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        heat, masks = heat.clamp(min=0), extra["masks"]
        size = _count(masks)
        place = (size.long() - 1).clamp(min=0)[:, None]
        border = heat.flatten(1).sort(dim=1, descending=True).values.gather(1, place)[:, :, None]
        above, level = heat > border, heat == border
        share_of_level = (size - _count(above)) / _count(level)
        return (_count(above & masks) + share_of_level * _count(level & masks)) / size


@dataclass(frozen=True, kw_only=True, slots=True)
class GrabCutIoU(Metric):
    """Intersection over union of the object and what ``assay.explain.segmentation`` cuts out around the heat.

    0 for a constant map, which marks nothing.
    """

    needs: ClassVar[tuple[Need, ...]] = ("masks",)
    unit: ClassVar[str] = "share"
    meaning: ClassVar[str] = "Overlap of the object with what GrabCut segments from the positive heat."

    foreground: float = 0.05  # share of the pixels, the hottest, that are certain
    background: float = 0.3  # share of the pixels, the coldest, that are certain not to be

    def __post_init__(self) -> None:
        if not (self.foreground > 0 and self.background > 0 and self.foreground + self.background <= 1):
            raise AssayError(f"{self}: needs shares above 0 that add up to at most 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        masks = extra["masks"]
        cut = segment(images, heat.clamp(min=0), foreground=self.foreground, background=self.background)
        share = _count(cut & masks) / _count(cut | masks)
        return torch.where(masks.any(2).any(1), share, torch.nan)


def mass_share(heat: Tensor, mask: Tensor) -> Tensor:
    """Share of the positive heat (N, H, W) inside ``mask`` (N, H, W) bool: (N,) float64 in [0, 1].

    Without positive heat the mask's share of the picture; NaN where the mask is empty.
    """
    heat = heat.double().clamp(min=0)
    total = heat.sum((1, 2))
    share = torch.where(total > 0, (heat * mask).sum((1, 2)) / total, mask.double().mean((1, 2)))
    return torch.where(mask.any(2).any(1), share, torch.nan)


def _count(pixels: Tensor) -> Tensor:
    """True pixels of each (H, W), as float64."""
    return pixels.sum((1, 2)).double()


def _widen(masks: Tensor, tolerance: int) -> Tensor:
    """Pixels within ``tolerance`` of the mask."""
    if tolerance == 0:
        return masks
    offsets = torch.arange(-tolerance, tolerance + 1, device=masks.device)
    disc = (offsets[:, None] ** 2 + offsets**2 <= tolerance**2).float()
    return F.conv2d(masks[:, None].float(), disc[None, None], padding=tolerance).squeeze(1) > 0.5
