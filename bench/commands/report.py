"""``assay report``."""

from collections.abc import Iterator
from pathlib import Path

from assay import reports


def report(run: Path, /) -> Iterator[str]:
    """Write tables, figures and pages again from what RUN has stored."""
    yield f"report: {reports.write(run)}"
