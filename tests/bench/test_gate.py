"""The gate on a real run: planted regressions turn it red with the right line, clean repeats stay green."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from assay.attacks.balls import Ball
from assay.attacks.gradient import PGD
from assay.bench import loading, models
from assay.bench.cli import main
from assay.bench.data import DataSet
from assay.bench.measurements import Options, Setup
from assay.bench.measurements.ask import RunOptions
from assay.bench.runs.engine import run
from assay.bench.runs.store import read_rows
from assay.explain.maps import GradCAM
from assay.explain.metrics import Gini
from assay.reports.gate import Verdict, compare, load
from tests.bench.nets import OWN

DEEP, LINEAR = OWN + "deep", OWN + "linear"
OPTIONS = Options(
    models=(DEEP, LINEAR),
    data=("digits",),
    attacks=("pgd(eps=32/255, steps=5)",),
    explainers=("grad-cam", "saliency"),
    metrics=("single-deletion", "gini"),
    syntheses=("visualize(steps=4)",),
    limit=6,
    gallery=2,
)
SCENES = replace(OPTIONS, models=("zoo:resnet", "zoo:linear"), data=("scenes",), metrics=(), syntheses=())


WHOLE = replace(SCENES, metrics=("mass-accuracy", "gini"), syntheses=("visualize(steps=4)",))  # for slow tests


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stored run that all others are compared with. Tests must not write into it."""
    out = tmp_path_factory.mktemp("gate") / "base"
    assert run(OPTIONS, out).failed == 0
    return out


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``base``, of published weights and large pictures."""
    out = tmp_path_factory.mktemp("gate") / "scenes"
    assert run(SCENES, out).failed == 0
    return out


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``scenes``, with everything."""
    out = tmp_path_factory.mktemp("gate") / "whole"
    assert run(WHOLE, out).failed == 0
    return out


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Models that a test bends are not kept for the next one."""
    yield
    loading.forget()


def again(base: Path, out: Path, *kinds: str, options: RunOptions = OPTIONS, **how: Any) -> Verdict:
    """The run once more, cells of other kinds than those named kept as they were; all unless named."""
    loading.forget()
    if kinds:
        shutil.copytree(base, out)
        for cell in listed(out):
            if cell["kind"] in kinds:
                (out / "cells" / f"{cell['id']}.parquet").unlink()
    run(options, out, **how)
    return compare(load(base), load(out))


def listed(out: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads((out / "run.json").read_text())["cells"]
    return found


def lines(verdict: Verdict, what: str) -> list[str]:
    return [change.line for change in verdict.regressions if change.what == what]


def test_a_run_beside_itself_is_as_it_was(base: Path) -> None:
    verdict = compare(load(base), load(base))
    assert verdict.changes == ()
    assert verdict.values > 300
    assert {one.new.sort for one in verdict.pictures} >= {"image", "heat", "attacked", "drawn", "proof"}


def test_a_repeat_in_other_batches_and_threads_is_green(base: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        verdict = again(base, tmp_path / "run", setup=Setup(batch_size=4), jobs=2)
    finally:
        torch.set_num_threads(threads)
    assert verdict.regressions == ()


@pytest.mark.slow
def test_processes_are_green(whole: Path, tmp_path: Path) -> None:
    assert again(whole, tmp_path / "run", options=WHOLE, engine="processes", jobs=2).regressions == ()


def test_a_nudged_weight(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = models.fill

    def nudged(network: torch.nn.Module, *rest: Any) -> None:
        original(network, *rest)
        with torch.no_grad():
            weight = next(p for p in network.parameters() if p.ndim == 4 or p.shape[0] == 10)
            weight.view(-1)[0] += weight.abs().max()

    monkeypatch.setattr("assay.bench.models.weights.fill", nudged)
    verdict = again(scenes, tmp_path / "run", options=SCENES)
    assert verdict.changes[0].line.startswith("zoo:resnet: other weights (digest ")
    assert any("heatmaps of clean images" in line for line in lines(verdict, "picture"))


def test_normalisation_doubled(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def doubled(self: models.Subject, images: Tensor) -> Tensor:
        logits: Tensor = self.body(((images - self.mean) / self.std - self.mean) / self.std)
        return logits

    monkeypatch.setattr(models.Subject, "forward", doubled)
    verdict = again(scenes, tmp_path / "run", "clean", "gallery", options=SCENES)
    assert any(line.startswith("zoo:resnet on scenes, clean images: accuracy fell") for line in lines(verdict, "value"))


def test_another_normalisation_on_the_card(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = models.read_card
    monkeypatch.setattr(
        "assay.bench.models.weights.read_card", lambda *args: {**original(*args), "std": [0.5, 0.5, 0.5]}
    )
    verdict = again(scenes, tmp_path / "run", options=replace(SCENES, models=("zoo:linear",)))
    assert verdict.changes[0].line.startswith("zoo:linear: its std is [0.5, 0.5, 0.5], was [0.25, 0.25, 0.25] (digest")


def test_grad_cam_on_the_wrong_layer(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.explain.maps.default_layer", lambda *_: "body.edges")
    verdict = again(base, tmp_path / "run", "explain", "gallery")
    assert_only_grad_cam(verdict)


def test_a_flipped_heatmap(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = GradCAM.combine
    monkeypatch.setattr(GradCAM, "combine", lambda self, values, slope: original(self, values, slope).flip(-1))
    verdict = again(base, tmp_path / "run", "explain", "gallery")
    assert_only_grad_cam(verdict)


def assert_only_grad_cam(verdict: Verdict) -> None:
    (moved,) = (line for line in lines(verdict, "picture") if "clean images" in line)
    assert moved.startswith(f"{DEEP} on digits, gallery of 2: PGD L∞ 32/255: heatmaps of clean images (clean heat): ")
    assert "2 of 4 pictures moved, worst GradCAM, digit-" in moved
    assert len(lines(verdict, "proof")) == 1
    assert {change.cell.method for change in verdict.regressions if change.what == "value"} == {"GradCAM(layer=None)"}


@pytest.mark.parametrize(
    ("array", "sort"),
    [("images", "images as the model sees them"), ("adversarial", "attacked images"), ("clean_heat", "heatmaps")],
)
@pytest.mark.parametrize("thinned", [False, True], ids=["a run", "a baseline"])
def test_a_wrong_patch(scenes: Path, tmp_path: Path, array: str, sort: str, thinned: bool) -> None:
    out, old = tmp_path / "run", scenes
    shutil.copytree(scenes, out)
    cell = next(cell for cell in listed(out) if cell["kind"] == "gallery" and cell["model"] == "zoo:resnet")
    path = out / "art" / cell["id"] / "gallery.npz"
    with np.load(path) as stored:
        arrays = dict(stored)
    picture = arrays[array][0, 0] if array == "clean_heat" else arrays[array][0]
    picture[40:56, 30:46] = picture[10:26, 60:76].copy()
    np.savez_compressed(path, **arrays)
    if thinned:
        old = tmp_path / "baseline"
        assert call("baseline", str(scenes), "--out", str(old)) == 0
    verdict = compare(load(old), load(out))
    assert any("zoo:resnet" in line and sort in line for line in lines(verdict, "picture"))
    assert not lines(verdict, "value")


def test_one_class_swapped(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = loading.readable

    def swapped(data: DataSet, needs: Any = ()) -> Iterator[Any]:
        for example in original(data, needs):
            yield example._replace(label={0: 1, 1: 0}.get(example.label, example.label))

    monkeypatch.setattr("assay.bench.measurements.base.readable", swapped)
    verdict = again(base, tmp_path / "run", "clean")
    assert verdict.changes[0].what == "data"
    assert "digits: 2 images with another label, such as " in verdict.changes[0].line
    assert any("clean images: accuracy fell" in line for line in lines(verdict, "value"))


def test_the_direction_of_a_metric(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gini, "direction", "lower")
    verdict = again(base, tmp_path / "run", "data")
    assert [change.line for change in verdict.changes] == ["gini: its direction is lower, was none"]


def test_another_colour_map(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = {"inferno": mpl.colormaps["viridis"], "coolwarm": mpl.colormaps["coolwarm"]}
    old = load(base)
    monkeypatch.setattr("assay.reports.drawing.album.mpl", SimpleNamespace(colormaps=maps))
    verdict = compare(old, load(base))
    assert {change.what for change in verdict.regressions} == {"proof"}
    where = f"{DEEP} on digits, gallery of 2: PGD L∞ 32/255"
    assert any(line.startswith(f"{where}: rendered heatmaps (proof): 2 of 2 pict") for line in lines(verdict, "proof"))


@pytest.mark.parametrize("unlisted", [False, True], ids=["shard lost", "not planned"])
def test_a_missing_cell(base: Path, tmp_path: Path, unlisted: bool) -> None:
    out = tmp_path / "run"
    shutil.copytree(base, out)
    info = json.loads((out / "run.json").read_text())
    cell = next(cell for cell in info["cells"] if cell["kind"] == "attack" and cell["model"] == LINEAR)
    if unlisted:
        info["cells"].remove(cell)
        (out / "run.json").write_text(json.dumps(info))
    else:
        (out / "cells" / f"{cell['id']}.parquet").unlink()
    said = "not measured any more (1 cell)" if unlisted else "not stored in the new run"
    verdict = compare(load(base), load(out))
    assert [change.line for change in verdict.regressions] == [f"{LINEAR} on digits, PGD L∞ 32/255: {said}"]


def test_another_data_set(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.bench.data.scenes.VERSION", 99)
    verdict = again(scenes, tmp_path / "run", options=replace(SCENES, models=("zoo:linear",)))
    assert verdict.changes[0].line.startswith("scenes: the data changed, pixels or labels (digest ")


def test_data_that_change_behind_their_digest(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = loading.readable

    def darker(data: DataSet, needs: Any = ()) -> Iterator[Any]:
        for example in original(data, needs):
            yield example._replace(image=example.image * 0.9)

    monkeypatch.setattr("assay.bench.measurements.base.readable", darker)
    verdict = again(base, tmp_path / "run", "gallery")
    assert any(": images as the model sees them (images): " in line for line in lines(verdict, "picture"))


def test_another_seed(base: Path, tmp_path: Path) -> None:
    verdict = again(base, tmp_path / "run", options=replace(OPTIONS, models=(LINEAR,), seed=1))
    assert verdict.changes[0].line == "the seed is 1, was 0: random numbers differ"


def test_a_larger_radius(base: Path, tmp_path: Path) -> None:
    verdict = again(
        base,
        tmp_path / "run",
        options=replace(OPTIONS, attacks=("pgd(eps=64/255, steps=5)",), syntheses=(), explainers=()),
    )
    first = verdict.changes[0]
    assert first.line == f"PGD L∞ 32/255: its eps is {64 / 255}, was {32 / 255} (2 cells)"
    assert first.what == "setting"


def test_a_radius_that_the_attack_does_not_keep(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.attacks.gradient.Ball", lambda norm, eps: Ball(norm, 2 * eps))
    verdict = again(base, tmp_path / "run", "attack")
    assert f"{DEEP} on digits, PGD L∞ 32/255: over-budget is flagged on 6 images, was on 0" in lines(verdict, "flag")


def test_a_weaker_attack(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PGD, "_length", lambda self, k: 0.0)
    verdict = again(base, tmp_path / "run", "attack")
    assert any("robust_accuracy rose from" in line and "weaker attack" in line for line in lines(verdict, "value"))
    assert verdict.of("improvement") == ()


def test_a_method_that_fails_now(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> Tensor:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(GradCAM, "combine", broken)
    verdict = again(base, tmp_path / "run", "explain")
    line = f"{DEEP} on digits, explain GradCAM: failed now: RuntimeError: no such thing"
    assert lines(verdict, "cell") == [line]
    back = compare(load(tmp_path / "run"), load(base))
    assert back.passed
    assert any(change.line.endswith("GradCAM: measured now, was failed") for change in back.of("improvement"))


def test_the_command_and_its_files(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept, out = tmp_path / "baseline", tmp_path / "out"
    assert call("baseline", str(base), "--out", str(kept)) == 0
    assert sum(path.stat().st_size for path in kept.iterdir()) < 3e5
    assert call("check", str(base), "--baseline", str(kept), "--out", str(out)) == 0
    capsys.readouterr()
    run_ = tmp_path / "run"
    shutil.copytree(base, run_)
    shard = next(run_ / "cells" / f"{c['id']}.parquet" for c in listed(run_) if c["kind"] == "clean")
    read_rows(shard).pipe(worse).to_parquet(shard)
    files = ["--junit", str(tmp_path / "ci" / "j.xml"), "--markdown", str(tmp_path / "ci" / "s.md")]
    assert call("check", str(run_), "--baseline", str(kept), *files) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith(f"{DEEP} on digits, clean images: accuracy fell from 1.0 to 0.0 (6 images, paired 99 %")
    assert said[-1].startswith("red: 1 regression, 0 improvements, 0 notes; ")
    assert {path.name for path in (run_ / "check").iterdir() if path.is_file()} == {
        "check.json", "junit.xml", "summary.md", "index.html",
    }  # fmt: skip
    assert (tmp_path / "ci" / "j.xml").read_bytes() == (run_ / "check" / "junit.xml").read_bytes()
    assert call("check", str(tmp_path), "--baseline", str(kept)) == 2
    assert "is neither a run nor a baseline" in capsys.readouterr().err
    assert call("baseline", str(kept), "--out", str(out)) == 2
    capsys.readouterr()
    shard.unlink()
    assert call("baseline", str(run_), "--out", str(tmp_path / "unfinished")) == 2
    assert "cells are missing; finish it" in capsys.readouterr().err


def worse(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(value=rows["value"].where(rows["metric"] != "accuracy", 0.0))


def call(*tokens: str) -> object:
    with pytest.raises(SystemExit) as stop:
        main(tokens)
    return stop.value.code


MACHINES: dict[str, dict[str, str]] = {
    "plain": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"},
}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
def test_other_instruction_sets_are_green(whole: Path, tmp_path: Path, machine: str) -> None:
    code = (
        "import sys; from pathlib import Path; from tests.bench.test_gate import WHOLE, run; "
        "run(WHOLE, Path(sys.argv[1]))"
    )
    out = tmp_path / "run"
    subprocess.run([sys.executable, "-c", code, str(out)], env={**os.environ, **MACHINES[machine]}, check=True)
    assert compare(load(whole), load(out)).regressions == ()


@pytest.mark.slow
def test_fifty_repeats_are_green(base: Path, tmp_path: Path) -> None:
    threads, few = torch.get_num_threads(), replace(WHOLE, models=WHOLE.models[:1])
    assert run(few, tmp_path / "first").failed == 0
    first = load(tmp_path / "first")
    try:
        for i in range(50):
            out = tmp_path / "repeat"
            run(few, out, setup=Setup(batch_size=1 + i % 6), jobs=1 + i // 6 % 3)
            assert compare(first, load(out)).regressions == (), (i, "threads, batch size")
            shutil.rmtree(out)
    finally:
        torch.set_num_threads(threads)
