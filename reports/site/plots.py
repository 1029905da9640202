"""Every figure of a report, and how they are drawn."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import joblib

from assay.reports.drawing import attack_figures as figures
from assay.reports.drawing import model_curves as highlights
from assay.reports.kinds import landscape
from assay.reports.kinds import learned as learned_models
from assay.reports.kinds import map_shift as moved
from assay.reports.drawing import explainer_scores as quality
from assay.reports.drawing import query_curves as queries
from assay.reports.drawing import robustness_curves as radii
from assay.reports.drawing import reconstruction as remade
from assay.reports.kinds import shortcut
from assay.reports.drawing import explainer_ranks as standing
from assay.reports.kinds import transfer
from assay.reports.drawing.theme import Plot, save
from assay.reports.site.gathered import Gathered

FEW = 16  # figures that are drawn faster than a second process starts


class Shown(NamedTuple):
    """A figure on disk."""

    plot: Plot
    light: str
    dark: str
    width: int


class Inside(NamedTuple):
    """Figures of one model on one data set."""

    model: str
    kind: str
    data: str
    plots: list[Plot]
    missing: list[learned_models.Missing]


Compared = dict[str, list[Plot]]


def compared(found: Gathered, data: str, key: str) -> Compared:
    """Figures that compare models on one data set, by what they are about."""
    run, tables, marks = found.run, found.tables, found.marks
    summary, ranked = tables["summary"], tables["ranking"]
    heat = quality.figures(run, summary, ranked, data, marks, key)
    pairs = [plot for plot in heat if plot.name.endswith("robust-quality")]
    attacked = figures.figures(run, summary, data, marks, key)
    return {
        "attacks": [*radii.figures(run, tables, data, marks, key), *attacked],
        "transfer": transfer.figures(tables["transfer"], data, marks, key),
        "queries": queries.figures(run, data, marks, key),
        "around": landscape.figures(found.lands, summary, data, marks, key),
        "strength": radii.optimality(tables["optimality"], data, marks, key),
        "explanations": [*(plot for plot in heat if plot not in pairs), *standing.figures(tables, data, key)],
        "moved": moved.figures(run, found.moved, data, marks, key),
        "shortcut": shortcut.figures(tables["shortcut"], data, marks, key),
        "together": pairs,
        "learned": learned_models.compared(found.learned, data, marks, key),
        "remade": remade.compared(found.remade, data, marks, key),
    }


def insides(found: Gathered) -> Iterator[Inside]:
    """What each model has learned, and what its layers keep of images."""
    for i, one in enumerate(found.learned):
        yield Inside(one.model, "learned", one.data, learned_models.own(one, f"l{i}"), learned_models.missing(one))
    for i, again in enumerate(one for one in found.remade if one.model):
        plot = remade.own(again, found.marks[again.model].label, f"m{i}")
        yield Inside(again.model, again.kind, again.data, [plot], [])


def own(found: Gathered, data: str, key: str) -> dict[str, Plot]:
    """Each model's worst case against the size of the change, among all others."""
    return highlights.highlights(found.tables["curves"], data, found.marks, key)


def all_plots(found: Gathered) -> list[Plot]:
    """The figures of the whole report, each once."""
    plots = [*remade.textures(found.remade), *(plot for inside in insides(found) for plot in inside.plots)]
    for i, data in enumerate(found.run.data):
        plots += [plot for group in compared(found, data, f"d{i}").values() for plot in group]
        plots += own(found, data, f"d{i}").values()
    return plots


def draw(plots: Iterable[Plot], folder: Path, jobs: int | None = None) -> dict[str, Shown]:
    """Write every figure for light and dark pages, on all cores where they are many; by the figure's name."""
    unique: Sequence[Plot] = list({plot.name: plot for plot in plots}.values())
    jobs = (os.cpu_count() or 1) if jobs is None else jobs
    parallel = joblib.Parallel(n_jobs=jobs if len(unique) > FEW else 1, backend="loky")
    files = parallel(joblib.delayed(save)(plot, folder) for plot in unique)
    return {plot.name: Shown(plot, *file) for plot, file in zip(unique, files, strict=True)}
