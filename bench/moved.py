"""Robustness meets explanation: how far a heatmap moves when the image hardly does.

Three changes of the same Linf size are compared: noise, an attack that changes the class, and an attack on the heatmap
itself that keeps the class.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from assay.attacks import PGD, RandomNoise
from assay.attacks.base import Attack
from assay.bench.cells import Batch, Cell, Measured, Row, Setup, draws_for
from assay.bench.pictures import to_bytes
from assay.core.borrow import counting, evaluating, now
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Logit, Margin, Target, gradient
from assay.explain.base import Explainer
from assay.explain.metrics.stability import map_gradient

DECEIVED_EPS = 8 / 255
METRICS = {
    "map_similarity_noise": "Rank correlation of the heatmaps before and after random noise.",
    "map_similarity_fooled": "Rank correlation of the label's heatmaps before and after an attack that fools.",
    "map_similarity_deceived": "Rank correlation of the heatmaps before and after an attack on the map, class kept.",
    "corner_mass_clean": "Share of the absolute heat in the corner that an attack on the map aims at, before it.",
    "corner_mass_deceived": "Share of the absolute heat in the corner that an attack on the map aims at, after it.",
}


class Deceived(NamedTuple):
    """What an attack on heatmaps made: images and their maps, and where the heat was wanted."""

    images: Tensor  # (N, C, H, W)
    heat: Tensor  # (N, H, W)
    corner: Tensor  # (N, H, W) bool
    derived: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Deception:
    """An attack on an explanation: the same class, the heat in a corner (Dombrowski et al. 2019, arXiv:1906.07983).

    Signed gradient steps inside a ball bring the map near to one of the same size that lies in the quarter of the image
    with the least heat; on a ReLU network through softplus, as a ReLU has no second derivative. The more of
    the clean margin is lost, the more a step also climbs the margin. Of the images on the path that keep the predicted
    class, as in Ghorbani et al. 2019 (arXiv:1710.10547), the one whose map has the largest share of its heat there is
    returned. ``derived`` says whether the map has a derivative at all: one without stays where it is.
    """

    eps: float = 8 / 255  # Linf radius, images in [0, 1]
    steps: int = 50

    def __post_init__(self) -> None:
        if not self.eps > 0 or self.steps < 1:
            raise AssayError(f"{self}: needs eps > 0 and steps >= 1")

    def __call__(
        self, explainer: Explainer, model: nn.Module, images: Tensor, target: Target, draws: Draws
    ) -> Deceived:
        heat = explainer(model, images, target, draws)
        corner = coldest_corner(heat)
        wanted = corner * (_norm(heat) / _norm(corner))[:, None, None]
        best, best_heat, most, x, slope = images, heat, mass_in(corner, heat), images, None
        with evaluating(model):
            margin = Margin(_predicted(model, images))
            clean = margin(model, images).detach()
            for k in range(self.steps):
                slope = map_gradient(explainer, model, x, target, wanted, draws)
                if slope is None:
                    break
                lost = (1 - margin(model, x).detach() / clean).clamp(0, 2)
                back = 2 * lost[:, None, None, None] * _unit(gradient(margin, model, x))
                length = 2 * self.eps * (1 - k / self.steps) / 5
                x = x + length * (back - _unit(slope.nan_to_num())).sign()
                x = x.clamp(images - self.eps, images + self.eps).clamp(0, 1)
                found = explainer(model, x, target, draws)
                share = mass_in(corner, found)
                better = (share > most) & (margin(model, x) > 0)
                best = torch.where(better[:, None, None, None], x, best)
                best_heat = torch.where(better[:, None, None], found, best_heat)
                most = torch.where(better, share, most)
        return Deceived(best, best_heat, corner, slope is not None)


def coldest_corner(heat: Tensor) -> Tensor:
    """The quarter of each (H, W) with the least absolute heat, (N, H, W) bool."""
    height, width = heat.shape[1:]
    down, across = torch.arange(height) < height // 2, torch.arange(width) < width // 2
    quarters = torch.stack([d[:, None] & a[None, :] for d in (down, ~down) for a in (across, ~across)]).to(heat.device)
    coldest = torch.einsum("nhw,qhw->nq", heat.abs(), quarters.to(heat.dtype)).argmin(1)
    return quarters[coldest]


def mass_in(region: Tensor, heat: Tensor) -> Tensor:
    """The share of the absolute heat that lies in the region, (N,); NaN for a map of zeros."""
    heat = heat.double().abs()
    return (heat * region).sum((1, 2)) / heat.sum((1, 2))


def similarity(one: Tensor, other: Tensor) -> Tensor:
    """Spearman's rank correlation of the pixels of each pair of maps (N, H, W), (N,); NaN where one is constant."""
    pairs = zip(one.flatten(1).cpu().numpy(), other.flatten(1).cpu().numpy(), strict=True)
    return one.new_tensor([spearmanr(a, b).statistic if np.ptp(a) and np.ptp(b) else np.nan for a, b in pairs])


@dataclass(frozen=True, kw_only=True)
class MovedCell(Cell):
    """How far one explainer's heatmaps of the label's logit move; the first images and maps are kept as art."""

    kind = "moved"
    explainer: Explainer
    eps: float
    shown: int

    @property
    def method(self) -> str:
        return repr(self.explainer)

    def details(self) -> dict[str, Any]:
        return {
            "eps": self.eps,
            "shown": self.shown,
            "limit": self.limit,
            "attacks": [repr(a) for a in (*self._attacks, self._deception)],
        }

    @property
    def _attacks(self) -> tuple[Attack, Attack]:
        return RandomNoise(eps=self.eps), PGD(eps=self.eps)

    @property
    def _deception(self) -> Deception:
        return Deception(eps=self.eps)

    def measure(self, setup: Setup) -> Measured:
        rows: list[Row] = []
        kept: dict[str, Tensor] = {}
        ids: list[str] = []
        labels: list[int] = []
        model = self.subject(setup)
        for batch in self.batches(setup):
            start = now(batch.images.device)
            with counting(model) as passes:
                pictures, values, fooled = self._moved(model, batch)
            n = len(batch.ids)
            cost = {"forwards": passes.forwards / n, "backwards": passes.backwards / n}
            cost["seconds"] = (now(batch.images.device) - start) / n
            for i, image in enumerate(batch.ids):
                facts = {"image": image, "label": int(batch.labels[i]), **cost}
                for name, value in values.items():
                    flags = "no-derivative" if "deceived" in name and value.isnan().all() else ""
                    rows.append(self.row(name, value[i].item(), flags=flags, **facts))
            chosen = fooled.nonzero().flatten()[: self.shown - len(ids)]
            if len(chosen):
                kept = {k: torch.cat([kept[k], v[chosen]]) if kept else v[chosen] for k, v in pictures.items()}
                ids += [batch.ids[i] for i in chosen]
                labels += batch.labels[chosen].tolist()
        if not ids:
            return Measured(rows, {})
        arrays = {name: to_bytes(x) if x.ndim == 4 else x.cpu().numpy().astype(np.float32) for name, x in kept.items()}
        meta = {"images": ids, "labels": labels, "classes": list(model.classes), "eps": self.eps, "method": self.method}
        return Measured(rows, {"moved.npz": arrays, "meta.json": meta})

    def _moved(self, model: nn.Module, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Pictures and maps, what is measured of them, and which images are shown: those that it fools.

        The attacks draw from their own streams, so that all explainers see the same images.
        """
        images, target = batch.images, Logit(batch.labels)
        clean = self.explainer(model, images, target, self.draws(batch.ids))
        streams = [draws_for(self.seed, self.model_digest, repr(attack), batch.ids) for attack in self._attacks]
        noise, pgd = (a(model, images, batch.labels, s) for a, s in zip(self._attacks, streams, strict=True))
        with torch.no_grad():
            before, after = (_predicted(model, x) for x in (images, pgd))
        heats = [self.explainer(model, x, target, self.draws(batch.ids)) for x in (noise, pgd)]
        deceived = self._deception(self.explainer, model, images, target, self.draws(batch.ids))
        fooled = (before == batch.labels) & (after != batch.labels)
        unknown = torch.full((len(images),), torch.nan)
        values = {
            "map_similarity_noise": similarity(clean, heats[0]),
            "map_similarity_fooled": similarity(clean, heats[1]).where(fooled, torch.nan),
            "map_similarity_deceived": similarity(clean, deceived.heat) if deceived.derived else unknown,
            "corner_mass_clean": mass_in(deceived.corner, clean),
            "corner_mass_deceived": mass_in(deceived.corner, deceived.heat) if deceived.derived else unknown,
        }
        pictures = {
            "images": images, "fooled": pgd, "deceived": deceived.images,
            "clean_heat": clean, "noise_heat": heats[0], "fooled_heat": heats[1], "deceived_heat": deceived.heat,
        }  # fmt: skip
        return pictures, values, fooled


@torch.no_grad()
def _predicted(model: nn.Module, images: Tensor) -> Tensor:
    classes: Tensor = model(images).argmax(1)
    return classes


def _unit(slopes: Tensor) -> Tensor:
    """Each scaled to a mean absolute value of 1."""
    return slopes / slopes.abs().mean((1, 2, 3), keepdim=True).clamp(min=1e-30)


def _norm(heat: Tensor) -> Tensor:
    return heat.float().square().sum((1, 2)).sqrt().clamp(min=1e-30)
