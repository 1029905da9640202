"""What ``run.json`` tells of a run."""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from assay.bench.loading import dataset
from assay.bench.measurements import Ask, Cell
from assay.bench.method_records import describe as describe_method
from assay.bench.method_records import describe_metric, metric_name
from assay.bench.runs import provenance
from assay.reports.kinds import kind_of
from assay.reports.run.records import Info


def describe(
    ask: Ask,
    cells: Sequence[Cell],
    preset: str | None,
    sessions: Sequence[dict[str, Any]],
    argv: Sequence[str] | None,
) -> Info:
    """The record; ``sessions`` are the commands that wrote into the folder before this one."""
    session: dict[str, Any] = {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "argv": sys.argv[1:] if argv is None else list(argv),
        "code": provenance.code(),
    }
    kinds = dict.fromkeys(cell.kind for cell in cells)
    scores = {metric_name(m): describe_metric(m) for m in ask.metrics}
    methods = (
        *(aim.method for aim in ask.aims),
        *map(describe_method, ask.explainers),  # that galleries show, scored or not
        *(cell.method for cell in cells),
    )
    return Info(
        **session,
        sessions=[*sessions, session],
        seed=ask.options.seed,
        preset=preset,
        options=asdict(ask.options),
        packages=provenance.packages(),
        hardware=provenance.hardware(),
        models={spec: facts.as_json() for spec, facts in ask.models.items()},
        data={spec: _data(ask, spec) for spec in ask.data},
        metrics={name: each for kind in kinds for name, each in kind_of(kind).metrics.items()} | scores,
        methods={method.text: method for method in methods},
        cells=[cell.record for cell in cells],
    )


def _data(ask: Ask, spec: str) -> dict[str, Any]:
    """Of a data set, with what to know of how its files and labels were read for each model."""
    data = ask.data[spec]
    fitted = (dataset(spec, ask.options.limit, facts) for facts in ask.models.values())
    notes = dict.fromkeys(note for each in fitted for note in each.notes)
    return {"digest": data.digest, "n": len(data), "classes": list(data.classes), "notes": list(notes)}
