"""Targets: one number per image, to be explained or climbed.

``target(model, images)`` is (N,), differentiable. Targets add, subtract and scale without changing each other;
``target[index]`` is the same target for the images at ``index`` (a mask, or indices that may repeat).
"""

import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.core import layers
from assay.core.classifier import as_logits
from assay.core.errors import AssayError
from assay.core.tables import check

Classes = Tensor | int
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Target:
    """Base of all targets. A subclass implements ``__call__`` and, if it holds per-image data, ``__getitem__``."""

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        raise NotImplementedError

    def __getitem__(self, index: Tensor) -> "Target":
        return self

    @property
    def count(self) -> int:
        """The number of images that per-image data is held for; 1 where the target is the same for all."""
        return 1

    def __add__(self, other: "Target") -> "Target":
        return Sum((self, other))

    def __sub__(self, other: "Target") -> "Target":
        return Sum((self, -1.0 * other))

    def __mul__(self, factor: float) -> "Target":
        return Scaled(self, float(factor))

    __rmul__ = __mul__

    def __neg__(self) -> "Target":
        return Scaled(self, -1.0)


@dataclass(frozen=True, eq=False)
class Sum(Target):
    terms: tuple[Target, ...]

    def __post_init__(self) -> None:
        _one_count(*(term.count for term in self.terms))

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return torch.stack([term(model, images) for term in self.terms]).sum(0)

    def __getitem__(self, index: Tensor) -> Target:
        return Sum(tuple(term[index] for term in self.terms))

    @property
    def count(self) -> int:
        return max(term.count for term in self.terms)


@dataclass(frozen=True, eq=False)
class Scaled(Target):
    target: Target
    factor: float

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return self.factor * self.target(model, images)

    def __getitem__(self, index: Tensor) -> Target:
        return Scaled(self.target[index], self.factor)

    @property
    def count(self) -> int:
        return self.target.count


@dataclass(frozen=True, eq=False)
class _OfClasses(Target):
    """A number read off the logits at ``classes``: an int for all images, or one class index per image (N,)."""

    least: ClassVar[int] = 2  # logits of a network that the number is read off

    classes: Classes

    def __post_init__(self) -> None:
        check(self)
        _check_classes(self.classes)

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        logits = logits_of(model, images, self.least)
        return self.of(logits, chosen_of(logits, self.classes))

    def __getitem__(self, index: Tensor) -> Target:
        return self if self.count == 1 else type(self)(_rows(self.classes, index))

    @property
    def count(self) -> int:
        return _count(self.classes)

    @staticmethod
    def of(logits: Tensor, classes: Tensor) -> Tensor:
        raise NotImplementedError


class Logit(_OfClasses):
    """The logit of a class, or the only output of a network that has one."""

    least = 1

    @staticmethod
    def of(logits: Tensor, classes: Tensor) -> Tensor:
        return logits.gather(1, classes[:, None]).squeeze(1)


class Label(Logit):
    """The logit of a class of a classifier: what plain classes mean."""

    least = 2


class Probability(_OfClasses):
    """The softmax probability of a class, in [0, 1]."""

    @staticmethod
    def of(logits: Tensor, classes: Tensor) -> Tensor:
        return Logit.of(logits.softmax(1), classes)


class Margin(_OfClasses):
    """The logit of a class minus the largest other logit: positive where the class wins."""

    @staticmethod
    def of(logits: Tensor, classes: Tensor) -> Tensor:
        others = logits.scatter(1, classes[:, None], float("-inf"))
        return Logit.of(logits, classes) - others.amax(1)


@dataclass(frozen=True, eq=False)
class Region(Target):
    """Class ``c``'s logits added up, or averaged, over a mask of the output: why is this region "cat"?

    For networks whose output is a grid of logits (N, K, H, W), or a dict with one at ``key`` (its first entry if
    None), as torchvision's segmentation models give. ``masks`` is (H, W) for all images or (N, H, W), bool or weights;
    ``c`` an int or one class per image (N,). The mean over an empty mask is NaN. Vinogradova et al. 2020, eq. 2
    (Seg-Grad-CAM, arXiv:2002.11434) sums. Raises ``AssayError`` where the mask and the output differ in size.
    """

    masks: Tensor
    c: Classes
    key: str | None = None
    reduce: Literal["sum", "mean"] = "sum"

    def __post_init__(self) -> None:
        check(self)
        _check_classes(self.c)
        if self.masks.ndim not in (2, 3):
            raise AssayError(f"masks must be (H, W) or (N, H, W), not {tuple(self.masks.shape)}")
        _one_count(self._masks, _count(self.c))

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        logits = layers.first_tensor(model(images), self.key)
        if logits.ndim != 4 or logits.shape[2:] != self.masks.shape[-2:]:
            size = f"{tuple(self.masks.shape[-2:])}"
            raise AssayError(f"masks of {size} need an output (N, K, H, W) of that size, not {tuple(logits.shape)}")
        classes = chosen_of(logits, self.c)
        masks = self.masks.to(logits).expand(len(logits), *logits.shape[2:])
        total = (logits[torch.arange(len(logits)), classes] * masks).sum((1, 2))
        return total if self.reduce == "sum" else total / masks.sum((1, 2))

    def __getitem__(self, index: Tensor) -> Target:
        masks = self.masks if self._masks == 1 else _rows(self.masks, index)
        return Region(masks, self.c if _count(self.c) == 1 else _rows(self.c, index), self.key, self.reduce)

    @property
    def count(self) -> int:
        return max(self._masks, _count(self.c))

    @property
    def _masks(self) -> int:
        return len(self.masks) if self.masks.ndim == 3 else 1


@dataclass(frozen=True, eq=False)
class Channel(Target):
    """The mean activation of channel ``c`` of ``layer`` over its grid: one for all images, or one per image (N,)."""

    layer: str
    c: Classes

    def __post_init__(self) -> None:
        _check_classes(self.c, "channels")

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return _unit(model, images, self.layer, self.c).mean((1, 2))

    def __getitem__(self, index: Tensor) -> Target:
        return self if self.count == 1 else type(self)(self.layer, _rows(self.c, index))

    @property
    def count(self) -> int:
        return _count(self.c)


@dataclass(frozen=True, eq=False)
class Neuron(Target):
    """The activation of one position (y, x) of channel ``c`` of ``layer``: one channel for all images, or one per
    image (N,).
    """

    layer: str
    c: Classes
    y: int
    x: int

    def __post_init__(self) -> None:
        _check_classes(self.c, "channels")

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return _unit(model, images, self.layer, self.c, self.y, self.x)

    def __getitem__(self, index: Tensor) -> Target:
        return self if self.count == 1 else type(self)(self.layer, _rows(self.c, index), self.y, self.x)

    @property
    def count(self) -> int:
        return _count(self.c)


@dataclass(frozen=True, eq=False)
class LayerNorm2(Target):
    """Half the sum of squares of a layer's activations (DeepDream), or of its channel ``c``: one for all, or (N,)."""

    layer: str
    c: Classes | None = None

    def __post_init__(self) -> None:
        if self.c is not None:
            _check_classes(self.c, "channels")

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        if self.c is not None:
            return _unit(model, images, self.layer, self.c).square().sum((1, 2)) / 2
        return layers.activations(model, images, self.layer).square().sum((1, 2, 3)) / 2

    def __getitem__(self, index: Tensor) -> Target:
        return self if self.c is None or self.count == 1 else type(self)(self.layer, _rows(self.c, index))

    @property
    def count(self) -> int:
        return 1 if self.c is None else _count(self.c)


@dataclass(frozen=True, eq=False)
class CodeDistance(Target):
    """||phi(x) - code||^2 / ||code||^2 at ``layer`` (Mahendran & Vedaldi 2015); ``code`` is (1 or N, C, h, w)."""

    layer: str
    code: Tensor

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        difference = layers.activations(model, images, self.layer) - self.code
        return difference.square().sum((1, 2, 3)) / self.code.square().sum((1, 2, 3))

    def __getitem__(self, index: Tensor) -> Target:
        return self if len(self.code) == 1 else CodeDistance(self.layer, _rows(self.code, index))

    @property
    def count(self) -> int:
        return len(self.code)


@dataclass(frozen=True, eq=False)
class GramDistance(Target):
    """Sum over ``names`` of sum (G - A)^2 / (4 C^2), G and A means over positions, so of pictures of any two sizes.

    For equal sizes this is Gatys et al. 2015, eq. 4, whose matrices are sums over M positions: (G - A)^2 / (4 C^2 M^2).
    ``grams`` holds, from ``gram`` of the sample's activations, one (C, C) for all images, or (N, C, C), per layer.
    """

    names: tuple[str, ...]
    grams: tuple[Tensor, ...]

    def __post_init__(self) -> None:
        _one_count(*map(_matrices, self.grams))

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        total = images.new_zeros(len(images))
        for features, sample in zip(layers.many_activations(model, images, self.names), self.grams, strict=True):
            total = total + (gram(features) - sample).square().sum((1, 2)) / (4 * features.shape[1] ** 2)
        return total

    def __getitem__(self, index: Tensor) -> Target:
        return GramDistance(self.names, tuple(g if _matrices(g) == 1 else _rows(g, index) for g in self.grams))

    @property
    def count(self) -> int:
        return max(map(_matrices, self.grams), default=1)


def gram(features: Tensor) -> Tensor:
    """Gram matrices (N, C, C) of activations (N, C, h, w): means over positions, not divided by C."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def logits_of(model: nn.Module, images: Tensor, least: int = 2) -> Tensor:
    """The network's logits (N, K) (``as_logits``); other outputs raise ``NotApplicable``."""
    return as_logits(model(images), least)


def chosen_of(logits: Tensor, classes: Classes) -> Tensor:
    """``classes`` as one index for each row of ``logits`` (N, K, ...); ``AssayError`` for one that is not below K."""
    indices = torch.as_tensor(classes, dtype=torch.int64, device=logits.device).expand(len(logits))
    wrong = indices[(indices < 0) | (indices >= logits.shape[1])]
    if len(wrong):
        raise AssayError(f"class {wrong[0].item()} is not among the network's, 0 to {logits.shape[1] - 1}")
    return indices


def _check_classes(classes: Classes, kind: str = "classes") -> None:
    if isinstance(classes, Tensor) and (classes.dtype not in INTEGERS or classes.ndim > 1):
        raise AssayError(f"{kind} must be integers of shape (N,), not {classes.dtype} {tuple(classes.shape)}")


def _count(classes: Classes) -> int:
    return len(classes) if isinstance(classes, Tensor) and classes.ndim else 1


def _matrices(grams: Tensor) -> int:
    return len(grams) if grams.ndim == 3 else 1


def _one_count(*counts: int) -> None:
    many = sorted({count for count in counts if count != 1})
    if len(many) > 1:
        raise AssayError(f"one target holds data for {' and for '.join(map(str, many))} images")


def _rows(data: Classes, index: Tensor) -> Tensor:
    data = torch.as_tensor(data)
    return data[index.to(data.device)]


def _unit(model: nn.Module, images: Tensor, layer: str, c: Classes, *place: int) -> Tensor:
    """The layer's activations in channel ``c``, at row and column if given; ``AssayError`` outside of them."""
    grid = layers.activations(model, images, layer)
    channels = c.flatten().tolist() if isinstance(c, Tensor) else [c]
    inside = [_below(i, grid.shape[1]) for i in channels]
    inside += [_below(i, side) for i, side in zip(place, grid.shape[2:], strict=False)]
    if not all(inside):
        size, at = " x ".join(map(str, grid.shape[1:])), ", ".join(map(str, (*channels, *place)))
        raise AssayError(f"layer {layer!r} has {size} channels, rows and columns, and no {at}")
    indices = torch.as_tensor(c, device=grid.device).expand(len(grid))
    unit = grid[torch.arange(len(grid), device=grid.device), indices]
    index: tuple[slice | int, ...] = (slice(None), *place)
    return unit[index]


def _below(i: object, size: int) -> bool:
    return isinstance(i, numbers.Integral) and 0 <= int(i) < size


def gradient(target: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, images: Tensor) -> Tensor:
    """The derivative of the target by the images, (N, C, H, W); ``AssayError`` where there is none."""
    images = images.detach().requires_grad_(True)
    return derivative(target(model, images), images)


def derivative(values: Tensor, images: Tensor) -> Tensor:
    """The derivative of the sum of the target's ``values`` by the images that they were computed from."""
    (slope,) = torch.autograd.grad(values.sum(), images, allow_unused=True) if values.requires_grad else (None,)
    if slope is None:
        raise layers.independent()
    return slope


def repeat(indices: int, times: int, device: torch.device | str) -> Tensor:
    """0, 0, ..., 1, 1, ...: indices that give each of ``indices`` images ``times`` rows."""
    return torch.arange(indices, device=device).repeat_interleave(times)


__all__: Sequence[str] = [
    "Channel", "CodeDistance", "GramDistance", "LayerNorm2", "Logit", "Margin", "Neuron", "Probability", "Region",
    "Target", "gradient", "gram",
]  # fmt: skip
