"""Figures of what attacks without gradients find with how many questions."""

import json

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from assay.reports.run import labels as names
from assay.reports.run.outcomes import Facts, all_facts, outcomes
from assay.reports.drawing.theme import Identity, Look, Plot, canvas, grid, percents
from assay.reports.run.reader import Run

WIDTH = 11.0


def figures(run: Run, data: str, marks: dict[str, Identity], prefix: str) -> list[Plot]:
    """Share fooled against queries for attacks with a budget, median distance against queries for the others."""
    rows = outcomes(run)
    rows = rows[rows["data"] == data]
    known = all_facts(run, rows["method"])
    counted = set(rows.loc[rows["queries"].notna(), "method"])
    shares = rows[rows["method"].isin([m for m in counted if known[m].bounded]) & rows["started"]]
    plots = [_shares(shares, known, marks, f"{prefix}-queries")] if len(shares) else []
    tracks = distances(run, data, rows)
    return [*plots, _distances(tracks, known, marks, f"{prefix}-queries-distance")] if len(tracks) else plots


def distances(run: Run, data: str, outcomes: pd.DataFrame) -> pd.DataFrame:
    """``model, method, queries, value``: the median over the images that were right of the smallest distance so far.

    An image that was not yet fooled counts as infinitely far; medians that are not finite are left out.
    """
    rows = run.rows[(run.rows["kind"] == "attack") & (run.rows["data"] == data)]
    rows = rows[rows["metric"].str.fullmatch(r"distance_at_\d+")]
    right = outcomes.loc[outcomes["started"], ["model", "method", "image"]]
    rows = rows.merge(right, on=["model", "method", "image"])
    rows = rows.assign(value=rows["value"].fillna(np.inf), queries=rows["metric"].str.extract(r"(\d+)")[0].astype(int))
    found = rows.groupby(["model", "method", "queries"], as_index=False)["value"].median()
    return pd.DataFrame(found[np.isfinite(found["value"])])


def _shares(rows: pd.DataFrame, known: dict[str, Facts], marks: dict[str, Identity], name: str) -> Plot:
    brief = names.short(rows["method"].unique(), always=("norm", "eps"))
    attacks = sorted(brief, key=lambda method: brief[method])
    models = [model for model in marks if model in set(rows["model"])]

    def draw(look: Look) -> Figure:
        figure, axes = _panels(len(attacks))
        for ax, attack in zip(axes, attacks, strict=True):
            mine = rows[rows["method"] == attack]
            limit = _budget(known[attack], mine)
            for model in models:
                asked = mine.loc[mine["model"] == model, "queries"].to_numpy(np.float64)
                if len(asked):
                    x, y = _share_fooled(asked, limit)
                    ax.step(
                        x,
                        y,
                        where="post",
                        color=marks[model].colour,
                        ls=marks[model].line,
                        lw=1.8,
                        label=marks[model].label,
                    )
            ax.set_title(brief[attack])
            _log(ax)
            ax.set_xlim(1, limit)
            ax.set_ylim(0, 1.005)
            percents(ax, "y")
            ax.set_xlabel("Queries per image")
        axes[0].set_ylabel("Images fooled, of those it had right")
        _legend(figure, axes, models)
        return figure

    return Plot(
        name,
        "How many questions it takes to fool",
        "Attacks that see the model's scores but no gradients. A line that rises early and high is a model that "
        "strangers fool cheaply; one that stays low kept its images within this radius.",
        f"Share of images fooled against queries for {len(models)} models under {', '.join(brief.values())}.",
        draw,
    )


def _distances(rows: pd.DataFrame, known: dict[str, Facts], marks: dict[str, Identity], name: str) -> Plot:
    brief = names.short(rows["method"].unique(), always=("norm",))
    attacks = sorted(brief, key=lambda method: brief[method])
    models = [model for model in marks if model in set(rows["model"])]

    def draw(look: Look) -> Figure:
        figure, axes = _panels(len(attacks))
        for ax, attack in zip(axes, attacks, strict=True):
            for model in models:
                mine = rows[(rows["method"] == attack) & (rows["model"] == model)]
                mark = marks[model]
                ax.plot(
                    mine["queries"], mine["value"], color=mark.colour, marker=mark.marker, ms=4.5, mew=0,
                    label=mark.label, clip_on=False,
                )  # fmt: skip
            norm = known[attack].norm
            ax.set_title(brief[attack])
            _log(ax)
            ax.set_yscale("log")
            ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            ax.yaxis.set_minor_formatter(lambda value, _: "")
            ax.set_xlabel("Queries per image")
            ax.set_ylabel(f"Median {names.NORMS.get(norm, norm)} distance")
        _legend(figure, axes, models)
        return figure

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


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    lines, columns = grid(count, most=3)
    figure = canvas(WIDTH if columns > 1 else 6.8, 3.2 * lines + 0.3)
    axes = list(figure.subplots(lines, columns, squeeze=False).flat)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def _legend(figure: Figure, axes: list[Axes], models: list[str]) -> None:
    found = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    columns = min(6 if len(axes) > 1 else 3, len(models))
    figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=columns, handlelength=2.0)


def _share_fooled(queries: NDArray[np.float64], limit: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners of the share of images fooled after so many queries; NaN never was."""
    done = np.sort(queries[~np.isnan(queries)]).clip(1)
    share = np.arange(1, len(done) + 1) / len(queries)
    return np.concatenate([[1.0], done, [limit]]), np.concatenate([[0.0], share, [share[-1] if len(share) else 0.0]])


def _budget(facts: Facts, rows: pd.DataFrame) -> float:
    allowed = json.loads(facts.settings).get("queries")
    most = float(rows["queries"].max())
    return max(float(allowed) if isinstance(allowed, int | float) else 0.0, most, 10.0)
