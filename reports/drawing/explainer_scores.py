"""Figures about heatmaps: how good they are, and whether robust models look where they should."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from assay.reports.run import labels as names
from assay.reports.drawing.attack_figures import WIDTH, heat_map
from assay.reports.run.intervals import estimate
from assay.reports.drawing.theme import Identity, Look, Plot, canvas, grid, percents, spread
from assay.reports.run.ranking import worth
from assay.reports.run.reader import Run

BETTER = {"higher": "higher is better →", "lower": "← lower is better", "none": ""}


def figures(
    run: Run, summary: pd.DataFrame, ranked: pd.DataFrame, data: str, marks: dict[str, Identity], prefix: str
) -> list[Plot]:
    """The figures of one data set; none where nothing was explained."""
    scores = summary[(summary["data"] == data) & (summary["kind"] == "explain")].dropna(subset="value")
    plots = []
    if len(scores):
        plots.append(_by_method(run, scores, pooled(run, data), marks, f"{prefix}-explainers"))
        if scores["model"].nunique() > 1:
            plots.append(_by_model(run, scores, marks, f"{prefix}-explainers-models"))
    points = ranked[ranked["data"] == data].dropna(subset=["robust_accuracy", "quality"])
    if len(points) > 1:
        plots.append(_against(run, points, marks, f"{prefix}-robust-quality"))
    return plots


def pooled(run: Run, data: str, common: bool = False) -> pd.DataFrame:
    """``method, metric, models, value, low, high, n``: each image's mean over models, then the statistic over images.

    With ``common``, only the models that every method applies to count, so that methods compare. The interval is a
    bootstrap over images: it holds for these models, not for models in general.
    """
    rows = run.rows
    rows = rows[(rows["kind"] == "explain") & (rows["data"] == data) & (rows["metric"] != "")].dropna(subset="value")
    if common and len(rows):
        rows = rows[rows["model"].isin(set.intersection(*(set(g["model"]) for _, g in rows.groupby("method"))))]
    records = []
    for (method, metric), group in rows.groupby(["method", "metric"]):
        per_image = group.groupby("image")["value"].mean().to_numpy()
        key = f"{data}\x1f{method}\x1f{metric}"
        found = estimate(per_image, run.metric(str(metric))["statistic"], "bootstrap", key)
        records.append((method, metric, group["model"].nunique(), *found))
    return pd.DataFrame(records, columns=["method", "metric", "models", "value", "low", "high", "n"])


def metrics_of(scores: pd.DataFrame) -> list[str]:
    """Metrics in the order in which ``ranking.QUALITY`` asks for them, then the rest by name."""
    return sorted(set(scores["metric"]), key=worth)


def _by_method(
    run: Run, scores: pd.DataFrame, means: pd.DataFrame, marks: dict[str, Identity], name: str
) -> Plot:
    metrics = metrics_of(means)
    first = means[means["metric"] == metrics[0]].set_index("method")["value"]
    sign = -1 if run.metric(metrics[0])["direction"] == "lower" else 1
    methods = sorted(set(means["method"]), key=lambda m: (not names.read(m).control, sign * first.get(m, -np.inf), m))
    controls = sum(names.read(method).control for method in methods)
    models = scores["model"].nunique()
    coverage = means.groupby("method")["models"].max()
    brief = names.short(methods)
    labels = [brief[m] + (f" ({coverage[m]} of {models})" if coverage[m] < models else "") for m in methods]

    def draw(look: Look) -> Figure:
        lines, columns = grid(len(metrics))
        figure = canvas(WIDTH if columns > 1 else 6.5, (0.75 + 0.27 * len(methods)) * lines + 0.1)
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for ax, metric in zip(axes.flat, metrics, strict=False):
            direction = run.metric(metric)["direction"]
            if controls:
                ax.axhspan(-0.6, controls - 0.5, color=look.grid, alpha=0.55, lw=0, zorder=0)
            mine, means_of = scores[scores["metric"] == metric], means[means["metric"] == metric].set_index("method")
            rivals = [means_of["value"].get(method, np.nan) for method in methods[:controls]]
            if not np.isnan(rivals).all():
                best = np.nanmin(rivals) if direction == "lower" else np.nanmax(rivals)
                ax.axvline(best, color=look.soft, lw=1, ls=(0, (4, 3)), zorder=1)
            for y, method in enumerate(methods):
                _strip(ax, y, mine[mine["method"] == method], means_of, method, marks, look)
            ax.set_title(metric if len(metric) < 24 else metric.replace("(", "\n(", 1))
            ax.set_xlabel(
                " ".join(
                    word
                    for word in (
                        run.metric(metric)["unit"],
                        f"({BETTER[direction]})" if BETTER.get(direction) else "",
                    )
                    if word
                )
            )
            ax.set_yticks(range(len(methods)), labels)
            ax.set_ylim(-0.6, len(methods) - 0.4)
        for ax in axes.flat[len(metrics) :]:
            ax.remove()
        return figure

    who = "Each small mark is one model, the bar the mean over models" if models > 1 else "The bar is the mean"
    shaded = (
        "The shaded rows are controls that know nothing of the model; the dashed line is the best of them, and a "
        "method that does not pass it has shown nothing."
        if controls
        else "No control map was measured beside them, so it is open whether they say more than one would."
    )
    return Plot(
        name,
        "Which heatmaps point at what matters",
        f"{who} with its 95 % bootstrap interval over images. {shaded}",
        f"Dot plots of {', '.join(metrics)} for {len(methods)} heatmap methods, {controls} of them controls.",
        draw,
    )


def _by_model(run: Run, scores: pd.DataFrame, marks: dict[str, Identity], name: str) -> Plot:
    metric = metrics_of(scores)[0]
    direction, unit = (run.metric(metric)[key] for key in ("direction", "unit"))
    table = scores[scores["metric"] == metric].pivot_table(
        index="model", columns="method", values="value", aggfunc="first"
    )
    best = (
        (table.dropna() if len(table.dropna()) else table)
        .mean()
        .sort_values(ascending=direction == "lower", kind="stable")
        .index
    )
    order = [*(m for m in best if not names.read(m).control), *(m for m in best if names.read(m).control)]
    brief = names.short(order)
    table = table.reindex(columns=order, index=[model for model in marks if model in table.index])
    table = table.rename(columns={m: brief[m] + (" (control)" if names.read(m).control else "") for m in order})
    table = table.rename(index={model: mark.label for model, mark in marks.items()})
    scale = (
        (f"{metric}, %", ".0f", (0.0, 100.0))
        if unit == "share"
        else (metric, ".2f", (float(table.min().min()), float(table.max().max())))
    )
    better = {"higher": "Higher is better", "lower": "Lower is better"}.get(direction, "Neither end is better")
    how = f"{better}; methods run from best to worst, controls come last: a method has to stand out from them."
    return heat_map(
        table * (100 if unit == "share" else 1), name, f"{metric} of every model with every method", how, scale
    )


def _strip(
    ax: Axes, y: int, mine: pd.DataFrame, means: pd.DataFrame, method: str, marks: dict[str, Identity], look: Look
) -> None:
    rows = mine.set_index("model")["value"]
    order = [model for model in marks if model in rows.index]
    if len(order) > 1:
        for i, model in enumerate(order):
            mark = marks[model]
            ax.plot(
                rows[model],
                y + 0.3 - 0.6 * i / (len(order) - 1),
                mark.marker,
                color=mark.colour,
                ms=3.2,
                mew=0,
                alpha=0.85,
                zorder=2,
            )
    if method in means.index:
        row = means.loc[method]
        hollow = names.read(method).control
        ax.plot([row["low"], row["high"]], [y, y], color=look.ink, lw=2.2, zorder=3, solid_capstyle="round")
        ax.plot(
            row["value"],
            y,
            "D" if hollow else "o",
            color=look.paper if hollow else look.ink,
            mec=look.ink,
            ms=5,
            zorder=4,
        )


def _against(run: Run, points: pd.DataFrame, marks: dict[str, Identity], name: str) -> Plot:
    metric = str(points["quality_metric"].iloc[0])
    limit = names.ball(str(points["norm"].iloc[0]), float(points["eps"].iloc[0]))
    share = run.metric(metric)["unit"] == "share"
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
        if share:
            ax.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
        ax.set_xlabel(f"Robust accuracy, worst case within {limit}")
        ax.set_ylabel(f"{metric} of the best explainer")
        return figure

    better = {"higher": "top right", "lower": "bottom right"}.get(run.metric(metric)["direction"], "right")
    return Plot(
        name,
        "Are the robust models the ones that look at the object?",
        f"One point a model, with 95 % intervals both ways; the {better} corner is robust and looks where it should.",
        f"Scatter plot of robust accuracy against {metric} for {len(points)} models.",
        draw,
    )
