"""A patch that fools wherever it lies."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.balls import Norm, check_positive
from assay.attacks.goals import Goal
from assay.attacks.gradient import cosine
from assay.attacks.universal import Universal, cap_loss, in_turn
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError


@dataclass(frozen=True, kw_only=True, slots=True)
class AdversarialPatch(Universal):
    """One patch, pasted at another place, size and angle in every image (Brown et al. 2017, arXiv:1712.09665, sec. 2).

    ``craft`` climbs the expected cross-entropy, capped, over images and draws, one draw an image and step, by signed
    steps that shrink to 0 along a half cosine; the patch stays in [0, 1]. One class as the goal of all images is the
    paper's way; an untargeted goal makes a patch that hides what is there. ``apply`` draws for each image from its own
    stream where the patch lies, wholly inside. The patch is (C, d, d); of a circle only the disc is pasted, and the
    corners stay grey.
    """

    norm: ClassVar[Norm] = "l0"

    shape: Literal["circle", "square"] = "circle"
    area: float = 0.1  # of the patch at full size, share of the image's area
    smallest: float = 0.8  # side at a draw, at least this share of the full one
    max_angle: float = 22.5  # degrees, to both sides
    steps: int = 200
    step: float = 0.1  # change of each value in the first step, images in [0, 1]
    batch: int = 50  # images a step, in the order they come in
    cap: float = 9.0  # of an image's cross-entropy

    def __post_init__(self) -> None:
        check_positive(steps=self.steps, step=self.step, batch=self.batch, cap=self.cap)
        if not (0 < self.area < 1 and 0 < self.smallest <= 1 and 0 <= self.max_angle <= 180):
            settings = f"area={self.area}, smallest={self.smallest}, max_angle={self.max_angle}"
            raise AssayError(f"{settings}: must be in (0, 1), (0, 1] and [0, 180]")

    def learn(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        """The patch, (C, d, d)."""
        side = max(1, round(self._side(images)))
        patch = images.new_full((images.shape[1], side, side), 0.5).requires_grad_(True)
        for k, index in enumerate(in_turn(images, self.batch, self.steps)):
            logits = model(self.apply(images[index], patch, draws[index]))
            (up,) = torch.autograd.grad(cap_loss(goal[index], logits, self.cap).mean(), patch)
            step = cosine(self.step, 0, k / self.steps)
            patch = (patch.detach() + step * up.sign()).clamp(0, 1).requires_grad_(True)
        return patch

    def apply(self, images: Tensor, pattern: Tensor, draws: Draws | int = 0) -> Tensor:
        places = self._places(images, as_draws(draws, images))
        layer = F.grid_sample(
            pattern.expand(len(images), -1, -1, -1), places, padding_mode="border", align_corners=False
        )
        far = torch.linalg.vector_norm(places, ord=2 if self.shape == "circle" else math.inf, dim=3)
        return torch.where((far <= 1)[:, None], layer.clamp(0, 1), images)

    def _side(self, images: Tensor) -> float:
        """The side of a square or diameter of a circle of ``area``, in pixels; at most the image's shorter side."""
        height, width = images.shape[2:]
        full = math.sqrt(self.area * height * width * (4 / math.pi if self.shape == "circle" else 1))
        return min(full, height, width)

    def _places(self, images: Tensor, draws: Draws) -> Tensor:
        """Where each pixel lies on the patch, whose sides are at -1 and 1, drawn per image: (N, H, W, 2) of x, y."""
        height, width = images.shape[2:]
        chances = draws.uniform((4,))
        radius = self._side(images) / 2 * (self.smallest + (1 - self.smallest) * chances[:, 0])
        angle = math.radians(self.max_angle) * (2 * chances[:, 1] - 1)
        cos, sin = torch.cos(angle), torch.sin(angle)
        reach = radius if self.shape == "circle" else radius * (cos.abs() + sin.abs())
        x, y = (
            (torch.arange(size, device=images.device) + 0.5) - _middle(reach, size, share)[:, None]
            for size, share in ((width, chances[:, 2]), (height, chances[:, 3]))
        )
        x, y = x[:, None, :], y[:, :, None]
        cos, sin, radius = (values[:, None, None] for values in (cos, sin, radius))
        return torch.stack([cos * x - sin * y, sin * x + cos * y], 3) / radius[..., None]


def _middle(reach: Tensor, size: int, share: Tensor) -> Tensor:
    """A place ``share`` of the way between the two outermost ones; the centre where there is no way between."""
    low = reach.clamp(max=size / 2)
    return low + share * (size - 2 * low)
