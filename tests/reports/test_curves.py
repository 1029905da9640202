import math

import numpy as np
import pandas as pd
import pytest

from assay.reports.run import curves
from assay.reports.run.attack_findings import members
from assay.reports.run.outcomes import WORST
from assay.reports.run.records import Method

INF = math.inf


def attack(norm: str = "l2", eps: float | None = None, goal: str = "") -> Method:
    return Method(text="a", norm=norm, eps=eps, goal=goal)


def outcomes(**distances: list[float]) -> pd.DataFrame:
    """Outcomes of one model under attacks with these distances; NaN where an attack failed on an image."""
    rows = [
        {"model": "m", "data": "d", "method": method, "image": str(i), "distance": distance}
        for method, values in distances.items()
        for i, distance in enumerate(values)
        if not math.isnan(distance)
    ]
    return pd.DataFrame(rows).assign(started=True, fooled=True, queries=np.nan)


@pytest.mark.parametrize(
    ("distances", "value"),
    [
        ([0, 1, 2, 4], 1.0),  # always the best
        ([0, INF, INF, INF], 0.0),  # never finds anything
        ([0, 9, 9, 9], 0.0),  # nor within the radius at which the best is done
        ([0, 1, INF, 4], 1 - (4 - 2) / 4 / (3 / 4 * 4 - 7 / 4)),
        ([0, 2.5, 3, 4], 1 - ((2.5 + 3 + 4) / 4 - 7 / 4) / (3 / 4 * 4 - 7 / 4)),
    ],
)
def test_optimality(distances: list[float], value: float) -> None:
    assert curves.optimality(np.array(distances, float), np.array([0, 1, 2, 4.0])) == pytest.approx(value)


def test_images_that_nothing_fools_do_not_move_the_radius() -> None:
    best = np.array([1, 2, INF])
    assert curves.optimality(best, best) == pytest.approx(1)
    assert curves.optimality(np.full(3, INF), best) == pytest.approx(0)


def test_optimality_needs_a_spread() -> None:
    for best in ([3.0], [INF, INF], [0.0, 0.0]):
        assert math.isnan(curves.optimality(np.array(best), np.array(best)))


def test_optimality_agrees_with_attackbench_on_many_images() -> None:
    """AttackBench's script takes trapezoids between the steps; with many images that is the same area."""
    rng = np.random.default_rng(0)
    best = np.concatenate([np.zeros(500), rng.gamma(3, 1, 4500)])
    mine = best * rng.uniform(1, 1.6, len(best))
    limit = best.max()

    def area(distances: np.ndarray) -> float:
        radii, counts = np.unique(distances.clip(max=limit), return_counts=True)
        return float(np.trapezoid(1 - counts.cumsum() / len(distances), radii))

    theirs = 1 - (area(mine) - area(best)) / ((best > 0).mean() * limit - area(best))
    assert curves.optimality(mine, best) == pytest.approx(theirs, abs=2e-3)


def test_the_best_known_is_of_all_untargeted_attacks_in_the_norm() -> None:
    found = outcomes(free=[3, 3, 6], bound=[1, INF, INF], aimed=[0.1, 0.1, 0.1], other=[0.1, 0.1, 0.1])
    known = {
        "free": attack(),
        "bound": attack(eps=1.0),
        "aimed": attack(goal="random"),
        "other": attack(norm="linf", eps=0.1),
    }
    (row,) = curves.optimality_table(found, known).to_dict("records")
    assert (row["method"], row["norm"], row["attacks"], row["n"]) == ("free", "l2", 2, 3)
    assert row["best_area"] == pytest.approx((1 + 3 + 6) / 3)
    assert row["optimality"] == pytest.approx(1 - (4 - 10 / 3) / (6 - 10 / 3))


def test_curves_step_where_an_image_falls() -> None:
    found = outcomes(a=[0, 1, 3, INF], b=[0, 2, 2, INF])
    table = curves.curves(found, {"a": attack(), "b": attack()}).set_index("method")
    assert table.loc["a", ["eps", "robust_accuracy"]].to_numpy().tolist() == [[0, 0.75], [1, 0.5], [3, 0.25]]
    assert table.loc[WORST, ["eps", "robust_accuracy"]].to_numpy().tolist() == [[0, 0.75], [1, 0.5], [2, 0.25]]
    assert set(table["n"]) == {4}
    assert (table["low"] <= table["robust_accuracy"]).all()
    assert (table["robust_accuracy"] <= table["high"]).all()


def test_an_image_that_an_attack_failed_on_is_lost_at_every_radius() -> None:
    found = outcomes(a=[1, 2, math.nan], b=[2, 1, 5])
    table = curves.curves(found, {"a": attack(), "b": attack()})
    assert table.groupby("method")["n"].first().to_dict() == {"a": 3, "b": 3, WORST: 3}
    start = table[table["eps"] == 0].set_index("method")["robust_accuracy"]
    assert start.to_dict() == {"a": pytest.approx(2 / 3), "b": 1.0, WORST: pytest.approx(2 / 3)}


def test_a_model_that_has_not_met_all_attacks_has_no_worst_case() -> None:
    found = pd.concat([outcomes(a=[1, 2], b=[2, 1]), outcomes(a=[3, 3]).assign(model="lacking")])
    table = curves.curves(found, {"a": attack(), "b": attack()}, lambda model, data, norm: model == "m")
    assert set(table["model"]) == {"m", "lacking"}
    assert set(table.loc[table["method"] == WORST, "model"]) == {"m"}


def test_only_attacks_without_a_budget_have_curves() -> None:
    found = outcomes(bound=[1.0, INF], patch=[1.0, INF])
    known = {"bound": attack(eps=1.0), "patch": attack(norm="")}
    assert not len(curves.curves(found, known))
    assert not len(curves.optimality_table(found, known))


def test_an_ensemble_is_its_members() -> None:
    assert members("zoo:a+zoo:b") == ["zoo:a", "zoo:b"]
