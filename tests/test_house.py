"""The house: its packages, and what its README says."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from assay.bench import listing

ROOT = Path(__file__).parent.parent
PACKAGES = ("attacks", "bench", "core", "explain", "reports", "synthesis")


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_are_those_of_this_checkout(name: str) -> None:
    module = importlib.import_module(f"assay.{name}")
    assert Path(str(module.__file__)).resolve() == ROOT / name / "__init__.py"


LIGHT = """
import sys
heavy = {"torch", "timm", "pandas", "numpy", "scipy", "matplotlib"}
def loaded(): return sorted(heavy & sys.modules.keys())
import assay, assay.bench, assay.bench.plugin
assert not loaded(), f"import assay: {loaded()}"
import assay.attacks, assay.bench.cli, assay.bench.data, assay.explain, assay.explain.metrics, assay.synthesis
tables = (assay.attacks.ATTACKS, assay.explain.EXPLAINERS, assay.explain.metrics.METRICS, assay.synthesis.SYNTHESES)
assert all(map(list, (*tables, assay.bench.data.SOURCES)))
assert not loaded(), f"listing: {loaded()}"
import assay.reports, matplotlib.pyplot
assert not {"torch", "timm"} & sys.modules.keys(), "reports"
assert not matplotlib.pyplot.get_fignums()
flat = {"attacks", "bench", "core", "explain", "reports", "synthesis"}
assert not flat & {name.partition(".")[0] for name in sys.modules}
"""


def test_imports_and_listing_load_nothing_heavy(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-W", "error", "-c", LIGHT], cwd=tmp_path, check=True)


def test_every_table_name_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for kind, table in listing.TABLES.items():
        missing = [name for name in table if f"`{name}" not in readme]
        assert not missing, f"{kind} not in the README: {missing}"


def test_every_class_of_a_table_is_importable_from_its_package() -> None:
    packages = {
        "attacks": "attacks",
        "explainers": "explain",
        "metrics": "explain.metrics",
        "syntheses": "synthesis",
    }
    for kind, package in packages.items():
        source = Path(str(importlib.import_module(f"assay.{package}").__file__)).read_text()
        for cls in listing.TABLES[kind].values():
            assert getattr(importlib.import_module(f"assay.{package}"), cls.__name__) is cls
            assert f"import {cls.__name__} as {cls.__name__}" in source, f"{cls.__name__} is invisible to type checkers"


def test_the_readme_examples_run(tmp_path: Path) -> None:
    """All but the test for pytest, which docs/ci.md has at length and its own test."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    tests = [code for code in blocks if "def test_" in code]
    code = "".join(code for code in blocks if code not in tests)
    assert len(tests) == 1
    compile(tests[0], "README.md", "exec")
    check = "\nassert share.shape == (8,) and outcome.success.shape == (8,) and heat.shape == (8, 96, 96)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
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
