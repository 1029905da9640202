import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from assay import reports
from assay.reports.run.places import Place, places
from tests.reports.builder import ATTACKS, Builder


def test_equal_models_share_all_places_and_clear_ones_do_not() -> None:
    images = pd.DataFrame({"good": [1.0] * 30, "twin": [1.0] * 30, "bad": [0.0] * 30})
    assert places(images) == {"good": Place(1, 2), "twin": Place(1, 2), "bad": Place(3, 3)}
    assert [str(place) for place in places(images).values()] == ["1\N{EN DASH}2", "1\N{EN DASH}2", "3"]


def test_a_model_between_two_may_be_tied_with_both() -> None:
    held = {"first": 20, "middle": 17, "last": 14}
    images = pd.DataFrame({name: [1.0] * n + [0.0] * (30 - n) for name, n in held.items()})
    assert places(images) == dict.fromkeys(held, Place(1, 3))  # 3 and 6 images of one side: p = .25 and .03, corrected


@pytest.mark.parametrize("seed", range(3))
def test_places_follow_the_exact_test_of_a_library(seed: int) -> None:
    rng = np.random.default_rng(seed)
    images = pd.DataFrame({f"m{i}": (rng.random(60) < p).astype(float) for i, p in enumerate((0.9, 0.7, 0.6, 0.2))})
    pairs = [(a, b) for i, a in enumerate(images) for b in list(images)[i + 1 :]]
    tables = [pd.crosstab(images[a], images[b]).reindex(index=[0, 1], columns=[0, 1], fill_value=0) for a, b in pairs]
    clear = multipletests([mcnemar(table, exact=True).pvalue for table in tables], 0.05, method="holm")[0]
    wins = [
        (a, b) if images[a].sum() > images[b].sum() else (b, a) for (a, b), c in zip(pairs, clear, strict=True) if c
    ]
    expected = {
        name: Place(1 + sum(name == loser for _, loser in wins), 4 - sum(name == winner for winner, _ in wins))
        for name in images
    }
    assert places(images) == expected


def test_images_that_one_model_was_not_tried_on_do_not_count() -> None:
    images = pd.DataFrame({"a": [1.0] * 40, "b": [0.0] * 5 + [np.nan] * 35})
    assert places(images) == {"a": Place(1, 2), "b": Place(1, 2)}
    assert places(images[["a"]]) == {"a": Place(1, 1)}
    assert places(pd.DataFrame()) == {}


def test_the_ranking_has_places_by_what_survives(tmp_path_factory: pytest.TempPathFactory) -> None:
    attacked = Builder(images=40, models=("a", "b"), kinds=("clean", "attack"), attacks=ATTACKS[:4])
    clean = Builder(images=40, models=("a", "b"), kinds=("clean",))
    for builder in (attacked, clean):
        ranked = reports.tables(reports.load(builder.write(tmp_path_factory.mktemp("run"))))["ranking"]
        assert ranked["place_best"].min() == 1
        assert ranked["place_worst"].max() == 2
        assert (ranked["place_best"] <= ranked["place_worst"]).all()
    assert list(ranked["place_best"]) == [1, 1], "without attacks the clean accuracy counts, which ties here"
