"""Landscapes: the model's answers around the images, drawn in the report."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch

from assay.attacks.loss_landscape import line, linearity, plane, uphill
from assay.bench.measurements.ask import Ask, option
from assay.bench.measurements.base import Cell, Measured, Setup, finite_flags, floats, meter, to_bytes
from assay.reports.run.records import Method

RADII = 16, 33  # the line goes from -16/255 to 16/255 in so many points
AXIS = 8, 17  # the surface from -8/255 to 8/255


@dataclass(frozen=True, kw_only=True)
class LandscapeOptions:
    """Of what lies around images."""

    landscapes: int = option(0, "Images per model whose surroundings are drawn.")


@dataclass(frozen=True, kw_only=True)
class LandscapeCell(Cell):
    """Logits up and down the gradient's sign, and loss and margin on the plane of that and a random sign direction.

    Of the first ``count`` images that the model has right.
    """

    kind = "landscape"
    options = LandscapeOptions

    count: int

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        count = ask.of(LandscapeOptions).landscapes
        return (cls(**ask.common(*pair), count=count) for pair in ask.pairs() if count)

    @property
    def method(self) -> Method:
        return Method(text=f"landscape of {self.count} images", settings={"images": self.count})

    def details(self) -> dict[str, Any]:
        return {"radii": RADII, "axis": AXIS}

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        batch = self.first_right(model, setup, self.count)
        images, labels = batch.images, batch.labels
        radii, axis = (torch.linspace(-most, most, points) / 255 for most, points in (RADII, AXIS))
        with meter(model, len(batch.ids), setup.device) as cost:
            first = uphill(model, images, labels)
            second = self.draws(batch.ids).to(images.device).uniform(images.shape[1:], -1, 1).sign()
            logits = line(model, images, first, radii, setup.batch_size)
            surface = plane(model, images, labels, first, second, axis, setup.batch_size)
        values = {"linearity": linearity(radii, logits, labels)}
        rows = list(self.per_image(batch.ids, labels, values, cost, finite_flags(logits.flatten(1))))
        lines = {"radii": radii.numpy(), "logits": floats(logits), "labels": labels.cpu().numpy()}
        art = {
            "line.npz": {**lines, "images": to_bytes(images)},
            "surface.npz": {"axis": axis.numpy(), "loss": floats(surface.loss), "margin": floats(surface.margin)},
            "meta.json": {"ids": batch.ids, "labels": labels.tolist(), "classes": list(model.classes)},
        }
        return Measured(rows, art)


CELL = LandscapeCell
