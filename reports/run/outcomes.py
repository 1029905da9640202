"""What is known of each attack, and what it did to each image."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from assay.reports.run import labels as names
from assay.reports.run.reader import Run

WORST = "worst case"
OUTCOMES = ["model", "data", "method", "image", "started", "fooled", "distance", "queries"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """An attack as ``run.json`` describes it; for runs that do not, as far as its repr tells."""

    name: str
    access: str  # gradient, score, decision or none
    single: bool
    universal: bool
    norm: str  # "" for an attack that is not measured in one
    eps: float | None  # None without a budget
    goal: str  # "" for any wrong class
    settings: str  # all but the radius and the goal, as JSON

    @property
    def bounded(self) -> bool:
        """Whether it changes an image within a ball."""
        return self.eps is not None and self.norm != ""

    @property
    def minimal(self) -> bool:
        """Whether it looks for the smallest change that makes the image any wrong class."""
        return self.eps is None and self.norm != "" and not self.goal


def facts(run: Run, method: str) -> Facts:
    """The facts of one attack."""
    parsed = names.read(method)
    known = (run.info.get("attacks") or {}).get(method)
    if known is None:
        return Facts(
            name=parsed.name,
            access="none" if parsed.name == "RandomNoise" else "gradient",
            single=parsed.name == "FGSM",
            universal=parsed.name == "UniversalPerturbation",
            norm=str(parsed.settings.get("norm", _NORMS.get(parsed.name, "" if parsed.eps is None else "linf"))),
            eps=parsed.eps,
            goal=parsed.goal,
            settings=_text(parsed.settings),
        )
    eps, goal = known.get("eps"), str(known.get("goal") or "untargeted").replace("_", "-")
    return Facts(
        name=str(known.get("name") or parsed.name),
        access=str(known.get("access") or "gradient"),
        single=bool(known.get("single")),
        universal=bool(known.get("universal")),
        norm=str(known.get("norm") or ""),
        eps=None if eps is None else float(eps),
        goal="" if goal == "untargeted" else goal,
        settings=_text(known.get("settings") or {}),
    )


def all_facts(run: Run, methods: Iterable[str]) -> dict[str, Facts]:
    """The facts of each attack once, by name."""
    return {method: facts(run, method) for method in sorted(set(methods))}


def outcomes(run: Run) -> pd.DataFrame:
    """One row per model, data set, attack and image, with the columns ``OUTCOMES``.

    ``started``: the attack had something to do (the image was right, or not yet of the wanted class). ``fooled``: its
    goal is reached. ``distance`` is in the attack's norm: 0 where it had nothing to do, infinite where it failed.
    ``queries`` is NaN where they were not counted or were in vain.
    """
    rows = run.rows[run.rows["kind"] == "attack"]
    keys = ["model", "data", "method", "image"]
    wide = rows.drop_duplicates([*keys, "metric"]).set_index([*keys, "metric"])["value"].unstack().reset_index()
    known = all_facts(run, wide["method"])

    def column(name: str) -> "pd.Series[float]":
        return wide[name] if name in wide else pd.Series(np.nan, wide.index, dtype="float64")

    aimed = wide["method"].map({method: bool(found.goal) for method, found in known.items()}).astype(bool)
    success = column("targeted_rate").where(aimed, column("fooling_rate"))
    norms = wide["method"].map({method: found.norm for method, found in known.items()})
    distance = pd.Series(np.nan, wide.index, dtype="float64")
    for norm in names.NORMS:
        distance = distance.where(norms != norm, column(f"distance_{norm}"))
    started, fooled = success.notna(), success == 1
    found = wide[keys].assign(started=started, fooled=fooled, queries=column("queries"))
    found["distance"] = distance.where(fooled).fillna(np.inf).where(started, 0.0)
    return found[OUTCOMES]


_NORMS = {"DeepFool": "l2"}  # of attacks without a budget in runs that describe none


def _text(settings: dict[str, object]) -> str:
    kept = {key: value for key, value in settings.items() if key not in ("eps", "goal")}
    return json.dumps(kept, sort_keys=True, default=str)
