"""What tests of runs share."""

from pathlib import Path

import pytest

from assay.reports.drawing.theme import Plot


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written with empty figures, where what is drawn is not what is tested."""

    def save(plot: Plot, folder: Path) -> tuple[str, str, int]:
        name = f"{plot.name}.svg"
        (folder / name).write_text('<svg xmlns="http://www.w3.org/2000/svg"/>')
        return name, name, 300

    monkeypatch.setattr("assay.reports.site.plots.save", save)
