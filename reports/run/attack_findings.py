"""What curves, transfer and checks say, in plain sentences."""

import math

import pandas as pd

from assay.reports.run import labels as names
from assay.reports.run.cross_attack_checks import FAILED, NOT_TESTED, PASSED
from assay.reports.run.outcomes import WORST
from assay.reports.run.intervals import Estimate
from assay.reports.drawing.theme import Identity
from assay.reports.kinds.transfer import members

FEW = 10  # images below which a model's own share says little


def percent(found: Estimate) -> str:
    """``62 % [52, 71]``."""
    if math.isnan(found.value):
        return "–"
    interval = "" if math.isnan(found.low) else f" [{100 * found.low:.0f},\N{NO-BREAK SPACE}{100 * found.high:.0f}]"
    return f"{100 * found.value:.0f}\N{NO-BREAK SPACE}%{interval}"


def listed(words: list[str]) -> str:
    """``a, b and c``; past six, the rest is counted."""
    if len(words) > 6:
        words = [*words[:5], f"{len(words) - 5} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def doubts(checks: pd.DataFrame | None, marks: dict[str, Identity]) -> str:
    """Which models failed which checks."""
    failed = checks[checks["state"] == FAILED] if checks is not None else pd.DataFrame()
    if not len(failed):
        return ""
    there = [model for model in marks if model in set(failed["model"])]
    by_model = {model: failed.loc[failed["model"] == model, "check"].tolist() for model in there}
    who = listed([f"{marks[model].label} ({_failed(names)})" for model, names in by_model.items()])
    return f"The robust accuracy of {who} may be an illusion: checks that an honest evaluation passes failed."


def _failed(checks: list[str]) -> str:
    words = [f"“{check}”" for check in checks[:2]]
    return listed([*words, f"{len(checks) - 2} more"] if len(checks) > 2 else words)


def trust(checks: pd.DataFrame | None) -> str:
    """That every check held, and how many could not be made."""
    if checks is None or not (checks["state"] == PASSED).any() or (checks["state"] == FAILED).any():
        return ""
    passed, models = checks[checks["state"] == PASSED], checks["model"].nunique()
    open_ = checks.groupby("check")["state"].agg(lambda states: (states == NOT_TESTED).mean()).eq(1).sum()
    who = "on every model" if models > 1 else "on the model"
    text = f"No attack contradicts another: {passed['check'].nunique()} checks held {who}"
    return text + (f"; {open_} could not be made with these attacks." if open_ else ".")


def radii(curves: pd.DataFrame | None, checks: pd.DataFrame | None, marks: dict[str, Identity]) -> str:
    """The radius at which half of what a model had right is lost, and whether budgeted attacks agree."""
    if curves is None or not len(curves):
        return ""
    norm = next(norm for norm in names.NORMS if norm in set(curves["norm"]))
    worst = curves[(curves["norm"] == norm) & (curves["method"] == WORST)]
    half = {}
    for model, group in worst.groupby("model"):
        falls = group.loc[group["robust_accuracy"] <= group["robust_accuracy"].max() / 2, "eps"]
        half[str(model)] = float(falls.min()) if len(falls) and group["robust_accuracy"].max() > 0 else math.inf
    right = worst.groupby("model").agg(share=("robust_accuracy", "max"), n=("n", "max")).prod(axis=1)
    if (right >= FEW).any():
        half = {model: radius for model, radius in half.items() if right[model] >= FEW}
    order = sorted((model for model in marks if model in half), key=lambda model: half[model])
    first, last = order[0], order[-1]
    text = f"To lose half of what it gets right, {marks[first].label} takes {_change(norm, half[first])}"
    if len(order) > 1:
        text += f", {marks[last].label}, the hardest to fool, {_change(norm, half[last])}"
    return text + _agreement(checks) + "."


def _change(norm: str, radius: float) -> str:
    if math.isinf(radius):
        return "more change than any attack found"
    size = f"{names.NORMS[norm]} {255 * radius:.2g}/255" if norm == "linf" else names.ball(norm, radius)
    return f"a change of {size}"


def _agreement(checks: pd.DataFrame | None) -> str:
    states = set() if checks is None else set(checks.loc[checks["check"] == "curves and points agree", "state"])
    if FAILED in states:
        return ". Attacks with a budget disagree with these curves beyond the intervals, see the checks"
    return ". Attacks with a budget agree with these curves" if PASSED in states else ""


def transfer(found: pd.DataFrame | None, marks: dict[str, Identity]) -> str:
    """The pair between which most travels, and the attack that it is."""
    if found is None or not len(found):
        return ""
    others = found[[row["victim"] not in members(row["source"]) for row in found.to_dict("records")]]
    others = others.dropna(subset="fooling_rate")
    if (others["fooling_n"] >= FEW).any():
        others = others[others["fooling_n"] >= FEW]
    if not len(others):
        return ""
    worst = others.sort_values("fooling_rate", kind="stable").to_dict("records")[-1]
    rate = Estimate(worst["fooling_rate"], worst["fooling_low"], worst["fooling_high"], worst["fooling_n"])
    source = " + ".join(marks[m].label if m in marks else m for m in members(worst["source"]))
    attack = names.short([worst["attack"]], always=("norm", "eps"))[worst["attack"]]
    middle = others["fooling_rate"].median()
    return (
        f"Most travels from {source} to {marks[worst['victim']].label}: of what this one had right, {percent(rate)} is "
        f"wrong after {attack} on the other; the median pair loses {100 * middle:.0f}\N{NO-BREAK SPACE}%."
    )
