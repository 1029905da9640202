"""Inversion: a picture that a layer cannot tell from the given one, which shows what the layer has kept of it."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.layers import activations
from assay.core.probe import default_layer
from assay.core.tables import check
from assay.core.targets import CodeDistance
from assay.synthesis.base import Art, Callback, FromImages
from assay.synthesis.loop import Adam, Momentum, optimise, quasi_newton
from assay.synthesis.parametrisations import Pixels
from assay.synthesis.regularisers import gaussian_blur, total_variation
from assay.synthesis.spectrum import rms

INPUT = "input"


@dataclass(frozen=True, kw_only=True, slots=True)
class Invert(FromImages):
    """Match the activations of ``layer`` with little total variation (Mahendran & Vedaldi 2015, arXiv:1412.0035).

    Minimised is ||phi(x) - phi(x0)||^2 / ||phi(x0)||^2, plus ``tv`` times the total variation per value of the picture,
    in the box [0, 1] that takes the place of the paper's alpha norm. The layer ``"input"`` is the pixels themselves,
    which are given back.
    """

    layer: str | None = None  # None: the last one with a grid
    steps: int = 200  # evaluations, each a forward and a backward pass
    optimiser: Literal["momentum", "adam", "lbfgs"] = "momentum"
    step_size: float = 0.05  # of momentum and Adam, of the first step
    slope: float = 1.0  # momentum: power of the spatial frequency that the gradient is divided by
    tv: float = 10.0  # of the total variation, divided by C H W
    beta: float = 2.0  # of the total variation
    contrast: float = 0.05  # standard deviation of the noise about mid-grey at the start
    smoothness: float = 2.0  # pixels, standard deviation of its blur

    def __post_init__(self) -> None:
        check(self)
        if self.steps < 1:
            raise AssayError(f"Invert: steps={self.steps} must be at least 1")
        for name in ("tv", "contrast", "smoothness", "step_size", "slope", "beta"):
            if getattr(self, name) < 0:
                raise AssayError(f"Invert: {name}={getattr(self, name)} is negative")

    def run(self, model: nn.Module, images: Tensor, draws: Draws, callback: Callback | None) -> Art:
        if self.layer == INPUT:
            return Art(images.clone(), images.new_zeros(1, len(images)))
        layer = self.layer or default_layer(model, images)
        with torch.no_grad():
            target = CodeDistance(layer, activations(model, images, layer))
        noise = gaussian_blur(draws.normal(images.shape[1:]).to(images), self.smoothness)
        start = (0.5 + self.contrast * noise / rms(noise)).clamp(0, 1)
        values = images[0].numel()

        def rough(pictures: Tensor) -> Tensor:
            return self.tv * total_variation(pictures, self.beta) / values

        if self.optimiser == "lbfgs":
            return quasi_newton(
                start,
                lambda pictures, index: -target[index](model, pictures) - rough(pictures),
                steps=self.steps,
                callback=callback,
            )
        return optimise(
            Pixels(start),
            lambda pictures: -target(model, pictures),
            draws,
            steps=self.steps,
            rule=Adam(self.step_size) if self.optimiser == "adam" else Momentum(self.step_size, slope=self.slope),
            penalties=[rough],
            best=True,
            callback=callback,
        )
