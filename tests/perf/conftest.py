"""Benchmarks in shuffled order, and their ratio to bare passes of the same run at the end."""

import random
import statistics
from collections import defaultdict
from typing import Any

import pytest
import torch

REPEATS = 2


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
    """Median over the repeats of each benchmark's fastest round, as a ratio to the fastest of its rivals.

    Rivals are the group's ``bare`` passes, at one or several batch sizes, or what another library takes.
    """
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for measured in config._benchmarksession.benchmarks:
        groups[measured.group][measured.extra_info["what"]].append(measured.stats.min)
    for group, cases in sorted(groups.items()):
        taken = {what: statistics.median(seconds) for what, seconds in sorted(cases.items())}
        rivals = {what: seconds for what, seconds in taken.items() if what.startswith(("bare", "captum"))}
        for rival, least in sorted(rivals.items(), key=lambda item: item[1])[:1]:
            for what in taken.keys() - rivals.keys():
                line = f"{group}: {what} takes {taken[what] / least:.3f} times {rival} ({least:.3f} s)"
                terminalreporter.write_line(line)
