"""Which model's adversarial images fool which other model."""

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from assay.reports.run import labels as names
from assay.reports.run.intervals import wilson
from assay.reports.drawing.theme import Identity, Look, Plot, canvas, label_table
from assay.reports.run.reader import Run

RATES = {"fooling_rate": "fooling", "robust_accuracy": "robust", "targeted_rate": "targeted"}
COLUMNS = [
    *("data", "attack", "source", "victim"),
    *("fooling_rate", "fooling_low", "fooling_high", "fooling_n"),
    *("robust_accuracy", "robust_low", "robust_high", "robust_n"),
    *("targeted_rate", "targeted_low", "targeted_high", "targeted_n"),
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
    rows = run.rows[run.rows["kind"] == "transfer"]
    known = list(run.info.get("attacks") or {})
    parts = {method: split(method, known) for method in rows["method"].unique()}
    records = []
    for (data, method, victim), group in rows.groupby(["data", "method", "model"]):
        found: list[float] = []
        for rate in RATES:
            values = group.loc[group["metric"] == rate, "value"].dropna()
            found += wilson(int(values.sum()), len(values))
        records.append((data, *parts[method], victim, *found))
    return pd.DataFrame(records, columns=COLUMNS).sort_values(COLUMNS[:4], ignore_index=True)


def split(method: str, known: list[str]) -> tuple[str, str]:
    """``<attack> from <source>`` taken apart; attacks the run knows come first, as their text may hold `` from ``."""
    for attack in sorted(known, key=len, reverse=True):
        if method.startswith(f"{attack} from "):
            return attack, method.removeprefix(f"{attack} from ")
    attack, _, source = method.partition(" from ")
    return attack, source


def members(source: str) -> list[str]:
    """The models of a source: one, or those of an ensemble."""
    return source.split("+")


def figures(found: pd.DataFrame, data: str, marks: dict[str, Identity], prefix: str) -> list[Plot]:
    """One matrix for each attack."""
    here = found[found["data"] == data]
    brief = names.short(here["attack"].unique(), always=("norm", "eps"))
    plots = [
        _matrix(group, brief[str(attack)], marks, f"{prefix}-transfer-{i}")
        for i, (attack, group) in enumerate(here.groupby("attack"))
    ]
    return [plot for plot in plots if plot]


def _matrix(rows: pd.DataFrame, attack: str, marks: dict[str, Identity], name: str) -> Plot | None:
    rate = "targeted_rate" if rows["targeted_rate"].notna().any() else "fooling_rate"
    square = rows.pivot(index="source", columns="victim", values=rate)
    victims = [model for model in marks if model in square.columns]
    alone = [model for model in victims if model in square.index]
    several = [source for source in square.index if source not in alone]
    square = square.reindex(index=[*alone, *several], columns=victims)
    if square.isna().all(axis=None):
        return None
    own = np.array([[victim in members(source) or victim == source for victim in victims] for source in square.index])
    table = 100 * square.assign(**{OTHERS: square.mask(own).mean(axis=1)})
    label = {model: mark.label for model, mark in marks.items()}
    rows_of = [label.get(s) or " + ".join(label.get(m, m) for m in members(s)) for s in square.index]
    columns_of = [*(label[victim] for victim in victims), OTHERS]

    def draw(look: Look) -> Figure:
        lines, columns = table.shape
        figure = canvas(min(11.0, max(6.5, 3.0 + 0.62 * columns)), 2.0 + 0.36 * lines)
        ax = figure.subplots()
        sns.heatmap(
            table, vmin=0, vmax=100, cmap=look.colours, annot=True, fmt=".0f", linewidths=1.5, linecolor=look.paper,
            annot_kws={"size": 8}, cbar_kws={"label": "Images fooled, %", "pad": 0.02, "fraction": 0.03}, ax=ax,
        )  # fmt: skip
        for y, x in zip(*np.nonzero(own), strict=True):
            ax.add_patch(Rectangle((x + 0.04, y + 0.05), 0.92, 0.9, fill=False, ec=look.ink, lw=1.6, zorder=5))
        ax.axvline(len(victims), color=look.paper, lw=6)
        label_table(ax, rows_of, columns_of)
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
