import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from assay import reports
from assay.reports.context import Context
from assay.reports.run import attack_pool
from assay.reports.run import cross_attack_checks as checks
from assay.reports.run.records import Method
from tests.reports import made
from tests.reports.builder import Builder

INF = math.inf


def attack(access: str = "gradient", eps: float | None = 0.1, **changes: Any) -> Method:
    return Method(**{"text": "", "name": "pgd", "norm": "linf", "access": access, "eps": eps, **changes})


def pool(attacks: dict[str, Method], fooled: dict[str, list[float]]) -> attack_pool.Pool:
    """Attacks that fool these images; for attacks without a budget the numbers are distances."""
    rows = []
    for method, values in fooled.items():
        free = attacks[method].eps is None
        for i, value in enumerate(values):
            success = value < INF if free else bool(value)
            distance = value if free else (attacks[method].eps if success else INF)
            rows.append({"method": method, "image": str(i), "started": True, "fooled": success, "distance": distance})
    return attack_pool.pool(pd.DataFrame(rows), {name: replace(method, text=name) for name, method in attacks.items()})


FGSM, PGD, SQUARE = attack(single=True, name="fgsm"), attack(), attack("score", name="square")
NOISE, HSJ, DDN = attack("none", name="random-noise"), attack("decision", None), attack("gradient", None)
LONG, SHORT = attack(settings={"steps": 80, "restarts": 1}), attack(settings={"steps": 40, "restarts": 1})
CASES: dict[str, tuple[Any, dict[str, Method], dict[str, list[float]], dict[str, list[float]], dict[str, int]]] = {
    # check, attacks, a sound outcome, a broken one, flags
    "single-step": (
        checks.single_step,
        {"f": FGSM, "p": PGD},
        {"f": [1, 0, 0, 0], "p": [1, 1, 0, 0]},
        {"f": [1, 0, 1, 0], "p": [1, 1, 0, 0]},
        {"p": 1},
    ),
    "black-box": (
        checks.black_box,
        {"p": PGD, "f": FGSM, "s": SQUARE},
        {"p": [1, 1, 0], "f": [0, 0, 1], "s": [0, 1, 1]},  # image by image some attack with gradients
        {"p": [1, 0, 0], "f": [0, 0, 0], "s": [0, 1, 1]},
        {"p": 2},
    ),
    "black-box-distance": (
        checks.black_box,
        {"d": DDN, "h": HSJ},
        {"d": [1.0, 2.0, 2.0], "h": [0.97, 3.0, INF]},
        {"d": [1.0, 2.0, INF], "h": [1.5, 1.0, 9.0]},
        {"d": 2},
    ),
    "noise": (
        checks.noise,
        {"p": PGD, "n": NOISE},
        {"p": [1, 0, 0], "n": [0, 1, 0]},
        {"p": [1, 0, 0], "n": [0, 1, 1]},
        {"p": 1},
    ),
    "larger": (
        checks.larger,
        {"small": attack(eps=0.1), "large": attack(eps=0.2)},
        {"small": [1, 0, 0], "large": [1, 1, 0]},
        {"small": [1, 0, 0], "large": [0, 1, 0]},
        {"large": 1},
    ),
    "effort": (
        checks.effort,
        {"long": LONG, "short": SHORT},
        {"long": [1, 1, 0], "short": [1, 1, 0]},
        {"long": [1, 1, 0], "short": [1, 0, 0]},
        {"short": 1},
    ),
    "effort-distance": (
        checks.effort,
        {
            "long": attack("gradient", None, settings={"steps": 80}),
            "short": attack("gradient", None, settings={"steps": 40}),
        },
        {"long": [1.0, 1.0, 1.95], "short": [1.0, 1.0, 2.0]},
        {"long": [1.0, 1.0, 1.5], "short": [1.0, 1.0, 2.0]},
        {"short": 1},
    ),
    "curve": (
        checks.curve,
        {"d": DDN, "p": PGD},
        {"d": [0.05] * 10 + [0.2] * 10, "p": [1.0] * 9 + [0.0] * 11},
        {"d": [0.05] * 18 + [0.2] * 2, "p": [1.0] * 4 + [0.0] * 16},
        {"p": 14},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_contradiction_is_found_and_its_attack_flagged(name: str) -> None:
    compare, attacks, _, broken, flags = CASES[name]
    evidence = compare(pool(attacks, broken))
    assert evidence.state == checks.FAILED
    assert evidence.flags == flags
    assert evidence.images == max(flags.values())
    assert evidence.detail


@pytest.mark.parametrize("name", CASES)
def test_a_sound_run_passes(name: str) -> None:
    compare, attacks, sound, _, _ = CASES[name]
    evidence = compare(pool(attacks, sound))
    assert (evidence.state, evidence.images, evidence.flags) == (checks.PASSED, 0, {})


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_compared_is_not_tested(name: str) -> None:
    compare, attacks, sound, _, _ = CASES[name]
    first = next(iter(attacks))
    assert compare(pool({first: attacks[first]}, {first: sound[first]})).state == checks.NOT_TESTED


def test_other_balls_and_goals_are_not_compared() -> None:
    known = {"f": attack(single=True, eps=0.2), "p": PGD, "g": attack(single=True, goal="random")}
    lost = {"f": [1.0, 1.0], "p": [0.0, 0.0], "g": [1.0, 1.0]}
    assert checks.single_step(pool(known, lost)).state == checks.NOT_TESTED


def test_one_image_of_many_is_forgiven() -> None:
    known = {"f": FGSM, "p": PGD}
    for n, state in ((100, checks.PASSED), (99, checks.FAILED)):
        lost = {"f": [1.0] + [0.0] * (n - 1), "p": [0.0] * n}
        assert checks.single_step(pool(known, lost)).state == state


def test_the_curve_is_blamed_where_it_is_weaker() -> None:
    known = {"d": DDN, "p": PGD}
    assert checks.curve(pool(known, {"d": [9.0] * 20, "p": [1.0] * 20})).flags == {"d": 20}


def test_presence() -> None:
    both = pool({"s": SQUARE, "p": PGD}, {"s": [0.0], "p": [0.0]})
    assert checks.gradient_free(both).state == checks.PASSED
    assert checks.decision_based(both).state == checks.NOT_TESTED


def test_flags_reach_the_summary_the_table_and_the_page(tmp_path: Path) -> None:
    few = [method for method in made.STRONG if method.startswith(("FGSM", "PGD(norm='linf'"))][:8]
    known = {method: facts for method, facts in made.described().items() if method in few}
    builder = Builder(models=("zoo:a", "zoo:b"), attacks=few, described=known, kinds=("clean", "attack"), images=30)
    run = builder.write(tmp_path)
    broken = next(method for method in few if method.startswith("PGD") and known[method]["eps"] == 8 / 255)
    for cell in builder.cells:
        if cell["method"] == broken and cell["model"] == "zoo:a":
            path = run / "cells" / f"{cell['id']}.parquet"
            rows = pd.read_parquet(path)
            rows["value"] = rows["value"].mask(rows["metric"].eq("fooling_rate") & rows["value"].notna(), 0.0)
            rows["flags"] = "zero-gradient"
            rows.to_parquet(path)
    tables = reports.tables(reports.load(run))
    table = tables["checks"].set_index(["model", "check"])
    for check in ("many steps beat one", "a larger radius is stronger", "gradients are not zero"):
        assert table.loc[("zoo:b", check), "state"] == "passed"
        assert table.loc[("zoo:a", check), "state"] == "failed"
    assert table.loc[("zoo:a", "attacks beat noise"), "state"] == "not tested"
    flags = tables["summary"].set_index(["model", "method", "metric"])["flags"]
    assert "weaker-than-single-step:" in flags["zoo:a", broken, "robust_accuracy"]
    assert "weaker-at-larger-eps:" in flags["zoo:a", broken, "robust_accuracy"]
    assert "weaker" not in flags["zoo:b", broken, "robust_accuracy"]
    index = reports.write(run)
    overview, attacks, problems = (
        index.with_name(f"{name}.html").read_text() for name in ("index", "robustness", "problems")
    )
    assert "Do not trust" in overview
    assert re.search(r"✗ [1-9]\d* failed", overview)
    assert "✗ failed" in attacks
    assert '<th scope="row">weaker-than-single-step</th>' in problems
    assert (run / "tables" / "checks.csv").is_file()


def test_attacks_without_a_norm_do_not_cast_doubt_on_a_model(tmp_path: Path) -> None:
    patch = next(method for method in made.STRONG if method.startswith("AdversarialPatch"))
    known = made.described()
    builder = Builder(models=("m",), attacks=(patch, "DDN(steps=100)"), described=known, kinds=("attack",), images=5)
    run = builder.write(tmp_path)
    for cell in builder.cells:
        path = run / "cells" / f"{cell['id']}.parquet"
        pd.read_parquet(path).assign(flags="incomplete" if cell["method"] == patch else "").to_parquet(path)
    table = reports.tables(reports.load(run))["checks"].set_index("check")["state"]
    assert table["attacks came to rest"] == "passed"


def test_an_old_run_is_checked_as_far_as_its_methods_tell(whole: Context) -> None:
    table = whole.tables["checks"]
    states = table.groupby("check")["state"].agg(set).to_dict()
    assert states["many steps beat one"] == {"passed"}
    assert states["gradients beat black boxes"] == {"not tested"}
    assert states["gradients are not zero"] == {"not tested"}
    assert not np.isnan(table["images"]).any()


def test_a_flag_that_nothing_describes_is_a_failed_check(tmp_path: Path) -> None:
    builder = Builder(models=("zoo:a", "zoo:b"), attacks=made_attacks(), kinds=("clean", "attack"), images=20)
    run = builder.write(tmp_path)
    for cell in builder.cells:
        if cell["kind"] == "attack" and cell["model"] == "zoo:a":
            path = run / "cells" / f"{cell['id']}.parquet"
            pd.read_parquet(path).assign(flags="boundary;curious-flag=3").to_parquet(path)
    tables = reports.tables(reports.load(run))
    states = tables["checks"].query("flag == 'curious-flag'").set_index("model")["state"]
    assert states.to_dict() == {"zoo:a": checks.FAILED, "zoo:b": checks.NOT_TESTED}
    assert tables["ranking"].query("model == 'zoo:a'")["flags"].str.contains("curious-flag:20").all()
    assert "curious-flag" in reports.write(run).read_text()


def made_attacks() -> tuple[str, ...]:
    return tuple(method for method in made.STRONG if method.startswith("PGD(norm='linf'"))


def test_images_of_another_model_are_no_stronger_than_gradients() -> None:
    attacks = pool({"p": PGD, "f": FGSM}, {"p": [1.0, 0.0, 0.0], "f": [0.0, 0.0, 1.0]})
    cases: list[tuple[list[float], dict[str, int]]] = [([1.0, 0.0, 0.0], {}), ([1.0, 1.0, 0.0], {"p": 1})]
    for shown, flags in cases:
        table = pd.DataFrame({"MIFGSM on b": shown}, index=["0", "1", "2"])
        strange = attacks._replace(transferred=table, strangers={"MIFGSM on b": PGD})
        assert checks.transfer(strange).flags == flags


def test_a_black_box_is_held_against_gradients_of_a_larger_radius() -> None:
    wide = attack(eps=0.2)
    attacks = pool({"p": wide, "s": SQUARE}, {"p": [1.0, 0.0, 0.0], "s": [1.0, 1.0, 0.0]})
    assert checks.black_box(attacks).flags == {"p": 1}
    single = pool({"p": attack(eps=0.2, single=True), "s": SQUARE}, {"p": [0.0], "s": [1.0]})
    assert checks.black_box(single).state == checks.NOT_TESTED, "one large step may overshoot"


def test_distances_of_black_boxes_are_held_against_balls() -> None:
    known = {"p": PGD, "h": HSJ}
    assert checks.black_box(pool(known, {"p": [0.0] * 10, "h": [0.01] * 10})).flags == {"p": 10}
    assert checks.black_box(pool(known, {"p": [0.0] * 10, "h": [0.095] * 10})).flags == {}


def test_answers_that_stay_what_they_were() -> None:
    attacks = pool({"p": PGD}, {"p": [0.0, 0.0, 1.0]})
    for shift, state in (([0.0, 1e-8, 0.0], "failed"), ([0.1, 0.2, 0.0], "passed"), ([math.nan] * 3, "not tested")):
        moved = attacks._replace(shift=pd.DataFrame({"p": shift}, index=["0", "1", "2"]))
        assert checks.answers(moved).state == state


def test_what_nothing_fools_by_any_change_is_doubted() -> None:
    known = {"d": DDN, "h": HSJ}
    assert checks.unlimited(pool(known, {"d": [INF, 1.0], "h": [1.0, INF]})).state == checks.PASSED
    assert checks.unlimited(pool(known, {"d": [INF, 1.0], "h": [INF, INF]})).flags == {"d": 1, "h": 1}
    assert checks.unlimited(pool({"p": attack(eps=0.5)}, {"p": [0.0, 1.0]})).flags == {"p": 1}
    assert checks.unlimited(pool({"p": PGD}, {"p": [0.0, 0.0]})).state == checks.NOT_TESTED


def test_smallest_changes_twice_too_large_are_doubted() -> None:
    known = {"d": DDN, "p": PGD}
    far = {"d": [0.25] * 2 + [0.05] * 18, "p": [1.0] * 20}  # the intervals of 18 and 20 of 20 overlap
    assert checks.curve(pool(known, far)).flags == {"d": 2}
    assert checks.curve(pool(known, {"d": [0.15] * 2 + [0.05] * 18, "p": [1.0] * 20})).flags == {}
