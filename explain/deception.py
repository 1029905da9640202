"""Attacks on explanations: images that look the same and keep their class, with another heatmap."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.core.tables import check
from assay.core.targets import Margin, gradient, logits_of
from assay.explain.base import Explainer, TargetLike, as_target
from assay.explain.metrics.stability import map_gradient


class DeceptionResult(NamedTuple):
    """Images whose heatmaps are moved, these heatmaps, and the corner that the heat was to go to."""

    images: Tensor  # (N, C, H, W)
    heat: Tensor  # (N, H, W) float32
    corner: Tensor  # (N, H, W) bool
    derivable: bool  # whether the map has a derivative at all: one without stays where it is


@dataclass(frozen=True, kw_only=True, slots=True)
class Deception:
    """An attack on an explanation: the same class, the heat in a corner (Dombrowski et al. 2019, arXiv:1906.07983).

    Signed gradient steps inside a ball bring the map near to one of the same size that lies in the quarter of the image
    with the least heat; on a ReLU network through softplus, as a ReLU has no second derivative. The more of
    the clean margin is lost, the more a step also climbs the margin. Of the images on the path that keep the predicted
    class, as in Ghorbani et al. 2019 (arXiv:1710.10547), the one whose map has the largest share of its heat there is
    returned.
    """

    version: ClassVar[int] = 1  # raised when the results of a class change; a cell's id holds it

    eps: float = 8 / 255  # Linf radius, images in [0, 1]
    steps: int = 50

    def __post_init__(self) -> None:
        if not self.eps > 0 or self.steps < 1:
            raise AssayError(f"{self}: needs eps > 0 and steps >= 1")

    def __call__(
        self,
        explainer: Explainer,
        model: nn.Module,
        images: Tensor,
        target: TargetLike,
        draws: Draws | int = 0,
    ) -> DeceptionResult:
        """Arguments and errors as those of an ``Explainer``."""
        check(self)
        check_images(images)
        images = images.detach()
        target, draws = as_target(target, images), as_draws(draws, images)
        heat = explainer(model, images, target, draws)
        corner = coldest_corner(heat)
        goal = corner * (_norm(heat) / _norm(corner))[:, None, None]
        best, best_heat, best_share, x, slope = images, heat, heat_share(heat, corner), images, None
        with evaluating(model):
            with torch.no_grad():
                margin = Margin(logits_of(model, images).argmax(1))
            clean_margin = margin(model, images).detach()
            for k in range(self.steps):
                # towards the corner
                slope = map_gradient(explainer, model, x, target, goal, draws)
                if slope is None:
                    break
                # back to the class
                loss = (1 - margin(model, x).detach() / clean_margin).clamp(0, 2)
                back = 2 * loss[:, None, None, None] * _unit(gradient(margin, model, x))
                # project onto ball
                length = 2 * self.eps * (1 - k / self.steps) / 5
                x = x + length * (back - _unit(slope.nan_to_num())).sign()
                x = x.clamp(images - self.eps, images + self.eps).clamp(0, 1)
                # best image so far
                step_heat = explainer(model, x, target, draws)
                share = heat_share(step_heat, corner)
                better = (share > best_share) & (margin(model, x) > 0)
                best = torch.where(better[:, None, None, None], x, best)
                best_heat = torch.where(better[:, None, None], step_heat, best_heat)
                best_share = torch.where(better, share, best_share)
        return DeceptionResult(best, best_heat, corner, slope is not None)


def coldest_corner(heat: Tensor) -> Tensor:
    """The quarter of each (H, W) with the least absolute heat, (N, H, W) bool."""
    height, width = heat.shape[1:]
    down, across = torch.arange(height) < height // 2, torch.arange(width) < width // 2
    quarters = torch.stack([d[:, None] & a[None, :] for d in (down, ~down) for a in (across, ~across)]).to(heat.device)
    coldest = torch.einsum("nhw,qhw->nq", heat.abs(), quarters.to(heat.dtype)).argmin(1)
    return quarters[coldest]


def heat_share(heat: Tensor, region: Tensor) -> Tensor:
    """Share of the absolute heat (N, H, W) inside ``region`` (N, H, W) bool: (N,) float64; NaN for a map of zeros.

    ``assay.explain.metrics.localisation.mass_share`` is that of the positive heat, and a map of zeros has one there.
    """
    heat = heat.double().abs()
    return (heat * region).sum((1, 2)) / heat.sum((1, 2))


def rank_correlation(heat: Tensor, reference: Tensor) -> Tensor:
    """Spearman's rank correlation of the pixels of each pair of maps (N, H, W), (N,); NaN where one is constant."""
    pairs = zip(heat.flatten(1).cpu().numpy(), reference.flatten(1).cpu().numpy(), strict=True)
    return heat.new_tensor([spearmanr(a, b).statistic if np.ptp(a) and np.ptp(b) else np.nan for a, b in pairs])


def _unit(slopes: Tensor) -> Tensor:
    """Each scaled to a mean absolute value of 1."""
    return slopes / slopes.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)


def _norm(heat: Tensor) -> Tensor:
    return heat.float().square().sum((1, 2)).sqrt().clamp(min=1e-30)
