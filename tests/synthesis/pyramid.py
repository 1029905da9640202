"""Small networks of several grids, for textures and styles."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Pyramid(nn.Module):
    """Convolutions of any size over three grids; dropout and batch normalisation, which a careless method changes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(12, 16, 3, 2, 1), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(16, 4)
        self.head.bias.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.third(self.second(self.first(images))).mean((2, 3)))
        return logits


class Fixed(Pyramid):
    """Takes pictures of its ``input_size`` alone, as a vision transformer does."""

    input_size = (3, 16, 16)

    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(0.1 * torch.randn(1, 3, 16, 16))

    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == (16, 16)
        return super().forward(images + self.places)


def pictures(n: int = 2, height: int = 24, width: int = 20, seed: int = 0) -> Tensor:
    """Smooth coloured waves, (n, 3, height, width) in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    rate = torch.rand(n, 3, 2, 1, 1, generator=generator) * 1.5
    return 0.5 + 0.45 * torch.sin(rate[:, :, 0] * y + rate[:, :, 1] * x)


class State(NamedTuple):
    """All that a method has to give back."""

    hooks: list[bool]
    training: list[bool]
    flags: list[bool]
    values: list[object]


def state_of(model: nn.Module) -> State:
    modules = list(model.modules())
    return State(
        [bool(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks) for m in modules],
        [m.training for m in modules],
        [p.requires_grad for p in model.parameters()],
        [value.tolist() for value in model.state_dict().values()],
    )
