"""``assay families``."""

from collections.abc import Iterator
from pathlib import Path

from assay.bench.commands import Words
from assay.bench.families import rows, table
from assay.bench.writing import writing
from assay.core.text import write_text


def families(names: Words = (), /, *, out: Path | None = None) -> Iterator[str]:
    """Find the Grad-CAM layer of one small variant of every timm family, all unless NAMES are given.

    Parameters
    ----------
    out
        A Markdown file for the table, which is printed otherwise.
    """
    facts = []
    for row in rows(names):
        facts.append(row)
        if out is not None:
            yield f"{row.family}: {row.layer} {row.grid} {row.order}"
    if out is None:
        yield table(facts)
    else:
        with writing(out.parent):
            write_text(out, table(facts))
