"""The pytest plugin: tests that fail where a number fell below its baseline, and what is told of the others."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest

from assay.bench.plugin.comparison import Baseline, Measurement, What, compare, read
from assay.bench.plugin.measure import clean_accuracy
from tests.bench.nets import OWN

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
SPEC = OWN + "convolutional"
LOADED = ("-p", "no:assay", "-p", "assay.bench.plugin", "-p", "no:cacheprovider")
INNER = """
import torch
from assay.bench.data import load
from tests.bench.nets import convolutional

DATA = load("digits").take(40)
X = torch.stack([DATA.example(i).image for i in range(40)])
Y = torch.tensor(DATA.labels)

def network():
    net, _ = convolutional()
    with torch.no_grad():
        net.head.weight[0] += NUDGE
    return net

def test_holds(assay_robust_accuracy):
    assert assay_robust_accuracy(network(), (X, Y), "fgsm(eps=0.1)") > LEAST

def test_looks(assay_explanation_score):
    assert assay_explanation_score(network(), (X, Y), "saliency", "insertion(steps=4)") > 0
"""


def found(values: list[float], **facts: object) -> Measurement:
    known = {"metric": "robust_accuracy", "method": "FGSM()", "data": "d", "level": 0.5, "model": "m", "seed": 0}
    what = {**known, "direction": "higher", "statistic": "mean", **facts}
    return Measurement(test="t", name="robust_accuracy", what=What(**what), values=tuple(values))  # type: ignore[arg-type]


def inner(pytester: pytest.Pytester, *options: str, nudge: float = 0.0, least: float = 0.0) -> pytest.RunResult:
    pytester.makepyfile(test_net=INNER.replace("NUDGE", str(nudge)).replace("LEAST", str(least)))
    return pytester.runpytest_inprocess(*LOADED, *options)


def test_a_fall_is_judged_by_paired_images() -> None:
    old = found([1.0] * 40 + [0.0] * 20)
    assert compare(old, old, None).kind == "same"
    assert compare(old, found([0.0] * 12 + [1.0] * 28 + [0.0] * 20), None).kind == "regression"
    assert compare(old, found([0.0] + [1.0] * 39 + [0.0] * 20), None).kind == "same"  # one image of sixty
    swapped = found([0.0] * 12 + [1.0] * 40 + [0.0] * 8)
    assert compare(old, swapped, None).kind == "same"  # as many fell as rose
    assert compare(old, found([1.0] * 55 + [0.0] * 5), None).kind == "improvement"
    assert (
        compare(found(list(old.values), direction="lower"), found([1.0] * 55 + [0.0] * 5, direction="lower"), None).kind
        == "regression"
    )
    assert (
        compare(found(list(old.values), direction="none"), found([1.0] * 55 + [0.0] * 5, direction="none"), None).kind
        == "regression"
    )


def test_a_tolerance_is_an_amount() -> None:
    old, new = found([1.0] * 10), found([1.0] * 9 + [0.0])
    assert compare(old, new, 0.05).kind == "regression"
    assert compare(old, new, 0.11).kind == "same"
    assert compare(new, old, 0.05).kind == "improvement"


def test_float_noise_is_no_change() -> None:
    old = np.linspace(0.2, 0.4, 50)
    assert compare(found(list(old)), found(list(old - 1e-6)), None).kind == "same"
    assert compare(found(list(old)), found(list(old - 1e-2)), None).kind == "regression"


def test_what_became_undefined_fell() -> None:
    verdict = compare(found([0.5] * 10), found([0.5] * 8 + [float("nan")] * 2), None)
    assert verdict == ("regression", "robust_accuracy is undefined on 2 images that had a value")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"method": "PGD()"}, "method FGSM(), now PGD()"),
        ({"seed": 1}, "seed 0, now 1"),
        ({"data": "e"}, "other data"),
        ({"level": 0.6}, "other data"),
    ],
)
def test_what_was_measured_otherwise_does_not_compare(facts: dict[str, object], said: str) -> None:
    verdict = compare(found([1.0] * 10), found([1.0] * 10, **facts), 1.0)
    assert verdict.kind == "otherwise"
    assert said in verdict.line
    assert "images 10, now 9" in compare(found([1.0] * 10), found([1.0] * 9), 1.0).line


def test_a_baseline_is_written_kept_and_compared(pytester: pytest.Pytester) -> None:
    written = inner(pytester, "--assay-baseline", "base.json", "--assay-update-baseline")
    written.assert_outcomes(passed=2)
    written.stdout.fnmatch_lines(["2 values written to *base.json"])
    stored = read(pytester.path / "base.json")
    assert sorted(stored) == [
        ("test_net.py::test_holds", "robust_accuracy"),
        ("test_net.py::test_looks", "insertion(steps=4)"),
    ]
    again = inner(pytester, "--assay-baseline", "base.json")
    again.assert_outcomes(passed=2)
    again.stdout.fnmatch_lines(["2 values beside *base.json: 2 the same"])
    fell = inner(pytester, "--assay-baseline", "base.json", nudge=6.0)
    fell.assert_outcomes(failed=2)
    fell.stdout.fnmatch_lines(
        [
            "robust_accuracy fell from * (40 images, paired 95% interval of the change *FGSM(*",
            "regression: test_net.py*",
        ]
    )
    lenient = inner(pytester, "--assay-baseline", "base.json", "--assay-tolerance", "1", nudge=6.0)
    lenient.assert_outcomes(passed=2)


def test_a_baseline_knows_its_tests_wherever_pytest_has_its_root(pytester: pytest.Pytester) -> None:
    inner(pytester, "--assay-baseline", "kept/base.json", "--assay-update-baseline").assert_outcomes(passed=2)
    assert {test for test, _ in read(pytester.path / "kept" / "base.json")} == {
        "../test_net.py::test_holds",
        "../test_net.py::test_looks",
    }
    again = inner(pytester, "--assay-baseline", "kept/base.json")  # which pytest takes for a hint at the root
    again.stdout.fnmatch_lines(["2 values beside *base.json: 2 the same"])


def test_a_rise_is_told_and_passes(pytester: pytest.Pytester) -> None:
    inner(pytester, "--assay-baseline", "base.json", "--assay-update-baseline", nudge=6.0).assert_outcomes(passed=2)
    better = inner(pytester, "--assay-baseline", "base.json")
    better.assert_outcomes(passed=2)
    better.stdout.fnmatch_lines(["improvement: test_net.py::test_holds: robust_accuracy rose from *"])


def test_a_failing_test_shows_the_number_and_leaves_the_baseline(pytester: pytest.Pytester) -> None:
    inner(pytester, "--assay-baseline", "base.json", "--assay-update-baseline")
    before = read(pytester.path / "base.json")
    failed = inner(pytester, "--assay-baseline", "base.json", "--assay-update-baseline", least=1.5)
    failed.assert_outcomes(failed=1, passed=1)
    failed.stdout.fnmatch_lines(["E * assert * robust_accuracy of 40 images* > 1.5"])
    assert read(pytester.path / "base.json") == before


SEVERAL = """
import pytest
from tests.bench.nets import OWN

def measured(clean, limit):
    assert clean(OWN + "convolutional", "digits", limit=limit) >= 0

def test_always(assay_clean_accuracy):
    measured(assay_clean_accuracy, 4)

def test_once_or_twice(assay_clean_accuracy):
    measured(assay_clean_accuracy, 5)
    if TWICE:
        measured(assay_clean_accuracy, 6)

@pytest.mark.skipif(not TWICE, reason="today")
def test_skipped(assay_clean_accuracy):
    measured(assay_clean_accuracy, 7)

def NAME(assay_clean_accuracy):
    measured(assay_clean_accuracy, 8)
"""


def several(
    pytester: pytest.Pytester, *options: str, twice: bool = True, name: str = "test_old_name"
) -> pytest.RunResult:
    pytester.makepyfile(test_net=SEVERAL.replace("TWICE", str(twice)).replace("NAME", name))
    return pytester.runpytest_inprocess(*LOADED, "--assay-baseline", "base.json", *options)


def test_a_test_that_stops_measuring_fails(pytester: pytest.Pytester) -> None:
    several(pytester, "--assay-update-baseline").assert_outcomes(passed=4)
    less = several(pytester, twice=False)
    less.assert_outcomes(passed=2, failed=1, skipped=1)
    less.stdout.fnmatch_lines(
        ["accuracy #2 is in the baseline and is not measured any more; --assay-update-baseline *"]
    )
    less.stdout.fnmatch_lines(["not measured: test_net.py::test_skipped: accuracy (skipped)"])
    less.stdout.no_fnmatch_line("not measured: test_net.py::test_once_or_twice*")


def test_tests_of_the_baseline_that_did_not_run_are_listed(pytester: pytest.Pytester) -> None:
    several(pytester, "--assay-update-baseline")
    renamed = several(pytester, "--deselect", "test_net.py::test_always", name="test_new_name")
    renamed.assert_outcomes(passed=3, deselected=1)
    renamed.stdout.fnmatch_lines_random(
        [
            "not measured: test_net.py::test_always: accuracy (deselected)",
            "not measured: test_net.py::test_old_name: accuracy (not run: renamed, gone or not asked for)",
            "4 values beside *base.json: 3 the same, 1 new",
        ]
    )


def test_an_update_drops_what_is_no_longer_measured_and_keeps_what_did_not_run(pytester: pytest.Pytester) -> None:
    several(pytester, "--assay-update-baseline")
    before = read(pytester.path / "base.json")
    written = several(pytester, "--assay-update-baseline", twice=False)
    written.assert_outcomes(passed=3, skipped=1)
    written.stdout.fnmatch_lines_random(
        [
            "dropped: test_net.py::test_once_or_twice: accuracy #2",
            "not measured: test_net.py::test_skipped: accuracy (skipped; its values stay in the file)",
        ]
    )
    assert before.keys() - read(pytester.path / "base.json").keys() == {
        ("test_net.py::test_once_or_twice", "accuracy #2")
    }
    several(pytester, twice=False).assert_outcomes(passed=3, skipped=1)


def test_an_update_drops_what_the_last_measuring_test_had(pytester: pytest.Pytester) -> None:
    several(pytester, "--assay-update-baseline")
    pytester.makepyfile(test_net="def test_always(): pass")
    pytester.runpytest_inprocess(*LOADED, "--assay-baseline", "base.json", "--assay-update-baseline")
    assert "test_net.py::test_always" not in {test for test, _ in read(pytester.path / "base.json")}
    pytester.runpytest_inprocess(*LOADED, "--assay-baseline", "base.json").assert_outcomes(passed=1)


def test_strict_refuses_what_is_new_and_what_did_not_run(pytester: pytest.Pytester) -> None:
    several(pytester, "--assay-update-baseline")
    assert several(pytester, "--assay-strict").ret == pytest.ExitCode.OK
    new = several(pytester, "--assay-strict", name="test_new_name")
    new.assert_outcomes(passed=3, failed=1)
    new.stdout.fnmatch_lines(["accuracy is not in the baseline"])
    pytester.makeini("[pytest]\nassay_strict = true")
    part = several(pytester, "--deselect", "test_net.py::test_always")
    part.assert_outcomes(passed=3, deselected=1)
    assert part.ret == pytest.ExitCode.TESTS_FAILED
    assert several(pytester, "--collect-only").ret == pytest.ExitCode.OK


def test_the_ini_file_names_baseline_and_tolerance(pytester: pytest.Pytester) -> None:
    inner(pytester, "--assay-baseline", "base.json", "--assay-update-baseline")
    pytester.makeini("[pytest]\nassay_baseline = base.json\nassay_tolerance = 1/1000000")
    inner(pytester, nudge=6.0).assert_outcomes(failed=2)


def test_what_was_measured_goes_into_junit_xml(pytester: pytest.Pytester) -> None:
    inner(pytester, "--junit-xml", "junit.xml").assert_outcomes(passed=2)
    assert '<property name="robust_accuracy" value="0.' in (pytester.path / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--assay-baseline", "nowhere.json"], "no baseline at *nowhere.json; --assay-update-baseline writes it"),
        (["--assay-update-baseline"], "needs a file: --assay-baseline FILE"),
        (["--assay-baseline", "broken.json"], "*broken.json is no baseline of tests*"),
        (["--assay-baseline", "later.json"], "*written with schema 99, this version reads 1*"),
        (["--assay-baseline", "empty.json", "--assay-tolerance", "much"], "*'much' is not a number*"),
    ],
)
def test_wrong_options_are_one_line(pytester: pytest.Pytester, options: list[str], said: str) -> None:
    (pytester.path / "broken.json").write_text("[]")
    (pytester.path / "later.json").write_text(json.dumps({"assay_baseline": 99, "measured": []}))
    (pytester.path / "empty.json").write_text(json.dumps({"assay_baseline": 1, "measured": []}))
    result = inner(pytester, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{said}"])


def test_measured_again_in_one_test_is_numbered(tmp_path: Path) -> None:
    measured = clean_accuracy(SPEC, "digits", limit=5)
    names = [Measurement.of("t", count, measured).name for count in (1, 2)]
    assert names == ["accuracy", "accuracy #2"]
    baseline = Baseline(tmp_path / "new.json", update=True, tolerance=None)
    assert baseline.faults("t", [Measurement.of("t", 1, measured)]) == []


def test_the_plugin_is_found_by_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"assay": "assay.bench.plugin"}


FLAKY = """
from tests.bench.nets import OWN

TRIES = []

def test_flaky(assay_clean_accuracy):
    TRIES.append(1)
    for limit in (4, 5)[: 3 - len(TRIES)]:
        assay_clean_accuracy(OWN + "convolutional", "digits", limit=limit)
    assert len(TRIES) > 1
"""
RERUNS = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):  # as pytest-rerunfailures does it
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        report.outcome = "rerun" if report.failed else report.outcome
    for report in reports + runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_a_test_that_is_tried_again_has_what_its_last_try_measured(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_net=FLAKY, conftest=RERUNS)
    for option in ("--assay-update-baseline", "--assay-strict"):
        result = pytester.runpytest_inprocess(*LOADED, "--assay-baseline", "base.json", option)
        assert result.ret == 0
        assert [name for _, name in read(pytester.path / "base.json")] == ["accuracy"]
    result.stdout.fnmatch_lines(["1 values beside *: 1 the same"])
