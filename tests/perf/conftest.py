"""Benchmarks in shuffled order, and their ratio to bare passes of the same run at the end."""

import random
import statistics
from collections import defaultdict
from typing import Any

import pytest
import torch

REPEATS = 6


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = [i for i, item in enumerate(items) if item.get_closest_marker("perf")]
    measured = [items[i] for i in places]
    random.Random(torch.seed()).shuffle(measured)
    for place, item in zip(places, measured, strict=True):
        items[place] = item


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "repeat" in metafunc.fixturenames:
        metafunc.parametrize("repeat", range(REPEATS))


def pytest_terminal_summary(terminalreporter: Any, config: Any) -> None:
    """Median over the repeats of each benchmark's fastest round, as a ratio to the group's ``bare``."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for measured in config._benchmarksession.benchmarks:
        groups[measured.group][measured.extra_info["what"]].append(measured.stats.min)
    for group, cases in sorted(groups.items()):
        bare = statistics.median(cases.pop("bare", [float("nan")]))
        for what, seconds in sorted(cases.items()):
            ratio = statistics.median(seconds) / bare
            line = f"{group}: {what} takes {ratio:.3f} times its bare passes ({bare:.3f} s)"
            terminalreporter.write_line(line)
