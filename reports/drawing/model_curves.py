"""A model's worst case among those of all others."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from assay.reports.context import Context
from assay.reports.drawing.robustness_curves import end, scale_of, staircase
from assay.reports.drawing.theme import Look, Plot, canvas, percents
from assay.reports.run import labels
from assay.reports.run.outcomes import WORST
from assay.reports.run.reader import where

PANELS = 3
WIDTH = 3.7  # inches of a panel


def figure_of(context: Context, data: str, model: str) -> Plot | None:
    """The curves over the radius of a model, of which it takes at most ``PANELS`` norms; None where it has none."""
    worst = context.table("curves", data, method=WORST)
    norms = [norm for norm in labels.NORMS if norm in set(worst["norm"])][:PANELS]
    models = context.ordered(worst["model"])
    if model not in models:
        return None
    name = f"d{context.run.data.index(data)}-own{models.index(model)}"
    return _among(context, worst, norms, model, models, name)


def _among(context: Context, worst: pd.DataFrame, norms: list[str], model: str, models: list[str], name: str) -> Plot:
    mark = context.marks[model]

    def draw(look: Look) -> Figure:
        figure = canvas(max(WIDTH * len(norms), 6.2), 3.0)
        axes = figure.subplots(1, len(norms), sharey=True, squeeze=False)[0]
        for ax, norm in zip(axes, norms, strict=True):
            rows = where(worst, norm=norm)
            right = end(rows, rows.iloc[:0])
            scale = scale_of(norm, right)
            for other in models:
                x, y = staircase(where(rows, model=other), right) if other != model else (np.empty(0),) * 2
                ax.step(x * scale, y, where="post", color=look.soft, lw=0.8, alpha=0.45)
            own = where(rows, model=model)
            if len(own):
                x, low = staircase(own, right, "low")
                ax.fill_between(
                    x * scale, low, staircase(own, right, "high")[1], step="post", color=mark.colour, alpha=0.18, lw=0
                )
                x, y = staircase(own, right)
                ax.step(x * scale, y, where="post", color=mark.colour, lw=2.4)
            ax.set(xlim=(0, right * scale), ylim=(0, 1.005))
            percents(ax, "y")
            ax.set_title(labels.NORMS[norm])
            ax.set_xlabel("Radius in 1/255" if scale == 255 else "Radius")
        axes[0].set_ylabel("Images still right")
        return figure

    others = "the other models in grey" if len(models) > 1 else "alone in this run"
    return Plot(
        name,
        "Robust accuracy at every radius",
        f"{mark.label} in colour with its 95 % Wilson interval, {others}. A line falls where the smallest change that "
        "any attack found fools one more image.",
        f"Step curves of the worst case of {mark.label} in {', '.join(labels.NORMS[norm] for norm in norms)}.",
        draw,
    )
