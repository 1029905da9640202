"""What is stored stays as long as nothing that changes it has changed, and no longer."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from assay.bench.measurements import Options
from assay.bench.measurements.ask import RunOptions
from assay.bench.runs.engine import ALONE, Engine, Finished, Result, run
from assay.bench.runs.store import read_rows
from assay.reports.run.reader import load
from tests.bench.nets import OWN

MODULE = '''
from pathlib import Path
import torch
from torch import nn

class Levels(nn.Module):
    """Right on plain grey pictures of level 40 * k for class k."""

    def __init__(self):
        super().__init__()
        self.register_buffer("levels", torch.arange(3) * 40 / 255)

    def forward(self, images):
        return -(images.mean((1, 2, 3))[:, None] - self.levels) ** 2 * SCALE

def model():
    names = Path("labels.txt").read_text().split()
    return Levels(), {"input_size": (3, 8, 8), "mean": (0,), "std": (1,), "classes": names}
'''
MODEL = "py:levels_of_grey:model"
NAMES = ("ant", "cat", "dog")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a model in a module, the names of its classes in a file, and pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    write_module(1000)
    Path("labels.txt").write_text(" ".join(NAMES))
    for k, name in enumerate(NAMES):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8), (40 * k + i,) * 3).save(folder / f"{i}.png")
    return tmp_path


def write_module(scale: int) -> None:
    """A module of that name is no longer imported then."""
    Path("levels_of_grey.py").write_text(MODULE.replace("SCALE", str(scale)))
    sys.modules.pop("levels_of_grey", None)


def measured(out: Path, options: RunOptions | None = None) -> tuple[Result, list[Finished]]:
    """A run, in a process that may hold the models and pictures of one before."""
    own = Options(models=(MODEL,), data=("folder:data",), attacks=("fgsm(eps=1/255)",), limit=6, gallery=1)
    finished: list[Finished] = []
    return run(options or own, out, report=lambda one, done, total: finished.append(one)), finished


def accuracy(finished: list[Finished], out: Path) -> float:
    (cell,) = [each.cell for each in finished if each.cell.kind == "clean"]
    rows = read_rows(out / "cells" / f"{cell.id}.parquet")
    return float(rows[rows["metric"] == "accuracy"]["value"].mean())


SMALL = Options(
    models=(OWN + "linear",),
    data=("digits",),
    attacks=("fgsm(eps=0.1)",),
    explainers=("saliency",),
    metrics=("gini",),
    syntheses=("visualize(steps=2)", "invert(steps=2)"),
    limit=4,
    gallery=2,
)


def test_a_release_that_changes_nothing_measures_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = measured(tmp_path, SMALL)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")}
    monkeypatch.setattr("assay.bench.runs.provenance.version", lambda: "99.0")
    again, finished = measured(tmp_path, SMALL)
    assert (first.stored, first.failed) == (0, 0)
    assert again.stored == again.cells == first.cells
    assert {each.state for each in finished} == {"stored"}
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*")} == before
    sessions = json.loads((tmp_path / "run.json").read_text())["sessions"]
    assert [session["code"]["version"] == "99.0" for session in sessions] == [False, True]


def test_a_model_in_a_module_that_stays_is_not_measured_again(place: Path) -> None:
    first, finished = measured(place / "run")
    assert accuracy(finished, place / "run") == 1
    write_module(1000)
    again, _ = measured(place / "run")
    assert again.stored == again.cells == first.cells


def test_a_module_that_answers_otherwise_is_measured_again(place: Path) -> None:
    measured(place / "run")
    write_module(-1000)
    result, finished = measured(place / "run")
    assert {each.cell.kind for each in finished if each.state == "stored"} == {"data"}
    assert result.failed == 0
    assert accuracy(finished, place / "run") == 0


@pytest.mark.parametrize(
    ("names", "right"), [("cat dog ant", 0.0), ("ant dog cat", 1 / 3), ("", 1.0)], ids=["turned", "swapped", "dropped"]
)
def test_names_of_classes_that_change_beside_the_weights_are_measured_again(
    place: Path, names: str, right: float
) -> None:
    measured(place / "run")
    Path("labels.txt").write_text(names)
    _, finished = measured(place / "run")
    assert {each.cell.kind for each in finished if each.state == "stored"} == {"data"}
    _, fresh = measured(place / "new")
    assert accuracy(finished, place / "run") == accuracy(fresh, place / "new") == pytest.approx(right)


def test_pictures_that_change_are_measured_again(place: Path) -> None:
    measured(place / "run")
    Image.new("RGB", (8, 8), (80,) * 3).save(place / "data" / "ant" / "0.png")
    _, finished = measured(place / "run")
    assert {each.state for each in finished} == {"done"}
    assert accuracy(finished, place / "run") == pytest.approx(5 / 6)


def test_cells_that_cannot_be_measured_together_are_measured_alone_and_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raises(*_: Any) -> Any:
        raise RuntimeError("no passes\ntogether")

    sharing = Options(
        models=(OWN + "convolutional",),
        data=("digits",),
        explainers=("saliency", "grad-cam", "occlusion(window=3, stride=2)"),
        metrics=("gini",),
        limit=4,
        gallery=0,
    )
    _, together = measured(tmp_path / "together", sharing)
    monkeypatch.setattr("assay.bench.measurements.explain.together", raises)
    result, finished = measured(tmp_path / "alone", sharing)
    assert (result.failed, result.skipped) == (0, 0)
    assert {each.reason for each in together} == {""}
    for each in finished:
        shared = each.cell.method.class_name in ("Saliency", "GradCAM")
        assert each.state == "done"
        assert each.reason == ("measured alone, as together raised RuntimeError: no passes together" if shared else "")
        rows = read_rows(tmp_path / "alone" / "cells" / f"{each.cell.id}.parquet")
        assert rows["status"].eq("ok").all()
        assert rows["flags"].str.contains(ALONE).all() == shared
        expected = read_rows(tmp_path / "together" / "cells" / f"{each.cell.id}.parquet")
        np.testing.assert_allclose(rows["value"], expected["value"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ["local", "processes"])
def test_a_folder_that_grew_is_measured_whole_by_the_same_process(place: Path, engine: Engine) -> None:
    options = Options(models=(MODEL,), data=("folder:data",), limit=100, gallery=0)
    for images in (6, 7):
        assert run(options, place / f"{engine}-{images}", engine=engine, jobs=2).failed == 0
        rows = load(place / f"{engine}-{images}").select("clean", "accuracy")
        assert len(rows) == images
        Image.new("RGB", (8, 8), (2, 2, 2)).save(place / "data" / "ant" / f"{images}.png")
