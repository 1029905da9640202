"""``assay export``: tables and figures of a run as files."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from assay import reports
from assay.bench.commands import Words
from assay.bench.writing import unwritable
from assay.reports.context import gather
from assay.reports.export import check_figures, save_figures, save_tables
from assay.reports.site.plots import all_plots


def export(
    run: Path,
    /,
    *,
    tables: Words = (),
    format: Words = ("csv", "parquet", "latex", "markdown"),  # noqa: A002
    figures: Words = ("pdf", "png"),
    width: float = 6.5,
    dpi: int = 300,
    out: Path | None = None,
) -> Iterator[str]:
    """Write tables and figures of RUN for papers and other programs.

    Parameters
    ----------
    tables
        Names as in RUN/tables; all unless given. Long ones become LaTeX and Markdown only where they are named.
    format
        Of tables: csv, parquet, latex, markdown; none for no tables.
    figures
        Formats of figures: pdf, png; none for no figures.
    width
        Of a figure in inches.
    dpi
        Of PNG, and of pictures within a PDF.
    out
        The folder for the files; RUN/export unless given.
    """
    forms, images = (() if formats in (("none",), ("",)) else formats for formats in (format, figures))
    check_figures(images, width, dpi)
    folder = out or run / "export"
    with tempfile.TemporaryDirectory() as pictures:
        context = gather(reports.load(run), Path(pictures))
        try:
            files, long = save_tables(context.tables, folder / "tables", forms, tables, context.run.info.methods)
            if images:
                files += save_figures(all_plots(context), folder / "figures", images, width, dpi)
        except OSError as error:
            raise unwritable(folder, error) from error
    yield f"{folder}: {len(files)} files"
    if long:
        yield f"too long to read, so without LaTeX and Markdown unless named by --tables: {', '.join(long)}"
