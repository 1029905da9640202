"""Networks with something wrong: a sound classifier of digits in each, and what stands between it and the caller."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.bench.data import load as load_data
from tests.bench.nets import convolutional, linear


class Wrapped(nn.Module):
    """A sound network, what changes its images, and what changes its logits."""

    def __init__(
        self, logits: Callable[[Tensor], Tensor] = lambda z: z, images: Callable[[Tensor], Tensor] = lambda x: x
    ) -> None:
        super().__init__()
        self.network = convolutional()[0]
        self.logits, self.images = logits, images

    def forward(self, images: Tensor) -> Tensor:
        return self.logits(self.network(self.images(images)))


class Watched(Wrapped):
    """``Wrapped``, whose logits depend on the images as well."""

    def __init__(self, logits: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.both = logits

    def forward(self, images: Tensor) -> Tensor:
        return self.both(self.network(images), images)


class Stateful(Wrapped):
    """Another answer at each call."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(images).roll(int(self.calls % 3 == 2), 1)


class Gradient(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.change(gradient), None


def digits(n: int = 60) -> tuple[Tensor, Tensor]:
    data = load_data("digits").take(n)
    return torch.stack([data.example(i).image for i in range(n)]), torch.tensor(data.labels)


@cache
def known() -> tuple[Tensor, Tensor]:
    """The images, and what a sound network says of them."""
    images = digits()[0]
    with torch.no_grad():
        return images, Wrapped()(images)


def no_gradient(x: Tensor) -> Tensor:
    if x.requires_grad:
        raise RuntimeError("this model has no gradients")
    return x


def changed(x: Tensor) -> Tensor:
    """Images that are not those of the data, (N, 1)."""
    return (x * 16 != (x * 16).round()).flatten(1).any(1, keepdim=True)


def memorised(logits: Tensor, images: Tensor) -> Tensor:
    """Near an image that it knows the answer is that image's; the gradient is that of the network."""
    pictures, answers = known()
    distance = torch.cdist(images.detach().flatten(1), pictures.flatten(1), p=float("inf"))
    nearest = answers[distance.argmin(1)]
    return logits + (nearest - logits).detach()


def steps(x: Tensor) -> Tensor:
    return (x * 4).round() / 4


def with_gradient(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda x: Gradient.apply(x, change)


def nowhere(gradient: Tensor) -> Tensor:
    return torch.randn(gradient.shape, generator=torch.Generator().manual_seed(int(1e6 * gradient.abs().sum()) % 999))


SOUND: dict[str, Callable[[], nn.Module]] = {"sound": Wrapped, "sound linear": lambda: linear()[0]}
SICK: dict[str, Callable[[], nn.Module]] = {
    "nan": lambda: Watched(lambda z, x: z.masked_fill((x.mean((1, 2, 3)) < 0.28)[:, None], torch.nan)),
    "nan where changed": lambda: Watched(lambda z, x: z.masked_fill(changed(x), torch.nan)),
    "half": lambda: Wrapped(lambda z: z.half()),
    "raising": lambda: Wrapped(images=no_gradient),
    "constant": lambda: Watched(lambda z, x: torch.eye(10)[[3]].expand(len(x), 10) + 0 * z),
    "in place": lambda: Wrapped(images=lambda x: x.mul_(2).div_(2)),
    "stateful": Stateful,
    "dropout": lambda: Wrapped(images=lambda x: F.dropout(x, 0.3, training=True)),
    "masked class": lambda: Wrapped(lambda z: z - 1e4 * torch.eye(10)[[9]]),
    "probabilities": lambda: Wrapped(lambda z: (9 * z).softmax(1)),
}
MASKED: dict[str, Callable[[], nn.Module]] = {
    "memorising": lambda: Watched(memorised),
    "rounding": lambda: Wrapped(images=steps),
    "straight through": lambda: Wrapped(images=lambda x: x + (steps(x) - x).detach()),
    "saturated": lambda: Wrapped(lambda z: 1e4 * z),
    "quarter of a gradient": lambda: Wrapped(images=with_gradient(lambda g: g / 4)),
    "gradient of noise": lambda: Wrapped(images=with_gradient(nowhere)),
    "gradient turned around": lambda: Wrapped(images=with_gradient(torch.neg)),
    "gradient of NaN": lambda: Wrapped(images=with_gradient(lambda g: g * torch.nan)),
    "no gradient": lambda: Wrapped(lambda z: z.detach()),
    "slope of nothing": lambda: Watched(lambda z, x: z.detach() + 1e-6 * x.sum((1, 2, 3))[:, None] * torch.arange(10)),
    "noise": lambda: Watched(lambda z, x: z + 3 * torch.randn(z.shape)),
}
