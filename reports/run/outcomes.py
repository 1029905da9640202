"""What each attack did to each image, and what survives it."""

from functools import lru_cache

import numpy as np
import pandas as pd

from assay.reports.run import labels
from assay.reports.run.reader import Run

WORST = "worst case"
OUTCOMES = ["model", "data", "method", "image", "started", "fooled", "distance", "queries"]


@lru_cache(maxsize=1)
def outcomes(run: Run) -> pd.DataFrame:
    """One row per model, data set, attack and image, with the columns ``OUTCOMES``.

    ``started``: the attack had something to do (the image was right, or not yet of the wanted class). ``fooled``: its
    goal is reached. ``distance`` is in the attack's norm: 0 where it had nothing to do, infinite where it failed.
    ``queries`` is NaN where they were not counted or were in vain.
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
    table["distance"] = distance.where(fooled).fillna(np.inf).where(started, 0.0)
    return table[OUTCOMES]


def survivors(run: Run, data: str) -> pd.DataFrame:
    """Rows of ``robust_accuracy`` under untargeted attacks in a ball, with columns ``norm, eps, family``."""
    rows = run.select("attack", "robust_accuracy", data=data)
    methods = run.methods(rows["method"])
    methods = {text: method for text, method in methods.items() if method.bounded and method.eps and not method.goal}
    rows = rows[rows["method"].isin(list(methods)) & rows["value"].notna()]
    return rows.assign(
        norm=rows["method"].map({text: method.norm for text, method in methods.items()}),
        eps=rows["method"].map({text: method.eps for text, method in methods.items()}).astype("float64"),
        family=rows["method"].map({text: labels.family(method).text for text, method in methods.items()}),
    )
