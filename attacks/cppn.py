"""Compositional pattern producing networks (Stanley 2007), many at once: pictures as functions of the place.

A network takes x, y, the distance from the centre and a constant, and gives hue, saturation and brightness, or
brightness alone. Symmetries and repetitions come from its functions.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks.best import parts
from assay.core.draws import Draws

INPUTS = 4
FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda z: torch.sin(math.pi * z),
    lambda z: 2 * torch.exp(-((2.5 * z) ** 2)) - 1,
    torch.tanh,
    torch.abs,
    lambda z: z,
)
LIMIT = 3.0  # of a weight
WARM_UP = 3  # mutations before the first generation, so that it has nodes to work with


class Genomes(NamedTuple):
    """Networks in slots: the inputs, hidden nodes, the outputs. A connection goes from a slot to a later one."""

    weights: Tensor  # (n, population, V, V): [..., to, from]; 0 is no connection
    kinds: Tensor  # (n, population, V): each slot's function
    active: Tensor  # (n, population, V) bool: all but the free hidden slots

    @classmethod
    def random(cls, draws: Draws, population: int, channels: int, hidden: int) -> "Genomes":
        """Every input joined to every output, then mutated a few times."""
        slots = INPUTS + hidden + channels
        weights = draws.normal((population, slots, slots))
        weights[..., INPUTS:] = 0
        weights[..., :-channels, :] = 0
        kinds = draws.integers(len(FUNCTIONS), (population, slots)).long()
        active = torch.ones_like(kinds, dtype=torch.bool)
        active[..., INPUTS:-channels] = False
        genomes = cls(weights, kinds, active)
        for _ in range(WARM_UP):
            genomes = genomes.mutate(draws, channels, 1.0)
        return genomes

    def at(self, index: Tensor) -> "Genomes":
        """The networks of the images at ``index``."""
        return Genomes(self.weights[index], self.kinds[index], self.active[index])

    def where(self, mask: Tensor, other: "Genomes") -> "Genomes":
        """These networks where ``mask`` (n, population), else the other ones."""
        weights = torch.where(mask[..., None, None], self.weights, other.weights)
        kinds, active = (torch.where(mask[..., None], a, b) for a, b in zip(self[1:], other[1:], strict=True))
        return Genomes(weights, kinds, active)

    def children(self, draws: Draws, channels: int) -> "Genomes":
        """As many, each a mutation of a random one of the same image."""
        parents = draws.integers(self.kinds.shape[1], (self.kinds.shape[1],))
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        return Genomes(*(field[rows, parents] for field in self)).mutate(draws, channels)

    def mutate(self, draws: Draws, channels: int, growth: float = 0.2) -> "Genomes":
        """All weights shift at one random scale; now and then a function changes, a connection comes, goes or splits.

        ``growth`` is the chance of a new connection and, again, of a new node within one.
        """
        weights, kinds, active = (field.clone() for field in self)
        population, slots = kinds.shape[1:]
        rows = torch.arange(len(kinds), device=kinds.device)[:, None]
        cols = torch.arange(population, device=kinds.device)[None]
        chance = draws.uniform((population, 5))
        # shift all weights
        scale = 10 ** (2.5 * chance[..., 0] - 2)
        shift = scale[..., None, None] * draws.normal((population, slots, slots))
        weights = torch.where(weights != 0, (weights + shift).clamp(-LIMIT, LIMIT), weights)
        # change a function
        slot, kind = _any(active, draws), draws.integers(len(FUNCTIONS), (population,)).long()
        kinds[rows, cols, slot] = torch.where(chance[..., 1] < 0.2, kind, kinds[rows, cols, slot])
        # add a connection
        takes, gives = active.clone(), active.clone()
        takes[..., :INPUTS], gives[..., -channels:] = False, False
        later = torch.ones(slots, slots, dtype=torch.bool, device=kinds.device).tril(-1)
        open_ = takes[..., :, None] & gives[..., None, :] & later & (weights == 0)
        place = _any(open_.flatten(2), draws)
        comes = (chance[..., 2] < growth) & open_.flatten(2)[rows, cols, place]
        fresh = draws.normal((population,))
        weights.flatten(2)[rows, cols, place] = torch.where(comes, fresh, weights.flatten(2)[rows, cols, place])
        # cut a connection
        place = _any((weights != 0).flatten(2), draws)
        goes = chance[..., 3] < 0.1
        weights.flatten(2)[rows, cols, place] *= ~goes
        # split a connection
        place = _any((weights != 0).flatten(2), draws)
        to, start = place // slots, place % slots
        order = torch.arange(slots, device=kinds.device)
        free = ~active & (order > start[..., None]) & (order < to[..., None])
        node = _any(free, draws)
        splits = (chance[..., 4] < growth) & free[rows, cols, node] & (weights[rows, cols, to, start] != 0)
        r, c = splits.nonzero(as_tuple=True)
        to, start, node = to[r, c], start[r, c], node[r, c]
        weights[r, c, node, start] = 1.0
        weights[r, c, to, node] = weights[r, c, to, start]
        weights[r, c, to, start] = 0.0
        active[r, c, node] = True
        return Genomes(weights, kinds, active)

    def draw(self, shape: torch.Size) -> Tensor:
        """The pictures, (n * population, C, H, W) in [0, 1] for ``shape`` (C, H, W)."""
        channels, height, width = shape
        flat = Genomes(*(field.flatten(0, 1) for field in self))
        slots = flat.kinds.shape[1]
        pictures = []
        for part in parts(torch.arange(len(flat.kinds)), slots * height * width):
            weights, kinds, active = (field[part] for field in flat)
            values = weights.new_zeros(len(part), slots, height * width)
            values[:, :INPUTS] = _places(height, width).to(weights)
            for slot in range(INPUTS, slots):
                if active[:, slot].any():
                    sums = torch.bmm(weights[:, slot : slot + 1, :slot], values[:, :slot])[:, 0]
                    for kind, function in enumerate(FUNCTIONS):
                        rows = (kinds[:, slot] == kind).nonzero().flatten()
                        values[rows, slot] = function(sums[rows])
            pictures.append(_colours((values[:, -channels:] + 1) / 2).view(len(part), *shape))
        return torch.cat(pictures)


def _any(mask: Tensor, draws: Draws) -> Tensor:
    """A random place in the last axis of ``mask`` (n, population, m) where it holds; 0 where it holds nowhere."""
    return (draws.uniform(mask.shape[1:]) + 1).mul(mask).argmax(2)


def _places(height: int, width: int) -> Tensor:
    """x, y, the distance from the centre and 1, (4, H * W); the longer side goes from -1 to 1."""
    half = max(height, width) / 2
    y, x = ((torch.arange(size) + 0.5 - size / 2) / half for size in (height, width))
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([x, y, (x**2 + y**2).sqrt(), torch.ones_like(x)]).flatten(1)


def _colours(outputs: Tensor) -> Tensor:
    """Red, green and blue of hue (a circle), saturation and brightness, (n, 3, m) in [0, 1]; other numbers of channels
    stay, clamped.
    """
    if outputs.shape[1] != 3:
        return outputs.clamp(0, 1)
    hue, saturation, brightness = outputs[:, :1] % 1, outputs[:, 1:2].clamp(0, 1), outputs[:, 2:].clamp(0, 1)
    phase = (outputs.new_tensor([5.0, 3.0, 1.0])[:, None] + 6 * hue) % 6
    colours: Tensor = brightness * (1 - saturation * torch.minimum(phase, 4 - phase).clamp(0, 1))
    return colours
