"""Cells that make a picture again: what a layer has kept of it, and what a layer dreams of it."""

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.metrics import ssim
from assay.bench.cells import Cell, Measured, Row, Setup, draws_for
from assay.bench.inspect_layers import plain
from assay.bench.models import Subject
from assay.bench.pictures import first_right, to_bytes
from assay.core.borrow import counting, now
from assay.core.layers import activations
from assay.core.probe import default_layer
from assay.core.targets import CodeDistance
from assay.explain.learned.fields import spread_layers
from assay.synthesis.base import Art, FromImages
from assay.synthesis.dream import DeepDream
from assay.synthesis.invert import INPUT, Invert
from assay.synthesis.scores import psnr

METRICS = {
    "inversion_error": (
        "lower",
        "share",
        "distance of the codes of the picture made from a layer's code, over its size",
    ),
    "inversion_psnr": ("higher", "dB", "peak signal to noise ratio of the picture made from a layer's code"),
    "inversion_ssim": ("higher", "SSIM", "structural similarity of the picture made from a layer's code"),
    "inversion_class": ("higher", "share", "share of pictures made from a layer's code that keep the predicted class"),
    "dream_growth": ("none", "ratio", "how much larger the objective of a dream became within its last octave"),
    "dream_clipped": ("lower", "share", "share of a dream's values that are black or white"),
}


class Remade(NamedTuple):
    """What one record made: pictures, scores of each, and its history (steps, N)."""

    images: Tensor
    scores: dict[str, Tensor]
    history: Tensor


@dataclass(frozen=True, kw_only=True)
class RemadeCell(Cell):
    """The first images that a model has right, made again by one or more records; ``shown`` of them."""

    synthesis: FromImages
    shown: int
    art: ClassVar[str]

    @property
    def method(self) -> str:
        return repr(self.synthesis)

    def details(self) -> dict[str, Any]:
        return {"shown": self.shown, "limit": self.limit}

    def records(self, model: Subject, images: Tensor) -> dict[str, Any]:
        """The records by the layers that they are about, in the order of depth."""
        layer = getattr(self.synthesis, "layer", None)
        return {layer or plain(default_layer(model, images)): self.synthesis}

    @abstractmethod
    def scores(self, model: Subject, images: Tensor, layer: str, art: Art) -> dict[str, Tensor]:
        """Scores (N,) by metric of what was made of the images at a layer."""

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        batch = first_right(self, model, setup, self.shown)
        rows: list[Row] = []
        arrays: dict[str, Any] = {"images": to_bytes(batch.images)}
        meta: dict[str, Any] = {"images": batch.ids, "labels": batch.labels.tolist(), "classes": list(model.classes)}
        layers: list[dict[str, Any]] = []
        for layer, record in self.records(model, batch.images).items():
            streams, start = draws_for(self.seed, self.model_digest, repr(record), batch.ids), now(batch.images.device)
            with counting(model) as passes:
                art = record(model, batch.images, streams)
            n = len(batch.ids)
            cost = {"forwards": passes.forwards / n, "backwards": passes.backwards / n}
            cost["seconds"] = (now(batch.images.device) - start) / n
            found = self.scores(model, batch.images, layer, art)
            rows += [
                self.row(metric, value.item(), image=image, label=label, method=repr(record), **cost)
                for metric, values in found.items()
                for image, label, value in zip(batch.ids, batch.labels.tolist(), values, strict=True)
            ]
            arrays[f"made_{len(layers)}"] = to_bytes(art.images)
            layers.append({"layer": layer, **{metric: values.tolist() for metric, values in found.items()}})
        return Measured(rows, {self.art: arrays, "meta.json": {**meta, "layers": layers}})


@dataclass(frozen=True, kw_only=True)
class InversionCell(RemadeCell):
    """What layers keep of images: the record's, or the input and five from the first to the last."""

    kind = "inversion"
    art = "inversion.npz"
    synthesis: Invert

    def records(self, model: Subject, images: Tensor) -> dict[str, Any]:
        names = [self.synthesis.layer] if self.synthesis.layer else [INPUT, *depths(model, images)]
        return {name: replace(self.synthesis, layer=name) for name in names}

    def scores(self, model: Subject, images: Tensor, layer: str, art: Art) -> dict[str, Tensor]:
        return inversion_scores(model, images, layer, art.images)


@dataclass(frozen=True, kw_only=True)
class DreamCell(RemadeCell):
    """What a model dreams of images."""

    kind = "dream"
    art = "dream.npz"
    synthesis: DeepDream

    def scores(self, model: Subject, images: Tensor, layer: str, art: Art) -> dict[str, Tensor]:
        return dream_scores(art, self.synthesis.steps)


def depths(model: Subject, images: Tensor, count: int = 5) -> list[str]:
    """Layers from first to last whose codes are inverted, by their names inside the subject; none without grids."""
    return [plain(name) for name in spread_layers(model, images[:1], count)]


@torch.no_grad()
def inversion_scores(model: nn.Module, images: Tensor, layer: str, made: Tensor) -> dict[str, Tensor]:
    """Of pictures made from codes: relative distance of the codes (N,), PSNR, SSIM, and whether the class is kept."""
    distance = made.new_zeros(len(made))
    if layer != INPUT:
        distance = CodeDistance(layer, activations(model, images, layer))(model, made)
    same = (model(made).argmax(1) == model(images).argmax(1)).float()
    found = {"inversion_error": distance, "inversion_psnr": psnr(made, images).clamp(max=100)}
    return {**found, "inversion_ssim": ssim(images, made), "inversion_class": same}


def dream_scores(art: Art, steps: int) -> dict[str, Tensor]:
    """Of dreams: growth of the objective (N,) over the last octave's ``steps``, and the share of clipped values."""
    clipped = ((art.images <= 0) | (art.images >= 1)).float().flatten(1).mean(1)
    return {"dream_growth": art.history[-1] / art.history[-steps].clamp_min(1e-12), "dream_clipped": clipped}
