"""Figures and tables that commands write."""

from pathlib import Path

import pandas as pd

from assay.reports.drawing.theme import LIGHT, Plot, themed


def draw(plot: Plot, out: Path) -> Path:
    """Write a figure as PNG."""
    path = out / f"{plot.name}.png"
    with themed(LIGHT):
        plot.draw(LIGHT).savefig(path, dpi=150)
    return path


def write(table: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV."""
    table.to_csv(path, index=False, float_format="%.6g")
    return path
