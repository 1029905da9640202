"""A whole run, and reports without their drawings: what figures show is the matter of the tests that draw them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from assay import reports
from assay.reports.context import Context, gather
from assay.reports.drawing.theme import Plot
from assay.reports.site import plots
from tests.reports.builder import Builder

BLANK = '<svg xmlns="http://www.w3.org/2000/svg" width="72" height="72"/>'


def blank(figures: Sequence[Plot], folder: Path, jobs: int | None = None) -> dict[str, plots.Drawing]:
    """An empty file for every figure."""
    for figure in figures:
        (folder / f"{figure.name}.svg").write_text(BLANK)
    return {figure.name: plots.Drawing(figure, f"{figure.name}.svg", f"{figure.name}.svg", 72) for figure in figures}


@pytest.fixture(scope="package", autouse=True)
def blank_figures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.reports.site.pages.draw", blank)
        yield


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn in this test."""
    monkeypatch.setattr("assay.reports.site.pages.draw", plots.draw)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: three models, two data sets, all kinds. Tests must not write into it."""
    return Builder(data=("scenes", "scenes?shortcut=lies")).write(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="session")
def whole(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The whole run with its tables."""
    return gather(reports.load(run), tmp_path_factory.mktemp("album"))
