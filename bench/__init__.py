"""Models, data, runs and the command line.

From Python: ``run`` measures and ``load_results`` reads, both into ``Tables`` of pandas frames (``assay.bench.api``);
``Subject`` is a network with its size, normalisation and class names. Nothing is imported before it is asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.bench.api import Tables as Tables
    from assay.bench.api import load_results as load_results
    from assay.bench.api import run as run
    from assay.bench.models import Subject as Subject

_HOMES = {"Subject": "assay.bench.models", **dict.fromkeys(("Tables", "load_results", "run"), "assay.bench.api")}
__all__ = ["Subject", "Tables", "load_results", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'assay.bench' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)
