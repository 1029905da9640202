"""Figures of curves over the radius, and of how close attacks come to the best known distances."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assay.reports.context import Context
from assay.reports.drawing.charts import BANDS, MEAN, Scale, heat_map
from assay.reports.drawing.theme import Identity, Look, Plot, canvas, percents
from assay.reports.run import labels, ranking
from assay.reports.run.outcomes import WORST
from assay.reports.run.reader import where


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """One figure a norm in which attacks looked for the smallest change."""
    curves, points = context.table("curves", data), ranking.worst_cases(context.run, data)
    whole = set(where(curves, method=WORST)["norm"])
    return [
        _curve(context, where(curves, norm=norm), where(points, norm=norm), norm, f"{prefix}-radius-{norm}")
        for norm in (norm for norm in labels.NORMS if norm in whole)
    ]


def optimality(context: Context, data: str, prefix: str) -> list[Plot]:
    """How close each attack comes to the best known distances, models by attacks; alone, an attack is its own best."""
    rows = context.table("optimality", data)
    rows = rows[rows["attacks"] > 1].dropna(subset="optimality")
    rows = rows[rows["attacks"] == rows.groupby("norm")["attacks"].transform("max")]  # models that met all
    if not len(rows):
        return []
    order = [norm for norm in labels.NORMS if norm in set(rows["norm"])]
    brief = context.run.short(rows["method"].unique(), always=("norm",))
    place = {method: order.index(norm) for method, norm in zip(rows["method"], rows["norm"], strict=True)}
    table = rows.pivot(index="model", columns="method", values="optimality")
    mean = table.mean()
    table = table[sorted(table.columns, key=lambda method: (place[str(method)], -mean[str(method)], method))]
    table = table.reindex(context.ordered(table.index)).rename(index=context.label)
    if len(table) > 1:
        table.loc[MEAN] = table.mean()
    column = {method: _with_norm(brief[method], order[place[method]]) for method in table.columns}
    how = (
        "100 means that no attack of this run found a smaller change on any image, 0 that it found none at all, by the "
        "area under its curve (AttackBench's local optimality). Attacks compare within a norm, not across."
    )
    title = "How close each attack comes to the smallest known change"
    scale = Scale("Optimality, %", ".0f", 0.0, 100.0)
    return [heat_map(100 * table.rename(columns=column), f"{prefix}-optimality", title, how, scale)]


def _with_norm(brief: str, norm: str) -> str:
    return brief if labels.NORMS[norm] in brief.split() else f"{brief} {labels.NORMS[norm]}"


def _curve(context: Context, rows: pd.DataFrame, points: pd.DataFrame, norm: str, name: str) -> Plot:
    marks, models = context.marks, context.ordered(where(rows, method=WORST)["model"])
    methods = [str(method) for method in rows["method"].unique() if method != WORST]
    several = len(methods) > 1
    strongest = {model: _strongest(where(rows, model=model)) for model in models} if several else {}
    few = len(models) <= BANDS
    right = end(rows, points)
    scale = scale_of(norm, right)

    def draw(look: Look) -> Figure:
        figure = canvas(8.6 if few else 10.4, 4.4 if few else 5.2)
        ax = figure.subplots()
        ax.set_xlim(-0.012 * right * scale, right * scale)
        for model in models:
            _step(ax, where(rows, model=model, method=WORST), right, scale, marks[model], band=few)
            if few and strongest:
                x, y = staircase(where(rows, model=model, method=strongest[model]), right)
                ax.step(x * scale, y, where="post", color=marks[model].colour, lw=1, ls=(0, (1, 1.5)), zorder=2)
        for model in models:
            mark, at = marks[model], where(points, model=model)
            at = at[at["eps"] <= right]
            if few:
                ax.vlines(at["eps"] * scale, at["low"], at["high"], color=mark.colour, lw=1.2, alpha=0.7, zorder=4)
            ax.plot(
                at["eps"] * scale, at["value"], mark.marker, color=mark.colour, ms=6.5, mec=look.paper, zorder=5,
                clip_on=False,
            )  # fmt: skip
        ax.set_ylim(0, 1.005)
        percents(ax, "y")
        ax.set_ylabel("Images still right")
        unit = "in 1/255" if scale == 255 else "images in [0, 1]"
        ax.set_xlabel(f"{labels.NORMS[norm]} radius" + (", values changed" if norm == "l0" else f", {unit}"))
        figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", handlelength=2.0)
        return figure

    who = f"the best of {len(methods)} attacks for each image" if several else context.run.method(methods[0]).title
    dots = " Points are attacks that were given a radius; a point above its line means that they missed images."
    thin = " Dotted: the single strongest attack." if few and strongest else ""
    return Plot(
        name,
        f"Robust accuracy at every radius ({labels.NORMS[norm]})",
        f"A line falls where the smallest change known, by {who}, fools one more image; it starts at the clean "
        f"accuracy."
        f"{thin}{dots if len(points) else ''}{' Bands are 95 % Wilson intervals.' if few else ''}",
        f"Step curves of robust accuracy against the {labels.NORMS[norm]} radius for {len(models)} models.",
        draw,
    )


def _strongest(rows: pd.DataFrame) -> str:
    """The attack whose curve has the least area, up to the largest radius at which any curve of the model falls."""
    last = rows["eps"].max()
    areas = {}
    for method, group in rows[rows["method"] != WORST].groupby("method"):
        x, y = staircase(group, last)
        areas[str(method)] = float((np.diff(x) * y[:-1]).sum())
    return min(areas, key=lambda method: (areas[method], method))


def scale_of(norm: str, right: float) -> int:
    """255 where radii up to ``right`` are read in levels of a pixel."""
    return 255 if norm == "linf" and right <= 64 / 255 else 1


def end(rows: pd.DataFrame, points: pd.DataFrame) -> float:
    """Where the axis ends: past the budgets, and twice as far as most models take to lose three quarters."""
    worst = where(rows, method=WORST)
    falls = [
        float(group.loc[group["robust_accuracy"] <= group["robust_accuracy"].max() / 4, "eps"].min())
        for _, group in worst.groupby("model")
    ]
    positive = [radius for radius in falls if radius > 0]
    far = min(2 * float(np.median(positive)), float(worst["eps"].max())) if positive else float(worst["eps"].max())
    return max(far, 1.1 * float(points["eps"].max()) if len(points) else 0.0) or 1.0


def _step(ax: Axes, rows: pd.DataFrame, right: float, scale: float, mark: Identity, band: bool) -> None:
    x, y = staircase(rows, right)
    if band:
        low, high = (staircase(rows, right, column)[1] for column in ("low", "high"))
        ax.fill_between(x * scale, low, high, step="post", color=mark.colour, alpha=0.14, lw=0)
    ax.step(x * scale, y, where="post", color=mark.colour, lw=1.9, ls=mark.line, label=mark.label, zorder=3)


def staircase(rows: pd.DataFrame, right: float, column: str = "robust_accuracy") -> tuple[np.ndarray, np.ndarray]:
    """Corners of a curve up to ``right``."""
    rows = rows.sort_values("eps")
    rows = rows[rows["eps"] <= right]
    return np.append(rows["eps"], right), np.append(rows[column], rows[column].iloc[-1])
