"""What the other libraries need around them, and the table of figures at the end."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from tests.crosscheck.figures import FIGURES, lines


@pytest.fixture(autouse=True, scope="session")
def visdom() -> Iterator[None]:
    """adv-lib imports it to plot, and it does not build any more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "visdom", ModuleType("visdom"))
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("crosscheck"):
            item.add_marker(pytest.mark.filterwarnings("default"))  # other people's code


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """The figures as Markdown, ready for ``docs/crosscheck.md``."""
    if FIGURES:
        terminalreporter.section("crosscheck")
        for line in lines(FIGURES):
            terminalreporter.write_line(line)
