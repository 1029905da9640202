"""One picture: read as a model takes it, classes by name, results as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from assay.bench.data import DataSet
from assay.bench.data import load as load_data
from assay.bench.data.base import to_image
from assay.bench.data.folder import RESAMPLING, fit
from assay.bench.data.picture_files import decode
from assay.bench.loading import dataset
from assay.bench.models import Subject
from assay.bench.writing import free_number, numbered, writing
from assay.core.errors import AssayError, brief, unknown
from assay.core.text import is_file, storable, to_json, write_text


class Answer:
    """What a model says of a picture: probabilities (K,) of its classes."""

    def __init__(self, model: Subject, probabilities: Tensor) -> None:
        self.classes, self.probabilities = model.classes, probabilities

    @classmethod
    @torch.no_grad()
    def of(cls, model: Subject, picture: Tensor) -> "Answer":
        """Of one picture (1, C, H, W)."""
        return cls(model, model(picture).softmax(1)[0])

    @property
    def best(self) -> int:
        return int(self.probabilities.argmax())

    def __str__(self) -> str:
        return f"{self.classes[self.best]} ({self.probabilities.max().item():.1%})"

    def as_json(self) -> list[dict[str, Any]]:
        """The five likeliest classes."""
        top = self.probabilities.topk(min(5, len(self.probabilities)))
        pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
        return [{"class": self.classes[k], "probability": p} for p, k in pairs]


def read_picture(source: str, model: Subject) -> tuple[Tensor, int | None, str]:
    """A picture (1, C, H, W) as the model takes it, its label where the source knows it, and its id.

    ``source`` is a file, or DATA#NUMBER for a picture of a data set. Raises ``AssayError`` when there is neither.
    """
    if is_file(source):
        channels, height, width = model.input_size
        resample = RESAMPLING[model.fit.interpolation]
        squash = model.fit.crop_mode == "squash"
        picture = fit(decode(Path(source)), (height, width), model.fit.crop_pct, resample, squash)
        return to_image(np.asarray(picture), channels)[None], None, storable(source)
    data, number = find(source)
    as_taken = dataset(source.rpartition("#")[0], len(data), model)  # one of each class in turn
    example = as_taken.example(as_taken.rows.index(data.rows[number]))
    return example.image[None], example.label, example.id


def find(source: str) -> tuple[DataSet, int]:
    """The data set and the place in it that DATA#NUMBER names; ``AssayError`` where there is no such picture."""
    spec, sign, number = source.rpartition("#")
    if not sign:
        raise AssayError(f"no picture at {source}; give a file, or DATA#NUMBER such as scenes#3")
    data = load_data(spec)
    place = index(number)
    if place is None or place >= len(data):
        raise AssayError(f"{spec} has pictures 0 to {len(data) - 1}, not {brief(number)}")
    return data, place


def index(text: str) -> int | None:
    """The whole number that a text of digits is; None for other text, and for more digits than any index has."""
    return int(text) if text.isdecimal() and len(text) < 19 else None


def class_of(name: str, model: Subject) -> int:
    if name in model.classes:
        return model.classes.index(name)
    place = index(name)
    if place is None:
        raise unknown("class", name, model.classes)
    if place >= len(model.classes):
        raise AssayError(f"{model.name} has classes 0 to {len(model.classes) - 1}, not {name}")
    return place


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """The picture of (H, W, 3 or 1), or (H, W)."""
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def save_pictures(
    out: Path,
    pictures: Mapping[str, NDArray[np.uint8]],
    result: Mapping[str, Any],
    others: Sequence[str] = (),
) -> str:
    """Write pictures as PNG and ``result.json``; those of another model or image stay.

    Returns the number that their names have, and those of ``others`` should have; see ``free_number``.
    """
    files = {f"{name}.png": pixels for name, pixels in pictures.items()}
    with writing(out):
        whose = {key: result[key] for key in ("model", "image")}
        number = free_number(out, whose, "result.json", (*files, *others))
        for file, pixels in files.items():
            to_picture(pixels).save(out / numbered(file, number))
        write_text(out / numbered("result.json", number), to_json(result, indent=2) + "\n")
    return number
