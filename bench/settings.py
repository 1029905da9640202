"""Settings as they come from TOML and the command line, checked and made into records."""

from collections.abc import Mapping
from typing import Any

import torch

from assay.bench.cells import Setup
from assay.bench.plan import Options
from assay.core.errors import AssayError
from assay.core.tables import build


def make_options(settings: Mapping[str, Any]) -> Options:
    """The record; unknown keys and values of a wrong type raise ``AssayError`` with the near names."""
    tidy = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    options: Options = build(Options, tidy)
    return options


def make_setup(batch_size: int, device: str) -> Setup:
    """``device`` is cpu, cuda, cuda:N or auto: CUDA where there is one."""
    if batch_size < 1:
        raise AssayError(f"batch_size={batch_size} must be at least 1")
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    kind = chosen.partition(":")[0]
    if kind not in ("cpu", "cuda") or (kind == "cuda" and not torch.cuda.is_available()):
        raise AssayError(
            f"device {device!r} is not here; use auto, cpu" + (", cuda" if torch.cuda.is_available() else "")
        )
    return Setup(batch_size=batch_size, device=chosen)
