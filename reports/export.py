"""Tables and figures of a run as files, for papers and for other programs."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_mixed import MixedModeRenderer
from matplotlib.backends.backend_pdf import Op, PdfFile, RendererPdf
from matplotlib.figure import Figure

from assay.core.errors import AssayError, unknown
from assay.reports import paper
from assay.reports.drawing.theme import LIGHT, Look, Plot, themed
from assay.reports.run.records import Method

PAGE = 500  # rows that one can still read
FEW = 8  # figures that are drawn faster than a second process starts
POINTS = 72  # in an inch


Methods = Mapping[str, Method]


def _csv(table: pd.DataFrame, path: Path, _: Methods) -> None:
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _parquet(table: pd.DataFrame, path: Path, _: Methods) -> None:
    table.to_parquet(path, index=False)


def _latex(table: pd.DataFrame, path: Path, methods: Methods) -> None:
    path.write_text(paper.latex(table, methods), encoding="utf-8")


def _markdown(table: pd.DataFrame, path: Path, methods: Methods) -> None:
    path.write_text(paper.markdown(table, methods), encoding="utf-8")


FORMATS: dict[str, tuple[str, Callable[[pd.DataFrame, Path, Methods], None]]] = {
    "csv": ("csv", _csv),
    "parquet": ("parquet", _parquet),
    "latex": ("tex", _latex),
    "markdown": ("md", _markdown),
}
TO_READ = ("latex", "markdown")
FIGURES = ("pdf", "png")


def save_tables(
    tables: Mapping[str, pd.DataFrame],
    folder: Path,
    formats: Sequence[str],
    chosen: Sequence[str] = (),
    methods: Methods | None = None,
) -> tuple[list[Path], list[str]]:
    """Write the ``chosen`` tables, all that have rows unless some are; the files, and the tables too long to read.

    CSV and Parquet hold every digit and column; LaTeX and Markdown are made to be read, and only tables of at most 500
    rows unless they are ``chosen``; the run's ``methods``, by their texts, have short names in them. Raises
    ``AssayError`` for an unknown table or format.
    """
    for kind, names, choices in (("format", formats, FORMATS), ("table", chosen, tables)):
        for name in names:
            if name not in choices:
                raise unknown(kind, name, choices)
    if formats:
        folder.mkdir(parents=True, exist_ok=True)
    files, long = [], []
    for name in chosen or [name for name, table in tables.items() if len(table)]:
        for form in formats:
            ending, write = FORMATS[form]
            if form in TO_READ and not chosen and len(tables[name]) > PAGE:
                long.append(name)
                continue
            files.append(folder / f"{name}.{ending}")
            write(tables[name], files[-1], methods or {})
    return files, list(dict.fromkeys(long))


def check_figures(formats: Sequence[str], width: float, dpi: int) -> None:
    """Raise ``AssayError`` for figures that cannot be drawn."""
    for form in formats:
        if form not in FIGURES:
            raise unknown("format of figures", form, FIGURES)
    if not (0.5 <= width <= 100 and 20 <= dpi <= 2400):
        raise AssayError(f"a figure is 0.5 to 100 inches wide at 20 to 2400 dpi, not {width:g} at {dpi}")


def save_figures(
    plots: Iterable[Plot], folder: Path, formats: Sequence[str], width: float, dpi: int, jobs: int | None = None
) -> list[Path]:
    """Write every plot once, on all cores where they are many."""
    check_figures(formats, width, dpi)
    folder.mkdir(parents=True, exist_ok=True)
    paths = {folder / f"{plot.name}.{form}": plot for plot in plots for form in formats}
    parallel = joblib.Parallel(n_jobs=(jobs or os.cpu_count()) if len(paths) > FEW else 1, backend="loky")
    parallel(joblib.delayed(save_figure)(plot, path, width, dpi) for path, plot in paths.items())
    return list(paths)


def save_figure(plot: Plot, path: Path, width: float, dpi: int = 300, look: Look = LIGHT) -> None:
    """Write a plot as PDF or PNG, by the ending of ``path``, ``width`` inches wide.

    The whole figure is scaled, with its type, so that it looks as in the report. The same plot gives the same bytes.
    """
    with themed(look), mpl.rc_context({"pdf.fonttype": 42}):
        figure = plot.draw(look)
        scale = width / figure.get_figwidth()
        if path.suffix == ".pdf":
            _save_pdf(figure, path, scale, dpi)
        else:
            exact = dpi * scale * (1 + 1e-9)  # the canvas cuts fractions of a pixel off
            figure.savefig(path, dpi=exact, metadata={"Software": None}, pil_kwargs={"dpi": (dpi, dpi)})


def _save_pdf(figure: Figure, path: Path, scale: float, dpi: int) -> None:
    """``FigureCanvasPdf.print_pdf`` on a page that shows what is drawn on it in another size."""
    figure.dpi = POINTS
    width, height = figure.get_size_inches()
    pixels = dpi * scale
    file: Any = PdfFile(path, metadata=dict.fromkeys(("CreationDate", "Creator", "Producer")))
    try:
        file.newPage(width * scale, height * scale)
        file.width, file.height = width, height
        file.output(scale, 0, 0, scale, 0, 0, Op.concat_matrix)
        renderer: Any = MixedModeRenderer(figure, width, height, pixels, RendererPdf(file, pixels, height, width))
        figure.draw(renderer)
        renderer.finalize()
        file.finalize()
    finally:
        file.close()
