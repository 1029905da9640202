"""The main job on published weights and photographs, where they are there."""

import sys
from pathlib import Path

import pandas as pd
import pytest

from assay import reports
from assay.bench.measurements import Options, Setup
from assay.bench.runs.engine import run
from tests.bench.real import REAL, mnist, needed

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(needed(REAL / "subjects.py").parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def table(out: Path) -> pd.DataFrame:
    return reports.tables(reports.load(out))["summary"]


def test_mobilenet_knows_the_photographs(tmp_path: Path) -> None:
    options = Options(models=("py:subjects:mobilenetv2_100",), data=(f"folder:{REAL / 'images' / 'imagenet'}",))
    assert run(options, tmp_path).failed == 0
    accuracy = table(tmp_path).query("metric == 'accuracy'").iloc[0]
    assert accuracy["n"] == 100
    assert accuracy["value"] == pytest.approx(0.91, abs=0.0101)


@pytest.mark.usefixtures("undrawn")
def test_attacks_heatmaps_and_a_report_of_photographs(tmp_path: Path) -> None:
    options = Options(
        models=("py:subjects:mobilenetv2_100",),
        data=(f"folder:{REAL / 'images' / 'imagenet'}",),
        attacks=("pgd(eps=2/255, steps=5)", "fgsm(eps=2/255)"),
        explainers=("saliency", "guided-backprop", "grad-cam", "occlusion(window=112, stride=56)", "sobel-map"),
        metrics=("deletion(steps=4)", "insertion(steps=4)"),
        limit=2,
        gallery=2,
    )
    result = run(options, tmp_path)
    assert (result.failed, result.skipped) == (0, 0)
    reports.write(tmp_path)
    summary = table(tmp_path)
    fooled = summary[(summary["metric"] == "fooling_rate") & summary["method"].str.startswith("PGD")]
    assert (fooled["value"] == 1).all()
    deletion = summary[summary["metric"] == "deletion(steps=4)"].set_index(["model", "method"])["value"]
    assert deletion.notna().all()
    page = (tmp_path / "report" / "model-mobilenetv2-100.html").read_text(encoding="utf-8")
    assert page.count('class="shot"') == 2
    assert len(list((tmp_path / "report" / "pictures").iterdir())) >= 2 * 4


def test_lenet_is_as_right_on_mnist_as_published(tmp_path: Path) -> None:
    options = Options(models=("py:subjects:mnist_lenet5",), data=(mnist(tmp_path),), limit=10_000)
    assert run(options, tmp_path / "run", setup=Setup(batch_size=500)).failed == 0
    accuracy = table(tmp_path / "run").query("metric == 'accuracy'").iloc[0]
    assert accuracy["n"] == 10_000
    assert accuracy["value"] == pytest.approx(0.9889, abs=0.00015)
