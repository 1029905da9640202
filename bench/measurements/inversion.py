"""What a layer has kept of a picture: another one that it answers alike."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from assay.attacks.rates import ssim
from assay.bench.layer_views import depths, plain
from assay.bench.measurements.ask import Ask
from assay.bench.measurements.base import Cell, Measured, Row, Setup, draws_for, meter, predicted, to_bytes
from assay.bench.method_records import describe
from assay.bench.models import Subject
from assay.core.layers import activations
from assay.core.probe import default_layer
from assay.core.targets import CodeDistance
from assay.reports.run.records import Method
from assay.synthesis.base import Art, FromImages
from assay.synthesis.invert import INPUT, Invert
from assay.synthesis.scores import psnr


@dataclass(frozen=True, kw_only=True)
class ReconstructionCell(Cell):
    """The first ``count`` images that a model has right, made again by one record or by one for each of several layers.

    Where there are several, a row's variant is its layer.
    """

    method_class: ClassVar[type[FromImages]]

    synthesis: FromImages
    count: int

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        count = ask.options.gallery
        records = ask.syntheses(cls.method_class) if count else ()
        return (cls(**ask.common(*pair), synthesis=each, count=count) for pair in ask.pairs() for each in records)

    @property
    def method(self) -> Method:
        return describe(self.synthesis)

    def details(self) -> dict[str, Any]:
        return {"count": self.count}

    def records(self, model: Subject, images: Tensor) -> dict[str, Any]:
        """The records by the layers that they are about, in the order of depth."""
        layer = getattr(self.synthesis, "layer", None)
        return {layer or plain(default_layer(model, images)): self.synthesis}

    @abstractmethod
    def scores(self, model: Subject, images: Tensor, layer: str, art: Art) -> dict[str, Tensor]:
        """Scores (N,) by metric of what was made of the images at a layer."""

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        batch = self.first_right(model, setup, self.count)
        rows: list[Row] = []
        arrays: dict[str, Any] = {"images": to_bytes(batch.images)}
        meta: dict[str, Any] = {"images": batch.ids, "labels": batch.labels.tolist(), "classes": list(model.classes)}
        layers: list[dict[str, Any]] = []
        records = self.records(model, batch.images)
        for layer, record in records.items():
            streams = draws_for(self.seed, self.model_digest, repr(record), batch.ids)
            with meter(model, len(batch.ids), setup.device) as cost:
                art = record(model, batch.images, streams)
            values = self.scores(model, batch.images, layer, art)
            variant = layer if record != self.synthesis else ""
            rows += self.per_image(batch.ids, batch.labels, values, cost, variant=variant)
            arrays[f"made_{len(layers)}"] = to_bytes(art.images)
            layers.append({"layer": layer, **{metric: value.tolist() for metric, value in values.items()}})
        return Measured(rows, {f"{self.kind}.npz": arrays, "meta.json": {**meta, "layers": layers}})


@dataclass(frozen=True, kw_only=True)
class InversionCell(ReconstructionCell):
    """What layers keep of images: the record's, or the input and five from the first to the last."""

    kind = "inversion"
    method_class = Invert

    synthesis: Invert

    def records(self, model: Subject, images: Tensor) -> dict[str, Any]:
        names = [self.synthesis.layer] if self.synthesis.layer else [INPUT, *depths(model, images)]
        return {name: replace(self.synthesis, layer=name) for name in names}

    def scores(self, model: Subject, images: Tensor, layer: str, art: Art) -> dict[str, Tensor]:
        return inversion_scores(model, images, layer, art.images)


@torch.no_grad()
def inversion_scores(model: nn.Module, images: Tensor, layer: str, inversions: Tensor) -> dict[str, Tensor]:
    """Of pictures made from codes: relative distance of the codes (N,), PSNR, SSIM, and whether the class is kept."""
    distance = inversions.new_zeros(len(inversions))
    kept, own = predicted(model(inversions)), predicted(model(images))
    if layer != INPUT:
        distance = CodeDistance(layer, activations(model, images, layer))(model, inversions)
    return {
        "inversion_error": distance,
        "inversion_psnr": psnr(inversions, images).clamp(max=100),
        "inversion_ssim": ssim(images, inversions),
        "inversion_class": ((kept == own) & (kept >= 0)).float(),
    }


CELL = InversionCell
