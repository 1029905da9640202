"""``assay export``: tables and figures of a run as files. Nothing here imports pandas until the command runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Many = Annotated[tuple[str, ...], Parameter(consume_multiple=True)]


def export(
    run: Path,
    /,
    *,
    tables: Many = (),
    format: Many = ("csv", "parquet", "latex", "markdown"),  # noqa: A002
    figures: Many = ("pdf", "png"),
    width: float = 6.5,
    dpi: int = 300,
    out: Path | None = None,
) -> int:
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
    import tempfile

    from assay import reports
    from assay.bench.cli import say
    from assay.bench.store import StoreError
    from assay.reports.export import check_figures, save_figures, save_tables
    from assay.reports.context import gather
    from assay.reports.site.plots import all_plots

    forms, drawn = (() if chosen in (("none",), ("",)) else chosen for chosen in (format, figures))
    check_figures(drawn, width, dpi)
    folder = out or run / "export"
    with tempfile.TemporaryDirectory() as pictures:
        found = gather(reports.load(run), Path(pictures))
        try:
            files, long = save_tables(found.tables, folder / "tables", forms, tables)
            if drawn:
                files += save_figures(all_plots(found), folder / "figures", drawn, width, dpi)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"cannot write to {folder}: {reason}; --out names another folder") from error
    say(f"{folder}: {len(files)} files")
    if long:
        say(f"too long to read, so without LaTeX and Markdown unless named by --tables: {', '.join(long)}")
    return 0
