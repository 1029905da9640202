"""How easily is an image classifier fooled, and does it look where it should?

``run`` measures models x data x methods, ``load_results`` reads what a run has stored, both into ``Tables`` of pandas
frames; ``Subject`` is a network with its size, normalisation and class names. Methods are in ``assay.attacks``,
``assay.explain``, ``assay.explain.metrics`` and ``assay.synthesis``. Nothing is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from assay.bench import Subject as Subject
    from assay.bench import Tables as Tables
    from assay.bench import load_results as load_results
    from assay.bench import run as run

__all__ = ["Subject", "Tables", "load_results", "run"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'assay' has no attribute {name!r}; it has {', '.join(__all__)}")
    from assay import bench

    return getattr(bench, name)
