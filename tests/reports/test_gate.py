"""The gate on made-up runs: values, pictures, tolerances, files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import stats

from assay import reports
from assay.core.errors import AssayError
from assay.reports.gate import Verdict, baseline, compare, distil, load, output, proofs
from assay.reports.gate.art import Cell, Picture, thinned
from assay.reports.gate.change import apart
from assay.reports.gate.likeness import measure, refused, worst
from assay.reports.gate.planned import published
from assay.reports.gate.tolerances import MetricRule, parse, read
from assay.reports.gate.values import intervals
from tests.reports.builder import ATTACKS, Builder
from tests.reports.site import Page

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}../../x"
Rows = Callable[[pd.DataFrame], pd.DataFrame]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that no test writes into."""
    return Builder(models=("zoo:a", "py:b:c"), images=20, attacks=ATTACKS[:2]).write(tmp_path_factory.mktemp("made"))


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    """The same, to be written into."""
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def bent(run: Path, out: Path, kind: str, model: str, change: Rows) -> Path:
    """A copy of the run in which the rows of some cells are others."""
    shutil.copytree(run, out)
    for cell in json.loads((out / "run.json").read_text())["cells"]:
        if (cell["kind"], cell["model"]) == (kind, model):
            path = out / "cells" / f"{cell['id']}.parquet"
            change(pd.read_parquet(path)).to_parquet(path)
    return out


def shifted(metric: str, by: float) -> Rows:
    return lambda rows: rows.assign(value=rows["value"] + by * (rows["metric"] == metric))


def lines(verdict: Verdict, kind: str = "regression") -> list[str]:
    return [change.line for change in verdict.changes if change.kind == kind]


def test_the_order_of_rows_and_cells_does_not_matter(made: Path, tmp_path: Path) -> None:
    other = Builder(models=("zoo:a", "py:b:c"), images=20, attacks=ATTACKS[:2], shuffle=3).write(tmp_path / "other")
    assert compare(load(made), load(other)).changes == ()


@pytest.mark.parametrize(
    ("metric", "by", "kind"),
    [
        ("mass-accuracy", -0.1, "regression"),
        ("mass-accuracy", 0.1, "improvement"),
        ("deletion", 0.1, "regression"),
        ("deletion", -0.1, "improvement"),
    ],
)
def test_direction_tells_better_from_worse(made: Path, tmp_path: Path, metric: str, by: float, kind: str) -> None:
    new = bent(made, tmp_path / "new", "explain", "zoo:a", shifted(metric, by))
    verdict = compare(load(made), load(new))
    assert {(change.kind, change.metric, change.cell.model) for change in verdict.changes} == {(kind, metric, "zoo:a")}
    assert verdict.passed == (kind == "improvement")
    verb = "rose" if by > 0 else "fell"
    assert all(
        f": {metric} {verb} from " in line and "(20 images, paired 99 % interval" in line
        for line in lines(verdict, kind)
    )


@pytest.mark.parametrize("by", [-0.1, 0.1])
def test_without_a_direction_every_move_is_a_regression(made: Path, tmp_path: Path, by: float) -> None:
    new = bent(made, tmp_path / "new", "clean", "zoo:a", shifted("confidence", by))
    (line,) = lines(compare(load(made), load(new)))
    assert line.startswith("zoo:a on scenes, clean images: confidence ")


def test_a_value_that_is_lost(made: Path, tmp_path: Path) -> None:
    def lose(rows: pd.DataFrame) -> pd.DataFrame:
        gone = (rows["metric"] == "mass-accuracy") & rows["image"].isin(["test-0001", "test-0002"])
        return rows.assign(value=rows["value"].mask(gone))

    verdict = compare(load(made), load(bent(made, tmp_path / "new", "explain", "zoo:a", lose)))
    assert "zoo:a on scenes, explain Saliency: mass-accuracy has no value for 2 more of 20 images" in lines(verdict)


def test_images_metrics_and_labels_that_are_lost(made: Path, tmp_path: Path) -> None:
    first = bent(made, tmp_path / "1", "explain", "zoo:a", lambda rows: rows[rows["image"] != "test-0003"])
    assert "scenes, in 7 cells: 1 image not measured any more, such as test-0003" in lines(
        compare(load(made), load(first))
    )
    second = bent(made, tmp_path / "2", "explain", "zoo:a", lambda rows: rows[rows["metric"] != "deletion"])
    (line,) = lines(compare(load(made), load(second)))
    assert line.startswith("deletion is not given any more in 7 cells, such as zoo:a on scenes, explain ")
    third = bent(made, tmp_path / "3", "clean", "zoo:a", lambda rows: rows.assign(label=(rows["label"] + 1) % 4))
    assert lines(compare(load(made), load(third))) == [
        "scenes: 20 images with another label, such as test-0000 (was 0, is 1)"
    ]


def test_rows_of_a_cell_that_is_gone_are_not_told_again(tmp_path: Path) -> None:
    builder = Builder(models=("zoo:a", "zoo:b"), images=8, kinds=("clean", "transfer"), sources=("zoo:a", "zoo:b"))
    old, new = builder.write(tmp_path / "old"), tmp_path / "new"
    row = {"image": "test-0001", "metric": "inversion_error", "value": 1.0, "method": "Invert(layer='a')"}
    builder.add(old, "inversion", "zoo:a", "scenes", "Invert(layer=None)", [row])
    (old / "run.json").write_text(json.dumps(builder.info(builder.cells)))
    shutil.copytree(old, new)
    kept = [cell for cell in builder.cells if cell["kind"] == "clean"]
    (new / "run.json").write_text(json.dumps(builder.info(kept)))
    found = compare(load(old), load(new)).regressions
    assert {(change.cell.kind, change.metric) for change in found} == {("transfer", ""), ("inversion", "")}
    shard = next(cell["id"] for cell in builder.cells if cell["kind"] == "inversion")
    path = new / "cells" / f"{shard}.parquet"
    pd.read_parquet(path).assign(method="Invert(layer='b')").to_parquet(path)
    (new / "run.json").write_text(json.dumps(builder.info(builder.cells)))
    assert lines(compare(load(old), load(new))) == [
        "inversion_error is not given any more in 1 cell, such as zoo:a on scenes, inversion Invert, a"
    ]


def test_images_that_fail_and_flags_that_are_raised(made: Path, tmp_path: Path) -> None:
    def fail(rows: pd.DataFrame) -> pd.DataFrame:
        one = rows["image"] == "test-0003"
        return rows.assign(
            status=rows["status"].mask(one, "failed"), flags=rows["flags"].mask(one, "non-finite-logits")
        )

    failed = bent(made, tmp_path / "failed", "clean", "zoo:a", fail)
    assert lines(compare(load(made), load(failed))) == [
        "zoo:a on scenes, clean images: 1 image failed now: non-finite-logits"
    ]
    flagged = bent(
        made, tmp_path / "flagged", "clean", "zoo:a", lambda rows: rows.assign(flags="shared=2; over-budget")
    )
    (line,) = lines(compare(load(made), load(flagged)))
    assert line == "zoo:a on scenes, clean images: over-budget is flagged on 20 images, was on 0"
    assert compare(load(flagged), load(made)).passed


def test_an_outcome_on_the_boundary_may_fall_either_way(made: Path, tmp_path: Path) -> None:
    def fooled(rows: pd.DataFrame) -> pd.DataFrame:
        near = rows["flags"].str.contains("boundary") & (rows["metric"] == "robust_accuracy")
        return rows.assign(value=rows["value"].mask(near, 1 - rows["value"]))

    new = bent(made, tmp_path / "new", "attack", "zoo:a", fooled)
    assert not load(made).rows["value"].equals(load(new).rows["value"])
    assert compare(load(made), load(new), parse("")).changes == ()


def test_weights_that_nobody_promised_are_noted(made: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(made, new)
    info = json.loads((new / "run.json").read_text())
    for facts in info["models"].values():
        facts["digest"] = "f" * 64
    (new / "run.json").write_text(json.dumps(info))
    verdict = compare(load(made), load(new))
    assert [change.cell.model for change in verdict.regressions] == ["zoo:a"]
    assert [change.cell.model for change in verdict.of("note")] == ["py:b:c"]
    assert compare(load(made), load(new), parse("[same]\nmodels = 'none'")).passed
    assert [published(spec) for spec in ("resnet50.a1_in1k@1", "zoo:a+zoo:b", "zoo:x.safetensors", "n=x.pth")] == [
        True, True, False, False,
    ]  # fmt: skip


def test_a_baseline_stands_for_its_run(made: Path, tmp_path: Path) -> None:
    kept = distil.write(load(made), tmp_path / "kept")
    assert compare(load(kept), load(made)).changes == ()
    assert compare(load(made), load(kept)).changes == ()
    assert (kept / baseline.INDEX).read_bytes() == (
        distil.write(load(made), tmp_path / "2") / baseline.INDEX
    ).read_bytes()
    for name, content in ((baseline.IMAGES, b"no"), (baseline.PICTURES, b"no"), (baseline.INDEX, b"[1]")):
        broken = tmp_path / f"broken-{name}"
        shutil.copytree(kept, broken)
        (broken / name).write_bytes(content)
        with pytest.raises(AssayError, match="broken"):
            load(broken)
    with pytest.raises(AssayError, match="is a run; write the baseline into a folder of its own"):
        distil.write(load(made), made)


def test_runs_of_another_schema_are_refused(copy: Path) -> None:
    info = json.loads((copy / "run.json").read_text())
    (copy / "run.json").write_text(json.dumps({**info, "schema": 99}))
    with pytest.raises(AssayError, match="has schema 99, this version reads 1 and 2"):
        load(copy)


def test_pictures_that_cannot_be_compared_are_refused(made: Path, tmp_path: Path) -> None:
    larger = Builder(
        models=("zoo:a", "py:b:c"), attacks=ATTACKS[:2], picture=lambda i: np.full((24, 24, 3), i, np.uint8)
    )
    verdict = compare(load(made), load(larger.write(tmp_path / "larger")))
    assert any("its size is 24 x 24 x 3, was 16 x 16 x 3" in line for line in lines(verdict))
    grey, colour = (Picture("image", np.zeros((8, 8, c), np.uint8), (8, 8, c)) for c in (1, 3))
    assert refused(grey, colour._replace(size=grey.size)) == "its mode is u8(3,), was u8(1,)"


def test_unreadable_pictures_are_a_regression(made: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    shutil.copytree(made, new)
    for path in new.glob("art/*/gallery.npz"):
        path.write_bytes(b"broken")
    assert sum("its pictures cannot be read" in line for line in lines(compare(load(made), load(new)))) == 2


def test_proofs_are_those_of_the_report(copy: Path) -> None:
    results = reports.load(copy)
    rendered = proofs.read(results)
    proofs.write(results, copy / proofs.FOLDER)
    stored = proofs.read(results)
    assert {key: picture.array.tolist() for key, picture in stored.items()} == {
        key: picture.array.tolist() for key, picture in rendered.items()
    }
    sheet = next((copy / proofs.FOLDER).glob("*.png"))
    with Image.open(sheet) as opened:
        Image.fromarray(255 - np.asarray(opened)).save(sheet)
    assert any(not np.array_equal(picture.array, rendered[key].array) for key, picture in proofs.read(results).items())


def test_measures_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    old, new = rng.integers(-500, 501, (2, 30, 24)).astype(np.float64)
    found = measure(old, new)
    assert found.relative == pytest.approx(np.linalg.norm(new - old) / np.linalg.norm(old))
    assert found.rank == pytest.approx(stats.spearmanr(old.ravel(), new.ravel()).statistic)
    noise = rng.normal(size=(30, 24)) * 1e-9
    half = np.where(np.arange(24) < 12, np.abs(old), 0.0)
    assert measure(half, half + np.abs(noise)).rank == pytest.approx(1)
    assert measure(np.zeros((9, 9)), np.full((9, 9), 1e-12)).relative < 1e-4
    spot = np.zeros((96, 96))
    spot[40:56, 30:46] = 2.0
    assert worst(spot) == pytest.approx(2.0)
    assert worst(np.full((96, 96, 3), 2.0)) == pytest.approx(2.0)
    pixels = np.full((8, 8, 3), 10, np.uint8)
    moved = pixels.copy()
    moved[0, 0] = 250
    assert measure(pixels, moved).mean == pytest.approx(240 / 64)
    assert measure(pixels, moved).most == 240
    assert measure(old, np.full_like(old, np.nan)).relative == np.inf
    assert measure(old, old) == measure(old, old.copy())


def test_thinning_keeps_the_mean_and_straight_ramps() -> None:
    ramp = np.linspace(0, 1, 96)[None].repeat(96, 0)
    small = thinned(Picture("heat", ramp, ramp.shape), 32).array
    assert small.shape == (32, 32)
    assert small.mean() == pytest.approx(0.5, abs=1e-3)
    uneven = np.random.default_rng(0).normal(size=(50, 70))
    assert thinned(Picture("heat", uneven, uneven.shape), 32).array.mean(dtype=np.float64) == pytest.approx(
        uneven.mean(), abs=1e-3
    )
    assert thinned(Picture("heat", ramp[:9, :9], (9, 9)), 32).array.shape == (9, 9)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_intervals_are_the_paired_percentile_bootstrap(statistic: str) -> None:
    rng = np.random.default_rng(1)
    old = rng.normal(size=60)
    new = old + rng.normal(0.3, 0.2, 60)
    of: Any = {"mean": np.mean, "median": np.median}[statistic]

    def change(one: NDArray[np.float64], two: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        found: NDArray[np.float64] = of(two, axis=axis) - of(one, axis=axis)
        return found

    theirs = stats.bootstrap(
        (old, new), change, paired=True, n_resamples=9999, confidence_level=0.99, method="percentile", rng=rng
    )
    (ours,) = intervals([(old, new)], statistic, 0.99)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.04)


def test_the_statistical_part_looks_at_all_images(made: Path, tmp_path: Path) -> None:
    def lower(rows: pd.DataFrame) -> pd.DataFrame:
        found = (rows["metric"] == "confidence") & (rows["image"] == "test-0001")
        return rows.assign(value=rows["value"] - 0.9 * found)

    one = bent(made, tmp_path / "one", "clean", "zoo:a", lower)
    rules = parse("[[metric]]\nabsolute = 0.001\nstatistical = 0.99")
    assert compare(load(made), load(one), rules).passed
    assert not compare(load(made), load(one), parse("[[metric]]\nabsolute = 0.001")).passed
    every = bent(made, tmp_path / "every", "clean", "zoo:a", shifted("confidence", -0.01))
    assert not compare(load(made), load(every), rules).passed


def test_the_last_rule_that_matches_decides() -> None:
    rules = parse(
        """
        [[metric]]
        absolute = 0.1
        [[metric]]
        metric = ["robust_*", "accuracy"]
        kind = "attack"
        images = 2
        [[picture]]
        picture = "proof*"
        mean = 3
        [same]
        seed = false
        """,
        base=read(),
    )
    cell = Cell("m", "d", "attack", "PGD()")
    assert rules.metric(cell, "robust_accuracy") == MetricRule(metric=("robust_*", "accuracy"), kind="attack", images=2)
    assert rules.metric(cell._replace(kind="transfer"), "robust_accuracy").absolute == 0.1
    assert rules.picture(cell, "proof-attack").mean == 3
    assert rules.picture(cell, "heat") == read().picture(cell, "heat")
    assert (rules.same.seed, rules.same.data) == (False, True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[metric]]\nabsolut = 1", r"\[\[metric\]\] 1: .*'absolut'; did you mean absolute"),
        ("[[metrics]]\nabsolute = 1", "unknown table 'metrics'; did you mean metric"),
        ("[[picture]]\npicture = 'heatmap'", "unknown sort of picture 'heatmap'; did you mean heat"),
        ("[same]\nmodels = 'some'", "models='some' is not one of all, published, none"),
        ("[[metric]]\nstatistical = 99", "is a level between 0 and 1"),
        ("[[metric]]\nabsolute = -1", "absolute = -1 must be at least 0"),
        ("[[metric]]\nabsolute = 'x'", "absolute='x' is not float"),
        ("[metric]\nabsolute = 1", r"write \[\[metric\]\] in two brackets"),
        ("same = 3", r"\[same\] is a table"),
        ("= 3", "is no TOML"),
    ],
)
def test_wrong_tolerances_are_said(text: str, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        parse(text)


def test_every_shipped_rule_can_match() -> None:
    shipped = read()
    assert {rule.picture for rule in shipped.pictures} >= {"heat", "proof", "drawn"}
    assert shipped.flags.allowed("shared", 30) == np.inf
    assert [shipped.flags.allowed("boundary", n) for n in (6, 30)] == [1, 3]
    assert shipped.flags.allowed("over-budget", 30) == 0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (0.53333, 0.31, ("0.53", "0.31")),
        (0.96048888, 0.96048989, ("0.960489", "0.960490")),
        (0.0, 1.0, ("0.0", "1.0")),
    ],
)
def test_numbers_have_the_digits_that_tell_them_apart(old: float, new: float, said: tuple[str, str]) -> None:
    assert apart(old, new) == said


def test_files_hold_hostile_names_as_text(tmp_path: Path) -> None:
    name = HOSTILE + "|`*\x01"
    builder = Builder(models=(name,), data=(HOSTILE,), images=6, attacks=ATTACKS[:1], kinds=("clean", "gallery"))
    old = builder.write(tmp_path / "old")
    new = bent(old, tmp_path / "new", "clean", name, shifted("confidence", -0.2))
    verdict = compare(load(old), load(new))
    index = output.write(verdict, tmp_path / "out")
    page = Page(index)
    assert not page.all("script")
    assert HOSTILE in " ".join(page.text)
    for image in page.all("img"):
        assert (index.parent / image["src"]).is_file()
    (failure,) = ElementTree.parse(tmp_path / "out" / "junit.xml").getroot().iter("failure")
    assert "confidence fell from" in failure.attrib["message"]
    table = [line for line in (tmp_path / "out" / "summary.md").read_text().splitlines() if "confidence" in line]
    assert "<script" not in table[0]
    assert table[0].replace(r"\|", "").count("|") == 3
    found = json.loads((tmp_path / "out" / "check.json").read_text())
    assert (found["passed"], found["counts"]["regression"]) == (False, 1)


def test_counts_of_junit_add_up(made: Path, tmp_path: Path) -> None:
    verdict = compare(load(made), load(bent(made, tmp_path / "new", "explain", "zoo:a", shifted("deletion", 0.2))))
    root = ElementTree.fromstring(output.as_junit(verdict))
    cases = list(root.iter("testcase"))
    assert int(root.attrib["tests"]) == len(cases) == sum(int(suite.attrib["tests"]) for suite in root)
    assert int(root.attrib["failures"]) == len(list(root.iter("failure"))) == 7
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases)


def test_a_green_page_says_so(made: Path, tmp_path: Path) -> None:
    page = Page(output.write(compare(load(made), load(made)), tmp_path / "out"))
    assert "Everything is exactly as it was." in " ".join(page.text)
    assert (tmp_path / "out" / "summary.md").read_text().startswith("## Assay: no regressions\n")
