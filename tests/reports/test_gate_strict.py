"""The gate against what hides: means that stay, values that vanish, attacks that weaken, folders of others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from assay.core.errors import AssayError
from assay.reports.gate import Distilled, Verdict, compare, distil, load, output
from assay.reports.gate.art import Key, Picture
from assay.reports.gate.compare import NOTHING
from assay.reports.gate.likeness import changed, mistaken, refused
from assay.reports.gate.tolerances import parse
from tests.reports.builder import ATTACKS, Builder

HIDDEN = "abc\N{RIGHT-TO-LEFT OVERRIDE}def$x$"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Distilled:
    kinds = ("clean", "attack", "explain", "synthesis", "gallery", "transfer")
    builder = Builder(models=("zoo:a", "py:b:c"), images=20, attacks=ATTACKS[:3], kinds=kinds, sources=("zoo:a",))
    return load(builder.write(tmp_path_factory.mktemp("strict") / "made"))


def of(side: Distilled, kind: str, metric: str = "", model: str = "zoo:a") -> "pd.Series[bool]":
    rows = side.rows
    return (rows["kind"] == kind) & (rows["model"] == model) & ((rows["metric"] == metric) | (metric == ""))


def with_values(side: Distilled, where: "pd.Series[bool]", values: Any) -> Distilled:
    rows = side.rows.copy()
    rows.loc[where, "value"] = np.asarray(values, np.float32)
    return replace(side, rows=rows)


def lines(verdict: Verdict) -> list[str]:
    return [change.line for change in verdict.regressions]


@pytest.mark.parametrize(("kind", "metric"), [("clean", "confidence"), ("explain", "mass-accuracy")])
@pytest.mark.parametrize("how", ["rolled", "alternating"])
def test_scores_that_change_places_are_seen(made: Distilled, kind: str, metric: str, how: str) -> None:
    where = of(made, kind, metric)
    old = made.rows.loc[where, "value"].to_numpy().reshape(-1, 20)
    new = np.roll(old, 7, 1) if how == "rolled" else old + np.where(np.arange(20) % 2, 0.3, -0.3).astype(np.float32)
    assert new.mean(1) == pytest.approx(old.mean(1), abs=1e-5)
    found = lines(compare(made, with_values(made, where, new.ravel())))
    assert len(found) == len(old)
    assert all(f"{metric} moved by more than 0.01 on " in line for line in found)


def test_a_single_image_may_move_and_other_weights_move_all(made: Distilled) -> None:
    where = of(made, "clean", "confidence")
    old = made.rows.loc[where, "value"].to_numpy()
    one = old.copy()
    one[0] += 0.03
    assert compare(made, with_values(made, where, one)).passed
    scattered = with_values(made, where, old + 0.3 * np.tile([1, -1], 10))
    facts = json.loads(json.dumps(scattered.facts))
    facts["models"]["zoo:a"]["digest"] = "f" * 64
    assert [change.what for change in compare(made, replace(scattered, facts=facts)).regressions] == ["model"]


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("attack", "robust_accuracy"),
        ("attack", "fooling_rate"),
        ("attack", "distance_l2"),
        ("transfer", "robust_accuracy"),
        ("transfer", "fooling_rate"),
    ],
)
def test_values_that_vanish_are_seen(made: Distilled, kind: str, metric: str) -> None:
    where = of(made, kind, metric)
    found = lines(compare(made, with_values(made, where, np.nan)))
    assert len(found) == made.rows[where].dropna(subset="value")["method"].nunique()
    assert all(line.endswith(f"{metric} has no value any more") for line in found)


def test_robust_accuracy_is_never_undefined(made: Distilled) -> None:
    where = of(made, "attack", "robust_accuracy") & (made.rows["image"] == "test-0001")
    assert all(
        "no value for 1 more of 20 images" in line for line in lines(compare(made, with_values(made, where, np.nan)))
    )
    assert not compare(made, with_values(made, where, np.nan)).passed


def test_attacks_that_find_less_are_weaker_unless_the_weights_changed(made: Distilled) -> None:
    where = of(made, "attack", "robust_accuracy") & (made.rows["method"] == ATTACKS[2])
    new = with_values(made, where, 1.0)
    (line,) = lines(compare(made, new))
    assert "robust_accuracy rose from" in line
    assert line.endswith(": a weaker attack, since weights, data and settings are the same")
    told = compare(made, new, parse("[same]\nattacks = false", base=parse("")))
    assert told.passed
    assert told.of("improvement")
    facts = json.loads(json.dumps(made.facts))
    facts["models"]["zoo:a"]["digest"] = "f" * 64
    other = compare(made, replace(new, facts=facts))
    assert [change.what for change in other.regressions] == ["model"]
    assert [change.metric for change in other.of("improvement")] == ["robust_accuracy"]


def test_one_image_lost_in_every_attack_is_one_line(made: Distilled) -> None:
    for value, by, end in ((0.0, "0.05", "cells together"), (1.0, "0.033", "settings are the same")):
        rows = made.rows
        where = of(made, "attack", "robust_accuracy")
        first = (
            rows[where & (rows["value"] == 1 - value) & ~rows["flags"].str.contains("boundary")]
            .groupby("method")
            .head(1)
        )
        assert len(first) == (2 if value else 3)
        found = lines(compare(made, with_values(made, rows.index.to_series().isin(first.index), value)))
        verb = "rose" if value else "fell"
        assert [
            line.startswith(f"zoo:a on scenes: robust_accuracy of attack {verb} by {by} over 3 ") for line in found
        ] == [True]
        assert found[0].endswith(end)


def test_a_flag_excuses_only_a_yes_or_no_that_both_runs_flag(made: Distilled) -> None:
    flagged = made.rows.assign(flags=made.rows["flags"].mask(made.rows["kind"] == "attack", "boundary"))
    old = replace(made, rows=flagged)
    where = of(made, "attack", "distance_l2")
    far = with_values(old, where, flagged.loc[where, "value"] / 2)
    assert all("distance_l2 fell from" in line for line in lines(compare(old, far)))
    assert len(lines(compare(old, far))) == 2
    robust = of(made, "attack", "robust_accuracy")
    assert compare(old, with_values(old, robust, 0.0)).passed
    assert any("robust_accuracy fell" in line for line in lines(compare(made, with_values(old, robust, 0.0))))


def test_one_image_has_no_interval_to_hide_behind(made: Distilled) -> None:
    one = replace(made, rows=made.rows[made.rows["image"].isin(["class-0", "test-0000"])], pictures={})
    where = of(one, "synthesis", "own_probability")
    assert where.sum() == 1
    (line,) = lines(compare(one, with_values(one, where, 0.1)))
    assert "own_probability" in line


def test_runs_with_nothing_in_common_are_red(made: Distilled) -> None:
    empty = replace(made, rows=made.rows.iloc[:0], pictures={}, facts={**made.facts, "cells": []})
    for old, new in ((empty, made), (empty, empty)):
        assert NOTHING in lines(compare(old, new))


def test_unfinished_runs_are_no_baseline_and_their_cells_are_noted(made: Distilled, tmp_path: Path) -> None:
    cells = [{**cell, "state": "missing" if i == 0 else "done"} for i, cell in enumerate(made.facts["cells"])]
    old = replace(made, facts={**made.facts, "cells": cells})
    with pytest.raises(AssayError, match=f"is no baseline: 1 of {len(cells)} cells are missing; finish it"):
        distil.write(old, tmp_path / "kept")
    with pytest.raises(AssayError, match="is no baseline: 0 of 0 cells"):
        distil.write(replace(made, facts={**made.facts, "cells": []}), tmp_path / "kept")
    (change,) = compare(old, made).changes
    assert (change.kind, change.line.rpartition(": ")[2]) == ("note", "measured now, was missing")


def painted(side: Distilled, sort: str, change: Any) -> Distilled:
    found = {key: change(key, one) if one.sort == sort else one for key, one in side.pictures.items()}
    return replace(side, pictures=found)


def test_attacks_that_change_nothing_or_the_opposite_are_seen(made: Distilled) -> None:
    def clean(key: Key, one: Picture) -> Picture:
        return one._replace(array=made.pictures[key._replace(array="images")].array)

    def opposite(key: Key, one: Picture) -> Picture:
        image = made.pictures[key._replace(array="images")].array.astype(int)
        return one._replace(array=np.clip(2 * image - one.array, 0, 255).astype(np.uint8))

    loose = parse("[[picture]]\npicture = 'attacked'\nchange = 0.5")
    for change in (clean, opposite):
        found = lines(compare(made, painted(made, "attacked", change), loose))
        assert [("what the attack changed differs by" in line) for line in found] == [True, True]


def test_class_pictures_of_the_next_class_are_seen(made: Distilled) -> None:
    keys = sorted(key for key, one in made.pictures.items() if one.sort == "drawn" and key.model == "zoo:a")
    following = {key: key for key in made.pictures} | dict(zip(keys, [*keys[1:], keys[0]], strict=True))
    rules = parse("[[picture]]\npicture = 'drawn'\nown = 1")
    rotated = painted(made, "drawn", lambda key, one: made.pictures[following[key]])
    (line,) = lines(compare(made, rotated, rules))
    assert "4 of 4 pictures moved" in line
    assert "times as far from its class as from another (limit 1)" in line
    noise = np.random.default_rng(0)
    noisy = painted(
        made,
        "drawn",
        lambda _, one: one._replace(array=(0.8 * one.array + noise.uniform(0, 50, one.array.shape)).astype(np.uint8)),
    )
    assert compare(made, noisy, rules).passed


def test_measures_beside_other_pictures_are_those_of_their_definitions() -> None:
    one, two, far = (np.full((4, 4, 3), level, np.uint8) for level in (10, 20, 50))
    assert changed((one, two), (one, two)) == 0
    assert changed((one, two), (one, one)) == pytest.approx(1)
    assert changed((two, one), (one, two)) == pytest.approx(2)
    assert mistaken(one, two, [far]) == pytest.approx(10 / 40)
    assert mistaken(one, far, [two, far]) == pytest.approx(40 / 10)
    assert np.isnan(mistaken(one, one, [one]))
    assert np.isnan(mistaken(one, two, []))


def test_what_is_finite_no_more_is_refused_under_any_rule(made: Distilled) -> None:
    lost = painted(made, "heat", lambda _, one: one._replace(array=np.full_like(one.array, np.nan)))
    assert all("it is not finite any more" in line for line in lines(compare(made, lost, parse(""))))
    assert not compare(made, lost, parse("")).passed
    nan, zero = (Picture("heat", np.full((2, 2), value), (2, 2)) for value in (np.nan, 0.0))
    assert refused(nan, zero) == refused(nan, nan) == ""


def test_folders_of_others_are_left_alone(made: Distilled, tmp_path: Path) -> None:
    verdict, user = compare(made, made), tmp_path / "user"
    (user / "pictures").mkdir(parents=True)
    (user / "pictures" / "holiday.jpg").write_text("mine")
    (user / "index.html").write_text("mine")
    for content in (None, "{}", "no"):
        if content:
            (user / "check.json").write_text(content)
        with pytest.raises(AssayError, match="holds something else than a check; name an empty folder"):
            output.write(verdict, user)
        with pytest.raises(AssayError, match="holds something else than a baseline; name an empty folder"):
            distil.write(made, user)
    assert [(user / name).read_text() for name in ("index.html", "pictures/holiday.jpg")] == ["mine", "mine"]
    for taken in (made.path, made.path / "report"):
        with pytest.raises(AssayError, match="holds something else than a check"):
            output.write(verdict, taken)


def test_a_check_replaces_only_what_an_earlier_one_wrote(made: Distilled, tmp_path: Path) -> None:
    grey = painted(made, "image", lambda _, one: one._replace(array=np.full_like(one.array, 99)))
    out = output.write(compare(made, grey), tmp_path / "out").parent
    (out / "pictures" / "holiday.jpg").write_text("mine")
    assert len(list((out / "pictures").iterdir())) > 1
    output.write(compare(made, made), out)
    assert [path.name for path in (out / "pictures").iterdir()] == ["holiday.jpg"]


@pytest.mark.parametrize("name", [HIDDEN, "lone\ud800"])
def test_names_cannot_turn_a_line_around_or_end_the_check(made: Distilled, tmp_path: Path, name: str) -> None:
    text = json.dumps(made.facts).replace('"zoo:a"', json.dumps(name))
    rows = made.rows if name != HIDDEN else made.rows.assign(model=made.rows["model"].replace("zoo:a", name))
    pictures = {key._replace(model=name) if key.model == "zoo:a" else key: one for key, one in made.pictures.items()}
    old = replace(made, facts=json.loads(text), rows=rows, pictures=pictures)
    new = with_values(old, of(old, "clean", "accuracy", name if name == HIDDEN else "zoo:a"), 0.0)
    new = painted(new, "image", lambda _, one: one._replace(array=255 - one.array))
    index = output.write(compare(old, new), tmp_path / "out")
    shown = "abc\\u202edef$x$" if name == HIDDEN else "lone\\ud800"
    found = json.loads((index.parent / "check.json").read_text())["changes"]
    assert all(change["line"].startswith(f"{shown} on scenes") for change in found if change["model"] == name)
    assert name in {change["model"] for change in found}
    assert shown in index.read_text()
    assert "\u202e" not in index.read_text()
    summary = (index.parent / "summary.md").read_text()
    assert "\u202e" not in summary
    assert summary.count("$") == summary.count(r"\$")
    assert ElementTree.parse(index.parent / "junit.xml").getroot().attrib["failures"] != "0"


def test_a_lone_surrogate_in_a_baseline_is_one_line(made: Distilled, tmp_path: Path) -> None:
    facts = {**made.facts, "models": {"lone\ud800": made.facts["models"]["zoo:a"]}}
    with pytest.raises(AssayError, match=r"a name holds '\\ud800', no text"):
        distil.write(replace(made, facts=facts), tmp_path / "kept")


def test_data_without_a_name_have_one_in_a_line(made: Distilled) -> None:
    unnamed = replace(made, rows=made.rows.assign(data=made.rows["data"].mask(made.rows["kind"] == "clean", "")))
    turned = replace(unnamed, rows=unnamed.rows.assign(label=unnamed.rows["label"] + 1))
    found = lines(compare(unnamed, turned))
    assert any(line.startswith("data without a name: 24 images with another label") for line in found)
    assert not any(line.startswith(":") for line in found)
