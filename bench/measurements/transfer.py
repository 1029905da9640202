"""Transfer: what fools one model, shown to the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from assay.attacks import ATTACKS, Targeted
from assay.attacks.judge import Outcome
from assay.attacks.rates import fooling_rate, robust_accuracy, targeted_rate
from assay.bench.loading import planned_subject
from assay.bench.measurements.ask import Ask, Judge, option
from assay.bench.measurements.attack import AimedCell, predictions
from assay.bench.measurements.base import Batch, Measured, Row, Setup, finite_flags
from assay.core.errors import AssayError


@dataclass(frozen=True, kw_only=True)
class TransferOptions:
    """Of images that fool one model and are shown to others."""

    transfer: tuple[str, ...] = option(
        (), "Attacks whose images of one model every other model is shown.", table=ATTACKS
    )


@dataclass(frozen=True, kw_only=True)
class TransferCell(AimedCell):
    """Adversarial images of one model, judged by every model that takes them; a row names the victim as its model.

    The source is among the victims: that is the attack's own fooling rate.
    """

    kind = "transfer"
    options = TransferOptions

    victims: tuple[Judge, ...]

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        aims = ask.attacks(ask.of(TransferOptions).transfer)
        for aim in aims:
            if aim.attack.from_nothing:
                raise AssayError(f"{aim.text} draws every class from nothing: it does not transfer")
        for common in cls.aims(ask, aims):
            model = common["model"]
            yield cls(**common, victims=((model, common["model_digest"]), *ask.peers(model)))

    def details(self) -> dict[str, Any]:
        return {**super().details(), "victims": self.victims}

    def measure(self, setup: Setup) -> Measured:
        rows: list[Row] = []
        for batch, outcome, cost in self.outcomes(setup):
            share = {name: value / len(self.victims) for name, value in cost.items()}
            for spec, digest in self.victims:
                clean, adversarial = self._logits(spec, digest, batch, outcome, setup)
                before, after = predictions(clean, adversarial, outcome.valid)
                values = {
                    "fooling_rate": fooling_rate(before, after, batch.labels),
                    "robust_accuracy": robust_accuracy(before, after, batch.labels),
                }
                if isinstance(outcome.goal, Targeted):
                    values["targeted_rate"] = targeted_rate(before, after, outcome.goal.classes)
                states = zip(finite_flags(clean, adversarial), outcome.valid.tolist(), outcome.flags, strict=True)
                flags = [bad or ("" if valid else ";".join(judged)) for bad, valid, judged in states]
                rows += self.per_image(batch.ids, batch.labels, values, share, flags, model=spec, source=self.model)
        return Measured(rows)

    @torch.no_grad()
    def _logits(self, spec: str, digest: str, batch: Batch, outcome: Outcome, setup: Setup) -> tuple[Tensor, Tensor]:
        """A victim's logits of the clean and of the adversarial images."""
        if spec == self.model:
            return outcome.clean_logits, outcome.logits
        victim = planned_subject(spec, digest, setup.device)
        return victim(batch.images), victim(outcome.adversarial)


CELL = TransferCell
