"""Every figure of a report, and how they are drawn."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import joblib

from assay.reports.drawing.theme import Plot, save
from assay.reports.kinds.base import Block

if TYPE_CHECKING:
    from assay.reports.context import Context

FEW = 16  # figures that are drawn faster than a second process starts


class Drawing(NamedTuple):
    """A figure on disk."""

    plot: Plot
    light: str
    dark: str
    width: int


def all_plots(context: "Context") -> list[Plot]:
    """The figures of the whole report, each once."""
    from assay.reports.site.pages import pages

    return plots_of(block for page in pages(context) for block in page.blocks())


def plots_of(blocks: Iterable[Block]) -> list[Plot]:
    """The figures among blocks, each once."""
    return list({block.content.name: block.content for block in blocks if block.macro == "plot"}.values())


def draw(plots: Sequence[Plot], folder: Path, jobs: int | None = None) -> dict[str, Drawing]:
    """Write every figure for light and dark pages, on all cores where they are many; by the figure's name."""
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    parallel = joblib.Parallel(n_jobs=jobs if len(plots) > FEW else 1, backend="loky")
    files = parallel(joblib.delayed(save)(plot, folder) for plot in plots)
    return {plot.name: Drawing(plot, *file) for plot, file in zip(plots, files, strict=True)}
