"""What every kind of measurement promises, held against a stored run with cells of nearly every kind."""

import fnmatch
from pathlib import Path

import numpy as np
import pytest

import assay.bench
from assay import reports
from assay.reports.context import Context, gather
from assay.reports.drawing.theme import LIGHT, themed
from assay.reports.gate.art import SORTS
from assay.reports.gate.tolerances import read
from assay.reports.kinds import KINDS, NAMES, all_kinds, kind_of
from assay.reports.kinds.base import Block, Kind
from assay.reports.run.cross_attack_checks import CHECKS
from assay.reports.site.pages import PAGES
from assay.reports.templating import TEMPLATES

HISTORIC = Path(__file__).parent.parent / "historic" / "schema-1"
MEASUREMENTS = Path(next(iter(assay.bench.__path__))) / "measurements"
STATISTICS = {"mean", "median", "area"}
KINDS_ALL = [pytest.param(kind, id=kind.name) for kind in all_kinds()]
every_kind = pytest.mark.parametrize("kind", KINDS_ALL)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return gather(reports.load(HISTORIC), tmp_path_factory.mktemp("album"))


def blocks(context: Context, kind: Kind) -> list[Block]:
    """All that the kind shows of the run."""
    run = context.run
    on_data = [part for data in run.data for part in kind.on_data(context, data)]
    parts = [*on_data, *(part for model in run.models for part in kind.parts(context, model))]
    return [
        *(block for part in parts for block in part.blocks),
        *(block for data in run.data for model in run.models for block in kind.on_model(context, model, data)),
        *(
            block
            for section in kind.sections
            for i, data in enumerate([*run.data, ""])
            for block in section.of(context, data, f"d{i}")
        ),
    ]


@every_kind
def test_a_kind_stands_under_its_name(kind: Kind) -> None:
    assert kind_of(kind.name) is kind
    assert kind.name in KINDS
    if MEASUREMENTS.is_dir():
        assert (MEASUREMENTS / f"{kind.name}.py").is_file()


@every_kind
def test_every_metric_of_a_row_is_declared(kind: Kind, context: Context) -> None:
    """Scores of heatmaps are described by the run: their settings are part of their names."""
    rows = context.run.select(kind.name)
    names = set(rows["metric"].unique()) - {""}
    declared = set(kind.metrics) if kind.name != "explain" else set(context.run.info.metrics)
    assert names <= declared
    for metric in [*kind.metrics.values(), *kind.terms.values()]:
        assert metric.direction in ("higher", "lower", "none")
        assert metric.statistic in STATISTICS
        assert metric.interval in ("bootstrap", "wilson", "")
        assert metric.meaning


def test_what_an_old_run_says_of_its_metrics_is_what_the_kinds_say(context: Context) -> None:
    declared = {name: metric for kind in all_kinds() for name, metric in kind.metrics.items()}
    for name, metric in context.run.info.metrics.items():
        if name in declared:
            assert metric == declared[name], name


@every_kind
def test_every_array_is_compared_or_ignored(kind: Kind, context: Context) -> None:
    for cell in context.run.cells(kind.name):
        folder = context.run.path / "art" / cell.id
        for path in folder.glob("*.npz"):
            with np.load(path) as stored:
                for name in stored.files:
                    compared = any(a.file == path.name and fnmatch.fnmatchcase(name, a.name) for a in kind.arrays)
                    ignored = any(fnmatch.fnmatchcase(f"{path.name}:{name}", wild) for wild in kind.ignored)
                    assert compared != ignored, f"{path.name}:{name}"


@every_kind
def test_arrays_and_sections_are_of_known_sorts(kind: Kind) -> None:
    assert {arrays.sort for arrays in kind.arrays} <= set(SORTS)
    names = {arrays.name for arrays in kind.arrays}
    assert {arrays.before for arrays in kind.arrays if arrays.before} <= names
    assert {section.page for section in kind.sections} <= set(PAGES)
    for section in kind.sections:
        assert section.figures or section.blocks


@every_kind
def test_its_tolerances_come_after_the_general_ones(kind: Kind) -> None:
    rules = [*read().metrics, *read().pictures]
    own = [rule for rule in rules if rule.kind == kind.name]
    assert len(own) == len(kind.tolerances)
    general = [i for i, rule in enumerate(read().metrics) if rule.kind == "*"]
    assert all(i > max(general) for i, rule in enumerate(read().metrics) if rule.kind == kind.name)


@every_kind
def test_every_figure_is_drawn_and_every_block_has_a_macro(kind: Kind, context: Context) -> None:
    macros = (TEMPLATES / "blocks.html").read_text(encoding="utf-8")
    shown = blocks(context, kind)
    if context.run.cells(kind.name) and (kind.sections or kind.read):
        assert shown or kind.name in ("map_shift", "shortcut")  # whose cells kept too little here
    names = [block.content.name for block in shown if block.macro == "plot"]
    assert len(set(names)) == len(names)
    for block in shown:
        assert f"{{% macro {block.macro}(" in macros
        if block.macro == "plot":
            with themed(LIGHT):
                assert block.content.draw(LIGHT).axes
            assert block.content.how
            assert block.content.alt


def test_a_row_is_of_one_cell_variant_source_metric_and_image(context: Context) -> None:
    rows = context.run.rows
    assert not rows.duplicated(["cell", "model", "variant", "source", "metric", "image"]).any()
    summary = context.tables["summary"]
    assert not summary.duplicated(["model", "data", "kind", "method", "source", "variant", "metric"]).any()


def test_flags_and_file_names_have_one_owner() -> None:
    flags = [flag for kind in all_kinds() for flag in kind.flags]
    assert len(set(flags)) == len(flags)
    assert {check.flag for check in CHECKS if check.flag} <= set(flags)


def test_a_kind_that_nobody_knows_is_shown_as_numbers() -> None:
    kind = kind_of("of-the-future")
    assert kind.name not in NAMES
    assert kind.summary
    assert not kind.sections
