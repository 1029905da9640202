"""The twin that was trained on a planted background beside its sound twin."""

import pytest

from assay.bench.measurements import Ask, Options, Setup
from assay.bench.measurements.shortcut import TRUTH, ShortcutCell, shortcut_detection
from assay.explain import AttentionRollout, GradCAM, Saliency, SobelMap

SUSPECT, SOUND = "zoo:repvgg-shortcut", "zoo:repvgg"
SNOW = "scenes?shortcut=agrees"


def cells(sound: str) -> list[ShortcutCell]:
    """Of the truth and of saliency."""
    options = Options(
        models=(SUSPECT,), data=(SNOW,), limit=4, explainers=("saliency",), shortcut_pair=(SUSPECT, sound), gallery=0
    )
    return list(ShortcutCell.plan(Ask(options)))


def test_a_cell_has_rows_of_both_twins() -> None:
    truth, saliency = cells(SOUND)
    assert truth.id != saliency.id
    assert cells("zoo:repvgg-robust")[1].id != saliency.id
    assert (truth.method.text, saliency.method.text) == (TRUTH, "Saliency()")
    rows = saliency.measure(Setup(batch_size=3)).rows
    assert [(row["model"], row["image"]) for row in rows] == [
        (model, f"test-{i:05d}") for batch in (range(3), range(3, 4)) for model in (SUSPECT, SOUND) for i in batch
    ]
    assert {(row["kind"], row["metric"], row["cell"]) for row in rows} == {("shortcut", "shortcut_share", saliency.id)}
    assert all(0 <= row["value"] <= 1 and row["forwards"] == 1 for row in rows)
    whole = {(row["model"], row["image"]): row["value"] for row in saliency.measure(Setup()).rows}
    assert whole == pytest.approx({(row["model"], row["image"]): row["value"] for row in rows}, rel=1e-4)


def test_the_truth_tells_the_twins_apart_and_edges_do_not() -> None:
    table = shortcut_detection([SobelMap(), AttentionRollout()], suspect=SUSPECT, sound=SOUND, data=SNOW, limit=10)
    assert table["method"].tolist() == [TRUTH, "SobelMap()"], "what is not applicable has no row"
    assert table["auc"].tolist() == [1.0, 0.5]
    assert table["suspect"][0] > 0.9
    assert table["sound"][0] < 0.1


@pytest.mark.slow
def test_a_method_finds_the_shortcut() -> None:
    table = shortcut_detection([GradCAM(), Saliency()], suspect=SUSPECT, sound=SOUND, data=SNOW, limit=40)
    assert (table["low"] > 0.9).any()
