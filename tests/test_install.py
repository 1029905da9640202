"""What installing does to a user: which files arrive, beside whose code, and what keeps the floors of the design."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("attacks", "bench", "core", "explain", "reports", "synthesis")
DATA = (
    "py.typed",
    "bench/presets/quick.toml",
    "bench/zoo/vit.json",
    "bench/zoo/vit.safetensors",
    "bench/zoo/generators/scenes.safetensors",
    "reports/gate/default.toml",
    "reports/templates/index.html",
    "reports/templates/report.css",
    "reports/templates/report.js",
)

# a project whose packages have the names of the rooms
PROJECT = {
    "core/__init__.py": "",
    "core/models.py": """
from collections import OrderedDict
from torch import nn

def net():
    layers = OrderedDict(stem=nn.Conv2d(3, 4, 3, 2), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten())
    facts = {"input_size": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return nn.Sequential(layers), facts
""",
    "bench/__init__.py": "ROUNDS = 3\n",
    "attacks/__init__.py": "",
    "attacks/waves.py": "HEIGHT = 2.5\n",
    "tests/__init__.py": "",
    "tests/test_waves.py": """
import sys
from pathlib import Path

import assay
import assay.core
import attacks
import bench
import core.models
import torch
from assay.attacks import PGD
from attacks.waves import HEIGHT

PROJECT = Path(__file__).parent.parent

def test_packages_are_of_this_project():
    assert (HEIGHT, bench.ROUNDS) == (2.5, 3)
    for package in (attacks, bench, core):
        assert Path(package.__file__).parent.parent == PROJECT

def test_assay_is_the_installed_package():
    for package in (assay, assay.core):
        assert Path(package.__file__).is_relative_to(sys.prefix)

def test_the_plugin_is_active(pytestconfig):
    assert pytestconfig.pluginmanager.has_plugin("assay")
    assert pytestconfig.getoption("--assay-strict")

def test_an_attack_on_a_model_of_this_project():
    images = torch.full((2, 3, 16, 16), 0.5)
    assert PGD(steps=1)(core.models.net()[0], images, torch.tensor([0, 1])).shape == images.shape
""",
}


def command(*words: str | Path, at: Path, fails: bool = False, **variables: str) -> str:
    """What a command prints; it has this environment's variables and ``variables``, but not this checkout's path."""
    others = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTEST_ADDOPTS")}
    environment, both = {**others, **variables}, subprocess.STDOUT
    ran = subprocess.run(words, cwd=at, env=environment, stdout=subprocess.PIPE, stderr=both, text=True, check=False)
    assert (ran.returncode != 0) == fails, ran.stdout
    return ran.stdout


def files(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the sdist of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command(sys.executable, "-m", "hatchling", "build", "-d", folder, at=ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, sdist


@pytest.fixture(scope="module")
def clean(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' folder of an environment with the wheel, and with what this environment has but its own assay."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True, symlinks=os.name != "nt")
    packages, scripts = (
        Path(sysconfig.get_path(name, "venv", {"base": str(folder)})) for name in ("purelib", "scripts")
    )
    pip = (scripts / "python", "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps")
    command(*pip, "--no-compile", built[0], at=folder)
    # a folder that a .pth file adds has no .pth files of its own read, so an editable install stays out
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return scripts


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_a_wheel_holds_one_package_and_all_of_its_files(built: tuple[Path, Path]) -> None:
    names = files(built[0])
    (about,) = {top for top in (name.partition("/")[0] for name in names) if top != "assay"}
    assert about.endswith(".dist-info")
    assert {f"assay/{name}" for name in DATA} <= names
    assert {name for name in names if name.startswith("assay/")} == {f"assay/{name}" for name in sources()}


def sources() -> Iterator[str]:
    """Names of the package's files in this checkout, as they are installed."""
    yield from ("__init__.py", "__main__.py", "py.typed")
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield path.relative_to(ROOT).as_posix()


def test_an_sdist_makes_the_same_wheel(built: tuple[Path, Path], tmp_path: Path) -> None:
    with tarfile.open(built[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    command(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path, at=source)
    (wheel,) = tmp_path.glob("*.whl")
    assert files(wheel) == files(built[0])


def test_tests_of_a_project_with_packages_of_the_same_names(clean: Path, project: Path) -> None:
    said = command(clean / "python", "-m", "pytest", "-v", "--assay-strict", at=project)
    assert "assay-" in said.partition("collected")[0]  # in the list of plugins
    assert "4 passed" in said


def test_layers_are_those_of_the_projects_own_model(clean: Path, project: Path) -> None:
    said = command(clean / "python", "-m", "assay", "layers", "py:core.models:net", at=project)
    assert "stem" in said


def test_the_command_lists_attacks(clean: Path, project: Path) -> None:
    assert "pgd" in command(clean / "assay", "list", "attacks", at=project)


@pytest.mark.parametrize(
    ("room", "planted", "contract"),
    [
        ("core", "assay.bench", "three floors"),
        ("attacks", "assay.explain", "three floors"),
        ("reports", "torch", "reports never load torch"),
    ],
    ids=["upwards", "sideways", "torch"],
)
def test_an_import_across_the_floors_is_reported(room: str, planted: str, contract: str, tmp_path: Path) -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    with (tmp_path / "src/assay" / room / "__init__.py").open("a") as source:
        source.write(f"\nimport {planted}\n")
    lint = Path(sysconfig.get_path("scripts"), "lint-imports")
    words = (lint, "--config", ROOT / "pyproject.toml", "--no-cache")
    said = command(*words, at=tmp_path, fails=True, PYTHONPATH=str(tmp_path / "src"))
    assert f"{contract} BROKEN" in said
    assert f"assay.{room} -> {planted}" in said
