"""Ranks, tests against controls and agreement of metrics, on scores whose truth is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from assay.reports.run import explainer_statistics as methods
from assay.reports.run.reader import Run
from assay.reports.run.records import Info, Method, Metric

IMAGES = 40
METHODS = ("Good()", "Fair()", "Poor()", "RandomMap()", "CenterMap()")


def frame(scores: dict[str, np.ndarray], metric: str = "mass-accuracy", model: str = "m") -> pd.DataFrame:
    rows = [
        {
            "model": model,
            "data": "d",
            "image": f"{i:03}",
            "kind": "explain",
            "method": method,
            "metric": metric,
            "value": v,
        }
        for method, values in scores.items()
        for i, v in enumerate(values)
    ]
    return pd.DataFrame(rows)


def results(*frames: pd.DataFrame, gate: str = "controls", **directions: str) -> Run:
    metrics = {name.replace("_", "-"): Metric(direction=way, gate=gate) for name, way in directions.items()}
    rows = pd.concat(frames, ignore_index=True)
    methods = {text: Method(text=text, class_name=text[:-2], control="Map" in text) for text in rows["method"].unique()}
    return Run(path=Path(), rows=rows, failures=rows[:0], info=Info(metrics=metrics, methods=methods), missing=())


def made(seed: int = 0, sign: int = 1) -> dict[str, np.ndarray]:
    """Images differ much, methods little but steadily: only pairing tells them apart. Poor is no better than chance."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 5, IMAGES)
    level = {"Good()": 1.0, "Fair()": 0.6, "Poor()": 0.0, "RandomMap()": 0.0, "CenterMap()": -0.2}
    return {name: sign * (hard + mean + rng.normal(0, 0.2, IMAGES)) for name, mean in level.items()}


@pytest.mark.parametrize(("sign", "way"), [(1, "higher"), (-1, "lower")])
def test_only_what_beats_every_control_has_a_rank(sign: int, way: str) -> None:
    found = methods.methods(methods.scores(results(frame(made(sign=sign)), mass_accuracy=way))).set_index("method")
    assert found["rank"].to_dict() == pytest.approx(
        {"Good()": 1, "Fair()": 2, "Poor()": np.nan, "RandomMap()": np.nan, "CenterMap()": np.nan}, nan_ok=True
    )
    assert found[["rank_low", "rank_high"]].to_dict("index")["Good()"] == {"rank_low": 1, "rank_high": 1}
    assert found["p_controls"].to_dict()["Poor()"] > 0.05
    assert found["control"].tolist() == [name in ("CenterMap()", "RandomMap()") for name in found.index]
    assert (found["low"] <= found["value"]).all()
    assert (found["value"] <= found["high"]).all()


def test_p_values_are_scipys_after_holm() -> None:
    scores = made()
    found = methods.scores(results(frame(scores), mass_accuracy="higher"))
    raw = {
        name: max(
            stats.wilcoxon(scores[name] - scores[control], zero_method="zsplit", alternative="greater").pvalue
            for control in ("RandomMap()", "CenterMap()")
        )
        for name in ("Fair()", "Good()", "Poor()")
    }
    ordered = sorted(raw, key=raw.__getitem__)
    held = np.maximum.accumulate(np.array([min(1.0, (3 - i) * raw[name]) for i, name in enumerate(ordered)]))
    got = methods.methods(found).set_index("method")["p_controls"]
    np.testing.assert_allclose(got[ordered], held)
    pairs = methods.pairs(found).set_index(["method", "other"])
    assert len(pairs) == 3
    assert pairs.loc[("Fair()", "Good()"), ["better", "worse"]].sum() == IMAGES
    assert pairs["differs"].all()
    friedman = stats.friedmanchisquare(*(scores[name] for name in ("Fair()", "Good()", "Poor()"))).pvalue
    assert methods.methods(found)["p_friedman"].dropna().unique() == pytest.approx([friedman])


def test_equal_methods_are_not_told_apart() -> None:
    rng = np.random.default_rng(1)
    same = {name: rng.normal(size=IMAGES) for name in METHODS}
    found = methods.scores(results(frame(same), mass_accuracy="higher"))
    assert methods.methods(found)["rank"].isna().all()
    assert not methods.pairs(found)["differs"].any()
    constant = methods.scores(results(frame(dict.fromkeys(METHODS, np.ones(IMAGES))), mass_accuracy="higher"))
    assert methods.methods(constant)["p_controls"].dropna().eq(1).all()


def test_without_controls_nothing_is_ranked() -> None:
    scores = {name: values for name, values in made().items() if "Map" not in name}
    found = methods.methods(methods.scores(results(frame(scores), mass_accuracy="higher")))
    assert found[["rank", "p_controls"]].isna().all(axis=None)
    assert found["value"].notna().all()


def test_ranks_that_images_do_not_settle_have_wide_intervals() -> None:
    rng = np.random.default_rng(2)
    scores = {"RandomMap()": np.zeros(IMAGES)} | {f"M{i}()": 1 + rng.normal(0, 0.3, IMAGES) for i in range(4)}
    found = methods.methods(methods.scores(results(frame(scores), mass_accuracy="higher")))
    ranked = found[found["rank"].notna()]
    assert len(ranked) == 4
    assert (ranked["rank_high"] - ranked["rank_low"]).max() >= 2
    assert (ranked["rank_low"] <= ranked["rank"]).all()
    assert (ranked["rank"] <= ranked["rank_high"]).all()


def test_what_lacks_scores_is_not_compared_and_costs_the_others_nothing() -> None:
    scores = made()
    scores["Good()"][:4] = np.nan
    scores["Rare()"] = np.where(np.arange(IMAGES) < 3, 1.0, np.nan)
    (found,) = methods.scores(results(frame(scores), mass_accuracy="higher"))
    assert set(found.table) == set(METHODS)
    assert len(found.table) == IMAGES - 4


def test_models_are_averaged_where_all_methods_apply() -> None:
    first, second = made(0), made(1)
    lacking = {name: values for name, values in made(2).items() if name != "Good()"}
    (found,) = methods.scores(
        results(frame(first), frame(second, model="n"), frame(lacking, model="o"), mass_accuracy="higher")
    )
    assert found.models == 2
    np.testing.assert_allclose(found.table["Good()"], (first["Good()"] + second["Good()"]) / 2)


def test_images_that_a_model_has_wrong_do_not_count() -> None:
    clean = pd.DataFrame(
        [
            {
                "model": "m",
                "data": "d",
                "image": f"{i:03}",
                "kind": "clean",
                "method": "none",
                "metric": "accuracy",
                "value": float(i >= 10),
            }
            for i in range(IMAGES)
        ]
    )
    (found,) = methods.scores(results(frame(made()), clean, mass_accuracy="higher"))
    assert list(found.table.index) == [f"{i:03}" for i in range(10, IMAGES)]


def test_nothing_is_ranked_where_a_control_has_no_score() -> None:
    scores = made()
    scores["CenterMap()"] = np.where(np.arange(IMAGES) < 15, 50.0, np.nan)
    found = methods.methods(methods.scores(results(frame(scores), mass_accuracy="higher")))
    assert found["rank"].isna().all()
    assert "CenterMap()" not in set(found["method"])


def test_a_metric_by_which_a_blind_map_is_best_ranks_all_methods() -> None:
    run = results(frame(made(sign=-1)), gate="none", mass_accuracy="lower")
    found = methods.methods(methods.scores(run)).set_index("method")
    assert found["rank"].dropna().to_dict() == {"Good()": 1, "Fair()": 2, "Poor()": 3}
    assert found["p_controls"].isna().all()


def test_infinite_scores_are_left_out() -> None:
    scores = made()
    scores["Good()"][:3] = np.inf
    (found,) = methods.scores(results(frame(scores), mass_accuracy="higher"))
    assert len(found.table) == IMAGES - 3


def test_agreement_is_kendalls_tau_in_each_metrics_own_direction() -> None:
    scores = made()
    found = methods.scores(
        results(
            frame(scores),
            frame({name: -values for name, values in scores.items()}, "deletion"),
            mass_accuracy="higher",
            deletion="lower",
        )
    )
    (row,) = methods.agreement(found).to_dict("records")
    assert (row["metric"], row["other"], row["methods"]) == ("deletion", "mass-accuracy", 5)
    assert row["tau"] == pytest.approx(1)


def test_a_metric_without_a_better_end_ranks_nobody() -> None:
    assert methods.scores(results(frame(made(), "gini"), gini="none")) == []
    assert list(methods.methods([])) == methods.METHODS
    assert list(methods.pairs([])) == methods.PAIRS
