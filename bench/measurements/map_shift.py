"""Robustness meets explanation: how far a heatmap moves when the image hardly does.

Three changes of the same Linf size are compared: noise, an attack that changes the class, and an attack on the heatmap
itself that keeps the class.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from assay.attacks import PGD, RandomNoise
from assay.attacks.base import Attack
from assay.bench.measurements.ask import Ask, option
from assay.bench.measurements.base import (
    Batch,
    Cell,
    Measured,
    Row,
    Setup,
    draws_for,
    floats,
    meter,
    predicted,
    to_bytes,
)
from assay.bench.method_records import describe, identity
from assay.core.targets import Logit
from assay.explain import EXPLAINERS
from assay.explain.base import Explainer
from assay.explain.deception import Deception, heat_share, rank_correlation
from assay.reports.run.records import Method

EPS = 8 / 255


@dataclass(frozen=True, kw_only=True)
class MapShiftOptions:
    """Of attacks on heatmaps."""

    attacked_explainers: tuple[str, ...] = option(
        (), "Explainers whose heatmaps are attacked.", table=EXPLAINERS, beside=("explainers",), old="deceived"
    )
    attacked_images: int = option(50, "Images per model whose heatmaps are attacked.", least=1, old="deceive")


class Shift(NamedTuple):
    """A batch before and after the three changes."""

    pictures: dict[str, Tensor]  # images (N, C, H, W) and heatmaps (N, H, W)
    values: dict[str, Tensor]  # (N,) by metric
    fooled: Tensor  # (N,) bool: what the attack on the class fools


@dataclass(frozen=True, kw_only=True)
class MapShiftCell(Cell):
    """How far one explainer's heatmaps of the label's logit move; the first images and maps are kept as art."""

    kind = "map_shift"
    options = MapShiftOptions

    explainer: Explainer
    count: int  # images that are kept
    eps: float = EPS

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        options = ask.of(MapShiftOptions)
        limit = min(ask.options.limit, options.attacked_images)
        for pair in ask.pairs():
            for explainer in ask.records(EXPLAINERS, options.attacked_explainers):
                yield cls(**ask.common(*pair, limit=limit), explainer=explainer, count=ask.options.gallery)

    @property
    def method(self) -> Method:
        return describe(self.explainer)

    def details(self) -> dict[str, Any]:
        return {"attacks": [identity(describe(each)) for each in (*self.attacks, self.deception)], "count": self.count}

    @property
    def attacks(self) -> tuple[Attack, Attack]:
        return RandomNoise(eps=self.eps), PGD(eps=self.eps)

    @property
    def deception(self) -> Deception:
        return Deception(eps=self.eps)

    def measure(self, setup: Setup) -> Measured:
        rows: list[Row] = []
        art: dict[str, list[Tensor]] = {}
        ids: list[str] = []
        labels: list[int] = []
        model = self.subject(setup)
        for batch in self.batches(setup):
            with meter(model, len(batch.ids), setup.device) as cost:
                shift = self._shift(model, batch)
            for name, value in shift.values.items():
                flags = "no-derivative" if "deceived" in name and value.isnan().all() else ""
                rows += self.per_image(batch.ids, batch.labels, {name: value}, cost, [flags] * len(batch.ids))
            places = shift.fooled.nonzero().flatten()[: self.count - len(ids)]
            for name, pictures in shift.pictures.items() if len(places) else ():
                art.setdefault(name, []).append(pictures[places])
            ids += [batch.ids[i] for i in places]
            labels += batch.labels[places].tolist()
        if not ids:
            return Measured(rows)
        whole = {name: torch.cat(parts) for name, parts in art.items()}
        arrays = {name: to_bytes(x) if x.ndim == 4 else floats(x) for name, x in whole.items()}
        meta = {"images": ids, "labels": labels, "classes": list(model.classes), "eps": self.eps}
        return Measured(rows, {"moved.npz": arrays, "meta.json": meta})

    def _shift(self, model: nn.Module, batch: Batch) -> Shift:
        """The attacks draw from their own streams, so that all explainers see the same images."""
        images, target = batch.images, Logit(batch.labels)
        clean = self.explainer(model, images, target, self.draws(batch.ids))
        # noise and class attack
        streams = [draws_for(self.seed, self.model_digest, repr(attack), batch.ids) for attack in self.attacks]
        noise, pgd = (a(model, images, batch.labels, s) for a, s in zip(self.attacks, streams, strict=True))
        with torch.no_grad():
            before, after = (predicted(model(x)) for x in (images, pgd))
        noise_heat, pgd_heat = (self.explainer(model, x, target, self.draws(batch.ids)) for x in (noise, pgd))
        # attack on map
        deception = self.deception(self.explainer, model, images, target, self.draws(batch.ids))
        fooled = (before == batch.labels) & (after != batch.labels)
        unknown = torch.full((len(images),), torch.nan)
        values = {
            "map_similarity_noise": rank_correlation(clean, noise_heat),
            "map_similarity_fooled": rank_correlation(clean, pgd_heat).where(fooled, torch.nan),
            "map_similarity_deceived": rank_correlation(clean, deception.heat) if deception.derivable else unknown,
            "corner_mass_clean": heat_share(clean, deception.corner),
            "corner_mass_deceived": heat_share(deception.heat, deception.corner) if deception.derivable else unknown,
        }
        pictures = {
            "images": images, "fooled": pgd, "deceived": deception.images,
            "clean_heat": clean, "noise_heat": noise_heat, "fooled_heat": pgd_heat, "deceived_heat": deception.heat,
        }  # fmt: skip
        return Shift(pictures, values, fooled)


CELL = MapShiftCell
