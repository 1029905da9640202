"""Cells that paint: more of a texture, and photographs in a style, on pictures that scikit-image ships."""

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from assay.bench.cells import Cell, Measured, Row, Setup, planned
from assay.bench.data.pictures import named
from assay.bench.models import Subject
from assay.bench.pictures import to_bytes
from assay.core.borrow import counting, now
from assay.core.draws import Draws
from assay.core.errors import NotApplicable
from assay.synthesis.base import FromSample
from assay.synthesis.gram import TextureSynthesis
from assay.synthesis.scores_style import against_budget, gram_distance
from assay.synthesis.scores_texture import copy_length, seam_energy
from assay.synthesis.style import StyleTransfer

TEXTURES = ("brick.png", "gravel.png", "ihc.png")
SIDE = 64  # pixels of a sample; textures have twice as many
CONTENT, STYLE = "coffee.png", "ihc.png"
PAINTED = 128  # pixels, the content's longer side
METRICS = {
    "texture_distance": (
        "lower",
        "share",
        "distance of a texture's Gram matrices to the sample's, mean over other models",
    ),
    "texture_copy": ("lower", "pixels", "side of the largest verbatim copy of the sample around a pixel of a texture"),
    "texture_seams": ("lower", "share", "gradient energy of a texture that no patch of the sample explains"),
    "content_loss": ("lower", "share", "distance of a painted picture's code to the photograph's"),
    "style_loss": ("lower", "share", "distance of a painted picture's Gram matrices to the style's"),
}


@dataclass(frozen=True, kw_only=True)
class TextureCell(Cell):
    """Textures of three samples, judged by models that had no part in them. Without a model: a classical method."""

    kind = "texture"
    synthesis: TextureSynthesis | FromSample
    judges: tuple[tuple[str, str], ...]  # spec and digest

    @property
    def method(self) -> str:
        return repr(self.synthesis)

    def details(self) -> dict[str, Any]:
        return {"judges": self.judges}

    def measure(self, setup: Setup) -> Measured:
        samples = torch.stack([crop(named(name, 3)) for name in TEXTURES]).to(setup.device)
        streams = Draws.hashed(f"{self.seed} {self.model_digest} {self.method}", TEXTURES)
        start, size = now(samples.device), (2 * SIDE, 2 * SIDE)
        cost: dict[str, float] = {}
        if isinstance(self.synthesis, FromSample):
            made = replace(self.synthesis, size=size)(samples, streams).images
        else:
            model = colourful(self.subject(setup))
            with counting(model) as passes:
                made = replace(self.synthesis, size=size)(model, samples, streams).images
            cost = {"forwards": passes.forwards / 3, "backwards": passes.backwards / 3}
        cost["seconds"] = (now(samples.device) - start) / len(samples)
        values = {"texture_copy": copy_length(made, samples), "texture_seams": seam_energy(made, samples)}
        others = [planned(*judge, setup) for judge in self.judges if judge[0] != self.model]
        found = []
        for one in others:
            with suppress(NotApplicable):  # it has no layers with a grid
                found += [gram_distance(one, made, samples)] if one.input_size[0] == 3 else []
        if found:
            values["texture_distance"] = torch.stack(found).mean(0)
        rows: list[Row] = [
            self.row(metric, value[i].item(), image=name, **cost)
            for metric, value in values.items()
            for i, name in enumerate(TEXTURES)
        ]
        shown = {"layer": "texture", **{metric: value.tolist() for metric, value in values.items()}}
        arrays = {"images": to_bytes(samples), "made_0": to_bytes(made)}
        return Measured(rows, {"texture.npz": arrays, "meta.json": {"layers": [shown], "images": list(TEXTURES)}})


@dataclass(frozen=True, kw_only=True)
class StyleCell(Cell):
    """A photograph in a style, for a quarter, a half and all of the steps."""

    kind = "style"
    synthesis: StyleTransfer

    @property
    def method(self) -> str:
        return repr(self.synthesis)

    def measure(self, setup: Setup) -> Measured:
        model = colourful(self.subject(setup))
        image = named(CONTENT, 3, longer=PAINTED)[None].to(setup.device)
        style = named(STYLE, 3, longer=PAINTED)[None].to(setup.device)
        rows: list[Row] = []
        arrays: dict[str, Any] = {"images": to_bytes(image), "made_0": to_bytes(style)}
        layers: list[dict[str, Any]] = [{"layer": "style"}]
        budgets = dict.fromkeys(max(self.synthesis.steps // by, 1) for by in (4, 2, 1))
        for steps in budgets:
            record = replace(self.synthesis, steps=steps)
            with counting(model) as passes:
                (spent,) = against_budget(record, model, image, [style], [steps], draws=self.seed)
            cost = {"forwards": float(passes.forwards), "backwards": float(passes.backwards), "seconds": spent.seconds}
            values = {"content_loss": spent.content, "style_loss": spent.style}
            rows += [
                self.row(name, value.item(), image=CONTENT, method=repr(record), **cost)
                for name, value in values.items()
            ]
            arrays[f"made_{len(layers)}"] = to_bytes(spent.images)
            layers.append({"layer": f"{steps} steps", **{name: value.tolist() for name, value in values.items()}})
        return Measured(rows, {"style.npz": arrays, "meta.json": {"layers": layers, "images": [CONTENT]}})


def colourful(model: Subject) -> Subject:
    """The model, unless it is for grey pictures."""
    if model.input_size[0] != 3:
        raise NotApplicable(f"{model.name} takes grey pictures; textures and styles are in colour")
    return model


def crop(picture: Tensor) -> Tensor:
    """The middle of a texture (C, H, W) at half its size: ``SIDE`` pixels a side."""
    half = torch.nn.functional.interpolate(picture[None], scale_factor=0.5, mode="area")[0]
    top, left = ((side - SIDE) // 2 for side in half.shape[1:])
    return half[:, top : top + SIDE, left : left + SIDE].contiguous()
