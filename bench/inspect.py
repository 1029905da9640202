"""``assay inspect``: what a model has learned, as pictures and tables. Nothing here imports torch until it is asked.

Each part is a function ``part(asked) -> Iterator[str]`` that writes its files into ``asked.out`` and yields one line
for each of them. ``PARTS`` says where it stands.
"""

import importlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from cyclopts import Parameter

from assay.core.errors import AssayError, unknown

if TYPE_CHECKING:
    from assay.bench.models import Subject

PARTS = {
    "filters": "assay.bench.inspect_layers",
    "activations": "assay.bench.inspect_layers",
    "patches": "assay.bench.inspect_layers",
    "receptive-field": "assay.bench.inspect_layers",
    "codes": "assay.bench.inspect_codes",
    "units": "assay.bench.inspect_codes",
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to inspect.

    Parameters
    ----------
    data
        The data set that patches, codes, units and effective fields are measured on.
    n
        How many of its pictures, at most.
    layer
        A layer's dotted name, from assay layers MODEL: the one that Grad-CAM uses unless given, and many for the
        receptive field. For filters the deeper layer whose weights to show too.
    top
        How many patches a channel, or neighbours a picture; eight times as many channels of a picture.
    out
        The folder for the files.
    seed
        Of random numbers.
    beside
        Models whose codes to compare with the model's.
    """

    data: str = "scenes"
    n: int = 1000
    layer: str | None = None
    top: int = 6
    out: Path = Path("inspect")
    seed: int = 0
    beside: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()


class Asked(NamedTuple):
    """What was typed, with the model loaded."""

    model: "Subject"
    image: str | None  # a picture file, or DATA#NUMBER
    data: str  # spec of the data set
    n: int  # pictures of the data set, at most
    layer: str | None
    top: int
    seed: int
    out: Path
    beside: tuple[str, ...] = ()


def show(spec: str, words: Sequence[str], options: Options) -> Iterator[str]:
    """Write what ``words`` ask for: names of ``PARTS``, and at most one picture; yields one line for each file.

    Raises ``AssayError`` for an unknown part, more than one picture or no part, before the model is loaded.
    """
    parts, others = [word for word in words if word in PARTS], [word for word in words if word not in PARTS]
    bare = [word for word in others if "#" not in word and not Path(word).is_file()]
    if bare:
        raise unknown("part", bare[0], PARTS)
    if len(others) > 1:
        raise AssayError(f"one picture at a time, not {' and '.join(others)}")
    if not parts:
        raise AssayError(f"say what to inspect: {', '.join(PARTS)}")
    if options.n < 1 or options.top < 1:
        raise AssayError("--n and --top must be 1 or more")
    from assay.bench.models import load

    model = load(spec)
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AssayError(f"cannot write to {options.out}: {error.strerror}") from error
    image = others[0] if others else None
    asked = Asked(
        model, image, options.data, options.n, options.layer, options.top, options.seed, options.out, options.beside
    )
    for part in dict.fromkeys(parts):
        yield from getattr(importlib.import_module(PARTS[part]), part.replace("-", "_"))(asked)
