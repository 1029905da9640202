"""From what a user asks for to the cells of a run."""

from dataclasses import dataclass
from typing import cast

from assay.bench.measurements import CELLS, Ask, Cell
from assay.bench.measurements.ask import RunOptions


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cells of a run, and what was asked for."""

    ask: Ask
    cells: tuple[Cell, ...]


def plan(options: RunOptions) -> Plan:
    """All cells of a run, model by model, so that a process holds few models.

    Raises ``AssayError`` before anything runs, with the near names.
    """
    ask = Ask(options)
    ask.check()
    cells = [cell for kind in CELLS.values() for cell in cast(type[Cell], kind).plan(ask)]
    order = {model: i for i, model in enumerate(ask.models, 1)}
    last = len(order) + 1
    return Plan(ask=ask, cells=tuple(sorted(cells, key=lambda cell: order.get(cell.model, last) if cell.model else 0)))
