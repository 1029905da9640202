"""Kinds of measurement: what each of them reports. One file a kind.

``NAMES`` is the table of kinds. A kind is two files of its name: ``assay.bench.measurements.NAME`` measures it, and here
stands how its numbers and pictures are told, compared and drawn. Nothing else names a kind.
"""

from assay.core.tables import Table

NAMES = (
    *("data", "clean", "attack", "transfer", "explain", "gallery", "landscape", "learned"),
    *("inversion", "dream", "map_shift", "shortcut", "synthesis", "fooling", "texture", "style"),
)
KINDS = Table("kind", {name: f"assay.reports.kinds.{name}:KIND" for name in NAMES})
