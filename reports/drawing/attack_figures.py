"""Figures about attacks."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assay.reports.context import Context
from assay.reports.drawing.charts import BANDS, Scale, bar, heat_map, lines_of, panels
from assay.reports.drawing.theme import Identity, Look, Plot, percents
from assay.reports.run import labels, ranking
from assay.reports.run.outcomes import WORST, survivors
from assay.reports.run.reader import Run, where
from assay.reports.run.records import Method

PANELS = 8
POINT = ["panel", "model", "eps", "value", "low", "high"]


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """The figures of one data set; none where nothing was attacked."""
    run, marks = context.run, context.marks
    rows = survivors(run, data)
    clean = context.table("summary", data, kind="clean", metric="accuracy")
    attacks = context.table("summary", data, kind="attack")
    methods = run.methods(attacks["method"])
    plots = []
    with_curves = {method.norm for method in methods.values() if method.minimal}  # these norms have curves of their own
    radii = rows.groupby("norm")["eps"].nunique()
    few = min(2, radii.max()) if len(radii) else 0
    for norm in (n for n in labels.NORMS if n in radii and radii[n] >= (2 if n in with_curves else few)):
        points = _points(run, data, where(rows, norm=norm), attacks, clean)
        if len(points):
            plots.append(_curves(points, norm, marks, f"{prefix}-curves-{norm}"))
    table = _table(run, data, attacks, clean, marks, methods)
    if table.shape[1] > 1:
        how = (
            "A number is the share of images, in percent, that the model still gets right; read along a row for what "
            "breaks a model and down a column for how strong an attack is. Attacks without a budget are left out: "
            "given enough change they fool anything."
        )
        title = "Robust accuracy of every model under every attack"
        scale = Scale("Images still right, %", ".0f", 0, 100)
        plots.append(heat_map(100 * table, f"{prefix}-attacks", title, how, scale))
    distances = _distances(attacks, methods)
    if len(distances):
        plots.append(_distance_plot(distances, marks, f"{prefix}-distances"))
    return plots


def _points(run: Run, data: str, rows: pd.DataFrame, attacks: pd.DataFrame, clean: pd.DataFrame) -> pd.DataFrame:
    """``panel, model, eps, value, low, high``; every panel starts with the clean accuracy at 0."""
    robust = where(attacks, metric="robust_accuracy").dropna(subset="value").drop(columns=["norm", "eps"])
    places = rows.drop_duplicates(["model", "method"])[["model", "method", "eps", "family"]]
    robust = robust.merge(places, on=["model", "method"])
    radii = robust.groupby("family")["eps"].nunique()
    families = [family for family in radii.index if radii[family] > 1] or list(radii.index)
    kin = (labels.family(run.method(method)) for method in rows["method"].unique())
    title = labels.short(method for method in kin if method.text in families)
    several = bool(rows.groupby("eps")["family"].nunique().max() > 1)
    worst = where(ranking.worst_cases(run, data), norm=rows["norm"].iloc[0]).assign(panel=WORST)[POINT]
    robust = robust[robust["family"].isin(families[: PANELS - several])]
    frames = (robust.assign(panel=robust["family"].map(title))[POINT], worst if several else worst.iloc[:0])
    points = pd.concat([frame for frame in frames if len(frame)])
    start = clean.dropna(subset="value").assign(eps=0.0)[["model", "eps", "value", "low", "high"]]
    starts = [
        start[start["model"].isin(where(points, panel=panel)["model"])].assign(panel=panel)
        for panel in points["panel"].unique()
    ]
    whole = pd.concat([points, *(frame for frame in starts if len(frame))])
    return whole.sort_values(["panel", "model", "eps"], ignore_index=True)


def _curves(points: pd.DataFrame, norm: str, marks: dict[str, Identity], name: str) -> Plot:
    titles = sorted(points["panel"].unique(), key=lambda panel: (panel == WORST, panel))
    models = [model for model in marks if model in set(points["model"])]
    fraction = all("/" in labels.radius(eps, norm) for eps in points["eps"].unique() if eps)
    scale = 255 if fraction else 1

    def draw(look: Look) -> Figure:
        page = panels(len(titles), 3.1, 0.25 * (1 + len(models) // 6), sharey=True, sharex=True)
        for ax, panel in zip(page.axes, titles, strict=True):
            _lines(ax, where(points, panel=panel), models, marks, scale)
            ax.set_title("Worst case of all attacks" if panel == WORST else panel)
            ax.set_xticks(sorted(points["eps"].unique() * scale))
            ax.tick_params(labelbottom=True)
            ax.set_xlabel(f"{labels.NORMS[norm]} radius" + (" in 1/255" if fraction else ", images in [0, 1]"))
            ax.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        for ax in page.left:
            ax.set_ylabel("Images still right")
        page.legend(len(models), handlelength=2.2)
        return page.figure

    return Plot(
        name,
        f"Robust accuracy against the size of the change ({labels.NORMS[norm]})",
        "Each line starts at the model's clean accuracy and falls as the attack may change pixels more; one that stays "
        f"high is robust. {'Bands' if len(models) <= BANDS else 'Bars'} are 95 % Wilson intervals over images.",
        f"Line plots of robust accuracy against eps for {len(models)} models, one panel each for {', '.join(titles)}.",
        draw,
    )


def _lines(ax: Axes, points: pd.DataFrame, models: Sequence[str], marks: dict[str, Identity], scale: float) -> None:
    radii = np.unique(points["eps"]) * scale
    room = min(0.6 * float(np.diff(radii).min(initial=radii.max())), 0.05 * float(radii.max()))
    width = 1.8 if len(models) <= BANDS else 1.1
    for i, model in enumerate(models):
        mark, rows = marks[model], where(points, model=model)
        x, low, high = rows["eps"].to_numpy() * scale, rows["low"].to_numpy(), rows["high"].to_numpy()
        if len(models) <= BANDS:
            ax.fill_between(x, low, high, color=mark.colour, alpha=0.16, lw=0)
        else:
            x = x + room * (i / (len(models) - 1) - 0.5)  # side by side, so that no bar hides another
            ax.vlines(x, low, high, color=mark.colour, alpha=0.55, lw=1.4, clip_on=False)
        ax.plot(
            x, rows["value"].to_numpy(), color=mark.colour, marker=mark.marker, ms=4.5, mew=0, lw=width,
            label=mark.label, zorder=3 + i / 100, clip_on=False,
        )  # fmt: skip
    ax.set_ylim(0, 1.005)
    percents(ax, "y")


def _table(
    run: Run,
    data: str,
    attacks: pd.DataFrame,
    clean: pd.DataFrame,
    marks: dict[str, Identity],
    methods: Mapping[str, Method],
) -> pd.DataFrame:
    """Robust accuracy, models by attacks with a budget; clean accuracy first, worst case at the shared budget last."""
    robust = where(attacks, metric="robust_accuracy").dropna(subset="value")
    label = labels.short([methods[text] for text in sorted(set(robust["method"]))], always=("norm", "eps"))
    columns = {"clean": clean.set_index("model")["value"]}
    for method in sorted((m for m in methods.values() if m.text in label and m.bounded and m.eps), key=_order):
        columns[label[method.text]] = where(robust, method=method.text).set_index("model")["value"]
    limit = ranking.limit_of(run, data)
    if limit and len(ranking.balls(run, data)[limit]) > 1:
        worst = where(ranking.worst_cases(run, data), **limit._asdict()).set_index("model")["value"]
        columns[f"{WORST} {labels.ball(*limit)}"] = worst
    table = pd.DataFrame(columns)
    table = table.sort_values([table.columns[-1], "clean"], ascending=False, kind="stable")
    return table.rename(index={model: mark.label for model, mark in marks.items()})


def _order(method: Method) -> tuple[object, ...]:
    """Goals last; norms in their order, then names, settings and radii."""
    norms = list(labels.NORMS)
    place = norms.index(method.norm) if method.norm in norms else len(norms)
    settings = {key: value for key, value in method.settings.items() if key != "eps"}
    return bool(method.goal), place, method.name, json.dumps(settings, sort_keys=True), method.eps


def _distances(attacks: pd.DataFrame, methods: Mapping[str, Method]) -> pd.DataFrame:
    """Median distances of the attacks that look for the smallest change, each in its own norm."""
    free = {text: f"distance_{method.norm}" for text, method in methods.items() if method.minimal}
    rows = attacks[attacks["method"].map(free) == attacks["metric"]].dropna(subset="value")
    label = labels.short([methods[text] for text in free], always=("norm",))
    return rows.assign(attack=rows["method"].map(label), norm=rows["metric"].str.removeprefix("distance_"))


def _distance_plot(rows: pd.DataFrame, marks: dict[str, Identity], name: str) -> Plot:
    attacks = sorted(rows["attack"].unique())
    order = rows.groupby("model")["value"].median().sort_values().index.tolist()
    norms = rows.groupby("attack")["norm"].first()

    def draw(look: Look) -> Figure:
        page = panels(len(attacks), 0.7 + 0.24 * len(order), 0.2, most=3, sharey=True)
        for ax, attack in zip(page.axes, attacks, strict=True):
            by_model = where(rows, attack=attack).set_index("model")
            for y, model in enumerate(order):
                if model in by_model.index:
                    mark, row = marks[model], by_model.loc[model]
                    bar(ax, row["low"], row["high"], y, mark.colour)
                    ax.plot(row["value"], y, mark.marker, color=mark.colour, ms=6, mec=look.paper)
            ax.set_title(attack)
            ax.set_xlim(left=0)
            unit = "values changed" if norms[attack] == "l0" else "images in [0, 1]"
            ax.set_xlabel(f"Median {labels.NORMS.get(norms[attack], norms[attack])} distance, {unit}")
            lines_of(ax, [marks[model].label for model in order])
        return page.figure

    return Plot(
        name,
        "The smallest change that fools",
        "The median distance over the images that were fooled, with its 95 % bootstrap interval; further right means "
        "that more change is needed.",
        f"Dot plot of median distances for {len(order)} models under {', '.join(attacks)}.",
        draw,
    )
