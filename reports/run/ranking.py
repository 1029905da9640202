"""The models side by side: what they know, what survives an attack, and whether they look at the object."""

from collections.abc import Collection, Hashable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from assay.reports.run.attack_coverage import MISSING, compared, complete, coverage, gaps
from assay.reports.run.cross_attack_checks import FAILED, contradictions
from assay.reports.run.intervals import NOTHING, Estimate, wilson
from assay.reports.run.labels import NORMS
from assay.reports.run.outcomes import in_balls, survivors
from assay.reports.run.places import places
from assay.reports.run.reader import NON_FINITE, Run, where

QUALITY = ("mass-accuracy", "rank-accuracy", "pointing-game", "part-effect", "insertion", "deletion", "single-deletion")
COLUMNS = [
    *("data", "model", "clean_accuracy", "clean_low", "clean_high", "clean_n"),
    *("norm", "eps", "attacks", "unmet", "robust_accuracy", "robust_low", "robust_high", "robust_n"),
    *("place_best", "place_worst", "flags"),
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

    An image without a value under one of the attacks is lost.
    """
    smallest = _smallest(rows)
    return wilson(int(smallest.sum()), len(smallest))


def worst_cases(run: Run, data: str) -> pd.DataFrame:
    """``norm, eps, model, value, low, high``: each ball's worst case, of the models that met all attacks in it."""
    rows = survivors(run, data)
    return pd.DataFrame(
        [
            (limit.norm, limit.eps, model, *worst_case(where(at, model=model))[:3])
            for limit, attacks in balls(run, data).items()
            if len(at := within(rows, limit, attacks))
            for model in complete(run, data, attacks)
        ],
        columns=["norm", "eps", "model", "value", "low", "high"],
    )


def balls(run: Run, data: str) -> dict[Budget, list[str]]:
    """The attacks in each ball that models are compared under, of those that the run asked for."""
    methods = in_balls(run.methods(where(coverage(run), data=data, kind="attack")["method"]))
    groups: dict[Budget, list[str]] = {}
    for text in compared(run, data, methods):
        groups.setdefault(Budget(methods[text].norm, float(methods[text].eps or 0)), []).append(text)
    return groups


def limit_of(run: Run, data: str, access: Collection[str] = ()) -> Budget | None:
    """The ``budget`` at which models are compared, of attacks of some ``access`` if given.

    It depends on what was asked, not on what a model has met: a model that fails does not move it. Balls in which no
    model met all attacks come last.
    """
    methods = run.methods(where(coverage(run), data=data)["method"])
    kept = {
        limit: [method for method in attacks if not access or methods[method].access in access]
        for limit, attacks in balls(run, data).items()
    }
    met = {limit: attacks for limit, attacks in kept.items() if complete(run, data, attacks)}
    rows = where(coverage(run), data=data, kind="attack")
    planned = [rows[rows["method"].isin(attacks)].assign(**limit._asdict()) for limit, attacks in (met or kept).items()]
    return budget(pd.concat(planned)) if planned else None


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


def within(rows: pd.DataFrame, limit: Budget | None, attacks: Collection[str] | None = None) -> pd.DataFrame:
    """The rows of ``survivors`` at a budget, all without one; of some ``attacks`` alone where they are given."""
    at = where(rows, norm=limit.norm, eps=limit.eps) if limit else rows
    return at if attacks is None else at[at["method"].isin(list(attacks))]


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

    The robust accuracy is the worst case over the ``attacks`` at ``limit_of``. A model that has not met all of them, or
    has failed on the images as they are, has none and no place: ``unmet`` says what it lacks. ``flags`` counts the
    images of each check that the model failed, and those without an answer. The quality is that of the model's best
    explainer. Pictures made to look like a class (synthesis) play no part.
    """
    records = [record for data in run.data for record in _records(run, summary, data)]
    table = pd.DataFrame(records, columns=COLUMNS)
    order = {name: i for i, name in enumerate(run.data)}
    table["order"] = [order[name] for name in table["data"]]
    table = table.sort_values(
        ["order", "robust_accuracy", "clean_accuracy", "model"], ascending=[True, False, False, True]
    )
    return table.drop(columns="order").reset_index(drop=True).astype({"place_best": "Int64", "place_worst": "Int64"})


def _records(run: Run, summary: pd.DataFrame, data: str) -> Iterator[tuple[object, ...]]:
    """The rows of one data set."""
    limit = limit_of(run, data)
    attacks = balls(run, data)[limit] if limit else []
    models = complete(run, data, attacks)
    clean = run.select("clean", "accuracy", data=data)
    at = within(survivors(run, data), limit, attacks) if limit else clean.assign(method="none")
    at = at[at["model"].isin(models)]
    outcomes = {model: _smallest(rows) for model, rows in at.groupby("model")}
    place, doubts, metric = places(pd.DataFrame(outcomes)), _doubts(run, data), quality_metric(summary, data)
    missing = gaps(run, data, attacks)
    tried = where(coverage(run), data=data)
    known = {*tried.loc[tried["state"] != MISSING, "model"], *where(summary, data=data)["model"]}
    for model in [model for model in run.models if model in known]:
        lacks = where(missing, model=model)
        robust = worst_case(where(at, model=model)) if limit and model in outcomes else NOTHING
        yield (
            *(data, model, *_clean(summary, data, model), *(limit or ("", np.nan)), len(attacks)),
            "; ".join(f"{row['method']} {row['state']}" for row in lacks.to_dict("records")),
            *(*robust, *(place.get(model) or (None, None)), doubts.get(model, "")),
            *_quality(run, where(summary, data=data, model=model, kind="explain", metric=metric), metric),
        )


def _smallest(rows: pd.DataFrame) -> "pd.Series[float]":
    """Each image's smallest value over attacks; 0 where one of them has none."""
    values = rows.groupby("image")["value"]
    return values.min().where(values.count() == rows["method"].nunique(), 0.0)


def _doubts(run: Run, data: str) -> dict[str, str]:
    """What speaks against each model's numbers: flags with the images that raise them."""
    counts: dict[str, dict[str, int]] = {}
    unanswered = run.select("clean", "accuracy", data=data)
    unanswered = unanswered[unanswered["flags"].str.contains(NON_FINITE, regex=False)]
    for model, count in unanswered.groupby("model")["image"].nunique().items():
        counts[str(model)] = {NON_FINITE: int(count)}
    for row in where(contradictions(run)[0], data=data, state=FAILED).to_dict("records"):
        own = counts.setdefault(row["model"], {})
        own[row["flag"]] = max(own.get(row["flag"], 0), row["images"])
    return {model: ";".join(f"{flag}:{count}" for flag, count in own.items()) for model, own in counts.items()}


def _clean(summary: pd.DataFrame, data: str, model: str) -> Estimate:
    rows = where(summary, data=data, model=model, kind="clean", metric="accuracy")
    return estimate_of(rows.iloc[0]) if len(rows) else NOTHING


def _quality(run: Run, scores: pd.DataFrame, metric: str) -> tuple[object, ...]:
    explainer, control = (best(run, scores, control=control) for control in (False, True))
    return (
        metric,
        explainer.method,
        *explainer.estimate[:3],
        control.method,
        control.estimate.value,
    )
