"""The models side by side: what they know, what survives an attack, and whether they look at the object."""

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from assay.reports.run.intervals import NOTHING, Estimate, wilson
from assay.reports.run.labels import NORMS
from assay.reports.run.outcomes import survivors
from assay.reports.run.places import Place, places
from assay.reports.run.reader import Run, where

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
    estimate: Estimate


NO_CHOICE = Choice("", NOTHING)


def worst_case(rows: pd.DataFrame) -> Estimate:
    """Mean over images of the minimum over attacks, from ``survivors`` of one model at one budget.

    An image that one of the attacks failed on is left out.
    """
    values = rows.groupby("image")["value"]
    smallest = values.min()[values.count() == rows["method"].nunique()]
    return wilson(int(smallest.sum()), len(smallest))


def budget(rows: pd.DataFrame) -> Budget | None:
    """The one most models share: Linf before L2, L1, L0, then most attacks, then the largest radius."""
    common = rows.groupby(["norm", "eps"]).agg(models=("model", "nunique"), attacks=("method", "nunique")).reset_index()
    if not len(common):
        return None
    order = list(NORMS)

    def key(row: dict[Hashable, Any]) -> tuple[Any, ...]:
        place = order.index(row["norm"]) if row["norm"] in order else len(order)
        return row["models"], -place, row["attacks"], row["eps"]

    first = max(common.to_dict("records"), key=key)
    return Budget(str(first["norm"]), float(first["eps"]))


def within(rows: pd.DataFrame, limit: Budget | None) -> pd.DataFrame:
    """The rows of ``survivors`` at a budget; all without one."""
    return where(rows, norm=limit.norm, eps=limit.eps) if limit else rows


def quality_metric(summary: pd.DataFrame, data: str) -> str:
    """The first of ``QUALITY`` that was measured on this data set."""
    metrics = set(
        summary.loc[(summary["kind"] == "explain") & (summary["data"] == data) & summary["value"].notna(), "metric"]
    )
    return min((name for name in metrics if worth(name)[0] < len(QUALITY)), key=worth, default="")


def worth(metric: str) -> tuple[int, str]:
    """A metric's place in ``QUALITY``, whatever its settings are; what is not there comes last, by name."""
    name = metric.partition("(")[0]
    return (QUALITY.index(name) if name in QUALITY else len(QUALITY), metric)


def metrics_of(scores: pd.DataFrame) -> list[str]:
    """Metrics in the order in which ``QUALITY`` asks for them, then the rest by name."""
    return sorted(set(scores["metric"]), key=worth)


def best(run: Run, summary: pd.DataFrame, control: bool) -> Choice:
    """The best explainer, or the best control, among the rows of one model and metric."""
    mask = np.array([run.method(text).control == control for text in summary["method"]], dtype=bool)
    rows = summary[mask].dropna(subset="value")
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
        at = survivors(run, data)
        limit = budget(at)
        at = within(at, limit)
        metric = quality_metric(summary, data)
        place = places(_outcomes(run, data, at))
        for model in run.models:
            rows = where(summary, data=data, model=model)
            if len(rows):
                attacks = where(at, model=model)
                whole = attacks["method"].nunique() == at["method"].nunique()
                records.append((data, model, *_row(run, rows, attacks, whole, limit, metric, place.get(model))))
    table = pd.DataFrame(records, columns=COLUMNS)
    order = {name: i for i, name in enumerate(run.data)}
    table["order"] = [order[name] for name in table["data"]]
    table = table.sort_values(
        ["order", "robust_accuracy", "clean_accuracy", "model"], ascending=[True, False, False, True]
    )
    return table.drop(columns="order").reset_index(drop=True).astype({"place_best": "Int64", "place_worst": "Int64"})


def _outcomes(run: Run, data: str, at: pd.DataFrame) -> pd.DataFrame:
    """Images by models: 1 where the image is right under every attack, or unattacked where nothing attacked."""
    rows = at if len(at) else run.select("clean", "accuracy", data=data)
    values = rows.groupby(["image", "model"])["value"]
    whole = values.count() == (at["method"].nunique() or 1)
    return values.min()[whole].unstack()


def _row(
    run: Run, rows: pd.DataFrame, attacks: pd.DataFrame, whole: bool, limit: Budget | None, metric: str,
    place: Place | None,
) -> tuple[object, ...]:  # fmt: skip
    clean = where(rows, kind="clean", metric="accuracy")
    scores = where(rows, kind="explain", metric=metric)
    explainer, control = (best(run, scores, control=control) for control in (False, True))
    return (
        *(estimate_of(clean.iloc[0]) if len(clean) else NOTHING),
        *(limit or ("", np.nan)),
        attacks["method"].nunique(),
        *(worst_case(attacks) if whole else NOTHING),
        *(place or (None, None)),
        metric,
        explainer.method,
        *explainer.estimate[:3],
        control.method,
        control.estimate.value,
    )
