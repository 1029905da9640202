"""Class visualisation: the picture that a target likes best."""

from dataclasses import dataclass, fields
from typing import Literal

from torch import Tensor, nn

from core.draws import Draws
from core.errors import AssayError
from core.targets import Target
from synthesis.base import Art, Synthesis
from synthesis.loop import (
    L2,
    TV,
    Blur,
    Filter,
    Jitter,
    Penalty,
    Pixels,
    Transform,
    Wobble,
    gaussian_blur,
    optimise,
    rms,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Visualize(Synthesis):
    """Gradient ascent on the pixels (Simonyan et al. 2014, arXiv:1312.6034).

    Robust to rolls (CS231n), turns and scalings of the picture, along gradients in the spectrum of photographs (Olah
    et al. 2017, "Feature visualization"); with L2 decay and a blur every few steps where asked for (Yosinski et al.
    2015, arXiv:1506.06579). 0 turns a setting off.
    """

    steps: int = 256
    step_size: float = 0.05  # of the first step: root mean square over a picture in [0, 1]
    init: Literal["noise", "grey"] = "noise"
    contrast: float = 0.05  # standard deviation of the noise about mid-grey
    smoothness: float = 2.0  # standard deviation in pixels of the blur of the noise
    slope: float = 2.0  # power of the spatial frequency that the gradient is divided by
    jitter: float = 1 / 12  # largest roll, of the shorter side
    degrees: float = 15.0  # largest turn
    scale: float = 0.15  # largest scaling: 0.85 to 1.15
    l2: float = 0.0  # of the sum of squares about mid-grey, in units of the target
    tv: float = 0.0  # of the sum of squared differences of neighbours, in units of the target
    blur_every: int = 0  # steps
    blur_sigma: float = 0.5  # pixels

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if name not in ("size", "init") and getattr(self, name) < 0:
                raise AssayError(f"Visualize: {name}={getattr(self, name)} is negative")
        if self.steps < 1:
            raise AssayError(f"Visualize: steps={self.steps} must be at least 1")
        if self.scale >= 1:
            raise AssayError(f"Visualize: scale={self.scale} must stay below 1")

    def run(self, model: nn.Module, target: Target, grey: Tensor, draws: Draws) -> Art:
        transforms: list[Transform] = []
        if self.jitter:
            transforms.append(Jitter(round(self.jitter * min(grey.shape[2:]))))
        if self.degrees or self.scale:
            transforms.append(Wobble(self.degrees, self.scale))
        penalties: list[Penalty] = [part(weight) for part, weight in ((L2, self.l2), (TV, self.tv)) if weight]
        filters: list[tuple[int, Filter]] = [(self.blur_every, Blur(self.blur_sigma))] if self.blur_every else []
        return optimise(
            Pixels(self.start(grey, draws)),
            lambda images: target(model, images),
            draws,
            steps=self.steps,
            step_size=self.step_size,
            slope=self.slope,
            transforms=transforms,
            penalties=penalties,
            filters=filters,
        )

    def start(self, grey: Tensor, draws: Draws) -> Tensor:
        """The first pictures: mid-grey, or smooth noise about it."""
        if self.init == "grey":
            return grey
        noise = gaussian_blur(draws.normal(grey.shape[1:]).to(grey), self.smoothness)
        return grey + self.contrast * noise / rms(noise)
