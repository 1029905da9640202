"""Cells of attacks: an attack with its goal, judged image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from assay.attacks import Targeted, evaluate
from assay.attacks.base import Attack
from assay.attacks.goals import Goal
from assay.attacks.judge import NORMS, AttackLike, Outcome, budget
from assay.attacks.metrics import RATES
from assay.attacks.universal import Universal
from assay.bench.cells import Cell, Measured, Row, Setup, dataset, decoded, draws_for
from assay.bench.data import load as load_data
from assay.bench.goals import attack_text, goal_for
from assay.core.borrow import counting, now
from assay.core.draws import Draws
from assay.core.errors import NotApplicable

QUERIES = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)  # at which the smallest distance so far is told


class Pool(NamedTuple):
    """Images that are not measured, which universal attacks learn from: ``images`` of ``spec`` after ``skip``."""

    spec: str
    skip: int
    images: int
    digest: str


def pool(spec: str, limit: int, count: int) -> Pool | None:
    """Up to ``count`` images beside the first ``limit`` of ``spec``: of another split, else those that follow.

    None where there are none.
    """
    data = load_data(spec)
    other = data.others(count)
    data, skip = (data, limit) if other is None else (load_data(other), 0)
    if len(data) <= skip:
        return None
    chosen = data.take(count, skip)
    return Pool(chosen.spec, skip, len(chosen), chosen.digest)


@dataclass(frozen=True, eq=False)
class Crafted:
    """What a universal attack has made, as an attack that the judge can judge."""

    attack: Universal
    made: Tensor
    norm: str
    eps: float

    def __call__(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor:
        return self.attack.apply(images, self.made, draws)


class Ready(NamedTuple):
    """An attack that takes any batch, and what it cost to make it so."""

    attack: AttackLike
    forwards: float = 0.0
    backwards: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AttackingCell(Cell):
    """What cells with an attack share. ``pool`` is for universal attacks."""

    attack: Attack
    goal: str | int = "untargeted"
    pool: Pool | None = None

    def details(self) -> dict[str, Any]:
        return {"pool": self.pool} if self.attack.universal else {}

    @property
    def text(self) -> str:
        """The attack as it stands in the rows of its own cell, which its random streams hang on."""
        return attack_text(self.attack, self.goal)

    def ready(self, setup: Setup) -> Ready:
        """The attack; a universal one crafts first, on all of its pool at once, whatever the batch size."""
        if not self.attack.universal:
            return Ready(self.attack)
        model, attack = self.subject(setup), cast(Universal, self.attack)
        source = self.pool and dataset(self.pool.spec, self.pool.images, model, self.pool.skip)
        examples = list(decoded(source)) if source else []
        if not examples:
            raise NotApplicable(f"{self.data} has no images beside the {self.limit} measured to craft on; lower limit")
        ids = [example.id for example in examples]
        images = torch.stack([example.image for example in examples]).to(setup.device)
        labels = torch.tensor([example.label for example in examples], device=setup.device)
        start = now(images.device)
        with counting(model) as passes:
            made = attack.craft(model, images, self.wanted(labels, ids, len(model.classes)), self.streams(ids))
        return Ready(
            Crafted(attack, made, *budget(attack)),
            forwards=float(passes.forwards),
            backwards=float(passes.backwards),
            seconds=now(images.device) - start,
        )

    def wanted(self, labels: Tensor, ids: Sequence[str], classes: int) -> Goal:
        """The goal for a batch."""
        return goal_for(self.goal, labels, ids, classes, self.seed)

    def streams(self, ids: Sequence[str]) -> Draws:
        """The random streams of the attack's own cell, so that every cell that runs the attack sees the same images."""
        return draws_for(self.seed, self.model_digest, self.text, ids)


@dataclass(frozen=True, kw_only=True)
class AttackCell(AttackingCell):
    """An attack with its goal, judged image by image."""

    kind = "attack"

    @property
    def method(self) -> str:
        return self.text

    def measure(self, setup: Setup) -> Measured:
        rows: list[Row] = []
        images = 0
        model, ready = self.subject(setup), self.ready(setup)
        for batch in self.batches(setup):
            goal = self.wanted(batch.labels, batch.ids, len(model.classes))
            outcome = evaluate(ready.attack, model, batch.images, goal, self.streams(batch.ids))
            values = {**_values(outcome, batch.labels), **_queried(self.attack, outcome, batch.labels)}
            images += len(batch.ids)
            for i, image in enumerate(batch.ids):
                facts = {
                    "image": image,
                    "label": int(batch.labels[i]),
                    "forwards": outcome.forwards,
                    "backwards": outcome.backwards,
                    "seconds": outcome.seconds,
                    "flags": ";".join(outcome.flags[i]),
                }
                broken = "non-finite-logits" in outcome.flags[i]
                facts["status"] = "failed" if broken else "ok"
                rows += [self.row(name, None if broken else v[i].item(), **facts) for name, v in values.items()]
        for row in rows:
            for cost in ("forwards", "backwards", "seconds"):
                row[cost] += getattr(ready, cost) / images
        return Measured(rows, {})


def _values(outcome: Outcome, labels: Tensor) -> dict[str, Tensor]:
    """Metrics per image, by the judge's verdict: what it did not accept leaves the prediction as it was."""
    clean = outcome.clean_logits.argmax(1)
    attacked = outcome.logits.argmax(1).where(outcome.valid, clean)
    values = {name: rate.of(clean, attacked, labels) for name, rate in RATES.items() if name != "targeted_rate"}
    started = _started(outcome, labels)
    if isinstance(outcome.goal, Targeted):
        values["targeted_rate"] = RATES["targeted_rate"].of(clean, attacked, outcome.goal.classes)
    values["success_8bit"] = outcome.success_8bit.float().where(started, torch.nan)
    values["confidence"] = outcome.logits.softmax(1).amax(1)
    for norm in NORMS:
        values[f"distance_{norm}"] = outcome.distances[norm].where(outcome.success & started, torch.nan)
    values["ssim"] = outcome.ssim.where(outcome.success & started, torch.nan)
    return values


def _queried(attack: Attack, outcome: Outcome, labels: Tensor) -> dict[str, Tensor]:
    """What is told of black box attacks: the queries of images that were fooled, and how near they came by then."""
    started = _started(outcome, labels)
    values = {}
    if outcome.queries is not None:
        values["queries"] = outcome.queries.float().where(outcome.success & started, torch.nan)
    if outcome.history:
        queries, sizes = (torch.stack(part) for part in zip(*outcome.history, strict=True))
        for most in QUERIES:
            if most <= getattr(attack, "queries", QUERIES[-1]):
                nearest = sizes.where(queries <= most, torch.inf).amin(0)
                values[f"distance_at_{most}"] = nearest.where(nearest.isfinite() & started, torch.nan)
    return values


def _started(outcome: Outcome, labels: Tensor) -> Tensor:
    """Which images had not reached the goal before; for an untargeted one, which the model had right."""
    clean = outcome.clean_logits.argmax(1)
    return clean != outcome.goal.classes if isinstance(outcome.goal, Targeted) else clean == labels
