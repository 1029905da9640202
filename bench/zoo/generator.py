"""A small generator of scenes: a network of places that a code modulates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SETTINGS: Mapping[str, Any] = {
    "size": 96,  # of the pictures
    "hidden": 128,  # width of the layers that read the code
    "width": 96,  # of the layers that draw
    "depth": 4,
    "turns": (0, 0, 1),  # of each frame: the pair of the code whose direction turns it, of the body or of the mark
    "octaves": 5,  # of the waves along the axes of a frame
}


@dataclass(frozen=True, kw_only=True, slots=True)
class GeneratorRecipe:
    """How a generator is built and trained; ``assay train generator`` reproduces the shipped weights from it."""

    about: str = "a network of places that learned from the records of scenes to draw them"
    settings: Mapping[str, Any] = field(default_factory=lambda: dict(_SETTINGS))  # of the network
    images: int = 30_000  # training scenes
    epochs: int = 14
    batch: int = 64
    pixels: int = 192  # drawn of each picture in a step
    lr: float = 4e-3  # peak of a one-cycle schedule, AdamW
    weight_decay: float = 1e-3
    bfloat16: bool = True  # mixed precision
    seed: int = 0


class Generator(nn.Module):
    """Pictures (N, 3, size, size) in [0, 1] from standard normal codes (N, latent).

    A pixel's colour is a function of its place (Stanley 2007). The place is told in frames, moved and scaled as the
    code is read and turned by pairs of its numbers, with its waves (Tancik et al. 2020, eq. 5, arXiv:2006.10739); the
    code also scales and shifts what each layer gives (Perez et al. 2018, eq. 2, arXiv:1709.07871).
    """

    places: Tensor
    waves: Tensor

    def __init__(
        self, latent: int, *, hidden: int, width: int, depth: int, turns: Sequence[int], octaves: int, size: int
    ) -> None:
        super().__init__()
        self.latent, self.size = latent, size
        self.pairs = [[2 * turn, 2 * turn + 1] for turn in turns]
        wide = [latent, hidden, hidden, hidden]
        self.read = nn.Sequential(*(layer for i, o in pairwise(wide) for layer in (nn.Linear(i, o), nn.ReLU())))
        self.frames = nn.Linear(hidden, 3 * len(turns))  # centre and logarithm of the scale
        self.scales = nn.Linear(hidden, depth * width)
        self.shifts = nn.Linear(hidden, depth * width)
        wide = [2 + 2 * len(turns) * (1 + 2 * octaves), *[width] * depth]
        self.layers = nn.ModuleList(nn.Linear(i, o, bias=False) for i, o in pairwise(wide))
        self.colour = nn.Linear(width, 3)
        axis = (torch.arange(size) + 0.5) * 2 / size - 1
        self.register_buffer("places", torch.cartesian_prod(axis, axis).flip(1), persistent=False)  # x, y; row by row
        self.register_buffer("waves", math.pi * 2.0 ** torch.arange(octaves), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        return self.draw(codes, self.places).mT.reshape(len(codes), 3, self.size, self.size)

    def draw(self, codes: Tensor, places: Tensor) -> Tensor:
        """Colours (N, P, 3) of P of the ``places``."""
        with torch.autocast(codes.device.type, enabled=False):  # half a pixel is less than bfloat16 tells apart
            read = self.read(codes)
            move, scale = self.frames(read).reshape(len(codes), -1, 1, 3).tensor_split((2,), 3)
            across = F.normalize(codes[:, self.pairs], dim=2, eps=1e-4)
            axes = torch.stack([across, across.flip(2) * across.new_tensor([-1, 1])], 3)
            at = ((places - move) @ axes * scale.exp()).transpose(1, 2).flatten(2)
            phases = (at[..., None] * self.waves).flatten(2)
            features = torch.cat([places.expand(len(codes), -1, -1), at, phases.sin(), phases.cos()], 2)
            scales, shifts = (f(read).reshape(len(codes), len(self.layers), 1, -1) for f in (self.scales, self.shifts))
        for i, layer in enumerate(self.layers):  # the scale in the weights: a pass over the pixels less
            features = F.relu(torch.baddbmm(shifts[:, i], features, layer.weight.T * (1 + scales[:, i])))
        colours: Tensor = self.colour(features)
        return colours.float().sigmoid()
