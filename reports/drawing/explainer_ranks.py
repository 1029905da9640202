"""Figures of how explainers stand: their ranks with intervals, and which metrics agree."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from assay.reports.context import Context
from assay.reports.drawing.charts import Scale, colour_table
from assay.reports.drawing.theme import Look, Plot, canvas, label_table
from assay.reports.run.ranking import metrics_of
from assay.reports.run.reader import where

NONE = "–"


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """The figures of one data set; none where there is nothing to compare."""
    methods, agreement = (context.table(name, data) for name in ("explainers", "metric_agreement"))
    rivals = where(methods, control=False)
    plots = []
    if methods["rank"].notna().any() and rivals["method"].nunique() > 1:
        plots.append(_ranks(rivals, context.run.short(rivals["method"].unique()), f"{prefix}-explainers-ranks"))
    if agreement["tau"].notna().sum() > 1:
        plots.append(_agreement(agreement, f"{prefix}-metrics-agreement"))
    return plots


def _ranks(methods: pd.DataFrame, brief: dict[str, str], name: str) -> Plot:
    metrics = metrics_of(methods)
    rank = methods.pivot(index="method", columns="metric", values="rank")[metrics]
    share = rank.fillna(rank.max() + 1).rank().mean(axis=1)
    order = sorted(rank.index, key=lambda method: (share[method], method))
    words = pd.Series(
        [_span(low, high) for low, high in zip(methods["rank_low"], methods["rank_high"], strict=True)], methods.index
    )
    text = methods.assign(words=words).pivot(index="method", columns="metric", values="words")
    rank, text = rank.loc[order], text.loc[order, metrics].fillna("")
    worst = float(np.nanmax(rank.to_numpy()))
    silent = int((~rank.notna().any(axis=1)).sum())

    def draw(look: Look) -> Figure:
        figure = canvas(min(11.0, max(6.5, 3.0 + 0.7 * len(metrics))), 1.7 + 0.27 * len(order))
        ax = figure.subplots()
        scale = Scale("Rank (1 is best)", "", 1, max(worst, 2))
        reverse = look.colours.reversed()
        colour_table(ax, rank.rename(index=brief), scale, look, size=7.5, cmap=reverse, annot=text.to_numpy())
        for y, x in zip(*np.nonzero(rank.isna().to_numpy() & (text != "").to_numpy()), strict=True):
            ax.text(x + 0.5, y + 0.5, str(text.iat[y, x]), ha="center", va="center", color=look.soft, size=8)
        figure.axes[-1].invert_yaxis()  # the scale's
        label_table(ax, [brief[method] for method in order], metrics)
        return figure

    note = f" {silent} of {len(order)} methods beat the controls by no metric." if silent else ""
    return Plot(
        name,
        "Where each method stands, and how sure that is",
        "A cell holds the middle 95 % of the ranks when the images are drawn again; methods that share ranks are "
        f"not told apart. {NONE} is a method that does not beat every control map (one-sided Wilcoxon, Holm over "
        f"methods, 5 %): it has no rank. An empty cell was not measured.{note}",
        f"Table of ranks of {len(order)} methods by {', '.join(metrics)}.",
        draw,
    )


def _span(low: float, high: float) -> str:
    if np.isnan(low):
        return NONE
    low, high = round(low), round(high)
    return f"{low}" if low == high else f"{low}–{high}"


def _agreement(agreement: pd.DataFrame, name: str) -> Plot:
    metrics = metrics_of(pd.DataFrame({"metric": [*agreement["metric"], *agreement["other"]]}))
    table = pd.DataFrame(np.eye(len(metrics)), metrics, metrics)
    table = table.where(table == 1)
    for row in agreement.to_dict("records"):
        table.loc[row["metric"], row["other"]] = table.loc[row["other"], row["metric"]] = row["tau"]

    def draw(look: Look) -> Figure:
        side = 2.6 + 0.5 * len(metrics)
        figure = canvas(min(11.0, max(6.5, side + 0.8)), max(3.0, 1.6 + 0.34 * len(metrics)))
        ax = figure.subplots()
        colour_table(ax, table, Scale("Kendall's τ", ".1f", -1, 1), look, size=7.5, cmap="vlag")
        label_table(ax, metrics, metrics)
        return figure

    return Plot(
        name,
        "Do the metrics prefer the same methods?",
        "Kendall's τ of two metrics over all methods and controls: 1 is the same order, 0 no relation, -1 the reverse. "
        "Metrics that disagree measure different things; a method is good at what its metric says, not in general.",
        f"Heat map of rank correlations between {len(metrics)} metrics.",
        draw,
    )
