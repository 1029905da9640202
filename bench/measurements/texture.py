"""More of a texture, on pictures that scikit-image ships."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from assay.bench.data.pictures import scikit_image
from assay.bench.loading import planned_subject
from assay.bench.measurements.ask import Ask, Judge
from assay.bench.measurements.base import Cell, Measured, Setup, meter, to_bytes
from assay.bench.method_records import describe
from assay.bench.models import Subject
from assay.core.errors import NotApplicable
from assay.reports.run.records import Method
from assay.synthesis.base import FromSample
from assay.synthesis.gram import TextureSynthesis
from assay.synthesis.scores_style import gram_distance
from assay.synthesis.scores_texture import copy_length, seam_energy

TEXTURES = ("brick.png", "gravel.png", "ihc.png")
SIDE = 64  # pixels of a sample; textures have twice as many


@dataclass(frozen=True, kw_only=True)
class TextureCell(Cell):
    """Textures of three samples, judged by models that had no part in them. Without a model: a classical method."""

    kind = "texture"

    synthesis: TextureSynthesis | FromSample
    judges: tuple[Judge, ...]

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        judges = ask.everyone
        for classical in ask.syntheses(FromSample):
            yield cls(**ask.common(), synthesis=classical, judges=judges)
        for model in ask.models:
            for neural in ask.syntheses(TextureSynthesis):
                yield cls(**ask.common(model), synthesis=neural, judges=judges)

    @property
    def method(self) -> Method:
        return describe(self.synthesis)

    def details(self) -> dict[str, Any]:
        return {"judges": self.judges}

    def measure(self, setup: Setup) -> Measured:
        samples = torch.stack([crop(scikit_image(name, 3)) for name in TEXTURES]).to(setup.device)
        record: Any = replace(self.synthesis, size=(2 * SIDE, 2 * SIDE))
        model = in_colour(self.subject(setup)) if self.model else None
        with meter(model, len(samples), setup.device) as cost:
            textures = record(*([model] if model else []), samples, self.draws(TEXTURES)).images
        values = {"texture_copy": copy_length(textures, samples), "texture_seams": seam_energy(textures, samples)}
        distances = []
        for judge in (judge for judge in self.judges if judge[0] != self.model):
            other = planned_subject(*judge, setup.device)
            with suppress(NotApplicable):  # it has no layers with a grid
                distances += [gram_distance(other, textures, samples)] if other.input_size[0] == 3 else []
        if distances:
            values["texture_distance"] = torch.stack(distances).mean(0)
        rows = list(self.per_image(TEXTURES, None, values, cost))
        scores = {"layer": "texture", **{metric: value.tolist() for metric, value in values.items()}}
        arrays = {"images": to_bytes(samples), "made_0": to_bytes(textures)}
        return Measured(rows, {"texture.npz": arrays, "meta.json": {"layers": [scores], "images": list(TEXTURES)}})


def in_colour(model: Subject) -> Subject:
    """The model, unless it is for grey pictures."""
    if model.input_size[0] != 3:
        raise NotApplicable(f"{model.name} takes grey pictures; textures and styles are in colour")
    return model


def crop(picture: Tensor) -> Tensor:
    """The middle of a texture (C, H, W) at half its size: ``SIDE`` pixels a side."""
    half = torch.nn.functional.interpolate(picture[None], scale_factor=0.5, mode="area")[0]
    top, left = ((side - SIDE) // 2 for side in half.shape[1:])
    return half[:, top : top + SIDE, left : left + SIDE].contiguous()


CELL = TextureCell
