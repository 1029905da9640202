"""Does a method give a model away that recognises the wolf by the snow?"""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_auc_score

from assay.reports.context import Context
from assay.reports.drawing.charts import bar, lines_of
from assay.reports.drawing.theme import HUES, Look, Plot, canvas
from assay.reports.kinds.base import Kind, Section, Tables, metric
from assay.reports.run.intervals import LEVEL, RESAMPLES
from assay.reports.run.reader import Run, where

CLEAR = 0.9  # an area that counts as a detection
TRUTH = "redrawing"  # in place of a method: the true effect

SHARE = "shortcut_share"  # the metric of the rows
COLUMNS = ["method", "suspect", "sound", "auc", "low", "high", "n"]


def detection(rows: pd.DataFrame, suspect: str, sound: str, seed: int = 0) -> pd.DataFrame:
    """Per method, how well the share of heat on the shortcut tells two models apart, best first.

    ``rows`` are those of kind ``shortcut``; columns of the result: the method, the mean shares of the ``suspect`` and
    of its ``sound`` twin, the area under the ROC curve over images (1 where the suspect's shares all lie above the
    twin's, 1/2 where they tell nothing), its bootstrap interval over pairs of maps of one image, and the number of
    pairs. An image on which either share is undefined is left out; a method without images has NaN.
    """
    lines = []
    for method, own in where(rows, kind="shortcut", metric=SHARE).groupby("method", sort=False):
        pairs = own.pivot(index="image", columns="model", values="value").reindex(columns=[suspect, sound]).dropna()
        shares = pairs[suspect].to_numpy(np.float64), pairs[sound].to_numpy(np.float64)
        means = [float(share.mean()) if len(pairs) else np.nan for share in shares]
        lines.append([method, *means, *_estimate(*shares, seed), len(pairs)])
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.sort_values("auc", ascending=False, kind="stable", ignore_index=True)


def _estimate(suspect: Any, sound: Any, seed: int) -> tuple[float, float, float]:
    """Area and interval; images are drawn again, both models' maps of one together."""
    n = len(suspect)
    if n == 0:
        return np.nan, np.nan, np.nan
    value = float(roc_auc_score(np.repeat([1, 0], n), np.concatenate([suspect, sound])))
    if n < 2:
        return value, np.nan, np.nan
    # the area is the share of pairs in order, so a resample only weighs the pairs anew
    order = (np.sign(suspect[:, None] - sound) + 1) / 2
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), RESAMPLES) / n
    areas = ((weights @ order) * weights).sum(1)
    low, high = np.quantile(areas, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return value, float(low), float(high)


def table(run: Run) -> pd.DataFrame:
    """``detection`` for every pair of twins of a run, with the data and both models; empty where none were compared."""
    rows = run.select("shortcut")
    empty = pd.DataFrame(columns=["data", "suspect_model", "sound_model", *COLUMNS])
    tables = []
    for data, suspect in sorted({(cell.data, cell.model) for cell in run.cells("shortcut")}):
        on_data = where(rows, data=data)
        tables += [
            detection(on_data, suspect, sound).assign(data=data, suspect_model=suspect, sound_model=sound)
            for sound in sorted(set(on_data["model"]) - {suspect})
        ]
    return pd.concat(tables, ignore_index=True)[list(empty)] if tables else empty


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """One figure for each pair of twins."""
    rows = context.table("shortcut", data).dropna(subset="auc")
    pairs = rows.groupby(["suspect_model", "sound_model"], sort=False)
    return [
        _figure(context, group, [context.label(str(model)) for model in pair], f"{prefix}-shortcut-{i}")
        for i, (pair, group) in enumerate(pairs)
    ]


def _figure(context: Context, rows: pd.DataFrame, names: list[str], name: str) -> Plot:
    order = rows.iloc[::-1].to_dict("records")
    brief = context.run.short([row["method"] for row in order])
    brief[TRUTH] = "true effect (scenes drawn again)"
    suspect, sound = names

    def draw(look: Look) -> Figure:
        figure = canvas(9.0, 1.2 + 0.27 * len(order))
        shares, areas = figure.subplots(1, 2, sharey=True, width_ratios=(1.2, 1))
        for y, row in enumerate(order):
            truth = row["method"] == TRUTH
            shares.plot([row["sound"], row["suspect"]], [y, y], color=look.grid, lw=2.5, zorder=1)
            shares.plot(row["sound"], y, "o", color=HUES[2], ms=6, label=sound if y == 0 else None)
            shares.plot(row["suspect"], y, "X", color=HUES[3], ms=6.5, label=suspect if y == 0 else None)
            bar(areas, row["low"], row["high"], y, look.ink, 2.2)
            colour = look.paper if truth else look.ink
            areas.plot(row["auc"], y, "D" if truth else "o", color=colour, mec=look.ink, ms=5.5)
        areas.axvline(0.5, color=look.soft, lw=1, ls=(0, (4, 3)))
        areas.axvline(CLEAR, color=HUES[1], lw=1, ls=(0, (4, 3)))
        lines_of(shares, [brief[row["method"]] for row in order])
        shares.set_xlabel("Share of the heat on the planted background")
        areas.set_xlabel("Detection: area under the ROC curve")
        areas.set_xlim(min(0.4, *(row["low"] for row in order)) - 0.02, 1.02)
        figure.legend(loc="outside upper left", ncols=2)
        return figure

    methods = [row for row in order if row["method"] != TRUTH and not context.run.method(row["method"]).control]
    best = max(methods or order, key=lambda row: row["auc"])
    verdict = (
        f"{brief[best['method']]} detects it best, {best['auc']:.2f} [{best['low']:.2f}, {best['high']:.2f}]"
        if best["low"] > 0.5
        else "No method detects it"
    )
    return Plot(
        name,
        "The wolf in the snow: which methods show a planted shortcut?",
        f"{suspect} learned to read the class off the background, {sound} did not; both see the same images. Right: "
        "how often a map of the one holds more heat there than a map of the other (1/2 is chance), with 95 % bootstrap "
        f"intervals. {verdict}.",
        f"Dot plots of heat on the shortcut for two models and {len(order)} methods, and of detection.",
        draw,
    )


def _tables(run: Run, _: pd.DataFrame) -> Tables:
    return {"shortcut": table(run)}


KIND = Kind(
    name="shortcut",
    metrics={SHARE: metric("none", "share", "share of the heat that lies on the planted shortcut")},
    tables=_tables,
    sections=(
        Section(
            id="shortcut",
            page="explanations",
            title="Shortcuts",
            text="Two models of one kind, one of which was trained where the background gave the class away. Do the "
            "heatmaps say which?",
            figures=figures,
            place=2,
        ),
    ),
)
