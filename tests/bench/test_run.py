"""A run: resumed, split otherwise, with failures in it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from assay import reports
from assay.bench.cli import main
from assay.bench.measurements import Options, Setup
from assay.bench.measurements.ask import RunOptions
from assay.bench.runs.engine import Finished, Result, run
from assay.bench.runs.store import StoreError, read_rows
from assay.core.errors import AssayError
from tests.bench.nets import OWN

OPTIONS = Options(
    models=(OWN + "convolutional", OWN + "linear"),
    data=("digits",),
    attacks=(
        "pgd(eps=0.1, steps=5)",
        "fgsm(eps=0.1, goal=least_likely)",
        "gradient-fooling(goal=random)",
        "random-noise",
        "universal-perturbation(eps=0.2, steps=10)",
    ),
    transfer=("mi-fgsm(eps=0.1)",),
    explainers=("saliency", "grad-cam", "random-map"),
    metrics=("deletion", "single-deletion"),
    limit=30,
    training_images=40,
    gallery=2,
    landscapes=2,
)


def outcomes(folder: Path) -> pd.DataFrame:
    """All rows of a run without their costs, in one order."""
    shards = pd.concat([read_rows(path) for path in sorted(folder.glob("cells/*.parquet"))])
    rows = shards.drop(columns=["forwards", "backwards", "seconds"])
    return rows.sort_values(list(rows.columns.drop("value"))).reset_index(drop=True)


def quick(out: Path, options: RunOptions = OPTIONS, **settings: Any) -> Result:
    return run(options, out, **settings)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    result = quick(out)
    assert (result.failed, result.stored) == (0, 0)
    assert result.skipped == 1  # Grad-CAM on the linear model
    return out


def test_rows_are_one_per_image_and_metric(whole: Path) -> None:
    rows = outcomes(whole)
    clean = rows[(rows["kind"] == "clean") & (rows["metric"] == "accuracy")]
    assert clean.groupby("model")["image"].nunique().tolist() == [30, 30]
    assert (clean.groupby("model")["value"].mean() > 0.9).all()
    keys = ["model", "data", "image", "kind", "cell", "variant", "source", "metric"]
    assert not rows.duplicated(keys).any()
    assert set(rows["status"]) == {"ok", "skipped"}
    (skipped,) = reports.load(whole).failures.to_dict("records")
    assert skipped["method"] == "GradCAM(layer=None)"
    assert "no layer with a live grid" in skipped["flags"]


def test_a_second_run_measures_nothing(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("cells/*")}
    result = quick(whole)
    assert result.stored == result.cells
    assert {path: path.stat().st_mtime_ns for path in whole.glob("cells/*")} == before


@pytest.mark.parametrize("settings", [{"setup": Setup(batch_size=7)}, {"engine": "processes", "jobs": 2}])
def test_batch_size_and_engine_change_no_outcome(whole: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    quick(tmp_path / "run", **settings)
    one, other = outcomes(whole), outcomes(tmp_path / "run")
    pd.testing.assert_frame_equal(one.drop(columns="value"), other.drop(columns="value"))
    continuous = one["metric"].str.startswith(("distance", "confidence", "deletion", "single", "linearity"))
    pd.testing.assert_series_equal(one["value"][~continuous], other["value"][~continuous])
    np.testing.assert_allclose(one["value"][continuous], other["value"][continuous], rtol=1e-3, atol=1e-4)


def test_the_seed_changes_what_is_random(whole: Path, tmp_path: Path) -> None:
    options = Options(**{**OPTIONS.__dict__, "seed": 1, "attacks": ("random-noise(eps=0.3)",), "explainers": ()})
    quick(tmp_path / "one", options)
    quick(tmp_path / "zero", Options(**{**options.__dict__, "seed": 0}))
    assert not outcomes(tmp_path / "one")["value"].equals(outcomes(tmp_path / "zero")["value"])


@pytest.mark.usefixtures("undrawn")
def test_killed_in_the_middle_it_goes_on(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    config = tmp_path / "settings.toml"
    config.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in vars(OPTIONS).items()))
    command = ["run", "--config", str(config), "--out", str(out), "--engine", "local"]
    process = subprocess.Popen(
        [sys.executable, "-m", "assay", *command],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while len(list(out.glob("cells/*.parquet"))) < 5 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stored = len(list(out.glob("cells/*.parquet")))
    assert 5 <= stored < len(list(whole.glob("cells/*.parquet")))
    (out / "cells" / "0123456789abcdef.parquet.1.part").write_bytes(b"half a shard")
    with pytest.raises(SystemExit, match="0"):
        main(command)
    assert not list(out.rglob("*.part"))
    reports.write(whole)
    assert (out / "tables" / "summary.csv").read_bytes() == (whole / "tables" / "summary.csv").read_bytes()


def test_a_failing_cell_is_a_row_and_is_tried_again(tmp_path: Path) -> None:
    options = Options(models=(OWN + "no_gradients",), data=("digits",), attacks=("fgsm",), limit=5, gallery=0)
    told: list[Finished] = []
    for _ in range(2):
        result = quick(tmp_path, options, report=lambda one, done, total: told.append(one))
        assert result.failed == 1
    (path,) = tmp_path.glob("failed/*.parquet")
    row = read_rows(path).iloc[0]
    assert (row["status"], row["flags"]) == ("failed", "RuntimeError: this model has no gradients")
    assert np.isnan(row["value"])
    assert [one.state for one in told].count("failed") == 2


def test_what_has_no_value_without_an_answer_has_failed_and_the_image_is_wrong(tmp_path: Path) -> None:
    options = Options(models=(OWN + "nan_where_dark",), data=("digits",), attacks=("fgsm",), limit=30, gallery=0)
    assert quick(tmp_path, options).failed > 0
    rows = outcomes(tmp_path)
    bad = rows[rows["status"] == "failed"]
    assert 0 < bad["image"].nunique() < 30
    assert bad["value"].isna().all()
    shares = rows[rows["image"].isin(bad["image"]) & rows["metric"].isin(["accuracy", "robust_accuracy"])]
    assert (shares["value"] == 0).all()
    assert (shares["status"] == "ok").all()
    assert bad["flags"].str.contains("non-finite-logits").all()


def test_a_corrupt_picture_fails_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in range(10):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        for i in range(2):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / str(label) / f"{i}.png")
    broken = tmp_path / "data" / "3" / "0.png"
    broken.write_bytes(broken.read_bytes()[:50])
    options = Options(models=(OWN + "linear",), data=(f"folder:{tmp_path / 'data'}",), attacks=("fgsm",), limit=20)
    assert quick(tmp_path / "run", options).failed == 1
    rows = outcomes(tmp_path / "run")
    assert rows[rows["status"] == "failed"]["image"].tolist() == ["3/0.png"]
    assert rows[(rows["kind"] == "clean") & (rows["metric"] == "accuracy")]["image"].nunique() == 19


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    real = pq.write_table

    def fills_up(table: Any, where: Any, *arguments: Any, **settings: Any) -> None:
        if len(written) == 4:
            Path(where).write_bytes(b"PAR1 half")
            raise OSError(28, "No space left on device")
        written.append(Path(where))
        real(table, where, *arguments, **settings)

    monkeypatch.setattr("assay.bench.runs.store.pq.write_table", fills_up)
    with pytest.raises(StoreError, match="No space left on device; what is stored stays valid"):
        quick(tmp_path)
    assert len(list(tmp_path.glob("cells/*"))) == 4
    assert not list(tmp_path.rglob("*.part"))
    monkeypatch.undo()
    assert quick(tmp_path).stored == 4


def test_a_shard_of_another_schema_is_refused(whole: Path, tmp_path: Path) -> None:
    source = next(whole.glob("cells/*.parquet"))
    table = pq.read_table(source).replace_schema_metadata({"assay_schema": "99"})
    pq.write_table(table, tmp_path / "old.parquet")
    with pytest.raises(AssayError, match="schema 99"):
        read_rows(tmp_path / "old.parquet")


@pytest.mark.parametrize(
    ("text", "said"),
    [("garbage", "cannot read"), ("[]", "cannot read"), ('{"schema": 3}', "has schema 3")],
)
def test_a_description_that_cannot_be_read_is_left_as_it_is(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(AssayError, match=said) as error:
        quick(tmp_path)
    assert "\n" not in str(error.value)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.json", text)]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attacks": ("pgd(steps=0)",)}, "above 0"),
        ({"attacks": ("pgd(goal=elsewhere)",)}, "goal"),
        ({"models": ("zoo:nothing*",)}, "no zoo model matches"),
        ({"models": ()}, "at least one model"),
        ({"data": ("scenes",)}, "only"),
        ({"limit": 0}, "limit"),
        ({"jobs": 0}, "jobs=0 must be at least 1"),
        ({"jobs": -1}, "jobs=-1 must be at least 1"),
    ],
)
def test_a_wrong_wish_is_refused_before_anything_runs(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    how = {name: value for name, value in change.items() if name == "jobs"}
    options = {**OPTIONS.__dict__, **change}
    with pytest.raises(AssayError, match=said) as error:
        quick(tmp_path / "run", Options(**{name: options[name] for name in options.keys() - how}), **how)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
