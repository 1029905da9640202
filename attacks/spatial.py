"""Rotations and translations: attacks that move an image and change none of its values."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.balls import check_positive
from assay.attacks.base import BlackBox, Trace
from assay.attacks.best import Best, Pick, all_indices, best_candidate
from assay.attacks.goals import Goal
from assay.core.draws import Draws
from assay.core.errors import AssayError

Padding = Literal["zeros", "border", "reflection"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpatialAttack(BlackBox):
    """The worst rotation and translation (Engstrom et al. 2019, arXiv:1712.02779, sec. 4).

    ``sampling="grid"`` tries every angle with every translation, nearest to the image itself first; "random" tries
    ``tries`` uniform draws (the paper's worst-of-10). Returns what fools with the largest loss (minus the margin) among
    the tries so far, else the try of largest loss. An image leaves after the first angle (or draw) that fools it; with
    ``early_stop`` off, the worst of all. Bilinear, one interpolation; the paper's padding is zeros, so black corners
    are its own. Queries count the tries until the image left, and one for the image itself.
    """

    sampling: Literal["grid", "random"] = "grid"
    max_angle: float = 30.0  # degrees, to both sides
    max_shift: float = 0.1  # share of the side, in both directions of both axes
    angles: int = 31  # of the grid
    shifts: int = 5  # of the grid, on each axis
    tries: int = 10  # of the random search
    padding: Padding = "zeros"  # what comes in from outside
    early_stop: bool = True

    def __post_init__(self) -> None:
        check_positive(angles=self.angles, shifts=self.shifts, tries=self.tries)
        if not (0 <= self.max_angle <= 180 and 0 <= self.max_shift <= 1):
            raise AssayError(f"max_angle={self.max_angle} must be 0 to 180, max_shift={self.max_shift} 0 to 1")

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        queries = torch.ones(len(images), dtype=torch.int64, device=images.device)
        best, everybody = Best.of(images), all_indices(images)
        logits = model(images)
        success = goal.reached(logits)
        best.update(everybody, images, goal.loss(logits, "margin"), success)
        index = everybody[~success]
        for moves in self._moves(draws):
            if len(index) == 0:
                break
            pick = self._judge(model, goal[index], images[index], moves[index])
            best.update(index, pick.images, pick.best, pick.fooled)
            queries[index] += moves.shape[1]
            index = index[~pick.fooled] if self.early_stop else index
        return Trace(best.images, queries)

    def _judge(self, model: nn.Module, goal: Goal, images: Tensor, moves: Tensor) -> Pick:
        many = moves.shape[1]

        def make(part: Tensor) -> Tensor:
            return move(images[part].repeat_interleave(many, 0), moves[part].flatten(0, 1), self.padding)

        return best_candidate(model, goal, make, images, many)

    def _moves(self, draws: Draws) -> list[Tensor]:
        """What is tried at once, in turn: (N, tries, 3) of an angle in degrees and shares of a side, down and right."""
        chances = draws.uniform((self.tries if self.sampling == "random" else 0, 3), -1, 1)
        if self.sampling == "random":
            limits = chances.new_tensor([self.max_angle, self.max_shift, self.max_shift])
            return list(torch.split(chances * limits, 1, 1))
        angles, shifts = _spread(self.max_angle, self.angles), _spread(self.max_shift, self.shifts)
        grids = [torch.cartesian_prod(angle[None], shifts, shifts) for angle in angles]
        return [grid.to(chances).expand(len(chances), -1, -1) for grid in grids]


def move(images: Tensor, moves: Tensor, padding: Padding) -> Tensor:
    """``images`` (N, C, H, W) turned counter-clockwise about the middle, then shifted, by ``moves`` (N, 3).

    What does not move comes back bit for bit.
    """
    (height, width), (angle, down, right) = images.shape[2:], moves.unbind(1)
    cos, sin = torch.cos(angle.deg2rad()), torch.sin(angle.deg2rad())
    # from a place in the result back to its source, in sides from -1 to 1
    turn = torch.stack([cos, -sin * height / width, sin * width / height, cos], 1).view(-1, 2, 2)
    start = turn @ torch.stack([right, down], 1)[:, :, None] * -2
    grid = F.affine_grid(torch.cat([turn, start], 2), list(images.shape), align_corners=False)
    rotation = F.grid_sample(images, grid, mode="bilinear", padding_mode=padding, align_corners=False).clamp(0, 1)
    return torch.where(moves.eq(0).all(1).view(-1, 1, 1, 1), images, rotation)


def _spread(most: float, count: int) -> Tensor:
    """``count`` values from ``-most`` to ``most``, the smallest first."""
    values: Tensor = torch.unique(torch.linspace(-most, most, count))
    return values[values.abs().argsort(stable=True)]
