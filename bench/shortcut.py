"""The wolf in the snow: which methods show that a model looks at the planted background, and not at the object?"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from assay.bench.cells import Batch, Cell, Measured, Row, Setup, dataset, draws_for, planned, subject
from assay.bench.models import Subject
from assay.core.borrow import counting, now
from assay.core.errors import NotApplicable
from assay.core.targets import Logit
from assay.explain.base import Explainer
from assay.explain.metrics.localisation import mass_share
from assay.explain.metrics.parts import shortcut_effect
from assay.reports.kinds.shortcut import SHARE, detection

TRUTH = "redrawing"  # the method of the rows that hold the true effect


@dataclass(frozen=True, kw_only=True)
class ShortcutCell(Cell):
    """The share of a method's positive heat that lies on the shortcut, for the model and for its sound twin.

    A row names the twin that it is of as its model. Without an explainer the share is the true one: that of the
    shortcut in what re-drawing it and the parts costs the label's logit.
    """

    kind = "shortcut"
    sound: tuple[str, str]  # spec and digest of the twin that was trained without the shortcut
    explainer: Explainer | None

    @property
    def method(self) -> str:
        return TRUTH if self.explainer is None else repr(self.explainer)

    def details(self) -> dict[str, Any]:
        return {"sound": self.sound}

    def measure(self, setup: Setup) -> Measured:
        needs = ("redrawn", "without", "shortcut") if self.explainer is None else ("shortcut",)
        batches = self.batches(setup, needs)
        return Measured([row for batch in batches for row in self._rows(batch, setup)], {})

    def _rows(self, batch: Batch, setup: Setup) -> Iterator[Row]:
        for spec, digest in ((self.model, self.model_digest), self.sound):
            model = planned(spec, digest, setup)
            start = now(batch.images.device)
            with counting(model) as passes:
                shares = self._shares(model, batch, setup)
            n = len(batch.ids)
            cost = {"forwards": passes.forwards / n, "backwards": passes.backwards / n}
            cost["seconds"] = (now(batch.images.device) - start) / n
            for image, label, share in zip(batch.ids, batch.labels.tolist(), shares.tolist(), strict=True):
                yield self.row(SHARE, share, model=spec, image=image, label=label, **cost)

    def _shares(self, model: Subject, batch: Batch, setup: Setup) -> Tensor:
        target = Logit(batch.labels)
        if self.explainer is None:
            redrawn, without = (_stacked(batch, name) for name in ("redrawn", "without"))
            return shortcut_effect(model, batch.images, target, redrawn, without, setup.batch_size)
        draws = draws_for(self.seed, model.digest, self.method, batch.ids)
        heat = self.explainer(model, batch.images, target, draws)
        whole = heat.isfinite().flatten(1).all(1)
        return mass_share(heat, _stacked(batch, "shortcut")).masked_fill(~whole, torch.nan)


def _stacked(batch: Batch, name: str) -> Tensor:
    """One of the examples' pictures, on the images' device."""
    return torch.stack([getattr(example, name) for example in batch.examples]).to(batch.images.device)


def shortcut_cells(
    explainers: Sequence[Explainer], suspect: str, sound: str, data: str, limit: int, seed: int
) -> list[ShortcutCell]:
    """The cells of the experiment: the true effect, then each explainer."""
    model, twin = (subject(spec, "cpu") for spec in (suspect, sound))
    return [
        ShortcutCell(
            model=suspect,
            model_digest=model.digest,
            data=data,
            data_digest=dataset(data, limit, model).digest,
            limit=limit,
            seed=seed,
            fit=model.fit,
            sound=(sound, twin.digest),
            explainer=explainer,
        )
        for explainer in (None, *explainers)
    ]


def shortcut_detection(
    explainers: Sequence[Explainer],
    *,
    suspect: str = "zoo:repvgg-shortcut",
    sound: str = "zoo:repvgg",
    data: str = "scenes?shortcut=agrees",
    limit: int = 100,
    seed: int = 0,
    setup: Setup | None = None,
) -> pd.DataFrame:
    """``assay.reports.kinds.shortcut.detection`` of these explainers and of the true effect, measured here and now.

    Both models see the same ``limit`` images, in which the background agrees with the label as it did in the suspect's
    training. A method that is not applicable to the models has no row.
    """
    rows: list[Row] = []
    for cell in shortcut_cells(explainers, suspect, sound, data, limit, seed):
        with suppress(NotApplicable):
            rows += cell.measure(setup or Setup()).rows
    return detection(pd.DataFrame(rows), suspect, sound)
