"""What the tables of hostile inputs share."""

from pathlib import Path

import pytest

from tests.bench.conftest import undrawn as undrawn


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undrawn: None) -> Path:
    """The working folder of the test."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
