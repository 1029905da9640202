"""What curves, transfer and checks say, in plain sentences."""

import math
import textwrap
from collections.abc import Mapping

import pandas as pd

from assay.core import tables
from assay.reports.run import attack_coverage, labels, ranking
from assay.reports.run.cross_attack_checks import FAILED, NOT_TESTED, PASSED
from assay.reports.run.intervals import Estimate
from assay.reports.run.outcomes import WORST
from assay.reports.run.reader import NON_FINITE, Run, where

REASON = 80  # letters of why an attack failed
FEW = 10  # images below which a model's own share says little


def percent(estimate: Estimate) -> str:
    """``62 % [52, 71]``."""
    if math.isnan(estimate.value):
        return "–"
    low, high = 100 * estimate.low, 100 * estimate.high
    interval = "" if math.isnan(low) else f" [{low:.0f},\N{NO-BREAK SPACE}{high:.0f}]"
    return f"{100 * estimate.value:.0f}\N{NO-BREAK SPACE}%{interval}"


def listed(words: list[str]) -> str:
    """``a, b and c``; past six, the rest is counted."""
    if len(words) > 6:
        words = [*words[:5], f"{len(words) - 5} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def members(source: str) -> list[str]:
    """The models of a source: one, or those of an ensemble."""
    return tables.members(source)


def apart(run: Run, rows: pd.DataFrame, label: Mapping[str, str]) -> str:
    """Which models of the ranking's ``rows`` have no place, and why."""
    reasons: dict[str, list[str]] = {}
    for row in rows[_lacking(rows)].to_dict("records"):
        attacks = ranking.balls(run, row["data"]).get(ranking.Budget(row["norm"], row["eps"]), [])
        gaps = where(attack_coverage.gaps(run, row["data"], attacks), model=row["model"])
        reasons.setdefault(_reason(run, gaps), []).append(label[row["model"]])
    texts = [f"{listed(who)} ({why})" for why, who in reasons.items()]
    return f"Models are compared under the same attacks, so these have no place: {'; '.join(texts)}." if texts else ""


def _lacking(rows: pd.DataFrame) -> "pd.Series[bool]":
    """The rows of models that have not met all attacks that models are compared under."""
    return rows["unmet"] != ""


def _reason(run: Run, gaps: pd.DataFrame) -> str:
    """What a model has not met, in words."""
    brief = run.short(gaps.loc[gaps["kind"] == "attack", "method"], always=("norm", "eps"))
    words = {"failed": "failed", "skipped": "had no meaning", "missing": "did not run yet"}
    parts = []
    for (state, reason), group in gaps.groupby(["state", "reason"], sort=False):
        names = listed([brief.get(method, "images as they are") for method in group["method"]])
        why = textwrap.shorten(str(reason), REASON, placeholder=" …")
        parts.append(f"{names} {words[str(state)]}" + (f": {why}" if why else ""))
    return ", ".join(parts)


def unanswered(run: Run, data: str, label: Mapping[str, str]) -> str:
    """Which models gave no answer to how many images."""
    rows = pd.concat([run.select("clean", "accuracy", data=data), run.select("attack", "robust_accuracy", data=data)])
    n = run.select("clean", "accuracy", data=data).groupby("model")["image"].nunique()
    rows = rows[rows["flags"].str.contains(NON_FINITE, regex=False)]
    clean = where(rows, kind="clean").groupby("model")["image"].nunique()
    ever = rows.groupby("model")["image"].nunique()
    parts = []
    for model in (model for model in label if model in ever.index):
        whole = f" of {n[model]}" if model in n.index else ""
        under = f" and {ever[model]} under attack" if ever[model] > clean.get(model, 0) else ""
        parts.append(f"{label[model]} (on {clean.get(model, 0)}{whole} images{under})")
    if not parts:
        return ""
    return (
        f"{listed(parts)} answer{'' if len(parts) > 1 else 's'} with values that are no numbers. Such an image counts "
        "as wrong, and as fooled under attack."
    )


def doubts(checks: pd.DataFrame | None, rows: pd.DataFrame, label: Mapping[str, str]) -> str:
    """Which models that have a robust accuracy in the ranking's ``rows`` failed which checks."""
    if checks is None:
        return ""
    failures = where(checks, state=FAILED)
    failures = failures[~failures["model"].isin(rows.loc[_lacking(rows), "model"])]
    if not len(failures):
        return ""
    models = [model for model in label if model in set(failures["model"])]
    who = listed([f"{label[model]} ({_checks(where(failures, model=model))})" for model in models])
    return f"The robust accuracy of {who} may be an illusion: checks that an honest evaluation passes failed."


def _checks(failures: pd.DataFrame) -> str:
    words = [f"“{check}”" for check in failures["check"]]
    return listed([*words[:2], f"{len(words) - 2} more"] if len(words) > 2 else words)


def trust(checks: pd.DataFrame | None) -> str:
    """That every check held, and how many could not be made."""
    if checks is None or not (checks["state"] == PASSED).any() or (checks["state"] == FAILED).any():
        return ""
    count, models = where(checks, state=PASSED)["check"].nunique(), checks["model"].nunique()
    open_ = checks.groupby("check")["state"].agg(lambda states: (states == NOT_TESTED).mean()).eq(1).sum()
    who = "on every model" if models > 1 else "on the model"
    text = f"No attack contradicts another: {count} checks held {who}"
    return text + (f"; {open_} could not be made with these attacks." if open_ else ".")


def radii(curves: pd.DataFrame | None, checks: pd.DataFrame | None, label: Mapping[str, str]) -> str:
    """The radius at which half of what a model had right is lost, and whether budgeted attacks agree."""
    if curves is None or not len(curves):
        return ""
    whole = where(curves, method=WORST)
    norm = next((norm for norm in labels.NORMS if norm in set(whole["norm"])), None)
    if norm is None:
        return ""
    worst = where(whole, norm=norm)
    half = {}
    for model, group in worst.groupby("model"):
        falls = group.loc[group["robust_accuracy"] <= group["robust_accuracy"].max() / 2, "eps"]
        half[str(model)] = float(falls.min()) if len(falls) and group["robust_accuracy"].max() > 0 else math.inf
    right = worst.groupby("model").agg(share=("robust_accuracy", "max"), n=("n", "max")).prod(axis=1)
    if (right >= FEW).any():
        half = {model: radius for model, radius in half.items() if right[model] >= FEW}
    order = sorted((model for model in label if model in half), key=lambda model: half[model])
    if not order:
        return ""
    first, last = order[0], order[-1]
    text = f"To lose half of what it gets right, {label[first]} takes {_change(norm, half[first])}"
    if len(order) > 1:
        text += f", {label[last]}, the hardest to fool, {_change(norm, half[last])}"
    return text + _agreement(checks) + "."


def _change(norm: str, radius: float) -> str:
    if math.isinf(radius):
        return "more change than any attack found"
    size = f"{labels.NORMS[norm]} {255 * radius:.2g}/255" if norm == "linf" else labels.ball(norm, radius)
    return f"a change of {size}"


def _agreement(checks: pd.DataFrame | None) -> str:
    states = set() if checks is None else set(where(checks, check="curves and points agree")["state"])
    if FAILED in states:
        return ". Attacks with a budget disagree with these curves beyond the intervals, see the checks"
    return ". Attacks with a budget agree with these curves" if PASSED in states else ""


def transfer(run: Run, table: pd.DataFrame | None, label: Mapping[str, str]) -> str:
    """The pair between which most travels, and the attack that it is."""
    if table is None or not len(table):
        return ""
    others = table[[row["victim"] not in members(row["source"]) for row in table.to_dict("records")]]
    others = others.dropna(subset="fooling_rate")
    if (others["fooling_n"] >= FEW).any():
        others = others[others["fooling_n"] >= FEW]
    if not len(others):
        return ""
    worst = others.sort_values("fooling_rate", kind="stable").to_dict("records")[-1]
    rate = Estimate(worst["fooling_rate"], worst["fooling_low"], worst["fooling_high"], worst["fooling_n"])
    source = " + ".join(label.get(model, model) for model in members(worst["source"]))
    attack = run.short([worst["attack"]], always=("norm", "eps"))[worst["attack"]]
    middle = others["fooling_rate"].median()
    return (
        f"Most travels from {source} to {label[worst['victim']]}: of what this one had right, {percent(rate)} is "
        f"wrong after {attack} on the other; the median pair loses {100 * middle:.0f}\N{NO-BREAK SPACE}%."
    )
