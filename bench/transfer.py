"""Transfer: what fools one model, shown to the others."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from assay.attacks import Targeted, evaluate
from assay.attacks.judge import Outcome
from assay.attacks.metrics import fooling_rate, robust_accuracy, targeted_rate
from assay.bench.attacked import AttackingCell
from assay.bench.cells import Batch, Measured, Setup, finite, planned


@dataclass(frozen=True, kw_only=True)
class TransferCell(AttackingCell):
    """Adversarial images of one model, judged by every model that takes them; a row names the victim as its model.

    The source is among the victims: that is the attack's own fooling rate.
    """

    kind = "transfer"
    victims: tuple[tuple[str, str], ...]  # spec and digest

    @property
    def method(self) -> str:
        return f"{self.text} from {self.model}"

    def details(self) -> dict[str, Any]:
        return {**super().details(), "victims": self.victims}

    def measure(self, setup: Setup) -> Measured:
        rows = []
        model, ready, images = self.subject(setup), self.ready(setup), 0
        for batch in self.batches(setup):
            goal = self.wanted(batch.labels, batch.ids, len(model.classes))
            outcome = evaluate(ready.attack, model, batch.images, goal, self.streams(batch.ids))
            for spec, digest in self.victims:
                clean, attacked = self._said(spec, digest, batch, outcome, setup)
                before, after = clean.argmax(1), attacked.argmax(1).where(outcome.valid, clean.argmax(1))
                values = {
                    "fooling_rate": fooling_rate(before, after, batch.labels),
                    "robust_accuracy": robust_accuracy(before, after, batch.labels),
                }
                if isinstance(outcome.goal, Targeted):
                    values["targeted_rate"] = targeted_rate(before, after, outcome.goal.classes)
                for i, image in enumerate(batch.ids):
                    facts = {
                        "model": spec,
                        "image": image,
                        "label": int(batch.labels[i]),
                        "forwards": outcome.forwards / len(self.victims),
                        "backwards": outcome.backwards / len(self.victims),
                        "seconds": outcome.seconds / len(self.victims),
                        **finite(torch.cat([clean[i], attacked[i]])),
                    }
                    broken = facts["status"] == "failed"
                    if not broken and not outcome.valid[i]:
                        facts["flags"] = ";".join(outcome.flags[i])
                    rows += [self.row(name, None if broken else v[i].item(), **facts) for name, v in values.items()]
            images += len(batch.ids)
        for row in rows:
            for cost in ("forwards", "backwards", "seconds"):
                row[cost] += getattr(ready, cost) / max(images, 1) / len(self.victims)
        return Measured(rows, {})

    @torch.no_grad()
    def _said(self, spec: str, digest: str, batch: Batch, outcome: Outcome, setup: Setup) -> tuple[Tensor, Tensor]:
        """A victim's logits of the clean and of the adversarial images."""
        if spec == self.model:
            return outcome.clean_logits, outcome.logits
        victim = planned(spec, digest, setup)
        return victim(batch.images), victim(outcome.adversarial)
