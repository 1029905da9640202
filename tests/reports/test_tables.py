import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay import reports
from assay.core.errors import AssayError
from assay.reports.context import Context
from assay.reports.run import ranking, schema1
from assay.reports.run.outcomes import survivors
from tests.reports.builder import ATTACKS, EXPLAINERS, Builder

SMALL = {"models": ("zoo:a", "zoo:b"), "images": 12, "kinds": ("clean", "attack", "explain")}


def small(run: Path, **changes: object) -> Path:
    return Builder(**{**SMALL, **changes}).write(run)  # type: ignore[arg-type]


def test_summary_has_one_row_per_coordinate(whole: Context) -> None:
    results, summary = whole.run, whole.tables["summary"]
    cell = ["model", "data", "kind", "method", "source", "variant"]
    columns = [*cell[:4], "name", "norm", "eps", "goal", *cell[4:], "metric", "value", "low", "high", "n"]
    assert list(summary.columns) == [*columns, "direction", "flags"]
    assert not summary.duplicated([*cell, "metric"]).any()
    assert set(summary["kind"]) == {"clean", "attack", "explain", "synthesis"}
    known = summary.dropna(subset=["low"])
    assert ((known["low"] <= known["value"] + 1e-12) & (known["value"] <= known["high"] + 1e-12)).all()
    for row in summary.sample(30, random_state=0).to_dict("records"):
        mine = results.rows
        for key in ("model", "data", "method", "metric"):
            mine = mine[mine[key] == row[key]]
        statistic = results.metric(row["metric"]).statistic
        assert row["n"] == mine["value"].notna().sum()
        assert row["value"] == pytest.approx(mine["value"].agg(statistic), nan_ok=True)


def test_flags_count_images(whole: Context) -> None:
    summary = whole.tables["summary"]
    attacks = summary[(summary["kind"] == "attack") & (summary["metric"] == "robust_accuracy")]
    assert set(attacks["flags"]) == {"boundary:3"}  # images 3, 10 and 17 of 20


def test_same_outcomes_same_bytes(tmp_path: Path) -> None:
    """Order of rows and cells, and what it all cost, change nothing but costs.csv."""
    few: dict[str, Any] = {"attacks": ATTACKS[:1], "explainers": EXPLAINERS[:2]}
    one, two = small(tmp_path / "one", **few), small(tmp_path / "two", shuffle=3, **few)
    for shard in (two / "cells").iterdir():
        frame = pd.read_parquet(shard)
        frame.assign(seconds=9.0, forwards=1.0).to_parquet(shard)
    for run in (one, two):
        reports.write(run)
    for name in ("summary", "ranking", "images", "models", "failures"):
        assert (one / f"tables/{name}.csv").read_bytes() == (two / f"tables/{name}.csv").read_bytes(), name
    assert (one / "tables/costs.csv").read_bytes() != (two / "tables/costs.csv").read_bytes()


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    run = small(tmp_path, images=4, attacks=ATTACKS[:3], explainers=EXPLAINERS[:2])
    seen = []
    for _ in range(2):
        report = reports.write(run).parent
        seen.append({str(path.relative_to(run)): path.read_bytes() for path in report.rglob("*") if path.is_file()})
    assert seen[0] == seen[1]


def test_worst_case_is_the_mean_of_minima(tmp_path: Path) -> None:
    eps = 4 / 255
    builder = Builder(models=("m",), kinds=())
    run = builder.write(tmp_path)
    outcomes = {
        f"PGD(norm='linf', eps={eps})": [1, 1, 0, 0],
        f"FGSM(eps={eps})": [1, 0, 1, 0],
        "FGSM(eps=0.001)": [0, 0, 0, 0],
        f"FGSM(eps={eps}) goal=least-likely": [0, 0, 0, 0],
        "DeepFool(steps=5)": [0, 0, 0, 0],
    }
    for method, values in outcomes.items():
        builder.add(
            run,
            "attack",
            "m",
            "scenes",
            method,
            [{"image": str(i), "metric": "robust_accuracy", "value": float(v)} for i, v in enumerate(values)],
        )
    (run / "run.json").write_text(json.dumps(builder.info(builder.cells)))
    (row,) = reports.tables(reports.load(run))["ranking"].to_dict("records")
    assert row["robust_accuracy"] == 0.25  # the minimum of means would be 0.5
    assert (row["norm"], row["eps"], row["attacks"], row["robust_n"]) == ("linf", eps, 2, 4)
    low, high = row["robust_low"], row["robust_high"]
    assert (low, high) == pytest.approx((0.04558726, 0.69935816), abs=1e-6)


def test_the_budget_is_the_largest_that_all_models_share(tmp_path: Path) -> None:
    run = small(tmp_path, attacks=[f"FGSM(eps={k / 255!r})" for k in (2, 4, 8)])
    info = json.loads((run / "run.json").read_text())
    info["cells"] = [
        cell
        for cell in info["cells"]
        if not (cell["model"] == "zoo:b" and schema1.method(cell["method"], {}).eps == 8 / 255)
    ]
    (run / "run.json").write_text(json.dumps(info))
    assert ranking.budget(survivors(reports.load(run), "scenes")) == ("linf", 4 / 255)


def test_ranking_names_the_best_explainer_and_control(tmp_path: Path) -> None:
    table = reports.tables(reports.load(small(tmp_path, images=60)))["ranking"]
    assert set(table["best_explainer"]) == {"GradCAM(layer=None)"}
    assert set(table["best_control"]) == {"CenterMap(sigma=0.25)"}
    assert set(table["quality_metric"]) == {"mass-accuracy"}
    assert table["robust_accuracy"].is_monotonic_decreasing


def test_costs_count_an_image_once(tmp_path: Path) -> None:
    tables = reports.tables(reports.load(small(tmp_path, kinds=("clean", "attack"))))
    assert set(tables["costs"]["forwards"]) == {40.0}
    assert "seconds" not in tables["images"].columns


def test_only_listed_cells_count(tmp_path: Path) -> None:
    run = small(tmp_path)
    info = json.loads((run / "run.json").read_text())
    info["cells"] = [cell for cell in info["cells"] if cell["model"] == "zoo:a"]
    (run / "run.json").write_text(json.dumps(info))
    assert set(reports.load(run).rows["model"]) == {"zoo:a"}


def test_failures_skips_and_missing_cells_are_told_apart(tmp_path: Path) -> None:
    builder = Builder(models=("m",), kinds=("clean",))
    run = builder.write(tmp_path)
    lost = {"metric": "", "value": math.nan, "image": ""}
    builder.add(
        run,
        "attack",
        "m",
        "scenes",
        "PGD(eps=0.1)",
        [{**lost, "status": "failed", "flags": "out of memory; batch of 64"}],
        "failed",
    )
    skipped = [
        {"image": str(i), "metric": "mass-accuracy", "value": math.nan, "status": "skipped", "flags": "no masks"}
        for i in range(3)
    ]
    builder.add(run, "explain", "m", "scenes", "CAM()", skipped)
    builder.cells.append({"id": "0" * 16, "kind": "attack", "model": "m", "data": "scenes", "method": "FGSM(eps=0.1)"})
    (run / "run.json").write_text(json.dumps(builder.info(builder.cells)))
    tables = reports.tables(reports.load(run))
    found = tables["failures"].set_index("status")
    assert found.loc["failed", "reason"] == "out of memory; batch of 64"
    assert (found["reason"]["skipped"], found["images"]["skipped"], found["example"]["skipped"]) == ("no masks", 3, "0")
    assert (found["images"]["failed"], found["example"]["failed"]) == (0, "")  # a whole cell
    assert found.loc["missing", "method"] == "FGSM(eps=0.1)"
    row = tables["summary"].set_index("method").loc["CAM()"]
    assert row["n"] == 0
    assert np.isnan(row["value"])
    assert row["flags"] == "skipped:3"
    assert "out of memory" in (reports.write(run).parent / "problems.html").read_text()


def test_no_run_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="no such folder"):
        reports.load(tmp_path / "nowhere")
    with pytest.raises(AssayError, match=r"no run\.json"):
        reports.write(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(AssayError, match="cannot read"):
        reports.load(tmp_path)
    (tmp_path / "run.json").write_text('{"schema": 1, "cells": [{"id": "../../etc/passwd"}]}')
    with pytest.raises(AssayError, match="not a cell's id"):
        reports.load(tmp_path)


def test_a_broken_shard_is_named(tmp_path: Path) -> None:
    run = small(tmp_path)
    shard = next((run / "cells").iterdir())
    shard.write_bytes(b"PAR1 no")
    with pytest.raises(AssayError, match=shard.name):
        reports.load(run)
    shutil.rmtree(run / "cells")
    assert len(reports.load(run).missing) == len(reports.load(run).info.cells)
