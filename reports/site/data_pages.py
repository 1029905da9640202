"""A page for each data set: its images, how hard they are, and for whom."""

from collections.abc import Iterator
from typing import Any

from assay.reports.context import Context
from assay.reports.kinds import all_kinds
from assay.reports.kinds.base import records
from assay.reports.run.reader import where
from assay.reports.site.notes import pretty


def pages(context: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and content of each data set's page."""
    failures = context.tables["failures"]
    for data, label in context.specs.items():
        known = context.run.info.data.get(data, {})
        facts = {"Spec": data, "Images": known.get("n"), "Classes": len(context.run.classes(data)) or None}
        facts["Digest"] = known.get("digest")
        facts["Files and labels"] = "; ".join(known.get("notes") or []) or None
        yield (
            context.files.data[data],
            {
                "label": label,
                "facts": [(name, pretty(value)) for name, value in facts.items() if value is not None],
                "parts": [part for kind in all_kinds() for part in kind.on_data(context, data)],
                "failures": records(where(failures, data=data, model="")),
            },
        )
