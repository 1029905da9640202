"""What each attack did to each image, and what survives it."""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pandas as pd

from assay.reports.run import labels
from assay.reports.run.attack_coverage import KINDS
from assay.reports.run.reader import Run, where
from assay.reports.run.records import Method

WORST = "worst case"
OUTCOMES = ["model", "data", "method", "image", "started", "fooled", "distance", "queries"]


@lru_cache(maxsize=1)
def outcomes(run: Run) -> pd.DataFrame:
    """One row per model, data set, attack and image, with the columns ``OUTCOMES``.

    ``started``: the attack had something to do (the image was right, or not yet of the wanted class). ``fooled``: its
    goal is reached. ``distance`` is in the attack's norm: 0 where it had nothing to do, infinite where it failed.
    ``queries`` is NaN where they were not counted or were in vain. Where a model had no answer and no distance was
    stored, the image is lost at any radius.
    """
    rows = run.select("attack")
    keys = ["model", "data", "method", "image"]
    wide = rows.drop_duplicates([*keys, "metric"]).set_index([*keys, "metric"])["value"].unstack().reset_index()
    methods = run.methods(wide["method"])

    def column(name: str) -> "pd.Series[float]":
        return wide[name] if name in wide else pd.Series(np.nan, wide.index, dtype="float64")

    aimed = wide["method"].map({text: bool(method.goal) for text, method in methods.items()}).astype(bool)
    success = column("targeted_rate").where(aimed, column("fooling_rate"))
    norms = wide["method"].map({text: method.norm for text, method in methods.items()})
    distance = pd.Series(np.nan, wide.index, dtype="float64")
    for norm in labels.NORMS:
        distance = distance.where(norms != norm, column(f"distance_{norm}"))
    started, fooled = success.notna(), success == 1
    table = wide[keys].assign(started=started, fooled=fooled, queries=column("queries"))
    table["distance"] = distance.where(fooled, np.inf).fillna(0.0).where(started, 0.0)
    return table[OUTCOMES]


def in_balls(methods: Mapping[str, Method]) -> dict[str, Method]:
    """The untargeted attacks with a budget."""
    return {text: method for text, method in methods.items() if method.bounded and method.eps and not method.goal}


@lru_cache(maxsize=4)
def survivors(run: Run, data: str) -> pd.DataFrame:
    """``robust_accuracy`` as ``value`` under untargeted attacks in a ball: ``model, method, image, norm, eps, family``.

    Every image that the run asked models about has a row; one without a value is lost.
    """
    rows = run.select("attack", "robust_accuracy", data=data)
    methods = in_balls(run.methods(rows["method"]))
    rows = rows.loc[rows["method"].isin(list(methods)), ["model", "method", "image", "value"]]
    frames = [where(frame, data=data) for frame in (run.rows, run.failures)]
    asked = pd.concat([frame.loc[frame["kind"].isin(KINDS) & (frame["image"] != ""), ["image"]] for frame in frames])
    whole = rows[["model", "method"]].drop_duplicates().merge(asked.drop_duplicates().sort_values("image"), "cross")
    rows = whole.merge(rows, "left").fillna({"value": 0.0})
    return rows.assign(
        norm=rows["method"].map({text: method.norm for text, method in methods.items()}),
        eps=rows["method"].map({text: method.eps for text, method in methods.items()}).astype("float64"),
        family=rows["method"].map({text: labels.family(method).text for text, method in methods.items()}),
    )
