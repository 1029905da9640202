"""What several figures share: panels, legends, heat maps, intervals."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from assay.reports.drawing.theme import Look, Plot, canvas, grid, label_table
from assay.reports.run.outcomes import WORST

MEAN = "mean of models"
BANDS = 5  # models whose intervals are drawn as bands; more would be a blur
WIDTH = 11.0


class Scale(NamedTuple):
    """What the colours of a heat map stand for, how its numbers are written, and its ends."""

    label: str
    digits: str
    low: float
    high: float


class Panels(NamedTuple):
    """A figure of equal panels."""

    figure: Figure
    axes: list[Axes]
    columns: int

    @property
    def left(self) -> list[Axes]:
        """The first panel of each line."""
        return self.axes[:: self.columns]

    def legend(self, count: int, handlelength: float = 2.0) -> None:
        """Below all panels, each label of ``count`` once."""
        handles = {
            label: handle for axes in self.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        columns = min(6 if len(self.axes) > 1 else 3, count)
        self.figure.legend(
            handles.values(), handles.keys(), loc="outside lower center", ncols=columns, handlelength=handlelength
        )


def panels(count: int, line: float, rest: float, *, most: int = 4, narrow: float = 6.5, **share: Any) -> Panels:
    """So many panels, ``line`` inches high each and ``rest`` for all; ``narrow`` is the width of a single column."""
    lines, columns = grid(count, most)
    figure = canvas(WIDTH if columns > 1 else narrow, line * lines + rest)
    return Panels(figure, panel_axes(figure, lines, columns, count, **share), columns)


def panel_axes(figure: Figure, lines: int, columns: int, count: int, **share: Any) -> list[Axes]:
    """The first ``count`` axes of a grid, the only ones that it keeps."""
    axes = list(figure.subplots(lines, columns, squeeze=False, **share).flat)
    for empty in axes[count:]:
        empty.remove()
    return axes[:count]


def colour_table(axes: Axes, table: pd.DataFrame, scale: Scale, look: Look, *, size: float = 8, **more: Any) -> None:
    """Numbers as colours, with the numbers in them and a bar beside them."""
    settings: dict[str, Any] = {"cmap": look.colours, "annot": True} if "cmap" not in more else {"annot": True}
    sns.heatmap(
        table, vmin=scale.low, vmax=scale.high, fmt=scale.digits, linewidths=1.5, linecolor=look.paper,
        annot_kws={"size": size}, cbar_kws={"label": scale.label, "pad": 0.02, "fraction": 0.03}, ax=axes,
        **(settings | more),
    )  # fmt: skip


def heat_map(table: pd.DataFrame, name: str, title: str, how: str, scale: Scale) -> Plot:
    """A table of numbers as colours.

    The first column stands apart where it is the clean accuracy, the last where it is the worst case, and the row
    ``MEAN``.
    """
    apart = {1} if table.columns[0] == "clean" else set()
    apart |= {table.shape[1] - 1} if str(table.columns[-1]).startswith(WORST) else set()

    def draw(look: Look) -> Figure:
        lines, columns = table.shape
        figure = canvas(min(WIDTH, max(6.5, 2.6 + 0.62 * columns)), 1.9 + 0.3 * lines)
        ax = figure.subplots()
        colour_table(ax, table, scale, look)
        label_table(ax, list(table.index), list(table.columns))
        for edge in sorted(apart):
            ax.axvline(edge, color=look.paper, lw=6)
        if table.index[-1] == MEAN:
            ax.axhline(lines - 1, color=look.paper, lw=6)
        return figure

    alt = f"Heat map, {table.shape[0]} models by {table.shape[1]} columns: {title.lower()}."
    return Plot(name, title, how, alt, draw)


def bar(axes: Axes, low: float, high: float, y: float, colour: str, width: float = 2, **more: Any) -> None:
    """An interval, lying."""
    axes.plot([low, high], [y, y], color=colour, lw=width, solid_capstyle="round", **more)


def lines_of(axes: Axes, names: Sequence[str]) -> None:
    """Names of lines at the left of a dot plot."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)


def blank(axes: Axes) -> None:
    """No ticks, grid nor frame, so that a picture stands alone; labels stay."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
