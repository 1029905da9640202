"""What tests measured, in a file, and whether it fell since."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.core.errors import AssayError
from assay.core.tables import number
from assay.reports.run.intervals import LEVEL, RESAMPLES

if TYPE_CHECKING:
    from assay.bench.plugin.measure import Measured

SCHEMA = 1
NOISE = 1e-3  # a smaller change, beside the value itself, is float noise between machines
LEVELS = 1e-4  # and so is another mean of the images
STATISTICS: dict[str, Callable[..., Any]] = {"mean": np.nanmean, "median": np.nanmedian}
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
class Found:
    """One measurement of a test: ``name`` is the metric, numbered where the test measures it again."""

    test: str
    name: str
    what: What
    values: tuple[float, ...]  # by image, NaN where undefined

    @classmethod
    def of(cls, test: str, count: int, measured: "Measured") -> Self:
        name = measured.what.metric + (f" #{count}" if count > 1 else "")
        return cls(test=test, name=name, what=measured.what, values=tuple(float(f"{v:.6g}") for v in measured.values))

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "values": " ".join(f"{value:.6g}" for value in self.values)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Self:
        values = tuple(float(value) for value in record["values"].split())
        return cls(test=record["test"], name=record["name"], what=What(**record["what"]), values=values)


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
        self.known = {} if update and not path.exists() else read(path)
        self.found: list[Found] = []
        self.outcomes: dict[str, str] = {}  # by test

    def test(self, item: pytest.Item) -> str:
        """A test by its file as seen from the baseline's folder: pytest's root may be another the next time."""
        where = Path(os.path.relpath(item.path, self.path.parent)).as_posix()
        return "::".join([where, *item.nodeid.split("::")[1:]])

    def faults(self, test: str, found: Collection[Found]) -> list[str]:
        """A line for each value of a test that fell, does not compare or is not there; none while it is written."""
        if self.update:
            return []
        wrong = ("regression", "otherwise", "new") if self.strict else ("regression", "otherwise")
        lines = [verdict.line for verdict in map(self.judge, found) if verdict.kind in wrong]
        gone = self.names(test) - {one.name for one in found}
        return lines + [
            f"{name} is in the baseline and is not measured any more; --assay-update-baseline drops it"
            for name in sorted(gone)
        ]

    def names(self, test: str) -> set[str]:
        """What the file has of a test."""
        return {name for known, name in self.known if known == test}

    def unmeasured(self) -> dict[str, str]:
        """Tests of the file that did not run, and why."""
        outcomes = {test: self.outcomes.get(test, "not run: renamed, gone or not asked for") for test, _ in self.known}
        return {test: why for test, why in outcomes.items() if why not in ("passed", "failed")}

    def judge(self, found: Found) -> Verdict:
        old = self.known.get((found.test, found.name))
        return (
            Verdict("new", f"{found.name} is not in the baseline")
            if old is None
            else compare(old, found, self.tolerance)
        )

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        self.outcomes.update({self.test(item): "deselected" for item in items})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[getattr(report, "assay_test", report.nodeid)] = report.outcome
        if report.when == "call" and (report.passed or not self.update):
            self.found += [Found.from_json(record) for record in getattr(report, "assay", ())]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput") or session.config.option.collectonly:
            return
        if self.update and (self.found or self.dropped()):
            kept = {key: one for key, one in self.known.items() if key not in self.dropped()}
            write(self.path, {**kept, **{(one.test, one.name): one for one in self.found}})
        elif self.strict and not self.update and self.unmeasured() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def dropped(self) -> list[tuple[str, str]]:
        """What the file has of tests that passed and did not measure it."""
        made = {(one.test, one.name) for one in self.found}
        return [key for key in self.known if self.outcomes.get(key[0]) == "passed" and key not in made]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        told = [(one, self.judge(one)) for one in self.found]
        missing = self.unmeasured()
        if terminalreporter.config.option.collectonly or not (told or missing or self.update):
            return
        terminalreporter.write_sep("=", "assay baseline")
        for test, why in missing.items():
            kept = "; its values stay in the file" if self.update else ""
            terminalreporter.write_line(f"not measured: {test}: {', '.join(sorted(self.names(test)))} ({why}{kept})")
        if self.update:
            for test, name in self.dropped():
                terminalreporter.write_line(f"dropped: {test}: {name}")
            terminalreporter.write_line(f"{len(self.found)} values written to {self.path}")
            return
        for one, verdict in told:
            if verdict.kind in ("regression", "otherwise", "improvement"):
                terminalreporter.write_line(f"{verdict.kind}: {one.test}: {verdict.line}")
        kinds = Counter(verdict.kind for _, verdict in told)
        counts = ", ".join(f"{count} {WORDS[kind]}" for kind, count in kinds.items())
        terminalreporter.write_line(f"{len(told)} values beside {self.path}{': ' if counts else ''}{counts}")


def compare(old: Found, new: Found, tolerance: float | None) -> Verdict:
    """Two measurements of the same images, paired."""
    if differ := _different(old, new):
        return Verdict(
            "otherwise",
            f"{new.name} was measured otherwise in the baseline ({differ}); --assay-update-baseline takes the new one",
        )
    before, after = np.array(old.values), np.array(new.values)
    if lost := int((np.isnan(after) & ~np.isnan(before)).sum()):
        return Verdict("regression", f"{new.name} is undefined on {lost} images that had a value")
    both = ~np.isnan(before)
    before, after = before[both], after[both]
    if not len(before):
        return Verdict("same", f"{new.name} stayed undefined")
    was, now = statistic(new.what, before), statistic(new.what, after)
    low, high = _interval(new.what, before, after, f"{new.test} {new.name}")
    limit = NOISE * max(abs(was), abs(now)) if tolerance is None else tolerance
    if abs(now - was) <= limit or (tolerance is None and low <= 0 <= high):
        return Verdict("same", f"{new.name} stayed at {now:.4g}")
    better = {"higher": now > was, "lower": now < was}.get(new.what.direction, False)
    moved = f"{new.name} {'rose' if now > was else 'fell'} from {was:.4g} to {now:.4g}"
    sure = f"{len(before)} images, paired {LEVEL:.0%} interval of the change [{low:+.4g}, {high:+.4g}]"
    return Verdict("improvement" if better else "regression", f"{moved} ({sure}; {new.what.method})")


def statistic(what: What, values: NDArray[np.float64], axis: int | None = None) -> Any:
    return STATISTICS[what.statistic](values, axis=axis) if values.size and not np.isnan(values).all() else float("nan")


def _different(old: Found, new: Found) -> str:
    """What does not agree, in words."""
    facts: list[tuple[str, object, object]] = [
        ("images", len(old.values), len(new.values)),
        ("method", old.what.method, new.what.method),
        ("seed", old.what.seed, new.what.seed),
        ("metric", old.what.metric, new.what.metric),
    ]
    said = [f"{name} {before}, now {now}" for name, before, now in facts if before != now]
    if old.what.data != new.what.data or abs(old.what.level - new.what.level) > LEVELS:
        said.append("other data")
    return ", ".join(said)


def _interval(what: What, before: NDArray[np.float64], after: NDArray[np.float64], key: str) -> tuple[float, float]:
    """Percentile bootstrap of the change over images, seeded by ``key``."""
    rng = np.random.default_rng(list(hashlib.sha256(key.encode()).digest()))
    drawn = rng.integers(len(before), size=(RESAMPLES, len(before)))
    changes = statistic(what, after[drawn], axis=1) - statistic(what, before[drawn], axis=1)
    low, high = np.quantile(changes, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def read(path: Path) -> dict[tuple[str, str], Found]:
    """Measurements by test and name."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        schema = stored["assay_baseline"]
        found = [Found.from_json(record) for record in stored["measured"]] if schema == SCHEMA else []
    except FileNotFoundError:
        raise AssayError(f"no baseline at {path}; --assay-update-baseline writes it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssayError(f"{path} is no baseline of tests ({type(error).__name__}: {error})") from error
    if schema != SCHEMA:
        raise AssayError(f"{path} was written with schema {schema}, this version reads {SCHEMA}; write it again")
    return {(one.test, one.name): one for one in found}


def write(path: Path, found: Mapping[tuple[str, str], Found]) -> None:
    """Beside, then renamed; in one order, so that changes are seen line by line."""
    stored = {"assay_baseline": SCHEMA, "measured": [found[key].as_json() for key in sorted(found)]}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(stored, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(path)
