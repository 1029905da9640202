"""Deletion that stays near the data: removed pixels are filled in from what surrounds them."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.tables import check
from assay.core.targets import Target
from assay.explain.metrics.base import Extra, Metric
from assay.explain.variants import grid_scores

WEIGHTS = {(y, x): 1 / 6 if y * x == 0 else 1 / 12 for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)}


@dataclass(frozen=True, kw_only=True, slots=True)
class ROAD(Metric):
    """The target without the coldest pixels minus without the hottest, removed pixels imputed (Rong et al. 2022).

    "Remove and debias" (arXiv:2202.00449, sec. 4): a removed pixel is the weighted mean of its neighbours plus noise,
    so that the shape of what is removed tells the model little. Mean over ``fractions``; equal heat keeps reading order
    in both directions, which gives a constant map 0. The paper draws the two as curves of accuracy over a data set.
    """

    unit: ClassVar[str] = "probability"
    scale: ClassVar[Literal["logit", "probability"]] = "probability"
    meaning: ClassVar[str] = "How much more probable the class is without the coldest than without the hottest pixels."

    fractions: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)  # of the pixels that are removed; two passes each
    noise: float = 0.01  # standard deviation on imputed pixels, images in [0, 1]
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        check(self)
        if not self.fractions or not all(0 < fraction < 1 for fraction in self.fractions):
            raise AssayError(f"{self}: needs fractions between 0 and 1")
        if self.noise < 0 or self.batch < 1:
            raise AssayError(f"{self}: needs noise >= 0 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        flat = heat.flatten(1)
        orders = [flat.argsort(dim=1, descending=hottest, stable=True) for hottest in (True, False)]
        ranks = torch.stack([order.argsort(dim=1) for order in orders], 1).reshape(len(heat), 2, *heat.shape[1:])
        counts = [max(1, min(round(fraction * flat.shape[1]), flat.shape[1] - 1)) for fraction in self.fractions]
        noise = self.noise * draws.normal(images.shape[1:])

        def make(owner: Tensor, variant: Tensor) -> Tensor:
            """Variant 2 i removes the hottest ``counts[i]`` pixels, 2 i + 1 the coldest."""
            count = torch.tensor(counts, device=images.device)[variant // 2]
            holes = ranks[owner, variant % 2] < count[:, None, None]
            whole = impute(images[owner], holes)
            return torch.where(holes[:, None], whole + noise[owner], whole).clamp(0, 1)

        values = grid_scores(model, target, images, 2 * len(counts), make, self.batch)
        return (values[:, 1::2] - values[:, 0::2]).mean(1)


def impute(images: Tensor, holes: Tensor) -> Tensor:
    """The images (N, C, H, W) with the pixels of ``holes`` (N, H, W) bool in balance with all their neighbours.

    Each is the mean of its neighbours, weighted 1/6 beside, above and below and 1/12 across (arXiv:2202.00449, eq. 2);
    at the border those that are there share the weight. Raises ``AssayError`` where no pixel of an image is left.
    """
    if holes.flatten(1).all(1).any():
        raise AssayError("cannot impute an image of which no pixel is left")
    pairs = zip(images.cpu().double().numpy(), holes.cpu().numpy(), strict=True)
    return torch.from_numpy(np.stack([_solve(*pair) for pair in pairs])).to(images)


def _solve(image: NDArray[np.float64], holes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One image (C, H, W)."""
    rows, columns = holes.nonzero()
    n = len(rows)
    if n == 0:
        return image
    # number the unknowns
    number = np.full(holes.shape, -1)
    number[rows, columns] = np.arange(n)
    # equations by neighbour
    total, rhs = np.zeros(n), np.zeros((n, len(image)))
    entries: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
    for (down, right), weight in WEIGHTS.items():
        y, x = rows + down, columns + right
        inside = ((y >= 0) & (y < holes.shape[0]) & (x >= 0) & (x < holes.shape[1])).nonzero()[0]
        y, x = y[inside], x[inside]
        total[inside] += weight
        hole = holes[y, x]
        rhs[inside[~hole]] += weight * image[:, y[~hole], x[~hole]].T
        entries.append((inside[hole], number[y[hole], x[hole]], np.full(int(hole.sum()), -weight)))
    entries.append((np.arange(n), np.arange(n), total))
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    system = csc_array((value, (row, column)), shape=(n, n))
    # symmetric and diagonally dominant: no pivots, and an ordering for such systems, are twice as fast
    solver = splu(system, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0, options={"SymmetricMode": True})
    result = image.copy()
    result[:, rows, columns] = solver.solve(rhs).T
    return result
