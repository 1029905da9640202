"""What a layer dreams of a picture."""

from dataclasses import dataclass

from torch import Tensor

from assay.bench.measurements.inversion import ReconstructionCell
from assay.bench.models import Subject
from assay.synthesis.base import Art
from assay.synthesis.deep_dream import DeepDream


@dataclass(frozen=True, kw_only=True)
class DreamCell(ReconstructionCell):
    """What a model dreams of images."""

    kind = "dream"
    method_class = DeepDream

    synthesis: DeepDream

    def scores(self, model: Subject, images: Tensor, layer: str, art: Art) -> dict[str, Tensor]:
        return dream_scores(art, self.synthesis.steps)


def dream_scores(art: Art, steps: int) -> dict[str, Tensor]:
    """Of dreams: growth of the objective (N,) over the last octave's ``steps``, and the share of clipped values."""
    extremes = ((art.images <= 0) | (art.images >= 1)).float().flatten(1).mean(1)
    return {"dream_growth": art.history[-1] / art.history[-steps].clamp_min(1e-12), "dream_clipped": extremes}


CELL = DreamCell
