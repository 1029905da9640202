"""Kinds of measurement: what each of them reports. One file a kind.

``NAMES`` is the table of kinds. A kind is two files of its name: ``assay.bench.measurements.NAME`` measures it, and the
file of that name in this folder says how its numbers and pictures are explained, compared and drawn. Nothing else names
a kind, but for the verdict over kinds in ``assay.reports.run.ranking`` and ``findings``.
"""

from functools import cache
from typing import TYPE_CHECKING, cast

from assay.core.tables import Table

if TYPE_CHECKING:
    from assay.reports.kinds.base import Kind

NAMES = (
    *("data", "clean", "attack", "transfer", "explain", "gallery", "landscape", "learned"),
    *("inversion", "dream", "map_shift", "shortcut", "synthesis", "fooling", "texture", "style", "calibration"),
)
KINDS = Table("kind", {name: f"assay.reports.kinds.{name}:KIND" for name in NAMES})


def all_kinds() -> "list[Kind]":
    """Every kind, in the order of ``NAMES``."""
    return [kind_of(name) for name in NAMES]


@cache
def kind_of(name: str) -> "Kind":
    """The kind of that name; one that says nothing where a run has a kind that this version does not know."""
    from assay.reports.kinds.base import Kind

    return cast("Kind", KINDS[name]) if name in NAMES else Kind(name=name)
