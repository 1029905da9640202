"""Methods as a run stores them, and attacks with goals as they are typed."""

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import Tensor

from assay.attacks import ATTACKS, LeastLikely, Targeted, Untargeted
from assay.attacks.base import Attack
from assay.attacks.goals import Goal
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.tables import Table, build, parse_call, takes, variants
from assay.explain import DECEPTIONS, EXPLAINERS
from assay.explain.metrics import METRICS, Metric
from assay.reports.run.records import Method
from assay.reports.run.records import Metric as Numbers
from assay.synthesis import SYNTHESES

TABLES: tuple[Table, ...] = (ATTACKS, EXPLAINERS, METRICS, SYNTHESES, DECEPTIONS)
WORDS = ("untargeted", "least_likely", "random")


class Aim(NamedTuple):
    """An attack and its goal: one of ``WORDS`` or a class index."""

    attack: Attack
    goal: str | int = "untargeted"

    @property
    def text(self) -> str:
        """The attack as it stands in tables; its random streams hang on it."""
        return repr(self.attack) + ("" if self.goal == "untargeted" else f" goal={str(self.goal).replace('_', '-')}")

    @property
    def method(self) -> Method:
        """The attack and its goal as a run stores them."""
        goal = "" if self.goal == "untargeted" else str(self.goal).replace("_", "-")
        return describe(self.attack, text=self.text, goal=goal)

    def check(self, classes: int, model: str) -> None:
        """Raise ``AssayError`` for a class that the model does not have."""
        if isinstance(self.goal, int) and self.goal >= classes:
            raise AssayError(f"goal={self.goal}: {model} has classes 0 to {classes - 1}")
        if self.goal == "random" and classes < 2:
            raise AssayError(f"goal=random: {model} has only one class")

    def goals(self, labels: Tensor, ids: Sequence[str], classes: int, seed: int) -> Goal:
        """The goal for a batch; a random target is any class but the label, drawn per image."""
        if self.goal == "untargeted":
            return Untargeted(labels)
        if self.goal == "least_likely":
            return LeastLikely()
        if self.goal == "random":
            offset = Draws.hashed(f"target|{seed}", ids).integers(classes - 1).to(labels)
            return Targeted((labels + 1 + offset) % classes)
        return Targeted(torch.full_like(labels, int(self.goal)))


def parse_attack(text: str) -> Aim:
    """An attack and its goal, as in ``fgsm(eps=8/255, goal=least_likely)``."""
    aims = parse_attacks(text)
    if len(aims) > 1:
        raise AssayError(f"{text!r} is {len(aims)} attacks; write one")
    return aims[0]


def parse_attacks(text: str, eps: Sequence[float] = (), norms: Sequence[str] = ()) -> list[Aim]:
    """As ``parse_attack``, but a list where a setting takes one value stands for as many attacks.

    ``eps`` and ``norms`` are such lists for attacks that have the setting and whose text does not give it; an attack
    leaves out norms that it does not know, and keeps its own where it knows none of them.
    """
    name, settings = parse_call(text)
    cls = ATTACKS[name]
    goal = settings.pop("goal", "untargeted")
    lists = {"norm": tuple(norm for norm in norms if takes(cls, "norm", norm)), "eps": tuple(eps)}
    settings |= {
        key: values for key, values in lists.items() if values and key not in settings and takes(cls, key, values[0])
    }
    goals = [_goal(each) for each in (goal if isinstance(goal, tuple) and goal else (goal,))]
    return [Aim(build(cls, each), goal) for each in variants(cls, settings) for goal in goals]


def _goal(goal: Any) -> str | int:
    goal = goal.replace("-", "_") if isinstance(goal, str) else goal
    index = isinstance(goal, int) and not isinstance(goal, bool) and goal >= 0
    if not index and goal not in WORDS:
        raise AssayError(f"goal={goal!r} is not {', '.join(WORDS)} or a class index")
    return goal  # type: ignore[no-any-return]


def describe(record: Any, *, text: str = "", goal: str = "") -> Method:
    """A record of settings as a run stores it. A budget without a norm is one in Linf."""
    cls = type(record)
    settings = {field.name: _plain(getattr(record, field.name)) for field in fields(record)}
    eps = settings.get("eps") if isinstance(record, Attack) else None
    return Method(
        text=text or repr(record),
        class_name=cls.__name__,
        name=next((name for table in TABLES if (name := table.name_of(record)) != cls.__name__), cls.__name__),
        settings=settings,
        goal=goal,
        norm=str(getattr(record, "norm", "" if eps is None else "linf")) if isinstance(record, Attack) else "",
        eps=eps,
        access=getattr(record, "access", ""),
        single=getattr(record, "single", False),
        universal=getattr(record, "universal", False),
        control=getattr(record, "control", False),
        version=cls.version,
        about=(inspect.getdoc(cls) or "").split("\n\n")[0].replace("\n", " ").replace("``", ""),
    )


def identity(method: Method) -> list[Any]:
    """What a cell's id holds of a method: another release does not change it, other results do."""
    return [method.class_name or method.text, method.settings, method.goal, method.version]


def metric_name(metric: Metric) -> str:
    """The table's name, with the settings that are not the defaults."""
    record: Any = metric
    default = type(record)()
    changes = [f.name for f in fields(record) if f.repr and getattr(record, f.name) != getattr(default, f.name)]
    settings = ", ".join(f"{name}={getattr(record, name)!r}" for name in changes)
    return METRICS.name_of(metric) + (f"({settings})" if settings else "")


def describe_metric(metric: Metric) -> Numbers:
    """What the numbers of a score of heatmaps are."""
    return Numbers(
        direction=metric.direction,
        unit=metric.unit,
        statistic=metric.statistic,
        interval=metric.interval,
        meaning=metric.meaning,
        gate=metric.gate,
    )


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
