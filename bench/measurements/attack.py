"""Attacks with their goals, judged image by image."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from assay.attacks import Targeted, evaluate
from assay.attacks.base import Attack
from assay.attacks.goals import Goal
from assay.attacks.judge import NORMS, AttackLike, Outcome, budget
from assay.attacks.rates import RATES
from assay.attacks.universal import Universal
from assay.bench.data import load as load_data
from assay.bench.loading import dataset, readable
from assay.bench.measurements.ask import Ask, option
from assay.bench.measurements.base import Batch, Cell, Cost, Measured, Row, Setup, draws_for, meter, predicted
from assay.bench.method_records import Aim
from assay.core.draws import Draws
from assay.core.errors import NotApplicable
from assay.reports.run.records import Method

QUERIES = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)  # at which the smallest distance so far is told


@dataclass(frozen=True, kw_only=True)
class AttackOptions:
    """Of attacks that make one perturbation for all images."""

    training_images: int = option(200, "Images beside those on which universal attacks learn.", least=1, old="craft")


class Pool(NamedTuple):
    """Images that are not measured, which universal attacks learn from: ``images`` of ``spec`` after ``skip``."""

    spec: str
    skip: int
    images: int
    digest: str

    @classmethod
    def of(cls, spec: str, limit: int, count: int) -> "Pool | None":
        """Up to ``count`` images beside the first ``limit`` of ``spec``: of another split, else those that follow.

        None where there are none.
        """
        data = load_data(spec)
        other = data.others(count)
        data, skip = (data, limit) if other is None else (load_data(other), 0)
        if len(data) <= skip:
            return None
        pool = data.take(count, skip)
        return cls(pool.spec, skip, len(pool), pool.digest)


@dataclass(frozen=True, eq=False)
class Perturbation:
    """What a universal attack has learned, as an attack that the judge can judge."""

    attack: Universal
    tensor: Tensor
    norm: str
    eps: float

    def __call__(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor:
        return self.attack.apply(images, self.tensor, draws)


class Ready(NamedTuple):
    """An attack that takes any batch, and what it cost to make it so."""

    attack: AttackLike
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class AimedCell(Cell):
    """What cells with an attack share. ``pool`` is for universal attacks."""

    aim: Aim
    pool: Pool | None = None

    @classmethod
    def aims(cls, ask: Ask, aims: Sequence[Aim]) -> Iterator[dict[str, Any]]:
        """What each cell of these attacks says of model, data, attack and pool."""
        count = ask.of(AttackOptions).training_images
        universal = any(aim.attack.universal for aim in aims)
        pools = {data: Pool.of(data, ask.options.limit, count) if universal else None for data in ask.options.data}
        for model, data in ask.pairs():
            for aim in aims:
                aim.check(len(ask.models[model].classes), model)
                yield {**ask.common(model, data), "aim": aim, "pool": pools[data] if aim.attack.universal else None}

    @property
    def method(self) -> Method:
        return self.aim.method

    def details(self) -> dict[str, Any]:
        return {"pool": self.pool} if self.aim.attack.universal else {}

    def ready(self, setup: Setup) -> Ready:
        """The attack; a universal one learns first, on all of its pool at once, whatever the batch size."""
        if not self.aim.attack.universal:
            return Ready(self.aim.attack, {})
        model, attack = self.subject(setup), cast(Universal, self.aim.attack)
        source = self.pool and dataset(self.pool.spec, self.pool.images, model, self.pool.skip)
        examples = list(readable(source)) if source else []
        if not examples:
            raise NotApplicable(
                f"{self.data} has no images to learn from beside the {self.limit} measured; lower limit"
            )
        batch = Batch.of(examples, setup.device)
        with meter(model, 1, setup.device) as cost:
            tensor = attack.craft(model, batch.images, self.goal(model, batch), self.streams(batch.ids))
        return Ready(Perturbation(attack, tensor, *budget(attack)), cost)

    def goal(self, model: Any, batch: Batch) -> Goal:
        """The goal for a batch."""
        return self.aim.goals(batch.labels, batch.ids, len(model.classes), self.seed)

    def streams(self, ids: Sequence[str]) -> Draws:
        """The random streams of the attack's own cell, so that every cell that runs the attack sees the same images."""
        return draws_for(self.seed, self.model_digest, self.aim.text, ids)

    def outcomes(self, setup: Setup) -> Iterator[tuple[Batch, Outcome, Cost]]:
        """Every batch judged, and what an image of it cost, its share of what it took to learn included."""
        model, ready = self.subject(setup), self.ready(setup)
        count = len(dataset(self.data, self.limit, model))
        for batch in self.batches(setup):
            outcome = evaluate(ready.attack, model, batch.images, self.goal(model, batch), self.streams(batch.ids))
            own = {"forwards": outcome.forwards, "backwards": outcome.backwards, "seconds": outcome.seconds}
            yield batch, outcome, {name: own[name] + ready.cost.get(name, 0.0) / count for name in own}


@dataclass(frozen=True, kw_only=True)
class AttackCell(AimedCell):
    """An attack with its goal, judged image by image."""

    kind = "attack"
    options = AttackOptions

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        aims = [aim for aim in ask.aims if not aim.attack.from_nothing]
        return (cls(**common) for common in cls.aims(ask, aims))

    def measure(self, setup: Setup) -> Measured:
        rows: list[Row] = []
        for batch, outcome, cost in self.outcomes(setup):
            values = {**_values(outcome, batch.labels), **_queries(self.aim.attack, outcome, batch.labels)}
            flags = [";".join(each) for each in outcome.flags]
            rows += self.per_image(batch.ids, batch.labels, values, cost, flags)
        return Measured(rows)


def _values(outcome: Outcome, labels: Tensor) -> dict[str, Tensor]:
    """Metrics per image, by the judge's verdict: an image that it did not accept leaves the prediction as it was.

    Where the model has no answer, it is wrong, and fooled under attack.
    """
    clean, adversarial = predictions(outcome.clean_logits, outcome.logits, outcome.valid)
    values = {name: rate(clean, adversarial, labels) for name, rate in RATES.items() if name != "targeted_rate"}
    open_ = _open(outcome, labels)
    if isinstance(outcome.goal, Targeted):
        values["targeted_rate"] = RATES["targeted_rate"](clean, adversarial, outcome.goal.classes)
    values["success_8bit"] = outcome.success_8bit.float().where(open_, torch.nan)
    values["confidence"] = outcome.logits.softmax(1).amax(1)
    for norm in NORMS:
        values[f"distance_{norm}"] = outcome.distances[norm].where(outcome.success & open_, torch.nan)
    values["ssim"] = outcome.ssim.where(outcome.success & open_, torch.nan)
    return values


def predictions(clean: Tensor, adversarial: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Classes (N,) before and after an attack by logits (N, K); as before where its image was not ``valid``."""
    before, after = predicted(clean), predicted(adversarial)
    return before, after.where(valid, before)


def _queries(attack: Attack, outcome: Outcome, labels: Tensor) -> dict[str, Tensor]:
    """What is told of black box attacks: the queries of images that were fooled, and how near they came by then."""
    open_ = _open(outcome, labels)
    values = {}
    if outcome.queries is not None:
        values["queries"] = outcome.queries.float().where(outcome.success & open_, torch.nan)
    if outcome.history:
        queries, sizes = (torch.stack(part) for part in zip(*outcome.history, strict=True))
        for most in QUERIES:
            if most <= getattr(attack, "queries", QUERIES[-1]):
                nearest = sizes.where(queries <= most, torch.inf).amin(0)
                values[f"distance_at_{most}"] = nearest.where(nearest.isfinite() & open_, torch.nan)
    return values


def _open(outcome: Outcome, labels: Tensor) -> Tensor:
    """Which images had not reached the goal before; for an untargeted one, which the model had right."""
    clean = predicted(outcome.clean_logits)
    return clean != outcome.goal.classes if isinstance(outcome.goal, Targeted) else clean == labels


CELL = AttackCell
