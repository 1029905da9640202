"""Settings as they come from presets, TOML files, the command line and Python, checked and made into records."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from assay.bench.measurements import Options, Setup
from assay.bench.measurements.ask import RunOptions
from assay.core.errors import AssayError, brief, unknown
from assay.core.tables import build
from assay.core.text import parse_toml, read_text

PRESETS = Path(__file__).parents[1] / "presets"


def read_settings(preset: str | None, config: Path | None) -> dict[str, Any]:
    """The preset's settings, none without one, overridden by the config file's."""
    names = sorted(path.stem for path in PRESETS.glob("*.toml"))
    if preset is not None and preset not in names:
        raise unknown("preset", preset, names)
    path = PRESETS / f"{preset}.toml"
    settings = {} if preset is None else parse_toml(read_text(path), path)
    return settings if config is None else override(settings, parse_toml(read_text(config), config))


def override(settings: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """``choices`` beats ``settings``; what a preset adds to its models, data and explainers goes with them.

    Other spellings of options become their names.
    """
    names = {each.metadata["old"]: each.name for each in fields(Options) if each.metadata["old"]}
    settings, choices = ({names.get(key, key): value for key, value in each.items()} for each in (settings, choices))
    beside = {each.name: each.metadata["beside"] for each in fields(Options)}
    empty: dict[str, Any] = {name: [] for name, others in beside.items() if any(other in choices for other in others)}
    return {**settings, **empty, **choices}


def make_options(settings: Mapping[str, Any]) -> RunOptions:
    """The record; unknown keys and values of a wrong type raise ``AssayError`` with the near names."""
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    options: RunOptions = build(Options, tuples, kind="option")
    for key, value in tuples.items():
        if isinstance(value, tuple) and any("\0" in text for text in value if isinstance(text, str)):
            raise AssayError(f"{key}={brief(value)} holds a NUL, which no name does")
    return options


def make_setup(batch_size: int, device: str) -> Setup:
    """``device`` is cpu, cuda, cuda:N or auto: CUDA where there is one."""
    if batch_size < 1:
        raise AssayError(f"batch_size={batch_size} must be at least 1")
    place = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    devices = ["cpu", *(["cuda"] if count else []), *(f"cuda:{i}" for i in range(count))]
    if place not in devices:
        raise AssayError(f"device {brief(device)} is not here; use auto, {', '.join(devices)}")
    return Setup(batch_size=batch_size, device=place)
