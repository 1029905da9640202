"""``assay inspect``: what a model has learned, as pictures and tables.

Each part is a function ``part(inspection) -> Iterator[str]`` that writes files into ``inspection.out`` and yields a
line for each of them.
"""

from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from assay.bench.commands.inspect import codes, layers
from assay.bench.commands.inspect.base import Inspection, Options
from assay.bench.models import load
from assay.bench.writing import writing
from assay.core.errors import AssayError, unknown
from assay.core.text import is_file

PARTS = {
    "filters": layers.filters,
    "activations": layers.activations,
    "patches": layers.patches,
    "receptive-field": layers.receptive_field,
    "codes": codes.codes,
    "units": codes.units,
}


def inspect(model: str, /, *what: str, options: Annotated[Options | None, Parameter(name="*")] = None) -> Iterator[str]:
    """Show what MODEL has learned, as pictures and tables.

    WHAT is any of filters, activations, patches, receptive-field, codes, units. For the activations a picture may stand
    among WHAT, a file or DATA#NUMBER. Writes PNG and CSV.
    """
    options = options or Options()
    parts, others = [word for word in what if word in PARTS], [word for word in what if word not in PARTS]
    bare = [word for word in others if "#" not in word and not is_file(word)]
    if bare:
        raise unknown("part", bare[0], PARTS)
    if len(others) > 1:
        raise AssayError(f"one picture at a time, not {' and '.join(others)}")
    if not parts:
        raise AssayError(f"say what to inspect: {', '.join(PARTS)}")
    if options.n < 1 or options.top < 1:
        raise AssayError("--n and --top must be 1 or more")
    inspection = Inspection(model=load(model), image=others[0] if others else None, **vars(options))
    with writing(options.out):
        for part in dict.fromkeys(parts):
            yield from PARTS[part](inspection)
