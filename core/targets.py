"""Targets: one number per image, to be explained or climbed.

``target(model, images)`` is (N,), differentiable. Targets add, subtract and scale without changing each other;
``target[index]`` is the same target for the images at ``index`` (a mask, or indices that may repeat).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from core import layers
from core.errors import AssayError

Classes = Tensor | int


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

    classes: Classes

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        logits = model(images)
        classes = torch.as_tensor(self.classes, device=logits.device).expand(len(logits))
        return self.of(logits, classes)

    def __getitem__(self, index: Tensor) -> Target:
        whole = not isinstance(self.classes, Tensor) or self.classes.ndim == 0
        return self if whole else type(self)(torch.as_tensor(self.classes)[index])

    @property
    def count(self) -> int:
        return len(self.classes) if isinstance(self.classes, Tensor) and self.classes.ndim else 1

    @staticmethod
    def of(logits: Tensor, classes: Tensor) -> Tensor:
        raise NotImplementedError


class Logit(_OfClasses):
    """The logit of a class."""

    @staticmethod
    def of(logits: Tensor, classes: Tensor) -> Tensor:
        return logits.gather(1, classes[:, None]).squeeze(1)


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

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        logits = layers.first_tensor(model(images), self.key)
        if logits.ndim != 4 or logits.shape[2:] != self.masks.shape[-2:]:
            size = f"{tuple(self.masks.shape[-2:])}"
            raise AssayError(f"masks of {size} need an output (N, K, H, W) of that size, not {tuple(logits.shape)}")
        classes = torch.as_tensor(self.c, device=logits.device).expand(len(logits))
        masks = self.masks.to(logits).expand(len(logits), *logits.shape[2:])
        total = (logits[torch.arange(len(logits)), classes] * masks).sum((1, 2))
        return total if self.reduce == "sum" else total / masks.sum((1, 2))

    def __getitem__(self, index: Tensor) -> Target:
        masks = self.masks[index] if self.masks.ndim == 3 and len(self.masks) > 1 else self.masks
        each = isinstance(self.c, Tensor) and self.c.ndim > 0
        return Region(masks, torch.as_tensor(self.c)[index] if each else self.c, self.key, self.reduce)

    @property
    def count(self) -> int:
        masks = len(self.masks) if self.masks.ndim == 3 else 1
        return max(masks, len(self.c) if isinstance(self.c, Tensor) and self.c.ndim else 1)


@dataclass(frozen=True)
class Channel(Target):
    """The mean activation of channel ``c`` of ``layer`` over its grid."""

    layer: str
    c: int

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return layers.activations(model, images, self.layer)[:, self.c].mean((1, 2))


@dataclass(frozen=True)
class Neuron(Target):
    """The activation of one position (y, x) of channel ``c`` of ``layer``."""

    layer: str
    c: int
    y: int
    x: int

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return layers.activations(model, images, self.layer)[:, self.c, self.y, self.x]


@dataclass(frozen=True)
class LayerNorm2(Target):
    """Half the sum of squares of a layer's activations (DeepDream)."""

    layer: str

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return layers.activations(model, images, self.layer).square().sum((1, 2, 3)) / 2


@dataclass(frozen=True, eq=False)
class CodeDistance(Target):
    """||phi(x) - code||^2 / ||code||^2 at ``layer`` (Mahendran & Vedaldi 2015); ``code`` is (1 or N, C, h, w)."""

    layer: str
    code: Tensor

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        difference = layers.activations(model, images, self.layer) - self.code
        return difference.square().sum((1, 2, 3)) / self.code.square().sum((1, 2, 3))

    def __getitem__(self, index: Tensor) -> Target:
        return self if len(self.code) == 1 else CodeDistance(self.layer, self.code[index])

    @property
    def count(self) -> int:
        return len(self.code)


@dataclass(frozen=True, eq=False)
class GramDistance(Target):
    """Sum over ``names`` of sum (G - A)^2 / (4 C^2 M^2), G = F F' for F of shape (C, M) (Gatys et al. 2015, eq. 4).

    ``grams`` holds one (C, C) matrix per layer, from ``gram`` of the sample's activations.
    """

    names: tuple[str, ...]
    grams: tuple[Tensor, ...]

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        total = images.new_zeros(len(images))
        for features, wanted in zip(layers.many_activations(model, images, self.names), self.grams, strict=True):
            size = features[0].numel()
            total = total + (gram(features) - wanted).square().sum((1, 2)) / (4 * size**2)
        return total


def gram(features: Tensor) -> Tensor:
    """Gram matrices (N, C, C) of activations (N, C, h, w): sums over positions, not divided by anything."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2)


def gradient(target: Callable[[nn.Module, Tensor], Tensor], model: nn.Module, images: Tensor) -> Tensor:
    """The derivative of the target by the images, (N, C, H, W)."""
    images = images.detach().requires_grad_(True)
    (result,) = torch.autograd.grad(target(model, images).sum(), images)
    return result


def repeat(indices: int, times: int, device: torch.device | str) -> Tensor:
    """0, 0, ..., 1, 1, ...: indices that give each of ``indices`` images ``times`` rows."""
    return torch.arange(indices, device=device).repeat_interleave(times)


__all__: Sequence[str] = [
    "Channel", "CodeDistance", "GramDistance", "LayerNorm2", "Logit", "Margin", "Neuron", "Probability", "Region",
    "Target", "gradient", "gram",
]  # fmt: skip
