"""How concentrated is the heatmap? Both read absolute values; a map of zeros gives NaN."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.targets import Target
from assay.explain.metrics.base import Extra, Metric


@dataclass(frozen=True, kw_only=True, slots=True)
class Gini(Metric):
    """Gini index of the absolute heat (Chalasani et al. 2020, arXiv:1810.06583, sec. 6; Hurley & Rickard 2009).

    0 where all n pixels are alike, 1 - 1/n where one has all.
    """

    direction: ClassVar[Literal["higher", "lower", "none"]] = "none"
    unit: ClassVar[str] = "index"
    meaning: ClassVar[str] = "How unequally the heat is shared out: 0 evenly, towards 1 on one pixel."

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        rising = heat.double().abs().flatten(1).sort(dim=1).values
        n = rising.shape[1]
        weights = 2 * torch.arange(1, n + 1, dtype=torch.float64, device=heat.device) - n - 1
        total = rising.sum(1)
        return torch.where(total > 0, rising @ weights / (n * total), torch.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entropy(Metric):
    """Entropy of the shares of the absolute heat, divided by log n (Bhatt et al. 2020, arXiv:2005.00631, complexity).

    1 where all n pixels are alike, 0 where one has all; the paper does not divide, which ties the number to the size.
    """

    direction: ClassVar[Literal["higher", "lower", "none"]] = "none"
    unit: ClassVar[str] = "share of log n"
    meaning: ClassVar[str] = "How evenly the heat is shared out: 1 evenly, 0 on one pixel."

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        mass = heat.double().abs().flatten(1)
        total = mass.sum(1, keepdim=True)
        shares = torch.where(total > 0, mass / total, torch.nan)
        terms: Tensor = torch.special.entr(shares)
        return terms.sum(1) / math.log(mass.shape[1])
