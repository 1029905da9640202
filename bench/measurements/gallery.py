"""Pictures for the report: images before and after an attack, with heatmaps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from assay.attacks import evaluate
from assay.attacks.judge import Outcome
from assay.bench.measurements.ask import Ask
from assay.bench.measurements.attack import AimedCell
from assay.bench.measurements.base import Batch, Measured, Setup, floats, to_bytes
from assay.bench.method_records import describe, identity
from assay.bench.models import Subject
from assay.core.errors import AssayError
from assay.core.targets import Logit
from assay.explain.base import Explainer
from assay.reports.run.records import Method


@dataclass(frozen=True, kw_only=True)
class GalleryCell(AimedCell):
    """The first images the model has right, attacked by the first attack and explained by all explainers."""

    kind = "gallery"

    explainers: tuple[Explainer, ...]
    count: int

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        aims = [aim for aim in ask.aims if not aim.attack.universal and not aim.attack.from_nothing]
        if aims and ask.options.gallery:
            for common in cls.aims(ask, aims[:1]):
                yield cls(**common, explainers=ask.explainers, count=ask.options.gallery)

    @property
    def method(self) -> Method:
        settings = {"images": self.count, "attack": self.aim.text}
        return Method(text=f"gallery of {self.count}: {self.aim.text}", settings=settings)

    def details(self) -> dict[str, Any]:
        explainers = [identity(describe(explainer)) for explainer in self.explainers]
        return {"attack": identity(self.aim.method), "explainers": explainers}

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        batch = self.first_right(model, setup, self.count)
        goal = self.goal(model, batch)
        outcome = evaluate(self.aim.attack, model, batch.images, goal, self.streams(batch.ids))
        clean, attack = outcome.clean_logits.softmax(1), outcome.logits.softmax(1)
        pairs = self._heatmaps(model, batch, outcome)
        empty = torch.zeros(0, len(batch.ids), *batch.images.shape[-2:])
        stacks = [torch.stack(maps) for maps in zip(*pairs.values(), strict=True)] or [empty, empty]
        arrays = {
            "images": to_bytes(batch.images),
            "adversarial": to_bytes(outcome.adversarial),
            "clean_heat": floats(stacks[0]),
            "adversarial_heat": floats(stacks[1]),
        }
        meta = {
            "images": batch.ids,
            "labels": batch.labels.tolist(),
            "predicted": clean.argmax(1).tolist(),
            "predicted_adversarial": attack.argmax(1).tolist(),
            "confidence": clean.amax(1).tolist(),
            "confidence_adversarial": attack.amax(1).tolist(),
            "classes": list(model.classes),
            "attack": self.aim.text,
            "explainers": list(pairs),
        }
        rows = [self.row("shown", 1.0, image=image) for image in batch.ids]
        return Measured(rows, {"gallery.npz": arrays, "meta.json": meta})

    def _heatmaps(self, model: Subject, batch: Batch, outcome: Outcome) -> dict[str, tuple[Tensor, Tensor]]:
        """Of the clean images and of the attacked ones, by explainer; without those that do not apply here."""
        pairs = {}
        for explainer in self.explainers:
            try:
                clean = explainer(model, batch.images, Logit(batch.labels), self.draws(batch.ids))
                classes = outcome.logits.argmax(1)
                attack = explainer(model, outcome.adversarial, Logit(classes), self.draws(batch.ids))
            except AssayError:  # this method's own cell says why
                continue
            pairs[repr(explainer)] = clean, attack
        return pairs


CELL = GalleryCell
