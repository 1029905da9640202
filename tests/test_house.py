"""The house: its packages, and what its README says."""

import ast
import importlib
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from assay.bench.commands import list as listing

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


PARTICIPLES = re.compile(  # of one word
    "beaten|begun|bent|borne|broken|brought|built|caught|chosen|dealt|done|drawn|driven|eaten|fallen|flown|forgotten|"
    "found|frozen|given|gone|grown|held|heard|hidden|hung|hurt|kept|known|laid|lain|led|lent|lost|made|meant|met|paid|"
    "proven|ridden|risen|said|seen|sent|shaken|shown|slept|sold|spent|stolen|stood|struck|sung|sunk|swept|sworn|taken|"
    "taught|thought|thrown|told|understood|won|worn|written|[a-z]{2,}ed"
)
NOUNS = {"bed", "embed", "exceed", "feed", "hundred", "indeed", "need", "proceed", "red", "seed", "speed"}
HALVES = ("bench/measurements", "reports/kinds")  # of a kind, which share its name


def sources(room: str) -> Iterator[tuple[Path, ast.Module]]:
    """The files of a room, parsed."""
    for path in sorted((ROOT / room).rglob("*.py")):
        yield path.relative_to(ROOT), ast.parse(path.read_text())


def bound_names(tree: ast.Module) -> Iterator[str]:
    """Functions, classes, arguments and what is assigned to."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name) | ast.arg(arg=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name


def is_bare_participle(name: str) -> bool:
    word = name.strip("_").lower()
    return word not in NOUNS and PARTICIPLES.fullmatch(word) is not None


@pytest.mark.parametrize("room", PACKAGES)
def test_names_say_what_they_hold(room: str) -> None:
    """``layer_grid``, not ``found``: in the best code of the field .2 to 3.6 % of names are bare past participles."""
    names = [name for _, tree in sources(room) for name in bound_names(tree)]
    share = sum(map(is_bare_participle, names)) / len(names)
    assert share < 0.03, f"{share:.1%} of the names in {room}"


def test_no_two_rooms_have_a_module_of_one_name() -> None:
    """But for the halves of a kind, for commands, which are called as they are typed, and for base classes."""
    places: dict[str, set[str]] = defaultdict(set)
    for room in PACKAGES:
        for path, _ in sources(room):
            module = path.parent if path.stem == "__init__" else path.with_suffix("")
            folder = str(module.parent)
            if folder != "." and not folder.startswith(("bench/commands", *HALVES)) and module.name != "base":
                places[module.name].add(room)
    assert {name: rooms for name, rooms in places.items() if len(rooms) > 1} == {}


def test_files_and_functions_are_short_enough_to_read() -> None:
    files: dict[str, int] = {}
    functions: dict[str, int] = {}
    for room in PACKAGES:
        for path, tree in sources(room):
            lines = len((ROOT / path).read_text().splitlines())
            files |= {str(path): lines} if lines > 400 else {}
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 60:
                    functions[f"{path}:{node.name}"] = node.end_lineno - node.lineno + 1
    assert files == {}
    assert functions == {}


def test_bench_has_few_levels_of_imports() -> None:
    """The longest chain of modules that import one another, imports inside functions included."""
    graph = pytest.importorskip("grimp").build_graph("assay", exclude_type_checking_imports=True)
    inside = {name for name in graph.modules if name.startswith("assay.bench.") or name == "assay.bench"}

    @cache
    def levels(module: str) -> int:
        return 1 + max(map(levels, graph.find_modules_directly_imported_by(module) & inside), default=0)

    assert max(map(levels, inside)) <= 10
