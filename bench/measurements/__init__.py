"""What each kind of measurement measures: one file a kind, of the name that it has in ``assay.reports.kinds``.

``CELLS`` maps names of kinds to classes of cells, ``Options`` is all that can be asked of a run.
"""

from dataclasses import make_dataclass

from assay.bench.measurements.ask import Ask as Ask
from assay.bench.measurements.ask import RunOptions
from assay.bench.measurements.base import Batch as Batch
from assay.bench.measurements.base import Cell as Cell
from assay.bench.measurements.base import Measured as Measured
from assay.bench.measurements.base import Setup as Setup
from assay.bench.measurements.base import draws_for as draws_for
from assay.core.tables import Table
from assay.reports.kinds import NAMES

CELLS = Table("kind", {name: f"assay.bench.measurements.{name}:CELL" for name in NAMES})
_records = [cell.options for cell in map(CELLS.__getitem__, reversed(NAMES)) if cell.options]  # type: ignore[attr-defined]
Options = make_dataclass("Options", [], bases=(*_records, RunOptions), frozen=True, kw_only=True)
Options.__doc__ = "What to measure: the options of all kinds."
