"""Does the target change most where the heatmap says? Replaced pixels leave the data's distribution."""

from abc import abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target
from assay.explain.metrics.base import Extra, Metric
from assay.explain.metrics.ranks import spearman
from assay.explain.variants import Baseline, baseline_of, grid_scores


@dataclass(frozen=True, kw_only=True, slots=True)
class _Curve(Metric):
    """The area under the target as pixels change, hottest first (RISE, Petsiuk et al. 2018, arXiv:1806.07421).

    Trapezoids over the actual fractions of changed pixels, 0 and 1 included. Equal heat keeps reading order. The
    target is scored as given: the paper's is ``Probability``, and its areas are not comparable across models.
    """

    unit: ClassVar[str] = "probability"
    scale: ClassVar[Literal["logit", "probability"]] = "probability"

    steps: int = 32  # equal shares of the pixels; steps + 1 forward passes per image
    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise AssayError(f"{self}: needs steps >= 1 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        height, width = images.shape[-2:]
        pixels = height * width
        counts = torch.tensor(sorted({round(i * pixels / self.steps) for i in range(self.steps + 1)})).to(images.device)
        order = heat.flatten(1).argsort(dim=1, descending=True, stable=True)
        ranks = order.argsort(dim=1).reshape(heat.shape)
        blank = baseline_of(images, self.baseline)

        def make(owner: Tensor, step: Tensor) -> Tensor:
            top = (ranks[owner] < counts[step, None, None])[:, None]
            return self._blend(top, images[owner], blank[owner])

        values = grid_scores(model, target, images, len(counts), make, self.batch)
        return torch.trapezoid(values, counts.to(values.dtype) / pixels, dim=1)

    @staticmethod
    @abstractmethod
    def _blend(top: Tensor, images: Tensor, blank: Tensor) -> Tensor:
        """The images once the ``top`` pixels have changed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Deletion(_Curve):
    """Area under the target as the hottest pixels are removed first: low where the heat marks what decides."""

    direction: ClassVar[Literal["higher", "lower", "none"]] = "lower"
    meaning: ClassVar[str] = "Mean probability of the class while the hottest pixels are removed first."

    @staticmethod
    def _blend(top: Tensor, images: Tensor, blank: Tensor) -> Tensor:
        return torch.where(top, blank, images)


@dataclass(frozen=True, kw_only=True, slots=True)
class Insertion(_Curve):
    """Area under the target as the hottest pixels are put back first: high where the heat marks what decides."""

    meaning: ClassVar[str] = "Mean probability of the class while the hottest pixels are put back first."

    baseline: Baseline = "blur"

    @staticmethod
    def _blend(top: Tensor, images: Tensor, blank: Tensor) -> Tensor:
        return torch.where(top, images, blank)


@dataclass(frozen=True, kw_only=True, slots=True)
class SingleDeletion(Metric):
    """Spearman of each cell's sum of heat against the target's drop when that cell alone is replaced.

    After arXiv:2407.11910: one cell at a time stays nearer to the data than a curve, and ranks compare across models.
    NaN where heat or drops are the same in all cells, up to float noise.
    """

    unit: ClassVar[str] = "rank correlation"
    meaning: ClassVar[str] = "Whether the cells with more heat are those whose removal costs the class more."

    grid: int = 4  # cells a side; grid * grid + 1 forward passes per image
    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.grid < 2 or self.batch < 1:
            raise AssayError(f"{self}: needs grid >= 2 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        height, width = images.shape[-2:]
        if min(height, width) < self.grid:
            raise AssayError(f"{self}: images of {height} x {width} have fewer pixels than cells")
        rows, columns = (torch.arange(side, device=images.device) * self.grid // side for side in (height, width))
        cells = rows[:, None] * self.grid + columns
        blank = baseline_of(images, self.baseline)

        def make(owner: Tensor, cell: Tensor) -> Tensor:
            """Cell 0 is the image itself, cell i + 1 is replaced otherwise."""
            return torch.where((cells == cell[:, None, None] - 1)[:, None], blank[owner], images[owner])

        values = grid_scores(model, target, images, self.grid**2 + 1, make, self.batch)
        drops = values[:, :1] - values[:, 1:]
        mass = heat.double().flatten(1) @ F.one_hot(cells.flatten(), self.grid**2).double()
        return spearman(mass, drops, a_scale=mass.abs().amax(1), b_scale=values.abs().amax(1))
