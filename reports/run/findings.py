"""The main findings in plain sentences, computed from the tables."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from scipy import stats

from assay.reports.run import attack_findings as attacked
from assay.reports.run import labels as names
from assay.reports.run import ranking
from assay.reports.run.attack_findings import listed, percent
from assay.reports.run.intervals import Estimate, overlap
from assay.reports.drawing.theme import Identity
from assay.reports.drawing.explainer_scores import pooled
from assay.reports.run.reader import Run


class Finding(NamedTuple):
    """What was asked, and the answer."""

    topic: str
    text: str


def findings(
    run: Run,
    ranked: pd.DataFrame,
    data: str,
    marks: dict[str, Identity],
    tables: Mapping[str, pd.DataFrame] | None = None,
) -> list[Finding]:
    """What the run says about one data set, most important first; without ``tables`` only what the ranking tells."""
    rows = ranked[ranked["data"] == data]
    given = {name: table[table["data"] == data] for name, table in (tables or {}).items() if "data" in table}
    found = [
        Finding("Do not trust", attacked.doubts(given.get("checks"), marks)),
        Finding("Accuracy", _clean(rows, marks)),
        Finding("Robustness", _robust(rows, marks)),
        Finding("Every radius", attacked.radii(given.get("curves"), given.get("checks"), marks)),
        Finding("Transfer", attacked.transfer(given.get("transfer"), marks)),
        Finding("Direction or size", _noise(run, rows, data, marks)),
        Finding("Explanations", _explained(run, rows, data)),
        Finding("Both together", _together(run, rows)),
        Finding("Changed setting", _shift(ranked, data, marks)),
        Finding("Checks", attacked.trust(given.get("checks"))),
    ]
    return [finding for finding in found if finding.text]


def estimates(rows: pd.DataFrame, column: str, prefix: str) -> dict[str, Estimate]:
    """Estimates of a column of the ranking by model, unknown ones left out."""
    return {
        row["model"]: Estimate(row[column], row[f"{prefix}_low"], row[f"{prefix}_high"], 0)
        for row in rows.to_dict("records")
        if not math.isnan(row[column])
    }


def _clean(rows: pd.DataFrame, marks: dict[str, Identity]) -> str:
    right = estimates(rows, "clean_accuracy", "clean")
    if not right:
        return ""
    order = sorted(right, key=lambda model: -right[model].value)
    first, last = order[0], order[-1]
    if len(order) == 1:
        return f"{marks[first].label} gets {percent(right[first])} of the unchanged images right."
    return (
        f"Unchanged, the images are classified right between {percent(right[last])} of the time ({marks[last].label}) "
        f"and {percent(right[first])} ({marks[first].label})."
    )


def _robust(rows: pd.DataFrame, marks: dict[str, Identity]) -> str:
    held = estimates(rows, "robust_accuracy", "robust")
    if not held:
        return ""
    attacks = int(rows["attacks"].max())
    limit = names.ball(str(rows["norm"].iloc[0]), float(rows["eps"].iloc[0]))
    under = f"Within {limit}, " + (f"under the worst of {attacks} attacks for each image, " if attacks > 1 else "")
    order = sorted(held, key=lambda model: -held[model].value)
    first, rest = order[0], order[1:]
    if held[first].value == 0:
        return under + ("no model keeps" if rest else f"{marks[first].label} does not keep") + " a single image."
    tied = [model for model in rest if overlap(held[model], held[first])]
    behind = [model for model in rest if model not in tied]
    text = f"{under}{marks[first].label} keeps {percent(held[first])} of the images"
    if tied:
        level = listed([f"{marks[model].label} ({percent(held[model])})" for model in tied])
        text += f"; {level} overlap{'' if len(tied) > 1 else 's'} with it, so their order is open"
    if behind:
        most = held[behind[0]]
        who = "every other model" if len(behind) > 1 else marks[behind[0]].label
        text += f"; {who} keeps {'at most ' if len(behind) > 1 else ''}{percent(most)}"
    return text + "."


def _noise(run: Run, rows: pd.DataFrame, data: str, marks: dict[str, Identity]) -> str:
    held = ranking.survivors(run, data)
    noise = held[held["method"].str.startswith("RandomNoise(")]
    limit = ranking.budget(noise)
    if limit is None:
        return ""
    at = held[(held["norm"] == limit.norm) & (held["eps"] == limit.eps)]
    quiet = at["method"].str.startswith("RandomNoise(")
    clean = rows.set_index("model")["clean_accuracy"]
    by_noise = (clean - at[quiet].groupby("model")["value"].mean()).dropna()
    chosen = at[~quiet].groupby(["model", "image"])["value"].min().groupby("model").mean()
    by_attack = (clean - chosen).reindex(by_noise.index).dropna()
    if not len(by_noise):
        return ""
    most = "at most " if len(by_noise) > 1 else ""
    text = f"Random noise within {names.ball(*limit)} costs {most}{_points(by_noise.max())} of accuracy"
    if not len(by_attack):
        return text + "."
    worst = str(by_attack.idxmax())
    return f"{text}; an attack of the same size takes up to {_points(by_attack[worst])} ({marks[worst].label})."


def _points(share: float) -> str:
    points = round(100 * max(0.0, share))
    return f"{points} percentage point" + ("" if points == 1 else "s")


def _explained(run: Run, rows: pd.DataFrame, data: str) -> str:
    metric = next((name for name in rows["quality_metric"] if name), "")
    means = pooled(run, data, common=True)
    means = means[means["metric"] == metric]
    if not len(means):
        return ""
    sign = -1 if run.metric(metric)["direction"] == "lower" else 1
    brief = names.short(means["method"])
    found = {
        row["method"]: Estimate(row["value"], row["low"], row["high"], row["n"]) for row in means.to_dict("records")
    }
    order = sorted(found, key=lambda method: -sign * found[method].value)
    methods = [method for method in order if not names.read(method).control]
    controls = [method for method in order if names.read(method).control]
    if not methods:
        return ""
    first, unit = methods[0], run.metric(metric)["unit"]
    used, everyone = int(means["models"].max()), rows["model"].nunique()
    where = "over all models" if used == everyone else f"over the {used} of {everyone} models that all methods apply to"
    tied = [method for method in methods[1:] if overlap(found[method], found[first])]
    text = f"By {metric}, {brief[first]} is the best explainer {where} with {_number(found[first], unit)}"
    if tied:
        top = listed([brief[method] for method in (first, *tied)])
        text = f"By {metric}, {top} share the top: their intervals overlap"
        text += f", {brief[first]} has {_number(found[first], unit)}"
    if controls:
        rival = found[controls[0]]
        beaten = [
            method
            for method in methods
            if sign * found[method].value > sign * rival.value and not overlap(found[method], rival)
        ]
        many = (
            f"{len(beaten)} of {len(methods)} methods clearly beat"
            if len(methods) > 1
            else ("it clearly beats" if beaten else "it does not clearly beat")
        )
        text += f"; {many} the best control, {brief[controls[0]]} with {_number(rival, unit)}"
    return text + "."


def _number(found: Estimate, unit: str) -> str:
    if unit == "share":
        return percent(found)
    return f"{found.value:.2f}" + ("" if math.isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]")


def _together(run: Run, rows: pd.DataFrame) -> str:
    known = rows.dropna(subset=["robust_accuracy", "quality"])
    if len(known) < 5 or known["robust_accuracy"].nunique() < 2 or known["quality"].nunique() < 2:
        return ""
    metric = known["quality_metric"].iloc[0]
    sign = -1 if run.metric(metric)["direction"] == "lower" else 1
    found = stats.spearmanr(known["robust_accuracy"], sign * known["quality"])
    verdict = "go together" if found.statistic > 0 else "run against each other"
    if not found.pvalue < 0.05:
        verdict = "show no clear relation"
    return (
        f"Over {len(known)} models, robust accuracy and the quality of heatmaps by {metric} {verdict} "
        f"(Spearman's rank correlation {found.statistic:.2f}, p = {found.pvalue:.2g})."
    )


def _shift(ranked: pd.DataFrame, data: str, marks: dict[str, Identity]) -> str:
    """The model that loses most against the other setting of the same data in which it is best."""
    base = data.partition("?")[0]
    others = [spec for spec in ranked["data"].unique() if spec != data and spec.partition("?")[0] == base]
    if base == data or not others:
        return ""
    here = estimates(ranked[ranked["data"] == data], "clean_accuracy", "clean")
    elsewhere = {spec: estimates(ranked[ranked["data"] == spec], "clean_accuracy", "clean") for spec in sorted(others)}
    lost: dict[str, tuple[float, str]] = {}
    for model, found in here.items():
        known = {spec: there[model].value for spec, there in elsewhere.items() if model in there}
        if known:
            best = max(known, key=lambda spec: known[spec])
            lost[model] = (known[best] - found.value, best)
    if not lost:
        return ""
    clear = [m for m, (loss, best) in lost.items() if loss > 0 and not overlap(here[m], elsewhere[best][m])]
    if not clear:
        who = "no model loses" if len(lost) > 1 else f"{marks[model].label} does not lose"
        return f"Against {listed(sorted(others))}, {who} clean accuracy here beyond the intervals."
    model = max(clear, key=lambda name: (lost[name][0], name))
    best = lost[model][1]
    return (
        f"{marks[model].label} loses most by the change of setting: it gets {percent(elsewhere[best][model])} right on "
        f"{best} and {percent(here[model])} here."
    )
