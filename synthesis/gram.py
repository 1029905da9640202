"""Texture by Gram matrices, and what it shares with style: layers, pictures of any size, coarse to fine."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.layers import many_activations
from assay.core.probe import grid_layers, trunk
from assay.core.tables import check
from assay.core.targets import gram
from assay.synthesis.base import Art, Callback, FromImages
from assay.synthesis.loop import Adam, optimise, quasi_newton
from assay.synthesis.parametrisations import Pixels
from assay.synthesis.regularisers import total_variation
from assay.synthesis.tiles import Size, resized, takes, windows

IMAGE = "image"  # the name of the picture itself as a layer
CONTRAST = 0.1  # deviation of the noise to start from, relative to the image's: what a model hardly sees stays as it is
SMALLEST = 32  # pixels of the shorter side, below which there is no coarser scale


@dataclass(frozen=True, kw_only=True, slots=True)
class TextureSynthesis(FromImages):
    """More of a texture: noise is moved until its Gram matrices are those of the image (Gatys et al. 2015,
    arXiv:1505.07376).

    ``layers`` count by ``gram_loss``, relative to the sample. The history is minus the loss, at every scale anew.
    """

    layers: tuple[str, ...] | None = None  # None: ``style_layers``
    weights: tuple[float, ...] | None = None  # of the layers; None: all 1
    size: tuple[int, int] | None = None  # (H, W) of the texture; None: the image's
    steps: int = 300  # passes forward and backward, shared equally among the scales
    optimiser: Literal["lbfgs", "adam"] = "lbfgs"
    step_size: float = 0.02  # adam
    scales: int = 3  # each half as large as the next
    tv: float = 0.0  # of the mean squared difference of neighbours

    def __post_init__(self) -> None:
        check(self)
        check_climb(self)

    def run(self, model: nn.Module, images: Tensor, draws: Draws, callback: Callback | None) -> Art:
        size = self.size or (images.shape[2], images.shape[3])
        if len(size) != 2 or min(size) < 1:
            raise AssayError(f"the size of a texture is (H, W), not {self.size}")
        names = self.layers or style_layers(model, images)
        see, weights = Seen(model, names), layer_weights(self.weights, names)

        def objective(at: Size) -> Objective:
            sample = resized(images, scale_size((images.shape[2], images.shape[3]), at[0] / size[0]))
            with torch.no_grad():
                grams = [gram(grid) for grid in see(sample)]
            return lambda pictures, index: -gram_loss(see(pictures), [matrix[index] for matrix in grams], weights)

        return coarse_to_fine(self, size, lambda at: noise_like(images, at, draws), objective, draws, callback)


Objective = Callable[[Tensor, Tensor], Tensor]  # pictures (N, C, H, W) and which of the images they are -> (N,)


class Climb(Protocol):
    """The settings of ``coarse_to_fine``."""

    @property
    def steps(self) -> int: ...
    @property
    def optimiser(self) -> Literal["lbfgs", "adam"]: ...
    @property
    def step_size(self) -> float: ...
    @property
    def scales(self) -> int: ...
    @property
    def tv(self) -> float: ...


def check_climb(how: Climb) -> None:
    """Raise ``AssayError`` for settings out of range."""
    name = type(how).__name__
    if how.scales < 1 or how.steps < how.scales:
        raise AssayError(f"{name}: scales is at least 1 and steps at least scales, not {how.scales} and {how.steps}")
    if how.tv < 0 or how.step_size <= 0:
        raise AssayError(f"{name}: tv is not negative and step_size positive, not {how.tv} and {how.step_size}")


def coarse_to_fine(
    how: Climb,
    size: Size,
    start: Callable[[Size], Tensor],
    objective: Callable[[Size], Objective],
    draws: Draws,
    callback: Callback | None,
) -> Art:
    """Climb from pictures ``start`` at the coarsest size to ``size``; each scale begins with the one before, enlarged.

    Scales whose shorter side were below ``SMALLEST`` are left out; the steps are shared among the others. ``tv`` is
    taken from the objective as ``roughness``.
    """
    shares = [0.5**k for k in range(how.scales) if k == 0 or min(size) * 0.5**k >= SMALLEST][::-1]
    sizes = [scale_size(size, share) for share in shares]
    ends = [how.steps * (i + 1) // len(sizes) for i in range(len(sizes))]
    images, histories, begin = start(sizes[0]), [], 0
    for at, end in zip(sizes, ends, strict=True):
        images, history = _climb(
            how, resized(images, at), objective(at), draws, end - begin, _later(callback, begin, how)
        )
        histories.append(history)
        begin = end
    return Art(images, torch.cat(histories))


def _climb(how: Climb, start: Tensor, objective: Objective, draws: Draws, steps: int, callback: Callback | None) -> Art:
    def smooth(images: Tensor, index: Tensor) -> Tensor:
        value = objective(images, index)
        return value - how.tv * roughness(images) if how.tv else value

    if how.optimiser == "lbfgs":
        return quasi_newton(start, smooth, steps=steps, callback=callback)
    every = torch.arange(len(start), device=start.device)
    rule = Adam(how.step_size)
    return optimise(Pixels(start), lambda x: smooth(x, every), draws, steps=steps, rule=rule, callback=callback)


def _later(callback: Callback | None, begin: int, how: Climb) -> Callback | None:
    if callback is None:
        return None
    return lambda step, _, value: callback(begin + step, how.steps, value)


class Seen:
    """Grids (N, C, h, w) of layers, for pictures of any size.

    A network that refuses a size sees windows of its ``input_size``, evenly spread to cover the picture, whose grids
    come one below the other: (N, C, windows * h, w). A picture smaller than a window is enlarged first. The layer
    ``"image"`` is the picture itself.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        self.model, self.names = model, tuple(names)
        self._inside = [name for name in names if name != IMAGE]
        self._takes: dict[Size, bool] = {}

    def __call__(self, images: Tensor) -> list[Tensor]:
        inside = iter(self._grids(images) if self._inside else ())
        return [images if name == IMAGE else next(inside) for name in self.names]

    def _grids(self, images: Tensor) -> list[Tensor]:
        size = (images.shape[2], images.shape[3])
        window = getattr(self.model, "input_size", (0, *size))[1:]
        if self._whole(images):
            return many_activations(self.model, images, self._inside)
        views = windows(images, window)
        grids = many_activations(self.model, views, self._inside)
        return [grid.reshape(len(images), -1, *grid.shape[1:]).transpose(1, 2).flatten(2, 3) for grid in grids]

    def _whole(self, images: Tensor) -> bool:
        """Whether the network up to the last layer runs on pictures of this size."""
        size = (images.shape[2], images.shape[3])
        if size not in self._takes:
            self._takes[size] = takes(self.model, images.shape[1:], self._inside)
        return self._takes[size]


def style_layers(model: nn.Module, images: Tensor, most: int = 4) -> tuple[str, ...]:
    """The picture itself, for its colours, and the last layer of each of the ``most`` finest grids.

    Of layers in ``trunk_of``; of a network with fewer than three grids ``most`` of them, spread in depth.
    """
    names = trunk_of(model, images)
    sizes = [tuple(grid.shape[2:]) for grid in _probe(model, images, names)]
    last = dict(zip(sizes, names, strict=True))
    if len(last) >= 3:
        return (IMAGE, *list(last.values())[:most])
    places = torch.linspace(0, len(names) - 1, min(most + 1, len(names))).round().long().tolist()
    return (IMAGE, *(names[i] for i in places[-most:]))


def trunk_of(model: nn.Module, images: Tensor) -> list[str]:
    """The trunk at the model's own input size; any layers with grids where no layer is on every path."""
    size = getattr(model, "input_size", tuple(images.shape[1:]))
    like = images.new_zeros(1, *size)
    names = trunk(model, like) or grid_layers(model, like)
    if not names:
        raise NotApplicable("the network has no layer with a grid over the image, so no textures")
    return names


def _probe(model: nn.Module, images: Tensor, names: Sequence[str]) -> list[Tensor]:
    size = getattr(model, "input_size", tuple(images.shape[1:]))
    with torch.no_grad():
        return many_activations(model, images.new_zeros(1, *size), names)


def layer_weights(shares: Sequence[float] | None, names: Sequence[str]) -> tuple[float, ...]:
    """Weights of the layers that sum to 1, all the same unless given; ``AssayError`` unless there is one for each."""
    weights = tuple(shares) if shares is not None else (1.0,) * len(names)
    if len(weights) != len(names) or not all(0 <= w < math.inf for w in weights) or sum(weights) <= 0:
        raise AssayError(f"weights {weights} for the layers {', '.join(names)}; give one for each, not all 0")
    return tuple(weight / sum(weights) for weight in weights)


def gram_loss(grids: Sequence[Tensor], targets: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Sum over layers of weight * ||G - A||^2 / ||A||^2, (N,): 0 at the sample, 1 for a picture without activations.

    A layer's part is 4 C^2 / ||A||^2 times its term of ``GramDistance``, so that all layers of all models count alike.
    ``targets`` are (1 or N, C, C) per layer.
    """
    total = grids[0].new_zeros(len(grids[0]))
    for grid, target, weight in zip(grids, targets, weights, strict=True):
        norm = target.square().sum((1, 2)).clamp_min(torch.finfo(target.dtype).tiny)
        total = total + weight * (gram(grid) - target).square().sum((1, 2)) / norm
    return total


def roughness(images: Tensor) -> Tensor:
    """``total_variation`` over the number of values: mean squared differences of neighbours, (N,)."""
    return total_variation(images) / images[0].numel()


def scale_size(size: Size, share: float) -> Size:
    return (max(round(size[0] * share), 1), max(round(size[1] * share), 1))


def noise_like(images: Tensor, size: Size, draws: Draws) -> Tensor:
    """Gaussian noise (N, C, *size) about the mean of each image's colours, ``CONTRAST`` times as varied as they are."""
    noise = draws.normal((images.shape[1], *size)).to(images)
    pixels = images.flatten(2)
    mean = pixels.mean(2, keepdim=True)
    values, vectors = torch.linalg.eigh((pixels - mean) @ (pixels - mean).transpose(1, 2) / pixels.shape[2])
    root = vectors * values.clamp_min(0).sqrt()[:, None] @ vectors.transpose(1, 2)
    pictures: Tensor = (mean + CONTRAST * root @ noise.flatten(2)).view_as(noise)
    return pictures.clamp(0, 1)
