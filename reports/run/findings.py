"""The main findings in plain sentences, computed from the tables."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import pandas as pd
from scipy import stats

from assay.reports.run import attack_coverage, labels, ranking
from assay.reports.run.attack_findings import apart, doubts, listed, percent, radii, transfer, trust, unanswered
from assay.reports.run.explainer_statistics import pooled
from assay.reports.run.intervals import Estimate, overlap
from assay.reports.run.outcomes import survivors
from assay.reports.run.reader import Run, where

Labels = Mapping[str, str]  # of models, in their order
APART, UNANSWERED, DOUBT = "Not compared", "No answer", "Do not trust"  # topics that warn


class Finding(NamedTuple):
    """A question and its answer."""

    topic: str
    text: str


def findings(run: Run, tables: Mapping[str, pd.DataFrame], data: str, label: Labels) -> list[Finding]:
    """What the run says about one data set, most important first; of some ``tables`` the ranking alone is needed."""
    on_data = {name: where(table, data=data) for name, table in tables.items() if "data" in table}
    rows, checks = on_data["ranking"], on_data.get("checks")
    answers = [
        Finding(APART, apart(run, rows, label)),
        Finding(UNANSWERED, unanswered(run, data, label)),
        Finding(DOUBT, doubts(checks, rows, label)),
        Finding("Accuracy", _clean(rows, label)),
        Finding("Robustness", _robust(rows, label)),
        Finding("Every radius", radii(on_data.get("curves"), checks, _sound(rows, label))),
        Finding("Transfer", transfer(run, on_data.get("transfer"), label)),
        Finding("Direction or size", _noise(run, rows, data, label)),
        Finding("Explanations", _explanations(run, rows, data)),
        Finding("Both together", _together(run, rows)),
        Finding("Changed setting", _shift(tables["ranking"], data, label)),
        Finding("Checks", trust(checks)),
    ]
    return [finding for finding in answers if finding.text]


def estimates(rows: pd.DataFrame, column: str, prefix: str) -> dict[str, Estimate]:
    """Estimates of a column of the ranking by model, unknown ones left out."""
    return {
        row["model"]: Estimate(row[column], row[f"{prefix}_low"], row[f"{prefix}_high"], 0)
        for row in rows.to_dict("records")
        if not math.isnan(row[column])
    }


def _clean(rows: pd.DataFrame, label: Labels) -> str:
    right = estimates(rows, "clean_accuracy", "clean")
    if not right:
        return ""
    order = sorted(right, key=lambda model: -right[model].value)
    first, last = order[0], order[-1]
    if len(order) == 1:
        return f"{label[first]} gets {percent(right[first])} of the unchanged images right."
    return (
        f"Unchanged, the images are classified right between {percent(right[last])} of the time ({label[last]}) "
        f"and {percent(right[first])} ({label[first]})."
    )


def _robust(rows: pd.DataFrame, label: Labels) -> str:
    every = estimates(rows, "robust_accuracy", "robust")
    if not every:
        return ""
    robust = {model: estimate for model, estimate in every.items() if model in _sound(rows, label)} or every
    attacks = int(rows["attacks"].max())
    limit = labels.ball(str(rows["norm"].iloc[0]), float(rows["eps"].iloc[0]))
    under = f"Within {limit}, " + (f"under the worst of {attacks} attacks for each image, " if attacks > 1 else "")
    order = sorted(robust, key=lambda model: -robust[model].value)
    first, rest = order[0], order[1:]
    scope = "" if len(rows) == len(robust) else " without a failed check"
    if robust[first].value == 0:
        return under + (f"no model{scope} keeps" if rest else f"{label[first]} does not keep") + " a single image."
    level = [model for model in rest if overlap(robust[model], robust[first])]
    behind = [model for model in rest if model not in level]
    text = f"{under}{label[first]} keeps {percent(robust[first])} of the images"
    if level:
        names = listed([f"{label[model]} ({percent(robust[model])})" for model in level])
        text += f"; {names} overlap{'' if len(level) > 1 else 's'} with it, so their order is open"
    if behind:
        who = f"every other model{scope}" if len(behind) > 1 else label[behind[0]]
        text += f"; {who} keeps {'at most ' if len(behind) > 1 else ''}{percent(robust[behind[0]])}"
    return text + "."


def _sound(rows: pd.DataFrame, label: Labels) -> Labels:
    """The models of the ranking's rows against which nothing speaks; all where there is none."""
    sound = set(rows.loc[(rows["flags"] == "") & (rows["unmet"] == ""), "model"])
    return {model: text for model, text in label.items() if model in sound} or label


def _noise(run: Run, rows: pd.DataFrame, data: str, label: Labels) -> str:
    attacks = survivors(run, data)
    methods = run.methods(attacks["method"])
    quiet = attacks["method"].map({text: method.access == "none" for text, method in methods.items()}).astype(bool)
    limit = ranking.limit_of(run, data, ("none",))
    if limit is None:
        return ""
    at = ranking.within(attacks, limit)
    quiet = quiet[at.index]
    clean = rows.set_index("model")["clean_accuracy"]
    by_noise = (clean - at[quiet].groupby("model")["value"].mean()).dropna()
    whole = at["model"].isin(attack_coverage.complete(run, data, ranking.balls(run, data)[limit]))
    smallest = at[whole & ~quiet].groupby(["model", "image"])["value"].min().groupby("model").mean()
    by_attack = (clean - smallest).reindex(by_noise.index).dropna()
    if not len(by_noise):
        return ""
    most = "at most " if len(by_noise) > 1 else ""
    text = f"Random noise within {labels.ball(*limit)} costs {most}{_points(by_noise.max())} of accuracy"
    if not len(by_attack):
        return text + "."
    worst = str(by_attack.idxmax())
    return f"{text}; an attack of the same size takes up to {_points(by_attack[worst])} ({label[worst]})."


def _points(share: float) -> str:
    points = round(100 * max(0.0, share))
    return f"{points} percentage point" + ("" if points == 1 else "s")


def _explanations(run: Run, rows: pd.DataFrame, data: str) -> str:
    metric = next((name for name in rows["quality_metric"] if name), "")
    means = where(pooled(run, data, common=True), metric=metric)
    if not len(means):
        return ""
    sign, unit = -1 if run.metric(metric).direction == "lower" else 1, run.metric(metric).unit
    brief = run.short(means["method"])
    quality = {row["method"]: ranking.estimate_of(row) for _, row in means.iterrows()}
    order = sorted(quality, key=lambda method: -sign * quality[method].value)
    methods = [method for method in order if not run.method(method).control]
    controls = [method for method in order if run.method(method).control]
    if not methods:
        return ""
    first = methods[0]
    common, count = int(means["models"].max()), rows["model"].nunique()
    scope = "over all models" if common == count else f"over the {common} of {count} models that all methods apply to"
    level = [method for method in methods[1:] if overlap(quality[method], quality[first])]
    text = f"By {metric}, {brief[first]} is the best explainer {scope} with {_number(quality[first], unit)}"
    if level:
        top = listed([brief[method] for method in (first, *level)])
        text = f"By {metric}, {top} share the top: their intervals overlap"
        text += f", {brief[first]} has {_number(quality[first], unit)}"
    if controls:
        rival = quality[controls[0]]
        ahead = [m for m in methods if sign * (quality[m].value - rival.value) > 0 and not overlap(quality[m], rival)]
        if len(methods) > 1:
            verdict = f"{len(ahead)} of {len(methods)} methods clearly beat"
        else:
            verdict = "it clearly beats" if ahead else "it does not clearly beat"
        text += f"; {verdict} the best control, {brief[controls[0]]} with {_number(rival, unit)}"
    return text + "."


def _number(estimate: Estimate, unit: str) -> str:
    if unit == "share":
        return percent(estimate)
    interval = "" if math.isnan(estimate.low) else f" [{estimate.low:.2f}, {estimate.high:.2f}]"
    return f"{estimate.value:.2f}{interval}"


def _together(run: Run, rows: pd.DataFrame) -> str:
    both = rows.dropna(subset=["robust_accuracy", "quality"])
    if len(both) < 5 or both["robust_accuracy"].nunique() < 2 or both["quality"].nunique() < 2:
        return ""
    metric = both["quality_metric"].iloc[0]
    sign = -1 if run.metric(metric).direction == "lower" else 1
    rank = stats.spearmanr(both["robust_accuracy"], sign * both["quality"])
    verdict = "go together" if rank.statistic > 0 else "run against each other"
    if not rank.pvalue < 0.05:
        verdict = "show no clear relation"
    return (
        f"Over {len(both)} models, robust accuracy and the quality of heatmaps by {metric} {verdict} "
        f"(Spearman's rank correlation {rank.statistic:.2f}, p = {rank.pvalue:.2g})."
    )


def _shift(table: pd.DataFrame, data: str, label: Labels) -> str:
    """The model that loses most against the other setting of the same data in which it is best."""
    base = data.partition("?")[0]
    others = [spec for spec in table["data"].unique() if spec != data and spec.partition("?")[0] == base]
    if base == data or not others:
        return ""
    accuracy = {spec: estimates(where(table, data=spec), "clean_accuracy", "clean") for spec in (data, *sorted(others))}
    loss: dict[str, tuple[float, str]] = {}
    for model, estimate in accuracy[data].items():
        rivals = {spec: accuracy[spec][model].value for spec in sorted(others) if model in accuracy[spec]}
        if rivals:
            best = max(rivals, key=lambda spec: rivals[spec])
            loss[model] = (rivals[best] - estimate.value, best)
    if not loss:
        return ""
    clear = [m for m, (by, spec) in loss.items() if by > 0 and not overlap(accuracy[data][m], accuracy[spec][m])]
    if not clear:
        who = "no model loses" if len(loss) > 1 else f"{label[next(iter(loss))]} does not lose"
        return f"Against {listed(sorted(others))}, {who} clean accuracy here beyond the intervals."
    model = max(clear, key=lambda name: (loss[name][0], name))
    best = loss[model][1]
    return (
        f"{label[model]} loses most by the change of setting: it gets {percent(accuracy[best][model])} right on "
        f"{best} and {percent(accuracy[data][model])} here."
    )
