"""Heatmaps from what happens when pixels are replaced."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from core.draws import Draws
from core.errors import AssayError
from core.targets import Target
from explain.base import Explainer
from explain.variants import Baseline, baseline_of, grid_scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Occlusion(Explainer):
    """How much the target drops when a sliding square is replaced (Zeiler & Fergus 2014, sec. 4.2, arXiv:1311.2901).

    A pixel gets the mean drop over the squares that cover it. Squares start every ``stride`` pixels, the last ones
    cut off at the border. captum's ``Occlusion`` with windows (C, window, window) gives this value in every channel.
    """

    window: int = 16  # side of the square, pixels
    stride: int = 8  # pixels, at most the window
    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if not (1 <= self.stride <= self.window and self.batch >= 1):
            raise AssayError(f"{self}: needs 1 <= stride <= window, so that every pixel is covered, and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        n, _, height, width = images.shape
        blank = baseline_of(images, self.baseline)
        rows, columns = self._spans(height).to(images.device), self._spans(width).to(images.device)

        def occluded(owner: Tensor, square: Tensor) -> Tensor:
            """Square 0 is the image itself, square i + 1 lies at row i // columns, column i % columns."""
            at = (square - 1).clamp(min=0)
            inside = rows[at // len(columns)][:, :, None] & columns[at % len(columns)][:, None, :]
            inside &= (square > 0)[:, None, None]
            return torch.where(inside[:, None], blank[owner], images[owner])

        each = 1 + len(rows) * len(columns)
        values = grid_scores(model, target, images, each, occluded, self.batch)
        drops = (values[:, :1] - values[:, 1:]).reshape(n, len(rows), len(columns))
        down, across = rows.to(drops.dtype), columns.to(drops.dtype)
        covering = down.sum(0)[:, None] * across.sum(0)
        return torch.einsum("nij,ih,jw->nhw", drops, down, across) / covering

    def _spans(self, size: int) -> Tensor:
        """Which pixels of a side each position of the window covers, (positions, size) bool."""
        positions = max(math.ceil((size - self.window) / self.stride), 0) + 1
        starts = torch.arange(positions)[:, None] * self.stride
        pixels = torch.arange(size)
        return (pixels >= starts) & (pixels < starts + self.window)
