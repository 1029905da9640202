"""Does the heatmap weigh the parts of a scene as the model does? No pixel is replaced: the scene is drawn again."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn

from core.draws import Draws
from core.errors import AssayError
from core.targets import Target
from explain.metrics.base import Given, Metric, Need
from explain.metrics.ranks import spearman
from explain.variants import scores


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

    def run(
        self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, given: Given, draws: Draws
    ) -> Tensor:
        parts, without = given["parts"], given["without"]
        shown = [parts == number + 1 for number in range(without.shape[1])]
        exists = torch.stack([part.any(2).any(1) for part in shown], 1)
        positive = heat.double().clamp(min=0)
        mass = torch.stack([(positive * part).sum((1, 2)) for part in shown], 1)

        everyone = torch.arange(len(images), device=images.device)
        whole = scores(model, target, everyone, everyone, lambda owner, _: images[owner], self.batch)
        owners, numbers = exists.nonzero(as_tuple=True)
        rest = whole[:, None].expand(exists.shape).clone()
        if len(owners):
            rest[owners, numbers] = scores(model, target, owners, numbers, lambda o, i: without[o, i], self.batch)

        scale = torch.maximum(rest.abs().amax(1), whole.abs())
        drops = whole[:, None] - rest
        value = spearman(mass, drops, a_scale=mass.amax(1), b_scale=scale, valid=exists)
        return torch.where(exists.sum(1) >= 3, value, torch.nan)
