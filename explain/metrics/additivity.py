"""Does the heat add up to what the target loses?"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target
from assay.explain.base import completeness_gap
from assay.explain.metrics.base import Extra, Metric, Need
from assay.explain.variants import NOISE, Baseline, baseline_of, grid_scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Infidelity(Metric):
    """Share of the target's changes that the heat on replaced squares does not explain (Yeh et al. 2019).

    With h the heat inside a random square and d the target's drop when the square is replaced, the best scale
    b = E[h d] / E[h h], at least 0, gives E[(b h - d)^2] / E[d d] (arXiv:1901.09392, def. 2.1, sec. 3 for squares and
    for the scale): 0 for w (x - x') of a linear model, 1 for a map that explains nothing. captum's ``normalize=True``
    allows a negative b and does not divide, so that its number is in the target's units squared. NaN where no
    square changes the target.
    """

    direction: ClassVar[Literal["higher", "lower", "none"]] = "lower"
    unit: ClassVar[str] = "share"
    meaning: ClassVar[str] = "Share of what replaced squares change that the heat on them does not explain."

    squares: int = 64  # random squares; one more forward pass per image
    largest: float = 0.35  # longest side of a square, share of the image's shorter side; the paper's 10 of 28 pixels
    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.squares < 2 or not 0 < self.largest <= 1 or self.batch < 1:
            raise AssayError(f"{self}: needs squares >= 2, 0 < largest <= 1 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        height, width = images.shape[-2:]
        blank = baseline_of(images, self.baseline)
        first, last = self._squares(draws, height, width)
        down, across = (torch.arange(side, device=images.device) for side in (height, width))

        def make(owner: Tensor, square: Tensor) -> Tensor:
            """Square 0 is the image itself."""
            at = (square - 1).clamp(min=0)
            (top, left), (bottom, right) = first[owner, at].T, last[owner, at].T
            rows = (down >= top[:, None]) & (down < bottom[:, None])
            columns = (across >= left[:, None]) & (across < right[:, None])
            inside = rows[:, :, None] & columns[:, None, :] & (square > 0)[:, None, None]
            return torch.where(inside[:, None], blank[owner], images[owner])

        values = grid_scores(model, target, images, self.squares + 1, make, self.batch).double()
        drops = values[:, :1] - values[:, 1:]
        # heat inside squares
        sums = F.pad(heat.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
        owner = torch.arange(len(images), device=images.device)[:, None]
        (top, left), (bottom, right) = first.unbind(2), last.unbind(2)
        inside = sums[owner, bottom, right] - sums[owner, top, right] - sums[owner, bottom, left]
        return _residual_share(inside + sums[owner, top, left], drops, NOISE * values.abs().amax(1))

    def _squares(self, draws: Draws, height: int, width: int) -> tuple[Tensor, Tensor]:
        """First row and column of each square, and one past its last: (N, squares, 2) each."""
        longest = max(1, round(self.largest * min(height, width)))
        dice = draws.uniform((self.squares, 3))
        side = (dice[..., :1] * longest).floor().clamp(max=longest - 1).long() + 1
        room = torch.tensor([height, width], device=dice.device) + 1 - side
        first = torch.minimum((dice[..., 1:] * room).long(), room - 1)
        return first, first + side


def _residual_share(heat: Tensor, drops: Tensor, noise: Tensor) -> Tensor:
    """E[(b h - d)^2] / E[d d] of each row for the best b >= 0; NaN where no drop (N, S) is above ``noise`` (N,)."""
    heat_power, drop_power = heat.square().mean(1), drops.square().mean(1)
    together = (heat * drops).mean(1).clamp(min=0)
    fit = torch.where(heat_power > 0, together.square() / heat_power, 0)
    share = (1 - fit / drop_power).clamp(min=0)
    return torch.where(drops.abs().amax(1) > noise, share, torch.nan)


@dataclass(frozen=True, kw_only=True, slots=True)
class Completeness(Metric):
    """|sum of the heat - (f(x) - f(x'))| / |f(x) - f(x')|, x' the explainer's own baseline (Sundararajan et al. 2017).

    arXiv:1703.01365, prop. 1. NaN for a method that does not claim it (``complete`` is false), and where the target
    does not differ between image and baseline. It is relative, so that methods compare across models.
    """

    needs: ClassVar[tuple[Need, ...]] = ("explainer",)
    direction: ClassVar[Literal["higher", "lower", "none"]] = "lower"
    unit: ClassVar[str] = "relative gap"
    statistic: ClassVar[Literal["mean", "median"]] = "median"
    meaning: ClassVar[str] = (
        "How far the heat is from adding up to the target's rise over the baseline, in shares of it."
    )

    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise AssayError(f"{self}: needs batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        return completeness_gap(extra["explainer"], model, images, target, heat, self.batch)
