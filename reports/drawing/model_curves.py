"""One model's worst case among all others'."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from assay.reports.run import labels as names
from assay.reports.run.outcomes import WORST
from assay.reports.drawing.theme import Identity, Look, Plot, canvas, percents
from assay.reports.drawing.robustness_curves import end, staircase

PANELS = 3
WIDTH = 3.7  # inches of a panel


def highlights(found: pd.DataFrame, data: str, marks: dict[str, Identity], prefix: str) -> dict[str, Plot]:
    """A figure for each model that has curves over the radius, of which it takes at most ``PANELS`` norms."""
    worst = found[(found["data"] == data) & (found["method"] == WORST)]
    norms = [norm for norm in names.NORMS if norm in set(worst["norm"])][:PANELS]
    there = [model for model in marks if model in set(worst["model"])]
    return {model: _among(worst, norms, model, there, marks, f"{prefix}-own{i}") for i, model in enumerate(there)}


def _among(
    worst: pd.DataFrame, norms: list[str], model: str, models: list[str], marks: dict[str, Identity], name: str
) -> Plot:
    mark = marks[model]

    def draw(look: Look) -> Figure:
        figure = canvas(max(WIDTH * len(norms), 6.2), 3.0)
        axes = figure.subplots(1, len(norms), sharey=True, squeeze=False)[0]
        for ax, norm in zip(axes, norms, strict=True):
            rows = worst[worst["norm"] == norm]
            right = end(rows, rows.iloc[:0])
            scale = 255 if norm == "linf" and right <= 64 / 255 else 1
            for other in models:
                x, y = staircase(rows[rows["model"] == other], right) if other != model else (np.empty(0),) * 2
                ax.step(x * scale, y, where="post", color=look.soft, lw=0.8, alpha=0.45)
            mine = rows[rows["model"] == model]
            if len(mine):
                x, low, high = (
                    staircase(mine, right, column)[i] for i, column in ((0, "low"), (1, "low"), (1, "high"))
                )
                ax.fill_between(x * scale, low, high, step="post", color=mark.colour, alpha=0.18, lw=0)
                x, y = staircase(mine, right)
                ax.step(x * scale, y, where="post", color=mark.colour, lw=2.4)
            ax.set(xlim=(0, right * scale), ylim=(0, 1.005))
            percents(ax, "y")
            ax.set_title(names.NORMS[norm])
            ax.set_xlabel("Radius in 1/255" if scale == 255 else "Radius")
        axes[0].set_ylabel("Images still right")
        return figure

    others = "the other models in grey" if len(models) > 1 else "alone in this run"
    return Plot(
        name,
        "Robust accuracy at every radius",
        f"{mark.label} in colour with its 95 % Wilson interval, {others}. A line falls where the smallest change that "
        "any attack found fools one more image.",
        f"Step curves of the worst case of {mark.label} in {', '.join(names.NORMS[norm] for norm in norms)}.",
        draw,
    )
