"""Landscapes: the model's answers around the images, drawn in the report."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from assay.attacks.landscape import line, linearity, plane, uphill
from assay.bench.cells import Cell, Measured, Setup
from assay.bench.pictures import first_right, to_bytes
from assay.core.borrow import counting, now

RADII = 16, 33  # the line goes from -16/255 to 16/255 in so many points
AXIS = 8, 17  # the surface from -8/255 to 8/255


@dataclass(frozen=True, kw_only=True)
class LandscapeCell(Cell):
    """Logits up and down the gradient's sign, and loss and margin on the plane of that and a random sign direction.

    Of the first ``count`` images that the model has right.
    """

    kind = "landscape"
    count: int

    @property
    def method(self) -> str:
        return f"landscape of {self.count} images"

    def details(self) -> dict[str, Any]:
        return {"limit": self.limit, "radii": RADII, "axis": AXIS}

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        batch = first_right(self, model, setup, self.count)
        images, labels = batch.images, batch.labels
        radii, axis = (torch.linspace(-most, most, points) / 255 for most, points in (RADII, AXIS))
        start = now(images.device)
        with counting(model) as passes:
            first = uphill(model, images, labels)
            second = self.draws(batch.ids).to(images.device).uniform(images.shape[1:], -1, 1).sign()
            logits = line(model, images, first, radii, setup.batch_size)
            surface = plane(model, images, labels, first, second, axis, setup.batch_size)
        n = len(batch.ids)
        cost = {"forwards": passes.forwards / n, "backwards": passes.backwards / n}
        cost["seconds"] = (now(images.device) - start) / n
        straight = linearity(radii, logits, labels)
        rows = []
        for i, image in enumerate(batch.ids):
            facts = {"image": image, "label": int(labels[i]), **cost}
            if not logits[i].isfinite().all():
                facts |= {"status": "failed", "flags": "non-finite-logits"}
            rows.append(self.row("linearity", straight[i].item(), **facts))
        art = {
            "line.npz": {
                "radii": radii.numpy(),
                "logits": logits.cpu().numpy().astype(np.float32),
                "labels": labels.cpu().numpy(),
                "images": to_bytes(images),
            },
            "surface.npz": {
                "axis": axis.numpy(),
                "loss": surface.loss.cpu().numpy().astype(np.float32),
                "margin": surface.margin.cpu().numpy().astype(np.float32),
            },
            "meta.json": {"ids": batch.ids, "labels": labels.tolist(), "classes": list(model.classes)},
        }
        return Measured(rows, art)
