from pathlib import Path

import pytest

from tests.reports.builder import Builder


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: three models, two data sets, all kinds. Tests must not write into it."""
    return Builder(data=("scenes", "scenes?shortcut=lies")).write(tmp_path_factory.mktemp("run"))
