"""Figures about attacks."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assay.reports.run import labels as names
from assay.reports.run import ranking
from assay.reports.run.outcomes import WORST, Facts, all_facts
from assay.reports.drawing.theme import Identity, Look, Plot, canvas, grid, label_table, percents
from assay.reports.run.reader import Run

MEAN = "mean of models"
PANELS = 8
BANDS = 5  # models whose intervals are drawn as bands; more would be a blur
WIDTH = 11.0


def figures(run: Run, summary: pd.DataFrame, data: str, marks: dict[str, Identity], prefix: str) -> list[Plot]:
    """The figures of one data set; none where nothing was attacked."""
    rows = ranking.survivors(run, data)
    clean = summary[(summary["data"] == data) & (summary["kind"] == "clean") & (summary["metric"] == "accuracy")]
    attacks = summary[(summary["data"] == data) & (summary["kind"] == "attack")]
    plots = []
    known = all_facts(run, attacks["method"])
    stepped = {found.norm for found in known.values() if found.minimal}  # these norms have curves of their own
    radii = rows.groupby("norm")["eps"].nunique()
    few = min(2, radii.max()) if len(radii) else 0
    for norm in (n for n in names.NORMS if n in radii and radii[n] >= (2 if n in stepped else few)):
        points = _points(rows[rows["norm"] == norm], attacks, clean)
        if len(points):
            plots.append(_curves(points, norm, marks, f"{prefix}-curves-{norm}"))
    table = _heat(rows, attacks, clean, marks, known)
    if table.shape[1] > 1:
        how = (
            "A number is the share of images, in percent, that the model still gets right; read along a row for what "
            "breaks a model and down a column for how strong an attack is. Attacks without a budget are left out: "
            "given enough change they fool anything."
        )
        title = "Robust accuracy of every model under every attack"
        plots.append(heat_map(100 * table, f"{prefix}-attacks", title, how, ("Images still right, %", ".0f", (0, 100))))
    distances = _distances(attacks, known)
    if len(distances):
        plots.append(_distance_plot(distances, marks, f"{prefix}-distances"))
    return plots


def _points(rows: pd.DataFrame, attacks: pd.DataFrame, clean: pd.DataFrame) -> pd.DataFrame:
    """``panel, model, eps, value, low, high``; every panel starts with the clean accuracy at 0."""
    held = attacks[attacks["metric"] == "robust_accuracy"].dropna(subset="value")
    where = rows.drop_duplicates(["model", "method"])[["model", "method", "eps", "family"]]
    found = held.merge(where, on=["model", "method"])
    radii = found.groupby("family")["eps"].nunique()
    families = [family for family in radii.index if radii[family] > 1] or list(radii.index)
    title = names.short(families)
    several = rows.groupby("eps")["family"].nunique().max() > 1
    worst = [
        (WORST, model, eps, *ranking.worst_case(group)[:3])
        for (model, eps), group in rows.groupby(["model", "eps"])
        if several
    ]
    columns = ["panel", "model", "eps", "value", "low", "high"]
    found = found[found["family"].isin(families[: PANELS - bool(worst)])]
    points = pd.concat(
        [
            frame
            for frame in (found.assign(panel=found["family"].map(title))[columns], pd.DataFrame(worst, columns=columns))
            if len(frame)
        ]
    )
    panels = points["panel"].unique()
    start = clean.dropna(subset="value").assign(eps=0.0)[["model", "eps", "value", "low", "high"]]
    starts = [
        start[start["model"].isin(points.loc[points["panel"] == panel, "model"])].assign(panel=panel)
        for panel in panels
    ]
    return pd.concat([points, *(frame for frame in starts if len(frame))]).sort_values(
        ["panel", "model", "eps"], ignore_index=True
    )


def _curves(points: pd.DataFrame, norm: str, marks: dict[str, Identity], name: str) -> Plot:
    panels = sorted(points["panel"].unique(), key=lambda panel: (panel == WORST, panel))
    models = [model for model in marks if model in set(points["model"])]
    fraction = all("/" in names.radius(eps, norm) for eps in points["eps"].unique() if eps)
    scale = 255 if fraction else 1

    def draw(look: Look) -> Figure:
        lines, columns = grid(len(panels))
        figure = canvas(WIDTH if columns > 1 else 6.5, 3.1 * lines + 0.25 * (1 + len(models) // 6))
        axes = figure.subplots(lines, columns, sharey=True, sharex=True, squeeze=False)
        for ax, panel in zip(axes.flat, panels, strict=False):
            _lines(ax, points[points["panel"] == panel], models, marks, scale)
            ax.set_title("Worst case of all attacks" if panel == WORST else panel)
            ax.set_xticks(sorted(points["eps"].unique() * scale))
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(f"{names.NORMS[norm]} radius" + (" in 1/255" if fraction else ", images in [0, 1]"))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for ax in axes.flat[len(panels) :]:
            ax.remove()
        for ax in axes[:, 0]:
            ax.set_ylabel("Images still right")
        handles, labels = axes.flat[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=min(6 if columns > 1 else 3, len(models)),
            handlelength=2.2,
        )
        return figure

    shown = ", ".join(panels)
    return Plot(
        name,
        f"Robust accuracy against the size of the change ({names.NORMS[norm]})",
        "Each line starts at the model's clean accuracy and falls as the attack may change pixels more; one that stays "
        f"high is robust. {'Bands' if len(models) <= BANDS else 'Bars'} are 95 % Wilson intervals over images.",
        f"Line plots of robust accuracy against eps for {len(models)} models, one panel each for {shown}.",
        draw,
    )


def _lines(ax: Axes, points: pd.DataFrame, models: Sequence[str], marks: dict[str, Identity], scale: float) -> None:
    radii = np.unique(points["eps"]) * scale
    room = min(0.6 * float(np.diff(radii).min(initial=radii.max())), 0.05 * float(radii.max()))
    width = 1.8 if len(models) <= BANDS else 1.1
    for i, model in enumerate(models):
        mark = marks[model]
        mine = points[points["model"] == model]
        x, low, high = mine["eps"].to_numpy() * scale, mine["low"].to_numpy(), mine["high"].to_numpy()
        if len(models) <= BANDS:
            ax.fill_between(x, low, high, color=mark.colour, alpha=0.16, lw=0)
        else:
            x = x + room * (i / (len(models) - 1) - 0.5)  # side by side, so that no bar hides another
            ax.vlines(x, low, high, color=mark.colour, alpha=0.55, lw=1.4, clip_on=False)
        ax.plot(
            x,
            mine["value"].to_numpy(),
            color=mark.colour,
            marker=mark.marker,
            ms=4.5,
            mew=0,
            lw=width,
            label=mark.label,
            zorder=3 + i / 100,
            clip_on=False,
        )
    ax.set_ylim(0, 1.005)
    percents(ax, "y")


def _heat(
    rows: pd.DataFrame, attacks: pd.DataFrame, clean: pd.DataFrame, marks: dict[str, Identity], known: dict[str, Facts]
) -> pd.DataFrame:
    """Robust accuracy, models by attacks with a budget; clean accuracy first, worst case at the shared budget last."""
    held = attacks[(attacks["metric"] == "robust_accuracy")].dropna(subset="value")
    label = names.short(sorted(set(held["method"])), always=("norm", "eps"))
    norms = list(names.NORMS)
    budgeted = sorted(
        (method for method in label if known[method].bounded and known[method].eps),
        key=lambda method: (
            bool(known[method].goal),
            norms.index(known[method].norm) if known[method].norm in norms else len(norms),
            known[method].name,
            known[method].settings,
            known[method].eps,
        ),
    )
    columns = {"clean": clean.set_index("model")["value"]}
    columns |= {label[method]: held[held["method"] == method].set_index("model")["value"] for method in budgeted}
    limit = ranking.budget(rows)
    at = rows[(rows["norm"] == limit.norm) & (rows["eps"] == limit.eps)] if limit else rows.iloc[:0]
    if limit and at["method"].nunique() > 1:
        worst = {str(model): ranking.worst_case(group).value for model, group in at.groupby("model")}
        columns[f"{WORST} {names.ball(*limit)}"] = pd.Series(worst, dtype="float64")
    table = pd.DataFrame(columns)
    table = table.sort_values([table.columns[-1], "clean"], ascending=False, kind="stable")
    return table.rename(index={model: mark.label for model, mark in marks.items()})


def heat_map(table: pd.DataFrame, name: str, title: str, how: str, scale: tuple[str, str, tuple[float, float]]) -> Plot:
    """A table of numbers as colours; ``scale`` is its label, its number format and its ends.

    The first column stands apart where it is the clean accuracy, the last where it is the worst case, and the row
    ``MEAN``.
    """
    label, digits, (low, high) = scale
    apart = {1} if table.columns[0] == "clean" else set()
    apart |= {table.shape[1] - 1} if str(table.columns[-1]).startswith(WORST) else set()

    def draw(look: Look) -> Figure:
        lines, columns = table.shape
        figure = canvas(min(WIDTH, max(6.5, 2.6 + 0.62 * columns)), 1.9 + 0.3 * lines)
        ax = figure.subplots()
        sns.heatmap(
            table, vmin=low, vmax=high, cmap=look.colours, annot=True, fmt=digits, linewidths=1.5, linecolor=look.paper,
            annot_kws={"size": 8}, cbar_kws={"label": label, "pad": 0.02, "fraction": 0.03}, ax=ax,
        )  # fmt: skip
        label_table(ax, list(table.index), list(table.columns))
        for edge in sorted(apart):
            ax.axvline(edge, color=look.paper, lw=6)
        if table.index[-1] == MEAN:
            ax.axhline(lines - 1, color=look.paper, lw=6)
        return figure

    return Plot(
        name, title, how, f"Heat map, {table.shape[0]} models by {table.shape[1]} columns: {title.lower()}.", draw
    )


def _distances(attacks: pd.DataFrame, known: dict[str, Facts]) -> pd.DataFrame:
    """Median distances of the attacks that look for the smallest change, each in its own norm."""
    free = {method: f"distance_{found.norm}" for method, found in known.items() if found.minimal}
    rows = attacks[attacks["method"].map(free) == attacks["metric"]].dropna(subset="value")
    label = names.short(free, always=("norm",))
    return rows.assign(attack=rows["method"].map(label), norm=rows["metric"].str.removeprefix("distance_"))


def _distance_plot(rows: pd.DataFrame, marks: dict[str, Identity], name: str) -> Plot:
    attacks = sorted(rows["attack"].unique())
    order = rows.groupby("model")["value"].median().sort_values().index.tolist()
    norms = rows.groupby("attack")["norm"].first()

    def draw(look: Look) -> Figure:
        lines, columns = grid(len(attacks), most=3)
        figure = canvas(WIDTH if columns > 1 else 6.5, (0.7 + 0.24 * len(order)) * lines + 0.2)
        axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
        for ax, attack in zip(axes.flat, attacks, strict=False):
            mine = rows[rows["attack"] == attack].set_index("model")
            for y, model in enumerate(order):
                if model in mine.index:
                    mark, row = marks[model], mine.loc[model]
                    ax.plot([row["low"], row["high"]], [y, y], color=mark.colour, lw=2, solid_capstyle="round")
                    ax.plot(row["value"], y, mark.marker, color=mark.colour, ms=6, mec=look.paper)
            ax.set_title(attack)
            ax.set_xlim(left=0)
            unit = "values changed" if norms[attack] == "l0" else "images in [0, 1]"
            ax.set_xlabel(f"Median {names.NORMS.get(norms[attack], norms[attack])} distance, {unit}")
            ax.set_yticks(range(len(order)), [marks[model].label for model in order])
            ax.set_ylim(-0.6, len(order) - 0.4)
        for ax in axes.flat[len(attacks) :]:
            ax.remove()
        return figure

    return Plot(
        name,
        "The smallest change that fools",
        "The median distance over the images that were fooled, with its 95 % bootstrap interval; further right means "
        "that more change is needed.",
        f"Dot plot of median distances for {len(order)} models under {', '.join(attacks)}.",
        draw,
    )
