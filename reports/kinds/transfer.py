"""Which model's adversarial images fool which other model."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from assay.reports.context import Context
from assay.reports.drawing.charts import Scale, colour_table
from assay.reports.drawing.grids import method_grid
from assay.reports.drawing.theme import Look, Plot, canvas, label_table
from assay.reports.kinds.attack import METRICS, OF_SOME, SHARES
from assay.reports.kinds.base import Block, Kind, Section, Tables, records
from assay.reports.run.attack_findings import members
from assay.reports.run.intervals import wilson
from assay.reports.run.reader import Run

RATES = {"fooling_rate": "fooling", "robust_accuracy": "robust", "targeted_rate": "targeted"}
COLUMNS = [
    *("data", "attack", "source", "victim"),
    *(
        f"{rate if i == 0 else prefix}{end}"
        for rate, prefix in RATES.items()
        for i, end in enumerate(("", "_low", "_high", "_n"))
    ),
]
SHARE = {
    "fooling_rate": "of the images that this model had right and now has wrong",
    "targeted_rate": "of the images that this model now gives the wanted class and did not before",
}
OTHERS = "mean of others"


def table(run: Run) -> pd.DataFrame:
    """One row per data set, attack, source and victim; the source is among the victims.

    ``fooling_rate`` is over the images that the victim had right, ``robust_accuracy`` over all, ``targeted_rate`` over
    those that it did not give the wanted class before; without a wanted class it is NaN.
    """
    rows = run.select("transfer")
    pairs = []
    for key, group in rows.groupby(["data", "method", "source", "model"]):
        shares: list[float] = []
        for rate in RATES:
            values = group.loc[group["metric"] == rate, "value"].dropna()
            shares += wilson(int(values.sum()), len(values))
        pairs.append((*key, *shares))
    return pd.DataFrame(pairs, columns=COLUMNS).sort_values(COLUMNS[:4], ignore_index=True)


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """One matrix for each attack."""
    rows = context.table("transfer", data)
    brief = context.run.short(rows["attack"].unique(), always=("norm", "eps"))
    matrices = (
        _matrix(context, group, brief[str(attack)], f"{prefix}-transfer-{i}")
        for i, (attack, group) in enumerate(rows.groupby("attack"))
    )
    return [plot for plot in matrices if plot]


def _matrix(context: Context, rows: pd.DataFrame, attack: str, name: str) -> Plot | None:
    rate = "targeted_rate" if rows["targeted_rate"].notna().any() else "fooling_rate"
    square = rows.pivot(index="source", columns="victim", values=rate)
    victims = context.ordered(square.columns)
    alone = [model for model in victims if model in square.index]
    several = [source for source in square.index if source not in alone]
    square = square.reindex(index=[*alone, *several], columns=victims)
    if square.isna().all(axis=None):
        return None
    own = np.array([[victim in members(source) or victim == source for victim in victims] for source in square.index])
    percents = 100 * square.assign(**{OTHERS: square.mask(own).mean(axis=1)})
    sources = [
        context.label(s) if s in context.marks else " + ".join(map(context.label, members(s))) for s in square.index
    ]
    heads = [*map(context.label, victims), OTHERS]

    def draw(look: Look) -> Figure:
        lines, columns = percents.shape
        figure = canvas(min(11.0, max(6.5, 3.0 + 0.62 * columns)), 2.0 + 0.36 * lines)
        ax = figure.subplots()
        colour_table(ax, percents, Scale("Images fooled, %", ".0f", 0, 100), look)
        for y, x in zip(*np.nonzero(own), strict=True):
            ax.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.9, fill=False, ec=look.ink, lw=1.6, zorder=5))
        ax.axvline(len(heads) - 1, color=look.paper, lw=6)
        label_table(ax, sources, heads)
        ax.xaxis.set_label_position("top")
        ax.set_xlabel("shown to", loc="left", color=look.soft)
        ax.set_ylabel("made on", loc="top", color=look.soft)
        return figure

    return Plot(
        name,
        f"What {attack} makes on one model, shown to the others",
        "A row is the model whose images were attacked, a column the model they are shown to; a number is the share "
        f"{SHARE[rate]}, in percent. Framed: the attack knew the model. "
        "Dark rows make images that travel, dark columns are easily fooled by strangers.",
        f"Heat map of {rate.replace('_', ' ')}s, {len(square)} sources by {len(victims)} victims.",
        draw,
    )


def _tables(run: Run, _: pd.DataFrame) -> Tables:
    return {"transfer": table(run)}


def _pairs(context: Context, data: str, _: str) -> list[Block]:
    rows = records(context.table("transfer", data))
    return [Block("pairs", rows)] if rows else []


def _on_model(context: Context, model: str, data: str) -> list[Block]:
    table = method_grid(context, data, model, "transfer", "Attack on another model")
    caption = "What images made on other models do to this one."
    return [Block("headed_grid", {"table": table, "caption": caption}, place=8)] if table else []


KIND = Kind(
    name="transfer",
    heading="Attacks shown to other models",
    metrics={name: METRICS[name] for name in RATES},
    adversarial=True,
    tolerances=(SHARES, OF_SOME),
    tables=_tables,
    sections=(
        Section(
            id="transfer",
            page="transfer",
            title="From model to model",
            text="Images made to fool one model, shown to others that the attack never saw. What travels needs no "
            "access to a model at all.",
            figures=figures,
        ),
        Section(id="pairs", page="transfer", title="Every pair", text="", blocks=_pairs, place=1),
    ),
    on_model=_on_model,
)
