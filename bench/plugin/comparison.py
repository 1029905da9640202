"""What tests measured, in a file, and whether it fell since."""

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import pytest

from assay.core.errors import AssayError
from assay.core.tables import check, number
from assay.reports.gate.values import intervals
from assay.reports.run.intervals import LEVEL

if TYPE_CHECKING:
    from assay.bench.plugin.measure import Value

SCHEMA = 1
NOISE = 1e-3  # a smaller change, beside the value itself, is float noise between machines
LEVELS = 1e-4  # and so is another mean of the images
WORDS = {
    "same": "the same",
    "regression": "worse",
    "improvement": "better",
    "new": "new",
    "otherwise": "do not compare",
}
Kind = Literal["regression", "improvement", "same", "new", "otherwise"]


@dataclass(frozen=True, kw_only=True, slots=True)
class What:
    """What a number is of; numbers compare where ``metric``, ``method``, ``data``, ``level`` and ``seed`` agree."""

    metric: str
    method: str
    data: str  # digest of the data set; of labels and shape for images in memory
    level: float  # the mean of images in memory, which another machine may round otherwise; 0 for a data set
    model: str  # digest
    seed: int
    direction: str
    statistic: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """One measurement of a test: ``name`` is the metric, numbered where the test measures it again."""

    test: str
    name: str
    what: What
    values: tuple[float, ...]  # by image, NaN where undefined

    @classmethod
    def of(cls, test: str, count: int, value: "Value") -> Self:
        name = value.what.metric + (f" #{count}" if count > 1 else "")
        return cls(test=test, name=name, what=value.what, values=tuple(float(f"{v:.6g}") for v in value.values))

    @property
    def key(self) -> tuple[str, str]:
        return self.test, self.name

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "values": " ".join(f"{value:.6g}" for value in self.values)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        values = tuple(float(value) for value in record["values"].split())
        measurement = cls(test=record["test"], name=record["name"], what=What(**record["what"]), values=values)
        check(measurement)
        check(measurement.what)
        return measurement


class Verdict(NamedTuple):
    """What became of a measurement. ``line`` says it without the test's name."""

    kind: Kind
    line: str


class Baseline:
    """The plugin that compares with a file, or writes it: ``update``.

    ``strict`` fails what the file has not, and the run where tests of the file did not run. ``tolerance`` is how far a
    value may fall, a number or fraction; without one, as long as the paired bootstrap interval of its change holds
    zero. Raises ``AssayError`` for a file that is not there or cannot be read.
    """

    def __init__(self, path: Path, *, update: bool, tolerance: str | None, strict: bool = False) -> None:
        self.path = path.resolve()
        self.update = update
        self.strict = strict
        self.tolerance = None if tolerance is None else number(tolerance)
        self.file = {} if update and not path.exists() else read(path)
        self.measurements: list[Measurement] = []
        self.outcomes: dict[str, str] = {}  # by test

    def test(self, item: pytest.Item) -> str:
        """A test by its file as seen from the baseline's folder: pytest's root may be another the next time."""
        where = Path(os.path.relpath(item.path, self.path.parent)).as_posix()
        return "::".join([where, *item.nodeid.split("::")[1:]])

    def faults(self, test: str, measurements: Collection[Measurement]) -> list[str]:
        """A line for each value of a test that fell, does not compare or is not there; none while it is written."""
        if self.update:
            return []
        wrong = ("regression", "otherwise", "new") if self.strict else ("regression", "otherwise")
        lines = [verdict.line for verdict in map(self.judge, measurements) if verdict.kind in wrong]
        missing = self.names(test) - {measurement.name for measurement in measurements}
        return lines + [
            f"{name} is in the baseline and is not measured any more; --assay-update-baseline drops it"
            for name in sorted(missing)
        ]

    def names(self, test: str) -> set[str]:
        """What the file has of a test."""
        return {name for key, name in self.file if key == test}

    def absent_tests(self) -> dict[str, str]:
        """Tests of the file that did not run, and why."""
        outcomes = {test: self.outcomes.get(test, "not run: renamed, gone or not asked for") for test, _ in self.file}
        return {test: why for test, why in outcomes.items() if why not in ("passed", "failed")}

    def judge(self, new: Measurement) -> Verdict:
        old = self.file.get(new.key)
        return compare(old, new, self.tolerance) if old else Verdict("new", f"{new.name} is not in the baseline")

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.outcomes.update({self.test(item): "deselected" for item in items})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = getattr(report, "assay_test", report.nodeid)
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[test] = report.outcome
        if report.when == "call" and (report.passed or not self.update):
            others = [each for each in self.measurements if each.test != test]  # a test may be tried again
            self.measurements = others + [Measurement.from_json(record) for record in getattr(report, "assay", ())]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput") or session.config.option.collectonly:
            return
        if self.update and (self.measurements or self.stale()):
            old = {key: measurement for key, measurement in self.file.items() if key not in self.stale()}
            write(self.path, old | {measurement.key: measurement for measurement in self.measurements})
        elif self.strict and not self.update and self.absent_tests() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def stale(self) -> list[tuple[str, str]]:
        """What the file has of tests that passed and did not measure it."""
        keys = {measurement.key for measurement in self.measurements}
        return [key for key in self.file if self.outcomes.get(key[0]) == "passed" and key not in keys]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        verdicts = [(measurement.test, self.judge(measurement)) for measurement in self.measurements]
        absent, line = self.absent_tests(), terminalreporter.write_line
        if terminalreporter.config.option.collectonly or not (verdicts or absent or self.update):
            return
        terminalreporter.write_sep("=", "assay baseline")
        for test, why in absent.items():
            stay = "; its values stay in the file" if self.update else ""
            line(f"not measured: {test}: {', '.join(sorted(self.names(test)))} ({why}{stay})")
        if self.update:
            for test, name in self.stale():
                line(f"dropped: {test}: {name}")
            line(f"{len(self.measurements)} values written to {self.path}")
            return
        for test, verdict in verdicts:
            if verdict.kind in ("regression", "otherwise", "improvement"):
                line(f"{verdict.kind}: {test}: {verdict.line}")
        kinds = Counter(verdict.kind for _, verdict in verdicts)
        counts = ", ".join(f"{count} {WORDS[kind]}" for kind, count in kinds.items())
        line(f"{len(verdicts)} values beside {self.path}{': ' if counts else ''}{counts}")


def compare(old: Measurement, new: Measurement, tolerance: float | None) -> Verdict:
    """Two measurements of the same images, paired."""
    if differences := _differences(old, new):
        return Verdict(
            "otherwise",
            f"{new.name} was measured otherwise in the baseline ({differences}); "
            "--assay-update-baseline takes the new one",
        )
    before, after = np.array(old.values), np.array(new.values)
    if count := int((np.isnan(after) & ~np.isnan(before)).sum()):
        return Verdict("regression", f"{new.name} is undefined on {count} images that had a value")
    before, after = before[~np.isnan(before)], after[~np.isnan(before)]
    if not len(before):
        return Verdict("same", f"{new.name} stayed undefined")
    average = np.median if new.what.statistic == "median" else np.mean
    was, now = float(average(before)), float(average(after))
    ((low, high),) = intervals([(before, after)], new.what.statistic, LEVEL)
    limit = NOISE * max(abs(was), abs(now)) if tolerance is None else tolerance
    if abs(now - was) <= limit or (tolerance is None and low <= 0 <= high):
        return Verdict("same", f"{new.name} stayed at {now:.4g}")
    better = {"higher": now > was, "lower": now < was}.get(new.what.direction, False)
    change = f"{new.name} {'rose' if now > was else 'fell'} from {was:.4g} to {now:.4g}"
    basis = f"{len(before)} images, paired {LEVEL:.0%} interval of the change [{low:+.4g}, {high:+.4g}]"
    return Verdict("improvement" if better else "regression", f"{change} ({basis}; {new.what.method})")


def _differences(old: Measurement, new: Measurement) -> str:
    """What does not agree, in words."""
    facts: list[tuple[str, object, object]] = [
        ("images", len(old.values), len(new.values)),
        ("method", old.what.method, new.what.method),
        ("seed", old.what.seed, new.what.seed),
        ("metric", old.what.metric, new.what.metric),
    ]
    differences = [f"{name} {before}, now {now}" for name, before, now in facts if before != now]
    if old.what.data != new.what.data or abs(old.what.level - new.what.level) > LEVELS:
        differences.append("other data")
    return ", ".join(differences)


def read(path: Path) -> dict[tuple[str, str], Measurement]:
    """Measurements by test and name."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content["assay_baseline"]
        records = content["measured"] if schema == SCHEMA else []
        measurements = [Measurement.from_json(record) for record in records]
    except FileNotFoundError:
        raise AssayError(f"no baseline at {path}; --assay-update-baseline writes it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AssayError(f"{path} is no baseline of tests ({type(error).__name__}: {error})") from error
    if schema != SCHEMA:
        raise AssayError(f"{path} was written with schema {schema}, this version reads {SCHEMA}; write it again")
    return {measurement.key: measurement for measurement in measurements}


def write(path: Path, measurements: Mapping[tuple[str, str], Measurement]) -> None:
    """Beside, then renamed; in one order, so that changes are seen line by line."""
    content = {"assay_baseline": SCHEMA, "measured": [measurements[key].as_json() for key in sorted(measurements)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)
