"""Heatmaps that know nothing of the model: a method that does not beat them has shown nothing."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target
from assay.explain.base import Explainer


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomMap(Explainer):
    """Every pixel uniform in [0, 1)."""

    control: ClassVar[bool] = True

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        return draws.uniform(images.shape[-2:])


@dataclass(frozen=True, kw_only=True, slots=True)
class SobelMap(Explainer):
    """Edges: the length of the Sobel gradient of the channels' mean (Adebayo et al. 2018, arXiv:1810.03292)."""

    control: ClassVar[bool] = True

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        kernel = images.new_tensor([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
        grey = F.pad(images.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        slopes = F.conv2d(grey, torch.stack([kernel, kernel.T])[:, None])
        return slopes.square().sum(1).sqrt()


@dataclass(frozen=True, kw_only=True, slots=True)
class CenterMap(Explainer):
    """A Gaussian at the centre of the image, 1 at its top: where photographers put the object."""

    control: ClassVar[bool] = True

    sigma: float = 0.25  # standard deviation, share of each side

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise AssayError(f"{self}: needs sigma > 0")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        height, width = images.shape[-2:]
        y, x = (torch.arange(size, device=images.device) + 0.5 for size in (height, width))
        dy, dx = (y / height - 0.5) / self.sigma, (x / width - 0.5) / self.sigma
        heat = torch.exp(-(dy[:, None] ** 2 + dx**2) / 2)
        return heat.expand(len(images), -1, -1).clone()


@dataclass(frozen=True, kw_only=True, slots=True)
class InputMagnitude(Explainer):
    """How bright a pixel is, the mean of its channels: what a product with the input shows of any model."""

    control: ClassVar[bool] = True

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        return images.mean(1)
