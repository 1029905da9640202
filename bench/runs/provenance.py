"""Where a run comes from: code, packages, hardware."""

import importlib.metadata
import os
import platform
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "torchvision", "timm", "captum", "numpy", "pandas", "scipy", "scikit-learn", "scikit-image")


def version() -> str:
    """Assay's version: of the installed distribution, else of the checkout."""
    project = ROOT / "pyproject.toml"
    if project.exists():
        return str(tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"])
    return importlib.metadata.version("assay")


def code() -> dict[str, Any]:
    """Commit of the checkout this code lies in and whether it was changed; None outside a checkout."""
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT:
        return {"version": version(), "commit": None, "dirty": None}
    return {"version": version(), "commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))}


def packages() -> dict[str, str]:
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **versions}


def hardware() -> dict[str, Any]:
    return {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}


def _git(*arguments: str) -> str | None:
    try:
        answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return os.fsdecode(answer.stdout).strip()
