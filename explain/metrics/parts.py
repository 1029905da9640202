"""Does the heatmap weigh the parts of a scene as the model does? No pixel is replaced: the scene is drawn again."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target
from assay.explain.metrics.base import Extra, Metric, Need
from assay.explain.metrics.localisation import mass_share
from assay.explain.metrics.ranks import spearman
from assay.explain.variants import NOISE, grid_scores, scores


@dataclass(frozen=True, kw_only=True, slots=True)
class PartEffect(Metric):
    """Spearman of the positive heat on each part against the target's drop when the scene is drawn without that part.

    Over the parts that show at least one pixel. NaN with fewer than three of them (two can only give 1 or -1), and
    where heat or drops are the same for all, up to float noise.
    """

    needs: ClassVar[tuple[Need, ...]] = ("parts", "without")
    unit: ClassVar[str] = "rank correlation"
    meaning: ClassVar[str] = "Whether the parts with more heat are those the class needs more."

    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise AssayError(f"{self}: needs batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        parts, without = extra["parts"], extra["without"]
        masks = [parts == number + 1 for number in range(without.shape[1])]
        exists = torch.stack([part.any(2).any(1) for part in masks], 1)
        positive = heat.double().clamp(min=0)
        mass = torch.stack([(positive * part).sum((1, 2)) for part in masks], 1)

        whole = grid_scores(model, target, images, 1, lambda owner, _: images[owner], self.batch).squeeze(1)
        owners, numbers = exists.nonzero(as_tuple=True)
        rest = whole[:, None].expand(exists.shape).clone()
        if len(owners):
            rest[owners, numbers] = scores(model, target, owners, numbers, lambda o, i: without[o, i], self.batch)

        scale = torch.maximum(rest.abs().amax(1), whole.abs())
        drops = whole[:, None] - rest
        value = spearman(mass, drops, a_scale=mass.amax(1), b_scale=scale, valid=exists)
        return torch.where(exists.sum(1) >= 3, value, torch.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShortcutMass(Metric):
    """How far the share of the positive heat on the shortcut is from the shortcut's share of the true effect.

    The effect of the shortcut is the target's mean drop when its pixels are drawn otherwise, that of a part the drop
    when the scene is drawn without it; shares are of the positive effects. So a map is as wrong when it invents a
    shortcut as when it hides one. NaN where there is no shortcut, and where nothing has a positive effect.
    """

    needs: ClassVar[tuple[Need, ...]] = ("shortcut", "redrawn", "without")
    direction: ClassVar[Literal["higher", "lower", "none"]] = "lower"
    unit: ClassVar[str] = "share"
    meaning: ClassVar[str] = "Gap between the heat's share on the background and the background's share of the effect."

    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise AssayError(f"{self}: needs batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        effect = shortcut_effect(model, images, target, extra["redrawn"], extra["without"], self.batch)
        gap = (mass_share(heat, extra["shortcut"]) - effect).abs()
        return torch.where(extra["shortcut"].any(2).any(1), gap, torch.nan)


def shortcut_effect(
    model: nn.Module, images: Tensor, target: Target, redrawn: Tensor, without: Tensor, batch: int
) -> Tensor:
    """The shortcut's share of the positive effects on the target, (N,) float64 in [0, 1]; NaN where none is positive.

    ``redrawn`` (N, R, C, H, W) are the images with another shortcut, ``without`` (N, P, C, H, W) without each part.
    """
    others = torch.cat([redrawn, without], 1)

    def make(owner: Tensor, variant: Tensor) -> Tensor:
        """Variant 0 is the image itself."""
        pictures = others[owner, (variant - 1).clamp(min=0)]
        return torch.where((variant == 0)[:, None, None, None], images[owner], pictures)

    values = grid_scores(model, target, images, 1 + others.shape[1], make, batch).double()
    drops = values[:, :1] - values[:, 1:]
    count = redrawn.shape[1]
    effects = torch.cat([drops[:, :count].mean(1, keepdim=True), drops[:, count:]], 1)
    positive = torch.where(effects > NOISE * values.abs().amax(1, keepdim=True), effects, 0)
    total = positive.sum(1)
    return torch.where(total > 0, positive[:, 0] / total, torch.nan)
