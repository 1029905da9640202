"""Figures of what attacks without gradients find with how many questions."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from assay.reports.context import Context
from assay.reports.drawing.charts import panels
from assay.reports.drawing.theme import Look, Plot, percents
from assay.reports.run import labels
from assay.reports.run.outcomes import outcomes
from assay.reports.run.reader import Run, where
from assay.reports.run.records import Method


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """Share fooled against queries for attacks with a budget, median distance against queries for the others."""
    run = context.run
    rows = where(outcomes(run), data=data)
    with_queries = [m for m in rows.loc[rows["queries"].notna(), "method"].unique() if run.method(m).bounded]
    shares = rows[rows["method"].isin(with_queries) & rows["started"]]
    plots = [_shares(context, shares, f"{prefix}-queries")] if len(shares) else []
    tracks = distances(run, data, rows)
    return [*plots, _distances(context, tracks, f"{prefix}-queries-distance")] if len(tracks) else plots


def distances(run: Run, data: str, outcomes: pd.DataFrame) -> pd.DataFrame:
    """``model, method, queries, value``: the median over the images that were right of the smallest distance so far.

    An image that was not yet fooled counts as infinitely far; medians that are not finite are left out.
    """
    rows = run.select("attack", data=data)
    rows = rows[rows["metric"].str.fullmatch(r"distance_at_\d+")]
    right = outcomes.loc[outcomes["started"], ["model", "method", "image"]]
    rows = rows.merge(right, on=["model", "method", "image"])
    rows = rows.assign(value=rows["value"].fillna(np.inf), queries=rows["metric"].str.extract(r"(\d+)")[0].astype(int))
    medians = rows.groupby(["model", "method", "queries"], as_index=False)["value"].median()
    return pd.DataFrame(medians[np.isfinite(medians["value"])])


def _shares(context: Context, rows: pd.DataFrame, name: str) -> Plot:
    marks, methods = context.marks, context.run.methods(rows["method"])
    brief = context.run.short(rows["method"].unique(), always=("norm", "eps"))
    attacks = sorted(brief, key=lambda method: brief[method])
    models = context.ordered(rows["model"])

    def draw(look: Look) -> Figure:
        page = panels(len(attacks), 3.2, 0.3, most=3, narrow=6.8)
        for ax, attack in zip(page.axes, attacks, strict=True):
            under = where(rows, method=attack)
            limit = _budget(methods[attack], under)
            for model in models:
                queries = where(under, model=model)["queries"].to_numpy(np.float64)
                if len(queries):
                    x, y = _share_fooled(queries, limit)
                    mark = marks[model]
                    ax.step(x, y, where="post", color=mark.colour, ls=mark.line, lw=1.8, label=mark.label)
            ax.set_title(brief[attack])
            _log(ax)
            ax.set_xlim(1, limit)
            ax.set_ylim(0, 1.005)
            percents(ax, "y")
            ax.set_xlabel("Queries per image")
        page.axes[0].set_ylabel("Images fooled, of those it had right")
        page.legend(len(models))
        return page.figure

    return Plot(
        name,
        "How many questions it takes to fool",
        "Attacks that see the model's scores but no gradients. A line that rises early and high is a model that "
        "strangers fool cheaply; one that stays low kept its images within this radius.",
        f"Share of images fooled against queries for {len(models)} models under {', '.join(brief.values())}.",
        draw,
    )


def _distances(context: Context, rows: pd.DataFrame, name: str) -> Plot:
    marks, methods = context.marks, context.run.methods(rows["method"])
    brief = context.run.short(rows["method"].unique(), always=("norm",))
    attacks = sorted(brief, key=lambda method: brief[method])
    models = context.ordered(rows["model"])

    def draw(look: Look) -> Figure:
        page = panels(len(attacks), 3.2, 0.3, most=3, narrow=6.8)
        for ax, attack in zip(page.axes, attacks, strict=True):
            for model in models:
                track, mark = where(rows, method=attack, model=model), marks[model]
                ax.plot(
                    track["queries"], track["value"], color=mark.colour, marker=mark.marker, ms=4.5, mew=0,
                    label=mark.label, clip_on=False,
                )  # fmt: skip
            norm = methods[attack].norm
            ax.set_title(brief[attack])
            _log(ax)
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.yaxis.set_minor_formatter(lambda value, _: "")
            ax.set_xlabel("Queries per image")
            ax.set_ylabel(f"Median {labels.NORMS.get(norm, norm)} distance")
        page.legend(len(models))
        return page.figure

    return Plot(
        name,
        "How close a decision-based attack comes with how many questions",
        "These attacks see only the class that the model names, start far away and walk closer: the median over the "
        "images that the model had right, lower is closer. A line that still falls has not come to rest.",
        f"Median distance against queries for {len(models)} models under {', '.join(brief.values())}.",
        draw,
    )


def _log(ax: Axes) -> None:
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}".replace(",", " "))
    ax.xaxis.set_minor_formatter(lambda value, _: "")


def _share_fooled(queries: NDArray[np.float64], limit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the share of images fooled after so many queries; NaN never was."""
    counts = np.sort(queries[~np.isnan(queries)]).clip(1)
    share = np.arange(1, len(counts) + 1) / len(queries)
    return np.concatenate([[1.0], counts, [limit]]), np.concatenate([[0.0], share, [share[-1] if len(share) else 0.0]])


def _budget(method: Method, rows: pd.DataFrame) -> float:
    limit = method.settings.get("queries")
    most = float(rows["queries"].max())
    return max(float(limit) if isinstance(limit, int | float) else 0.0, most, 10.0)
