"""Models are compared on the same attacks."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay import reports
from assay.reports.run.ranking import budget, worst_case
from tests.reports.builder import ATTACKS, Builder


def survivors(outcomes: dict[str, list[float]], norm: str = "linf", eps: float = 0.1) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"model": "m", "method": method, "image": str(i), "value": value, "norm": norm, "eps": eps}
            for method, values in outcomes.items()
            for i, value in enumerate(values)
        ]
    )


def test_the_worst_case_is_the_mean_of_minima() -> None:
    found = worst_case(survivors({"a": [1, 1, 0, 0], "b": [1, 0, 1, 0]}))
    assert (found.value, found.n) == (0.25, 4)


def test_an_image_without_a_value_is_lost() -> None:
    rows = survivors({"a": [1, 1, 1], "b": [1, np.nan, 0]}).dropna(subset="value")
    assert (worst_case(rows).value, worst_case(rows).n) == (1 / 3, 3)


def test_the_budget_with_most_attacks_is_compared() -> None:
    near = survivors({"pgd": [1], "fgsm": [1]}, eps=4 / 255)
    far = survivors({"pgd": [0]}, eps=8 / 255)
    found = budget(pd.concat([near, far]))
    assert found is not None
    assert found.eps == 4 / 255


ATTACKED = tuple(method for method in ATTACKS if "eps=" in method and "goal" not in method and "'l2'" not in method)


def whole_cell(run: Path, builder: Builder, model: str, method: str, status: str) -> None:
    """The cell as one that went wrong, or had no meaning, as a whole."""
    cell = next(each for each in builder.cells if each["model"] == model and each["method"].startswith(method))
    path = run / "cells" / f"{cell['id']}.parquet"
    row = pd.read_parquet(path).iloc[:1].assign(image="", metric="", value=np.nan, status=status, flags="why it did")
    path.unlink()
    row.to_parquet(run / ("failed" if status == "failed" else "cells") / path.name)


@pytest.fixture
def builder() -> Builder:
    return Builder(models=("a", "b", "c"), attacks=ATTACKED, kinds=("clean", "attack"), images=20)


def ranking(run: Path) -> pd.DataFrame:
    return reports.tables(reports.load(run))["ranking"].set_index("model")


def of(table: pd.DataFrame, model: str) -> dict[str, Any]:
    """The model's row."""
    return {str(name): value for name, value in table.loc[[model]].to_dict("records")[0].items()}


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_model_that_lacks_an_attack_has_no_place(builder: Builder, tmp_path: Path, status: str) -> None:
    run = builder.write(tmp_path)
    before = ranking(run)
    assert (before["unmet"] == "").all()
    assert before["attacks"].eq(3).all()  # PGD, FGSM and noise within 4/255
    method = next(m for m in ATTACKED if m.startswith("RandomNoise"))
    whole_cell(run, builder, "b", method, status)
    after = ranking(run)
    row = of(after, "b")
    assert row["unmet"] == f"{method} {status}"
    assert np.isnan(row["robust_accuracy"])
    assert pd.isna(row["place_best"])
    assert after.loc[["a", "c"], "robust_accuracy"].equals(before.loc[["a", "c"], "robust_accuracy"])
    assert after["place_worst"].max() <= 2
    assert ("attack-failed:20" in row["flags"]) == (status == "failed")


def test_what_has_no_meaning_on_any_model_keeps_nobody(builder: Builder, tmp_path: Path) -> None:
    run = builder.write(tmp_path)
    for model in builder.models:
        whole_cell(run, builder, model, "RandomNoise", "skipped")
    after = ranking(run)
    assert (after["unmet"] == "").all()
    assert after["robust_accuracy"].notna().all()


def test_a_ball_in_which_an_attack_failed_on_every_model_comes_last(builder: Builder, tmp_path: Path) -> None:
    run = builder.write(tmp_path)
    noise = next(m for m in ATTACKED if m.startswith("RandomNoise"))
    for model in builder.models:
        whole_cell(run, builder, model, noise, "failed")
    after = ranking(run)
    assert after["eps"].eq(8 / 255).all(), "where every attack was met"
    assert after["flags"].str.contains("attack-failed:20").all()


def test_images_without_an_answer_in_earlier_runs_count_against_the_model(builder: Builder, tmp_path: Path) -> None:
    run = builder.write(tmp_path)
    for cell in builder.cells:
        if cell["model"] == "a":
            path = run / "cells" / f"{cell['id']}.parquet"
            rows = pd.read_parquet(path)
            silent = rows["image"] < "test-0010"
            changes = {"value": np.nan, "status": "failed", "flags": "non-finite-logits"}
            rows.assign(**{name: rows[name].mask(silent, value) for name, value in changes.items()}).to_parquet(path)
    row = of(ranking(run), "a")
    assert row["clean_n"] == row["robust_n"] == 20
    assert row["clean_accuracy"] <= 0.5
    assert "non-finite-logits:10" in row["flags"]
    worst = reports.tables(reports.load(run))["summary"].query("model == 'a' and metric == 'robust_accuracy'")
    assert (worst["n"] == 20).all()
