"""What a row is of: model, data, kind, method, source and variant. Runs of schema 1 had texts for the last three."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay import reports
from assay.core.errors import AssayError
from assay.reports.gate import compare, distil, load
from assay.reports.paper import latex, markdown
from assay.reports.run.records import COSTS, ROW, Cell, Info, Method, Metric
from tests.reports.builder import METRICS, Builder

TRAINED = "resnet18=/w/trained from scratch.pth"


def rows_of(metric: str, values: list[float], **more: Any) -> list[dict[str, Any]]:
    return [{"image": str(i), "metric": metric, "value": value, **more} for i, value in enumerate(values)]


def relist(builder: Builder, run: Path) -> Path:
    (run / "run.json").write_text(json.dumps(builder.info(builder.cells)))
    return run


def test_inversions_of_other_layers_are_other_methods(tmp_path: Path) -> None:
    """Both wrote the layer that they inverted into their rows' text, so that these counted as six images of one."""
    builder = Builder(models=("m",), kinds=())
    run = builder.write(tmp_path)
    stages = "Invert(layer='stages.1', steps=3)"
    for method, values in (("Invert(layer=None, steps=3)", [0.1, 0.2, 0.3]), (stages, [0.2, 0.3, 0.4])):
        builder.add(run, "inversion", "m", "scenes", method, rows_of("inversion_error", values, method=stages))
    summary = reports.tables(reports.load(relist(builder, run)))["summary"]
    assert summary["method"].tolist() == ["Invert(layer='stages.1', steps=3)", "Invert(layer=None, steps=3)"]
    assert summary["n"].tolist() == [3, 3]
    assert summary["value"].tolist() == pytest.approx([0.3, 0.2])
    assert summary["variant"].tolist() == ["", "stages.1"]
    assert (summary["high"] - summary["low"]).min() > 0.1  # of six images it was narrower


def test_a_transfer_counts_as_changed_with_its_source(tmp_path: Path) -> None:
    """The source was what follows the last " from " of the text, here ``scratch.pth``, whose digest never changes."""
    builder = Builder(models=("zoo:a", TRAINED), kinds=("clean", "transfer"), sources=(TRAINED,), images=20)
    old, new = builder.write(tmp_path / "old"), tmp_path / "new"
    shutil.copytree(old, new)
    info = json.loads((new / "run.json").read_text())
    info["models"][TRAINED]["digest"] = "f" * 64
    (new / "run.json").write_text(json.dumps(info))
    for cell in info["cells"]:
        if cell["kind"] == "transfer":
            path = new / "cells" / f"{cell['id']}.parquet"
            rows = pd.read_parquet(path)
            better = (rows["metric"] == "robust_accuracy") & (rows["model"] == "zoo:a")
            rows.assign(value=rows["value"].mask(better, 1.0)).to_parquet(path)
    verdict = compare(load(old), load(new))
    (change,) = [change for change in verdict.changes if change.metric == "robust_accuracy"]
    assert (change.kind, change.cell.source) == ("improvement", TRAINED)
    assert "same" not in change.line
    assert f"from {TRAINED}" in change.line
    assert set(reports.tables(reports.load(old))["transfer"]["source"]) == {TRAINED}


def test_half_the_steps_of_a_style_are_a_variant_of_it(tmp_path: Path) -> None:
    """Half of 100 steps were written as the method of 50 steps, which the same run may have as well."""
    builder = Builder(models=("m",), kinds=())
    run = builder.write(tmp_path)
    for steps in (100, 50):
        rows = [
            row
            for part in (steps, steps // 2)
            for row in rows_of("style_loss", [float(part)] * 3, method=f"StyleTransfer(steps={part})")
        ]
        builder.add(run, "style", "m", "", f"StyleTransfer(steps={steps})", rows)
    summary = reports.tables(reports.load(relist(builder, run)))["summary"]
    assert summary[["method", "variant", "value", "n"]].to_numpy().tolist() == [
        ["StyleTransfer(steps=100)", "", 100, 3],
        ["StyleTransfer(steps=100)", "50 steps", 50, 3],
        ["StyleTransfer(steps=50)", "", 50, 3],
        ["StyleTransfer(steps=50)", "25 steps", 25, 3],
    ]
    page = (reports.write(run).parent / "method-style-styletransfer-steps-100.html").read_text()
    assert "50 steps" in page
    assert "25 steps" not in page


def stored(folder: Path, schema: int = 2) -> Path:
    """A run of schema 2: an attack, and what it does to another model."""
    attack = Method(text="FGSM(eps=0.1)", class_name="FGSM", name="fgsm", settings={"eps": 0.1}, norm="linf", eps=0.1)
    cells = [
        Cell(id=name, kind=name, model="a", data="d", method=text)
        for name, text in (("clean", "none"), ("attack", attack.text), ("transfer", attack.text))
    ]
    info = Info(
        schema=schema,
        cells=cells,
        methods={attack.text: attack},
        metrics={name: Metric.from_json(metric) for name, metric in METRICS.items()},
        models={"a": {"digest": "1"}, "b": {"digest": "2"}},
        data={"d": {"digest": "3", "n": 4, "classes": ["x", "y"]}},
    )
    (folder / "cells").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(info.as_json()))
    for cell in cells:
        metric = "accuracy" if cell.kind == "clean" else "robust_accuracy"
        victims = ("a", "b") if cell.kind == "transfer" else ("a",)
        rows = [
            {"model": model, "data": "d", "kind": cell.kind, "cell": cell.id, "image": str(i), "label": i % 2}
            | {"metric": metric, "value": float(i > 1), "status": "ok", "flags": "", "variant": ""}
            | {"source": "a" if cell.kind == "transfer" else "", **dict.fromkeys(COSTS, 1.0)}
            for model in victims
            for i in range(4)
        ]
        pd.DataFrame(rows)[[*ROW]].to_parquet(folder / "cells" / f"{cell.id}.parquet", index=False)
    return folder


def test_a_run_of_schema_2_needs_no_text_taken_apart(tmp_path: Path) -> None:
    run = reports.load(stored(tmp_path / "run"))
    tables = reports.tables(run)
    robust = tables["summary"].query("name == 'fgsm' and norm == 'linf' and metric == 'robust_accuracy'")
    assert robust[["kind", "model", "source", "eps", "value"]].to_numpy().tolist() == [
        ["attack", "a", "", 0.1, 0.5],
        ["transfer", "a", "a", 0.1, 0.5],
        ["transfer", "b", "a", 0.1, 0.5],
    ]
    assert tables["transfer"][["attack", "source", "victim"]].to_numpy().tolist() == [
        ["FGSM(eps=0.1)", "a", "a"],
        ["FGSM(eps=0.1)", "a", "b"],
    ]
    for name in ("images", "costs", "failures"):
        place = list(tables[name]).index("method")
        assert list(tables[name])[place : place + 7] == ["method", "name", "norm", "eps", "goal", "source", "variant"]
    assert "fgsm" not in reports.write(run.path).read_text()


def test_papers_name_methods_shortly(tmp_path: Path) -> None:
    run = reports.load(stored(tmp_path / "run"))
    table = reports.tables(run)["summary"].query("kind == 'transfer'")
    assert "Method: FGSM 0.1" in markdown(table, run.info.methods)
    assert "Name" not in markdown(table, run.info.methods)
    assert r"FGSM(eps=0.1)" in markdown(table)
    assert "% Method: FGSM 0.1" in latex(table, run.info.methods)


def test_a_baseline_of_schema_2_stands_for_its_run(tmp_path: Path) -> None:
    run = load(stored(tmp_path / "run"))
    baseline = load(distil.write(run, tmp_path / "baseline"))
    assert compare(baseline, run).changes == ()
    assert baseline.methods == run.methods
    assert set(baseline.rows["source"]) == {"", "a"}


def test_a_schema_of_the_future_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="has schema 3, this version reads 1 and 2"):
        reports.load(stored(tmp_path / "run", schema=3))
