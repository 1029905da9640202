"""Figures about heatmaps: how good they are, and whether robust models look where they should."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from assay.reports.context import Context
from assay.reports.drawing.charts import Scale, bar, heat_map, lines_of, panels
from assay.reports.drawing.theme import Identity, Look, Plot, canvas, percents, spread
from assay.reports.run import labels
from assay.reports.run.explainer_statistics import pooled
from assay.reports.run.ranking import metrics_of
from assay.reports.run.reader import where
from assay.reports.run.records import Metric

BETTER = {"higher": "higher is better →", "lower": "← lower is better", "none": ""}


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """Quality of every method and of every model; none where nothing was explained."""
    scores = context.table("summary", data, kind="explain").dropna(subset="value")
    if not len(scores):
        return []
    plots = [_by_method(context, scores, pooled(context.run, data), f"{prefix}-explainers")]
    return (
        [*plots, _by_model(context, scores, f"{prefix}-explainers-models")] if scores["model"].nunique() > 1 else plots
    )


def together(context: Context, data: str, prefix: str) -> list[Plot]:
    """Quality against robust accuracy, where both are known of two models."""
    points = context.table("ranking", data).dropna(subset=["robust_accuracy", "quality"])
    return [_against(context, points, f"{prefix}-robust-quality")] if len(points) > 1 else []


def _by_method(context: Context, scores: pd.DataFrame, means: pd.DataFrame, name: str) -> Plot:
    run, marks = context.run, context.marks
    metrics = metrics_of(means)
    facts = {metric: run.metric(metric) for metric in metrics}
    control = {method: run.method(method).control for method in means["method"].unique()}
    first = where(means, metric=metrics[0]).set_index("method")["value"]
    sign = -1 if facts[metrics[0]].direction == "lower" else 1
    methods = sorted(control, key=lambda m: (not control[m], sign * first.get(m, -np.inf), m))
    controls = sum(control.values())
    models = scores["model"].nunique()
    coverage = means.groupby("method")["models"].max()
    brief = run.short(methods)
    names = [brief[m] + (f" ({coverage[m]} of {models})" if coverage[m] < models else "") for m in methods]

    def draw(look: Look) -> Figure:
        page = panels(len(metrics), 0.75 + 0.27 * len(methods), 0.1, sharey=True)
        for ax, metric in zip(page.axes, metrics, strict=True):
            if controls:
                ax.axhspan(-0.6, controls - 0.5, color=look.grid, alpha=0.55, lw=0, zorder=0)
            values, mean = where(scores, metric=metric), where(means, metric=metric).set_index("method")
            rivals = [mean["value"].get(method, np.nan) for method in methods[:controls]]
            if not np.isnan(rivals).all():
                best = np.nanmin(rivals) if facts[metric].direction == "lower" else np.nanmax(rivals)
                ax.axvline(best, color=look.soft, lw=1, ls=(0, (4, 3)), zorder=1)
            for y, method in enumerate(methods):
                _models(ax, y, where(values, method=method).set_index("model")["value"], marks)
                if method in mean.index:
                    _mean(ax, y, mean.loc[method], control[method], look)
            ax.set_title(metric if len(metric) < 24 else metric.replace("(", "\n(", 1))
            ax.set_xlabel(_axis(facts[metric]))
            lines_of(ax, names)
        return page.figure

    who = "Each small mark is one model, the bar the mean over models" if models > 1 else "The bar is the mean"
    note = (
        "The shaded rows are controls that know nothing of the model; the dashed line is the best of them, and a "
        "method that does not pass it has shown nothing."
        if controls
        else "No control map was measured beside them, so it is open whether they say more than one would."
    )
    return Plot(
        name,
        "Which heatmaps point at what matters",
        f"{who} with its 95 % bootstrap interval over images. {note}",
        f"Dot plots of {', '.join(metrics)} for {len(methods)} heatmap methods, {controls} of them controls.",
        draw,
    )


def _axis(metric: Metric) -> str:
    better = BETTER.get(metric.direction, "")
    return " ".join(filter(None, (metric.unit, f"({better})" if better else "")))


def _models(ax: Axes, y: int, values: "pd.Series[float]", marks: Mapping[str, Identity]) -> None:
    """A small mark for each of several models."""
    order = [model for model in marks if model in values.index]
    for i, model in enumerate(order if len(order) > 1 else ()):
        mark, height = marks[model], y + 0.3 - 0.6 * i / (len(order) - 1)
        ax.plot(values[model], height, mark.marker, color=mark.colour, ms=3.2, mew=0, alpha=0.85, zorder=2)


def _mean(ax: Axes, y: int, row: "pd.Series[float]", control: bool, look: Look) -> None:
    """The mean of all models; hollow for a control."""
    bar(ax, row["low"], row["high"], y, look.ink, 2.2, zorder=3)
    colour = look.paper if control else look.ink
    ax.plot(row["value"], y, "D" if control else "o", color=colour, mec=look.ink, ms=5, zorder=4)


def _by_model(context: Context, scores: pd.DataFrame, name: str) -> Plot:
    run, metric = context.run, metrics_of(scores)[0]
    facts = run.metric(metric)
    rows = where(scores, metric=metric)
    table = rows.pivot_table(index="model", columns="method", values="value", aggfunc="first")
    means = (table.dropna() if len(table.dropna()) else table).mean()
    best = means.sort_values(ascending=facts.direction == "lower", kind="stable").index
    control = {method: run.method(method).control for method in best}
    order = sorted(best, key=lambda method: control[method])
    brief = run.short(order)
    table = table.reindex(columns=order, index=context.ordered(table.index)).rename(index=context.label)
    table = table.rename(columns={m: brief[m] + (" (control)" if control[m] else "") for m in order})
    share = facts.unit == "share"
    scale = Scale(metric, ".2f", float(table.min().min()), float(table.max().max()))
    scale = Scale(f"{metric}, %", ".0f", 0.0, 100.0) if share else scale
    better = {"higher": "Higher is better", "lower": "Lower is better"}.get(facts.direction, "Neither end is better")
    how = f"{better}; methods run from best to worst, controls come last: a method has to stand out from them."
    return heat_map(table * (100 if share else 1), name, f"{metric} of every model with every method", how, scale)


def _against(context: Context, points: pd.DataFrame, name: str) -> Plot:
    marks, metric = context.marks, str(points["quality_metric"].iloc[0])
    facts = context.run.metric(metric)
    limit = labels.ball(str(points["norm"].iloc[0]), float(points["eps"].iloc[0]))
    ends = points[["quality_low", "quality", "quality_high"]].to_numpy(dtype="float64")
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    room = 0.08 * (high - low or 1)

    def draw(look: Look) -> Figure:
        figure = canvas(8.6, 4.6)
        ax = figure.subplots()
        right = min(1.0, max(0.25, np.ceil(4 * 1.05 * float(points["robust_high"].max())) / 4))
        ax.set_xlim(-0.02 * right, right)
        ax.set_ylim(low - room, high + room)
        records = points.to_dict("records")
        heights = spread(
            [row["quality"] for row in records], (high - low + 2 * room) / 17, low - room / 2, high + room / 2
        )
        for row, height in zip(records, heights, strict=True):
            mark = marks[row["model"]]
            x, y = row["robust_accuracy"], row["quality"]
            ax.plot([row["robust_low"], row["robust_high"]], [y, y], color=mark.colour, lw=1.3, alpha=0.8)
            ax.plot([x, x], [row["quality_low"], row["quality_high"]], color=mark.colour, lw=1.3, alpha=0.8)
            ax.plot([x, 1.03 * right], [y, height], color=look.soft, lw=0.6, alpha=0.55, clip_on=False, zorder=1)
            ax.plot(x, y, mark.marker, color=mark.colour, ms=7.5, mec=look.paper, zorder=4, clip_on=False)
            ax.annotate(mark.label, (1.055 * right, height), va="center", annotation_clip=False)
            ax.plot(1.035 * right, height, mark.marker, color=mark.colour, ms=4.5, mew=0, clip_on=False)
        percents(ax, "x")
        ax.set_xlim(-0.02 * right, right)
        ax.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10]))
        if facts.unit == "share":
            ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        ax.set_xlabel(f"Robust accuracy, worst case within {limit}")
        ax.set_ylabel(f"{metric} of the best explainer")
        return figure

    better = {"higher": "top right", "lower": "bottom right"}.get(facts.direction, "right")
    return Plot(
        name,
        "Are the robust models the ones that look at the object?",
        f"One point a model, with 95 % intervals both ways; the {better} corner is robust and looks where it should.",
        f"Scatter plot of robust accuracy against {metric} for {len(points)} models.",
        draw,
    )
