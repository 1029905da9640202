"""The wolf in the snow: which methods show that a model looks at the planted background, and not at the object?"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import pandas as pd
import torch
from torch import Tensor

from assay.bench.loading import planned_subject
from assay.bench.measurements.ask import Ask, Judge, ModelFacts, RunOptions, option
from assay.bench.measurements.base import Batch, Cell, Measured, Row, Setup, draws_for, meter
from assay.bench.method_records import describe
from assay.bench.models import Subject
from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Logit
from assay.explain.base import Explainer
from assay.explain.metrics.localisation import mass_share
from assay.explain.metrics.parts import shortcut_effect
from assay.reports.kinds.shortcut import SHARE, detection
from assay.reports.run.records import Method

TRUTH = "redrawing"  # the method of the rows that hold the true effect


@dataclass(frozen=True, kw_only=True)
class ShortcutOptions:
    """Of a model that may have learned a shortcut."""

    shortcut_pair: tuple[str, ...] = option(
        (),
        "Two models: one that may have learned a shortcut, and its sound twin. Do the explainers show it?",
        beside=("data", "models"),
        old="twins",
    )


@dataclass(frozen=True, kw_only=True)
class ShortcutCell(Cell):
    """The share of a method's positive heat that lies on the shortcut, for the model and for its sound twin.

    A row names the twin that it is of as its model. Without an explainer the share is the true one: that of the
    shortcut in what re-drawing it and the parts costs the label's logit.
    """

    kind = "shortcut"
    options = ShortcutOptions

    sound: Judge  # the twin that was trained without the shortcut
    explainer: Explainer | None

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        """On the first data whose shortcut agrees with the label."""
        pair = ask.of(ShortcutOptions).shortcut_pair
        if not pair:
            return
        if len(set(pair)) != 2 or len(pair) != 2:
            raise AssayError(f"shortcut_pair is two models, the suspect and the sound one, not {' '.join(pair)}")
        suspect, sound = pair
        agreeing = [spec for spec, data in ask.data.items() if getattr(data, "shortcut", "none") == "agrees"]
        if not agreeing:
            raise AssayError(
                "shortcut_pair needs data that show the shortcut, as in --accuracy-data 'scenes?shortcut=agrees'"
            )
        judge = (sound, ModelFacts.of(sound).digest)
        for explainer in (None, *ask.explainers):
            yield cls(**ask.common(suspect, agreeing[0]), sound=judge, explainer=explainer)

    @property
    def method(self) -> Method:
        return Method(text=TRUTH) if self.explainer is None else describe(self.explainer)

    def details(self) -> dict[str, Any]:
        return {"sound": self.sound}

    def measure(self, setup: Setup) -> Measured:
        needs = ("redrawn", "without", "shortcut") if self.explainer is None else ("shortcut",)
        batches = self.batches(setup, needs)
        return Measured([row for batch in batches for row in self._rows(batch, setup)])

    def _rows(self, batch: Batch, setup: Setup) -> Iterator[Row]:
        for spec, digest in ((self.model, self.model_digest), self.sound):
            model = planned_subject(spec, digest, setup.device)
            with meter(model, len(batch.ids), setup.device) as cost:
                shares = self._shares(model, batch, setup)
            yield from self.per_image(batch.ids, batch.labels, {SHARE: shares}, cost, model=spec)

    def _shares(self, model: Subject, batch: Batch, setup: Setup) -> Tensor:
        target = Logit(batch.labels)
        if self.explainer is None:
            redrawn, without = (_stack(batch, name) for name in ("redrawn", "without"))
            return shortcut_effect(model, batch.images, target, redrawn, without, setup.batch_size)
        draws = draws_for(self.seed, model.digest, self.method.text, batch.ids)
        heat = self.explainer(model, batch.images, target, draws)
        whole = heat.isfinite().flatten(1).all(1)
        return mass_share(heat, _stack(batch, "shortcut")).masked_fill(~whole, torch.nan)


def _stack(batch: Batch, name: str) -> Tensor:
    """One of the examples' pictures, on the images' device."""
    return torch.stack([getattr(example, name) for example in batch.examples]).to(batch.images.device)


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
    common = Ask(RunOptions(models=(suspect,), data=(data,), limit=limit, seed=seed)).common(suspect, data)
    judge = (sound, ModelFacts.of(sound).digest)
    rows: list[Row] = []
    for explainer in (None, *explainers):
        cell = ShortcutCell(**common, sound=judge, explainer=explainer)
        with suppress(NotApplicable):
            rows += [{**row, "method": cell.method.text} for row in cell.measure(setup or Setup()).rows]
    return detection(pd.DataFrame(rows), suspect, sound)


CELL = ShortcutCell
