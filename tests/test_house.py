"""The house: its packages, and what its README says."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import listing

ROOT = Path(__file__).parent.parent
PACKAGES = ("attacks", "bench", "core", "explain", "reports", "synthesis")


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_those_of_this_checkout(name: str) -> None:
    module = importlib.import_module(name)
    assert Path(str(module.__file__)).resolve() == ROOT / name / "__init__.py"


def test_every_table_name_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for kind, table in listing.TABLES.items():
        missing = [name for name in table if f"`{name}" not in readme]
        assert not missing, f"{kind} not in the README: {missing}"


def test_every_class_of_a_table_is_importable_from_its_package() -> None:
    packages = {"attacks": "attacks", "explainers": "explain", "metrics": "explain.metrics", "syntheses": "synthesis"}
    for kind, package in packages.items():
        source = Path(str(importlib.import_module(package).__file__)).read_text()
        for cls in listing.TABLES[kind].values():
            assert getattr(importlib.import_module(package), cls.__name__) is cls
            assert f"import {cls.__name__} as {cls.__name__}" in source, f"{cls.__name__} is invisible to type checkers"


def test_the_readme_examples_run(tmp_path: Path) -> None:
    """All but the test for pytest, which docs/ci.md has at length and its own test."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    tests = [code for code in blocks if "def test_" in code]
    code = "".join(code for code in blocks if code not in tests)
    assert len(tests) == 1
    compile(tests[0], "README.md", "exec")
    check = "\nassert share.shape == (8,) and outcome.success.shape == (8,) and heat.shape == (8, 96, 96)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-W", "error", "-c", code + check], cwd=tmp_path, env=environment, check=True)


def test_pages_link_to_what_is_there() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / link).exists(), f"{page.name} links to {link}"


def test_files_are_short_enough_to_read() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > 420
    }
    assert not long
