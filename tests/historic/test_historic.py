"""Runs and baselines that were stored by earlier versions. Today's code must go on reading them.

``schema-N`` is a run of two small networks on digits with every kind of cell, ``baseline-N`` what a check needs of it.
They are never made again; a new schema gets a folder of its own.
"""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from assay import reports
from assay.reports.gate import compare, load
from tests.reports.conftest import blank

HERE = Path(__file__).parent
RUNS = sorted(HERE.glob("schema-*"))
PAIRS = [(run, HERE / run.name.replace("schema", "baseline")) for run in RUNS]
KINDS = {
    "data", "clean", "attack", "transfer", "explain", "gallery", "landscape", "learned", "inversion", "dream",
    "map_shift", "synthesis", "fooling", "texture",
}  # fmt: skip

pytestmark = pytest.mark.parametrize(("run", "kept"), PAIRS, ids=[run.name for run in RUNS])


def test_rows_and_facts_are_read(run: Path, kept: Path) -> None:
    results = reports.load(run)
    assert {cell.kind for cell in results.info.cells} >= KINDS
    assert results.missing == ()
    assert len(results.rows) == 3085
    assert set(results.failures["status"]) == {"skipped"}
    cells = {cell.id: cell for cell in results.info.cells}
    assert {(row.kind, row.method) for row in results.rows.itertuples()} <= {(c.kind, c.method) for c in cells.values()}
    assert set(results.rows["method"]) <= set(results.info.methods)


@pytest.fixture(scope="module")
def tables() -> dict[Path, dict[str, pd.DataFrame]]:
    """The tables of each run."""
    return {run: reports.tables(reports.load(run)) for run in RUNS}


def test_tables_say_what_they_said(run: Path, kept: Path, tables: dict[Path, dict[str, pd.DataFrame]]) -> None:
    summary = tables[run]["summary"]
    robust = summary.query("kind == 'attack' and name == 'pgd' and norm == 'linf' and metric == 'robust_accuracy'")
    assert robust.groupby("model")["value"].agg(list).to_dict() == {
        "py:tests.bench.nets:convolutional": pytest.approx([12 / 12, 8 / 12]),
        "py:tests.bench.nets:linear": pytest.approx([11 / 12, 4 / 12]),
    }
    assert sorted(set(robust["eps"])) == [0.05, 0.1]


def test_rows_have_their_cells_method_a_source_and_a_variant(
    run: Path, kept: Path, tables: dict[Path, dict[str, pd.DataFrame]]
) -> None:
    """A transfer's text ended in its source; an inversion's rows named the layer in place of the cell's None."""
    summary = tables[run]["summary"]
    transfer = summary[summary["kind"] == "transfer"]
    assert transfer["method"].str.endswith("samples=1)").all()
    assert set(transfer["source"]) == {"py:tests.bench.nets:convolutional", "py:tests.bench.nets:linear"}
    inversion = summary[summary["kind"] == "inversion"]
    assert inversion["method"].str.startswith("Invert(layer=None, ").all()
    assert inversion.groupby("model")["variant"].nunique().to_dict() == {
        "py:tests.bench.nets:convolutional": 2,
        "py:tests.bench.nets:linear": 1,
    }
    assert not summary.loc[~summary["kind"].isin(["transfer", "inversion"]), ["source", "variant"]].any(axis=None)


def test_the_report_is_written(run: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are drawn in ``tests/contract/test_kinds.py``."""
    monkeypatch.setattr("assay.reports.site.pages.draw", blank)
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    index = reports.write(copy)
    assert index.is_file()
    assert {path.stem for path in (copy / "tables").iterdir()} >= {"summary", "ranking", "images", "costs", "failures"}


def test_it_is_compared(run: Path, kept: Path) -> None:
    new = load(run)
    assert {picture.sort for picture in new.pictures.values()} >= {
        "image", "heat", "attacked", "attacked-heat", "drawn", "made", "surface", "filter", "proof", "proof-attack",
    }  # fmt: skip
    assert compare(new, new).changes == ()


def test_its_baseline_still_stands_for_it(run: Path, kept: Path) -> None:
    changes = compare(load(kept), load(run)).changes
    assert [change.line for change in changes if change.what != "proof"] == []  # how heatmaps are drawn may change
    assert json.loads((kept / "baseline.json").read_text())["schema"] == int(run.name.partition("-")[2])
