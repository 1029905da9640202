"""The models side by side: what they know, what survives an attack, and whether they look at the object."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from assay.reports.run.outcomes import all_facts
from assay.reports.run.intervals import NOTHING, Estimate, wilson
from assay.reports.run.labels import NORMS, read
from assay.reports.run.places import Place, places
from assay.reports.run.reader import Run

QUALITY = ("mass-accuracy", "rank-accuracy", "pointing-game", "part-effect", "insertion", "deletion", "single-deletion")
COLUMNS = [
    *("data", "model", "clean_accuracy", "clean_low", "clean_high", "clean_n"),
    *("norm", "eps", "attacks", "robust_accuracy", "robust_low", "robust_high", "robust_n"),
    *("place_best", "place_worst"),
    *("quality_metric", "best_explainer", "quality", "quality_low", "quality_high", "best_control", "control_quality"),
]


class Budget(NamedTuple):
    """How far an attack may go, for images in [0, 1]."""

    norm: str
    eps: float


class Choice(NamedTuple):
    """The best of several methods."""

    method: str
    found: Estimate


NO_CHOICE = Choice("", NOTHING)


def survivors(run: Run, data: str) -> pd.DataFrame:
    """Rows of ``robust_accuracy`` under untargeted attacks in a ball, with columns ``norm, eps, family``."""
    rows = run.rows
    rows = rows[(rows["kind"] == "attack") & (rows["data"] == data) & (rows["metric"] == "robust_accuracy")]
    known = all_facts(run, rows["method"])
    known = {method: found for method, found in known.items() if found.bounded and found.eps and not found.goal}
    rows = rows[rows["method"].isin(list(known)) & rows["value"].notna()]
    return rows.assign(
        norm=rows["method"].map({method: found.norm for method, found in known.items()}),
        eps=rows["method"].map({method: found.eps for method, found in known.items()}).astype("float64"),
        family=rows["method"].map({method: read(method).family for method in known}),
    )


def worst_case(rows: pd.DataFrame) -> Estimate:
    """Mean over images of the minimum over attacks, from ``survivors`` of one model at one budget.

    An image that one of the attacks failed on is left out.
    """
    tried = rows.groupby("image")["value"]
    held = tried.min()[tried.count() == rows["method"].nunique()]
    return wilson(int(held.sum()), len(held))


def budget(rows: pd.DataFrame) -> Budget | None:
    """The one most models share: Linf before L2, L1, L0, then most attacks, then the largest radius."""
    shared = rows.groupby(["norm", "eps"]).agg(models=("model", "nunique"), attacks=("method", "nunique")).reset_index()
    if not len(shared):
        return None
    order = list(NORMS)

    def key(row: dict[Hashable, Any]) -> tuple[Any, ...]:
        place = order.index(row["norm"]) if row["norm"] in order else len(order)
        return row["models"], -place, row["attacks"], row["eps"]

    found = max(shared.to_dict("records"), key=key)
    return Budget(str(found["norm"]), float(found["eps"]))


def quality_metric(summary: pd.DataFrame, data: str) -> str:
    """The first of ``QUALITY`` that was measured on this data set."""
    known = set(
        summary.loc[(summary["kind"] == "explain") & (summary["data"] == data) & summary["value"].notna(), "metric"]
    )
    return min((name for name in known if worth(name)[0] < len(QUALITY)), key=worth, default="")


def worth(metric: str) -> tuple[int, str]:
    """A metric's place in ``QUALITY``, whatever its settings are; what is not there comes last, by name."""
    name = metric.partition("(")[0]
    return (QUALITY.index(name) if name in QUALITY else len(QUALITY), metric)


def best(summary: pd.DataFrame, control: bool) -> Choice:
    """The best explainer, or the best control, among the rows of one model and metric."""
    chosen = np.array([read(method).control == control for method in summary["method"]], dtype=bool)
    rows = summary[chosen].dropna(subset="value")
    if not len(rows):
        return NO_CHOICE
    sign = -1 if rows["direction"].iloc[0] == "lower" else 1
    first = rows.iloc[int(np.argmax(sign * rows["value"].to_numpy()))]
    return Choice(first["method"], estimate_of(first))


def estimate_of(row: "pd.Series[float]") -> Estimate:
    """A row of the summary as an estimate."""
    return Estimate(float(row["value"]), float(row["low"]), float(row["high"]), int(row["n"]))


def ranking(run: Run, summary: pd.DataFrame) -> pd.DataFrame:
    """One row per data set and model, the most robust first, then the most accurate; see ``places`` for ties.

    The robust accuracy is the worst case over untargeted attacks at ``budget``, and unknown for a model on which one
    of them is missing; the quality is that of the model's best explainer. Pictures made to look like a class
    (synthesis) play no part.
    """
    records = []
    for data in run.data:
        attacked = survivors(run, data)
        limit = budget(attacked)
        attacked = attacked[(attacked["norm"] == limit.norm) & (attacked["eps"] == limit.eps)] if limit else attacked
        metric = quality_metric(summary, data)
        here = summary[summary["data"] == data]
        place = places(_held(run, data, attacked))
        for model in run.models:
            mine = here[here["model"] == model]
            if len(mine):
                at = attacked[attacked["model"] == model]
                records.append(
                    (data, model, *_row(mine, at, attacked["method"].nunique(), limit, metric, place.get(model)))
                )
    table = pd.DataFrame(records, columns=COLUMNS)
    order = {name: i for i, name in enumerate(run.data)}
    table["order"] = [order[name] for name in table["data"]]
    table = table.sort_values(
        ["order", "robust_accuracy", "clean_accuracy", "model"], ascending=[True, False, False, True]
    )
    return table.drop(columns="order").reset_index(drop=True).astype({"place_best": "Int64", "place_worst": "Int64"})


def _held(run: Run, data: str, attacked: pd.DataFrame) -> pd.DataFrame:
    """Images by models: 1 where the image is right under every attack, or unattacked where nothing attacked."""
    rows = run.rows
    clean = rows[(rows["kind"] == "clean") & (rows["metric"] == "accuracy") & (rows["data"] == data)]
    tried = (attacked if len(attacked) else clean).groupby(["image", "model"])["value"]
    whole = tried.count() == (attacked["method"].nunique() or 1)
    return tried.min()[whole].unstack()


def _row(
    mine: pd.DataFrame, at: pd.DataFrame, attacks: int, limit: Budget | None, metric: str, place: Place | None
) -> tuple[object, ...]:
    clean = mine[(mine["kind"] == "clean") & (mine["metric"] == "accuracy")]
    right = estimate_of(clean.iloc[0]) if len(clean) else NOTHING
    scores = mine[(mine["kind"] == "explain") & (mine["metric"] == metric)]
    explainer, control = best(scores, control=False), best(scores, control=True)
    return (
        *right,
        *(limit or ("", np.nan)),
        at["method"].nunique(),
        *(worst_case(at) if at["method"].nunique() == attacks else NOTHING),
        *(place or (None, None)),
        metric,
        explainer.method,
        *explainer.found[:3],
        control.method,
        control.found.value,
    )
