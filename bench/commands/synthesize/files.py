"""Pictures in and out: read at their own size, written with settings, scores and history beside them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cyclopts import Parameter
from PIL import Image
from torch import Tensor

from assay.bench.data.base import to_image
from assay.bench.data.picture_files import decode
from assay.bench.measurements import draws_for
from assay.bench.measurements.base import to_bytes
from assay.bench.models import Subject
from assay.bench.one_image import find, to_picture
from assay.bench.writing import free_number, numbered, writing
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.text import is_file, storable, to_json, write_text
from assay.synthesis import SYNTHESES
from assay.synthesis.base import Art

LONGEST_NAME = 50  # letters of a file's name, each of up to four bytes
LONGEST_SIDE = 2**15  # pixels
WHOSE = ("model", "network", "picture", "sample", "content", "styles", "target")  # facts that tell pictures apart


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Files:
    """Where pictures go.

    Parameters
    ----------
    out
        The folder for PNG files; beside each a JSON file with its settings, scores and history.
    seed
        Of the method's random numbers.
    """

    out: Path = Path("synthesize")
    seed: int = 0

    def draws(self, model: Subject | None, record: object, ids: Sequence[str]) -> Draws:
        """The random streams that a run with this seed has for the same method, model and pictures."""
        return draws_for(self.seed, model.digest if model else "", repr(record), ids)

    def save(
        self, names: Sequence[str], art: Art, scores: Mapping[str, Sequence[float]], **facts: Any
    ) -> Iterator[str]:
        """Write NAME.png and NAME.json for each picture; yields one line for each.

        Files of another model or picture stay, and the name gets a number.
        """
        settings = {key: _fact(value) for key, value in facts.items() if value is not None} | {"seed": self.seed}
        whose = {key: settings[key] for key in WHOSE if key in settings}
        with writing(self.out):
            for i, (name, pixels) in enumerate(zip(names, to_bytes(art.images), strict=True)):
                numbers = {key: _number(values[i]) for key, values in scores.items()}
                history = [_number(value) for value in art.history[:, i].tolist()]
                record = {**settings, "size": list(pixels.shape[:2]), "scores": numbers, "history": history}
                stem = name.replace("/", "-")[:LONGEST_NAME]
                number = free_number(self.out, whose, f"{stem}.json", [f"{stem}.png"])
                path = self.out / numbered(f"{stem}.png", number)
                to_picture(pixels).save(path)
                text = to_json(record, indent=2, allow_nan=False)
                write_text(self.out / numbered(f"{stem}.json", number), text + "\n")
                values = ", ".join(f"{key.replace('_', ' ')} {v:.3g}" for key, v in numbers.items() if v is not None)
                yield f"{path}" + (f": {values}" if values else "")


FILES = Files()


def method_of(text: str, *kinds: type, **settings: Any) -> Any:
    """The record that ``text`` describes; ``AssayError`` unless it is of one of ``kinds``."""
    changes = {key: value for key, value in settings.items() if value is not None}
    method = SYNTHESES.parse(text, **changes)
    if not isinstance(method, kinds):
        fitting = [name for name in SYNTHESES if issubclass(SYNTHESES[name], kinds)]
        raise AssayError(f"{text} does something else; here --method is {' or '.join(fitting)}")
    return method


def read_large(source: str, model: Subject | None, longest: int | None = None) -> tuple[Tensor, str]:
    """A picture (1, C, H, W) at its own size, or with ``longest`` pixels on its longer side, and its id."""
    if is_file(source):
        pixels, name = decode(Path(source)), storable(source)
    else:
        data, number = find(source)
        example = data.example(number)
        pixels, name = to_picture(to_bytes(example.image[None])[0]), example.id
    if longest is not None and not 1 <= longest <= LONGEST_SIDE:
        raise AssayError(f"--longest {longest} must be 1 or more, {LONGEST_SIDE} at most")
    if longest is not None:
        by = longest / max(pixels.size)
        wide, high = (max(round(side * by), 1) for side in pixels.size)
        pixels = pixels.resize((wide, high), Image.Resampling.LANCZOS)
    return to_image(np.asarray(pixels), model.input_size[0] if model else None)[None], name


def _number(value: float) -> float | None:
    """Six digits; None where there is none."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _fact(value: Any) -> Any:
    if isinstance(value, Subject):
        return {"name": value.name, "digest": value.digest}
    return value if isinstance(value, int | float | str | list | dict) else repr(value)
