"""Attacks and goals as they are typed: ``fgsm(eps=8/255, goal=least_likely)``, ``pgd(eps=[1/255, 2/255])``."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from assay.attacks import ATTACKS, LeastLikely, Targeted, Untargeted
from assay.attacks.base import Attack
from assay.attacks.goals import Goal
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.tables import build, parse_call, takes, variants

WORDS = ("untargeted", "least_likely", "random")


def parse_attack(text: str) -> tuple[Any, str | int]:
    """An attack and its goal: one of ``WORDS`` or a class index."""
    found = parse_attacks(text)
    if len(found) > 1:
        raise AssayError(f"{text!r} is {len(found)} attacks; write one")
    return found[0]


def parse_attacks(text: str, eps: Sequence[float] = (), norms: Sequence[str] = ()) -> list[tuple[Any, str | int]]:
    """As ``parse_attack``, but a list where a setting takes one value stands for as many attacks.

    ``eps`` and ``norms`` are such lists for attacks that have the setting and whose text does not give it; an attack
    leaves out norms that it does not know, and keeps its own where it knows none of them.
    """
    name, settings = parse_call(text)
    cls = ATTACKS[name]
    goal = settings.pop("goal", "untargeted")
    swept = {"norm": tuple(norm for norm in norms if takes(cls, "norm", norm)), "eps": tuple(eps)}
    settings |= {
        key: values for key, values in swept.items() if values and key not in settings and takes(cls, key, values[0])
    }
    goals = [_goal(one) for one in (goal if isinstance(goal, tuple) and goal else (goal,))]
    return [(build(cls, one), goal) for one in variants(cls, settings) for goal in goals]


def _goal(goal: Any) -> str | int:
    goal = goal.replace("-", "_") if isinstance(goal, str) else goal
    index = isinstance(goal, int) and not isinstance(goal, bool) and goal >= 0
    if not index and goal not in WORDS:
        raise AssayError(f"goal={goal!r} is not {', '.join(WORDS)} or a class index")
    return goal  # type: ignore[no-any-return]


def attack_text(attack: Attack, goal: str | int) -> str:
    """The attack as it stands in the rows."""
    return repr(attack) + ("" if goal == "untargeted" else f" goal={str(goal).replace('_', '-')}")


def check_goal(goal: str | int, classes: int, model: str) -> None:
    """Raise ``AssayError`` for a class that the model does not have."""
    if isinstance(goal, int) and goal >= classes:
        raise AssayError(f"goal={goal}: {model} has classes 0 to {classes - 1}")
    if goal == "random" and classes < 2:
        raise AssayError(f"goal=random: {model} has only one class")


def goal_for(goal: str | int, labels: Tensor, ids: Sequence[str], classes: int, seed: int) -> Goal:
    """The goal for a batch; a random target is any class but the label, drawn per image."""
    if goal == "untargeted":
        return Untargeted(labels)
    if goal == "least_likely":
        return LeastLikely()
    if goal == "random":
        offset = Draws.hashed(f"target|{seed}", ids).integers(classes - 1).to(labels)
        return Targeted((labels + 1 + offset) % classes)
    return Targeted(torch.full_like(labels, int(goal)))
