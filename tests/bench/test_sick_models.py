"""Models that fail are not ranked as robust, and what hides from gradients is flagged."""

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import nn

from assay import Tables, reports, run
from tests.bench.sick import MASKED, SICK, SOUND, digits
from tests.reports.conftest import blank

NETS = Mapping[str, Callable[[], nn.Module]]
PGD = ("pgd(eps=0.1, steps=5)", "pgd(eps=0.6, steps=5)")


def measured(networks: NETS, n: int, out: Path, *attacks: str) -> Tables:
    """A run on digits, two sound models among the others."""
    models = {name: make() for name, make in {**SOUND, **networks}.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".* failed; the table failures says why")
        return run(models, digits(n), attacks=attacks, out=out)


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    attacks = PGD[0], "fgsm(eps=0.1)", "square(eps=0.1, queries=20)", "deepfool(steps=20)"
    return measured(SICK, 40, tmp_path_factory.mktemp("sick"), *attacks)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    attacks = *PGD, "deepfool(norm=linf, steps=20)", "hop-skip-jump(norm=linf, queries=120)"
    return measured(MASKED, 20, tmp_path_factory.mktemp("masked"), *attacks)


def of(tables: Tables, model: str) -> dict[str, Any]:
    """The model's row of the ranking."""
    rows = tables.ranking
    return {str(name): value for name, value in rows[rows["model"] == model].to_dict("records")[0].items()}


def test_no_sick_model_stands_above_a_sound_one_without_a_flag(sick: Tables) -> None:
    ranking = sick.ranking.set_index("model")
    assert set(ranking.index) == {*SOUND, *SICK}
    least = ranking.loc[list(SOUND), "robust_accuracy"].max()
    for name in SICK:
        row = ranking.loc[name]
        assert not row["robust_accuracy"] > least or row["flags"], name
    assert (ranking.loc[list(SOUND), ["flags", "unmet"]] == "").all(axis=None)


def test_an_image_without_an_answer_is_wrong_and_fooled(sick: Tables) -> None:
    rows = sick.images[sick.images["model"] == "nan"]
    silent = rows["flags"].str.contains("non-finite-logits")
    values = rows[silent].groupby("metric")["value"].agg(["min", "max", "count"])
    assert values.loc["accuracy", "max"] == 0
    assert values.loc["robust_accuracy", "max"] == 0
    assert values.loc["error_rate", "min"] == 1
    assert set(rows.loc[silent & (rows["kind"] == "clean") & (rows["metric"] == "confidence"), "status"]) == {"failed"}
    assert (sick.ranking["clean_n"] == 40).all()
    assert set(sick.ranking["robust_n"]) == {40, 0}
    row = of(sick, "nan where changed")
    assert (row["clean_accuracy"], row["robust_accuracy"]) == (1, 0)
    assert "non-finite-logits:40" in row["flags"]


def test_a_model_on_which_attacks_fail_has_no_place(sick: Tables) -> None:
    row = of(sick, "raising")
    assert np.isnan(row["robust_accuracy"])
    assert pd.isna(row["place_best"])
    assert row["attacks"] == 3
    assert re.fullmatch(r"PGD\(.*\) failed; FGSM\(.*\) failed", row["unmet"])
    assert row["flags"] == "attack-failed:40"
    assert sick.ranking["model"].tolist()[-1] == "raising"
    curves = sick["curves"]
    assert "raising" not in set(curves["model"])


def test_the_first_screen_says_so(sick: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assay.reports.site.pages.draw", blank)
    page = reports.write(sick.path).read_text()
    text = re.sub(r"<[^>]*>|\s+", " ", page)
    assert re.search(r"these have no place: .*raising \(PGD L∞ 0.1 and FGSM 0.1 failed: RuntimeError: this model", text)
    assert re.search(r"nan \(on \d+ of 40 images.*counts as wrong, and as fooled under attack", text)
    assert "not compared" in page
    assert text.index("no place") < text.index("Robust accuracy, worst case")


def test_alone_it_has_no_place_either(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="1 cells or images failed"):
        tables = run({"raising": SICK["raising"]()}, digits(6), attacks=["fgsm(eps=0.1)", "random-noise(eps=0.1)"])
    (row,) = tables.ranking.to_dict("records")
    assert np.isnan(row["robust_accuracy"])
    assert row["unmet"].endswith("failed")


@pytest.mark.parametrize("name", MASKED)
def test_masking_is_flagged(masked: Tables, name: str) -> None:
    assert of(masked, name)["flags"]
    failed = masked["checks"].query("model == @name and state == 'failed'")
    assert len(failed)
    assert (failed["detail"] != "").all()


@pytest.mark.parametrize("name", SOUND)
def test_sound_models_are_not(masked: Tables, name: str) -> None:
    row = of(masked, name)
    assert (row["flags"], row["unmet"]) == ("", "")
