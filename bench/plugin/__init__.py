"""The pytest plugin: accuracy under attack and scores of explanations as fixtures, compared with a baseline.

- hooks and fixtures here, which load nothing until they are asked for something
- ``measure``: what the fixtures do, by the cells of a run
- ``baseline``: what was measured, in a file, and whether it fell
"""

from collections.abc import Callable, Generator
from functools import wraps
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from assay.bench.plugin.comparison import Measurement
    from assay.bench.plugin.measure import Value

MEASUREMENTS: "pytest.StashKey[list[Measurement]]" = pytest.StashKey()  # of a test
BASELINE = "assay-baseline"  # the plugin that compares, where there is something to compare with


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("assay", "robustness of image classifiers")
    group.addoption(
        "--assay-baseline",
        metavar="FILE",
        help="fail tests whose measured values fell below those in this JSON file (ini: assay_baseline)",
    )
    group.addoption(
        "--assay-update-baseline", action="store_true", help="write what passing tests measure into that file instead"
    )
    group.addoption(
        "--assay-strict",
        action="store_true",
        help="fail also where something is measured that the file has not, and where a test of the file did not run "
        "(ini: assay_strict)",
    )
    group.addoption(
        "--assay-tolerance",
        metavar="AMOUNT",
        help="how far values may fall (ini: assay_tolerance); unless given, as long as the paired 95%% bootstrap "
        "interval of the change holds zero",
    )
    parser.addini("assay_baseline", "the file of --assay-baseline, relative to the root directory")
    parser.addini("assay_tolerance", "the amount of --assay-tolerance")
    parser.addini("assay_strict", "as --assay-strict", type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    option, ini = config.getoption("--assay-baseline"), config.getini("assay_baseline")
    update = bool(config.getoption("--assay-update-baseline"))
    if not (option or ini):
        if update:
            raise pytest.UsageError("--assay-update-baseline needs a file: --assay-baseline FILE")
        return
    from assay.bench.plugin.comparison import Baseline
    from assay.core.errors import AssayError

    path = config.invocation_params.dir / option if option else config.rootpath / ini
    amount = config.getoption("--assay-tolerance") or config.getini("assay_tolerance") or None
    strict = bool(config.getoption("--assay-strict") or config.getini("assay_strict"))
    try:
        config.pluginmanager.register(Baseline(path, update=update, tolerance=amount, strict=strict), BASELINE)
    except AssayError as error:
        raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that is tried again, as pytest-rerunfailures does, begins without what its earlier try measured."""
    names = {measurement.name for measurement in item.stash.get(MEASUREMENTS, [])}
    item.user_properties[:] = [each for each in item.user_properties if each[0] not in names]
    item.stash[MEASUREMENTS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """A test that passed fails where a value fell or is no longer measured, with one line for each."""
    yield
    baseline = item.config.pluginmanager.get_plugin(BASELINE)
    if baseline is not None and (lines := baseline.faults(baseline.test(item), item.stash.get(MEASUREMENTS, []))):
        pytest.fail("\n".join(lines), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test's name and what it measured go with its report, which pytest-xdist carries between processes."""
    report = yield
    if (baseline := item.config.pluginmanager.get_plugin(BASELINE)) is not None:
        vars(report)["assay_test"] = baseline.test(item)
    if report.when == "call" and (measurements := item.stash.get(MEASUREMENTS, [])):
        vars(report)["assay"] = [measurement.as_json() for measurement in measurements]
    return report


@pytest.fixture
def assay_clean_accuracy(request: pytest.FixtureRequest) -> "Callable[..., Value]":
    """Share of images that a model classifies right, as in ``assay_clean_accuracy(model, data) > 0.9``."""
    from assay.bench.plugin.measure import clean_accuracy

    return _recording(request, clean_accuracy)


@pytest.fixture
def assay_robust_accuracy(request: pytest.FixtureRequest) -> "Callable[..., Value]":
    """Share right under every attack, as in ``assay_robust_accuracy(model, data, "pgd(eps=8/255)") > 0.4``."""
    from assay.bench.plugin.measure import robust_accuracy

    return _recording(request, robust_accuracy)


@pytest.fixture
def assay_explanation_score(request: pytest.FixtureRequest) -> "Callable[..., Value]":
    """Score of heatmaps, as in ``assay_explanation_score(model, data, "grad-cam", "deletion") < 0.2``."""
    from assay.bench.plugin.measure import explanation_score

    return _recording(request, explanation_score)


def _recording(request: pytest.FixtureRequest, function: "Callable[..., Value]") -> "Callable[..., Value]":
    """``function``, with what it measures kept for the test's report."""
    from assay.bench.plugin.comparison import Measurement

    item: pytest.Item = request.node
    baseline = item.config.pluginmanager.get_plugin(BASELINE)
    test = item.nodeid if baseline is None else baseline.test(item)

    @wraps(function)
    def measure(*arguments: Any, **settings: Any) -> "Value":
        value = function(*arguments, **settings)
        measurements = item.stash.setdefault(MEASUREMENTS, [])
        count = 1 + sum(measurement.what.metric == value.what.metric for measurement in measurements)
        measurements.append(Measurement.of(test, count, value))
        item.user_properties.append((measurements[-1].name, repr(value)))
        return value

    return measure
