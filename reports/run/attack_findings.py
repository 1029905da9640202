"""What curves, transfer and checks say, in plain sentences."""

import math
from collections.abc import Mapping

import pandas as pd

from assay.core import tables
from assay.reports.run import labels
from assay.reports.run.cross_attack_checks import FAILED, NOT_TESTED, PASSED
from assay.reports.run.intervals import Estimate
from assay.reports.run.outcomes import WORST
from assay.reports.run.reader import Run, where

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


def doubts(checks: pd.DataFrame | None, label: Mapping[str, str]) -> str:
    """Which models failed which checks."""
    failures = where(checks, state=FAILED) if checks is not None else pd.DataFrame()
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
    norm = next(norm for norm in labels.NORMS if norm in set(curves["norm"]))
    worst = where(curves, norm=norm, method=WORST)
    half = {}
    for model, group in worst.groupby("model"):
        falls = group.loc[group["robust_accuracy"] <= group["robust_accuracy"].max() / 2, "eps"]
        half[str(model)] = float(falls.min()) if len(falls) and group["robust_accuracy"].max() > 0 else math.inf
    right = worst.groupby("model").agg(share=("robust_accuracy", "max"), n=("n", "max")).prod(axis=1)
    if (right >= FEW).any():
        half = {model: radius for model, radius in half.items() if right[model] >= FEW}
    order = sorted((model for model in label if model in half), key=lambda model: half[model])
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
