"""Weights as pictures: first-layer filters laid over the pixels, class templates, and how Gabor-like filters are."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor, nn
from torch.func import functional_call

from assay.core.borrow import evaluating
from assay.core.errors import NotApplicable
from assay.core.layers import find
from assay.core.probe import random_images
from assay.core.receptive import box

Array = NDArray[np.float64]
SMALLEST = 5  # pixels a side of a kernel that the six shape parameters of a Gabor function do not fit whatever it holds
CHANCE = 0.95  # quantile of the fit of noise that a filter has to exceed


class Filters(NamedTuple):
    """The weights (F, C, h, w) of the layer ``name`` over the pixels that they multiply, C the image's channels."""

    name: str
    kind: str
    weights: Tensor


class Tiles(NamedTuple):
    """Weights as pictures: ``pixels`` = 0.5 + weights / (2 scale), (F, C, h, w) in [0, 1]; ``scale`` (F,)."""

    pixels: Tensor
    scale: Tensor


class _Call(NamedTuple):
    name: str
    module: nn.Module
    inputs: Tensor


def first_filters(model: nn.Module, images: Tensor) -> Filters:
    """The weights of the first layer that reads the pixels of images (N, C, H, W), exactly as they are.

    Of layers that read the same tensor side by side the one with the largest kernel, of branches on images of several
    sizes the first. Where a layer reads the pixels in another order (linear embeddings of patches, space to depth, a
    flattened image), each weight stands at its pixel, and at every one of them where pixels are averaged first. Raises
    ``NotApplicable`` where it reads anything else of the pixels, such as their frequencies.
    """
    with evaluating(model):
        pixels = random_images(images, 1).requires_grad_(True)
        calls = [call for call in _calls(model, pixels) if call.inputs.requires_grad]
        if not calls:
            raise NotApplicable("no convolution and no linear layer reads the image")
        beside = [call for call in calls if call.inputs is calls[0].inputs]
        name, module, inputs = max(beside, key=lambda call: _weight(call.module)[0].numel())
        weight = _weight(module)
        if weight.ndim == 4 and inputs.ndim == 4 and weight.shape[1] == pixels.shape[1]:
            weights = weight.clone()
        else:
            weights = _over_pixels(name, module, inputs, pixels)
    return Filters(name.removeprefix("body."), type(module).__name__, weights)


def _weight(module: nn.Module) -> Tensor:
    return module.get_parameter("weight").detach()


def _calls(model: nn.Module, pixels: Tensor) -> list[_Call]:
    """The convolutions and linear layers in the order of their calls, with what they were given."""
    calls: list[_Call] = []

    def hook(name: str) -> Any:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs and isinstance(inputs[0], Tensor):
                calls.append(_Call(name, module, inputs[0]))

        return keep

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    handles = [
        module.register_forward_hook(hook(name))
        for name, module in model.named_modules()
        if isinstance(module, kinds) and isinstance(getattr(module, "weight", None), Tensor)
    ]
    try:
        model(pixels)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _over_pixels(name: str, module: nn.Module, inputs: Tensor, pixels: Tensor) -> Tensor:
    """Each weight of one unit's window at the pixel that it multiplies.

    With weights 1 and with weights 1, 2, 3, ... instead, the ratio of the two derivatives at a pixel is the number of
    the weight there, if there is only one.
    """
    weight = _weight(module)
    count = weight[0].numel()
    numbers = torch.arange(1, count + 1, device=weight.device).reshape(weight[:1].shape)
    codes = torch.cat([torch.ones_like(weight[:1]), numbers.to(weight)])
    zero = {"bias": codes.new_zeros(2)} if getattr(module, "bias", None) is not None else {}
    out = functional_call(module, {"weight": codes, **zero}, (inputs,))
    units = (out if isinstance(module, nn.Linear) else out.movedim(1, -1))[0]
    middle = units[tuple(side // 2 for side in units.shape[:-1])]
    ones_slope, numbers_slope = (torch.autograd.grad(value, pixels, retain_graph=True)[0][0] for value in middle)
    number = torch.where(ones_slope != 0, numbers_slope / ones_slope, 0)
    index = number.round().long()
    single = bool(((number - index).abs() < 0.2).all())
    if not single or set(index[ones_slope != 0].tolist()) != set(range(1, count + 1)):
        raise NotApplicable(f"{name.removeprefix('body.')} reads something else than single pixels of the image")
    field = box((ones_slope != 0).any(0))
    assert field is not None
    rows, columns = slice(field.top, field.top + field.height), slice(field.left, field.left + field.width)
    padded = torch.cat([weight.new_zeros(len(weight), 1), weight.flatten(1)], 1)
    return padded[:, index[:, rows, columns]]


def layer_weights(model: nn.Module, name: str) -> Tensor:
    """The weights of a convolution or a linear layer, (F, C, h, w), h and w 1 for a linear one.

    Behind the first layer they weigh channels, not colours: as pictures they cannot be interpreted, as they say nothing
    of the pixels without all the layers before.
    """
    weight = getattr(find(model, name), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim not in (2, 4):
        raise NotApplicable(f"layer {name!r} is no convolution over rows and columns and no linear layer")
    return weight.detach().reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))


def class_templates(model: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """What each of ``classes`` (K,) looks for in pixels, (K, C, H, W): the mean over images of the logit's derivative.

    For a linear classifier these are its weights, divided by what the images are; for a network of ReLUs the mean of
    the linear classifiers that it is around each image.
    """
    with evaluating(model):
        pixels = images.detach().clone().requires_grad_(True)
        logits = model(pixels)
        slopes = [torch.autograd.grad(logits[:, k].sum(), pixels, retain_graph=True)[0] for k in classes.tolist()]
    return torch.stack([slope.mean(0) for slope in slopes])


def tiles(weights: Tensor, *, common: bool) -> Tiles:
    """Weights (F, C, h, w) as pictures in which 0.5 is a weight of 0.

    The scale is the largest absolute weight: of all filters if ``common``, which shows which filters are strong, else
    of each, which shows the shape of the weak ones too.
    """
    largest = weights.abs().flatten(1).amax(1)
    scale = (largest.amax().expand_as(largest) if common else largest).clamp(min=torch.finfo(weights.dtype).tiny)
    return Tiles(0.5 + weights / (2 * scale[:, None, None, None]), scale)


class Gabors(NamedTuple):
    """How well a Gabor function fits each filter, (F,) each, and what fits of noise reach.

    ``quality`` is R2, the share of the variance around each colour's mean that the fit explains; NaN for a constant
    filter and for kernels under five pixels, which it can always fit. ``orientation`` is the direction in which the
    wave runs, in degrees from the columns' axis towards the rows', 0 to 180; ``frequency`` is in cycles per pixel.
    ``chance`` is the 95 % quantile of the quality for noise of this shape, NaN where there is no quality.
    """

    quality: Array
    orientation: Array
    frequency: Array
    chance: float

    @property
    def share(self) -> float:
        """The share of filters that fit better than noise does, NaN where no filter has a quality."""
        finite = self.quality[np.isfinite(self.quality)]
        return float((finite > self.chance).mean()) if len(finite) and np.isfinite(self.chance) else float("nan")


def gabors(weights: Array, noise: int = 60) -> Gabors:
    """Least-squares fits of Gabor functions (Daugman 1985) to filters (F, C, h, w).

    One elliptic Gaussian envelope and one wave for all colours, an offset, an amplitude and a phase for each. These are
    solved for exactly; the other six parameters (centre, two widths, direction, frequency) are searched from the best
    places of a fixed grid. Frequencies are between half a cycle in the kernel's longer side and half a cycle per pixel.
    ``noise`` filters of Gaussian noise, the same in every call, say what is reached by chance.
    """
    weights = np.asarray(weights, np.float64)
    count, channels, height, width = weights.shape
    fits = np.full((count, 3), np.nan)
    if min(height, width) < SMALLEST:
        return Gabors(fits[:, 0], fits[:, 1], fits[:, 2], float("nan"))
    for i, weight in enumerate(weights):
        fits[i] = _gabor(weight)
    return Gabors(fits[:, 0], fits[:, 1], fits[:, 2], _chance(channels, height, width, noise))


@cache
def _chance(channels: int, height: int, width: int, noise: int) -> float:
    samples = np.random.default_rng(0).standard_normal((noise, channels, height, width))
    return float(np.quantile([_gabor(sample)[0] for sample in samples], CHANCE))


def _gabor(weight: Array) -> tuple[float, float, float]:
    """Quality, orientation and frequency of the better of two fits, from the best places of the grid."""
    channels, height, width = weight.shape
    deviations = weight - weight.mean((1, 2), keepdims=True)
    spread = (deviations**2).sum()
    if spread <= 1e-12 * max((weight**2).sum(), 1e-300):
        return np.nan, np.nan, np.nan
    values = deviations.reshape(channels, -1).T / np.sqrt(spread)
    starts, bases = _grid(height, width)
    scores = (np.einsum("gpb,pc->gbc", bases, values) ** 2).sum((1, 2))
    low, high = _bounds(height, width)
    best = (np.inf, starts[0])
    for start in _apart(starts, scores):
        fit = least_squares(_residual, start, bounds=(low, high), args=(values, height, width), max_nfev=40)
        best = min(best, (2 * fit.cost, fit.x), key=lambda pair: pair[0])
    residual, shape = best
    return 1 - residual, float(np.degrees(shape[4]) % 180), float(shape[5])


def _apart(starts: Array, scores: Array) -> list[Array]:
    """The best start, then the best that differ in direction or frequency."""
    best: list[Array] = []
    for i in np.argsort(-scores, kind="stable"):
        if all((starts[i, 4:] != start[4:]).any() for start in best):
            best.append(starts[i])
        if len(best) == 2:
            break
    return best


def _residual(shape: Array, values: Array, height: int, width: int) -> Array:
    """What a Gabor function of that shape leaves of values (P, C), phases and amplitudes solved for."""
    basis = _basis(shape[None], height, width)[0]
    residual: Array = values - basis @ (basis.T @ values)
    return residual.ravel()


def _basis(shapes: Array, height: int, width: int) -> Array:
    """Orthonormal columns (G, P, 2) of mean 0: the envelope times cosine and sine of the wave, for shapes (G, 6)."""
    y, x = (axis.ravel() for axis in np.mgrid[:height, :width].astype(np.float64))
    top, left, along, across, angle, frequency = (column[:, None] for column in shapes.T)
    u = (x - left) * np.cos(angle) + (y - top) * np.sin(angle)
    v = (y - top) * np.cos(angle) - (x - left) * np.sin(angle)
    envelope = np.exp(-0.5 * ((u / along) ** 2 + (v / across) ** 2))
    waves = np.stack([envelope * np.cos(2 * np.pi * frequency * u), envelope * np.sin(2 * np.pi * frequency * u)], -1)
    waves -= waves.mean(1, keepdims=True)
    first = waves[..., 0] / np.linalg.norm(waves[..., 0], axis=1, keepdims=True)
    second = waves[..., 1] - first * (first * waves[..., 1]).sum(1, keepdims=True)
    second /= np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-9)
    return np.stack([first, second], -1)


def _bounds(height: int, width: int) -> tuple[Array, Array]:
    """Centre (row, column) inside the kernel, widths from half a pixel to its longer side, any direction, frequency."""
    side = max(height, width)
    low = np.array([0, 0, 0.5, 0.5, -np.pi, 0.5 / side])
    return low, np.array([height - 1, width - 1, side, side, 2 * np.pi, 0.5])


@cache
def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Shapes (G, 6) to start from, and their bases (G, P, 2)."""
    side = max(height, width)
    places = [0.3, 0.5, 0.7]
    shapes = [
        (row * (height - 1), column * (width - 1), sigma * side, sigma * side, angle, frequency)
        for row in places
        for column in places
        for sigma in (0.15, 0.35)
        for angle in np.arange(6) * np.pi / 6
        for frequency in np.geomspace(0.75 / side, 0.4, 5)
    ]
    starts = np.array(shapes)
    return starts, _basis(starts, height, width)
