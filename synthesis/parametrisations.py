"""What is moved while pictures are made: pixels, frequencies, phases, a network, a code."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, NotApplicable
from assay.synthesis.spectrum import frequencies

# square root of the covariance of colours in ImageNet's photographs, from lucid (tensorflow/lucid, Apache-2.0)
PHOTOGRAPHS = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))
LIMIT = 3.0  # standard deviations of a code
SPREAD = 0.25  # of values in [0, 1] in a picture that starts from a spectrum


class Parametrisation(Protocol):
    """What is optimised, and how it becomes pictures."""

    @property
    def values(self) -> Tensor:
        """The leaf that is moved, (N, ...)."""

    def images(self) -> Tensor:
        """(N, C, H, W) in [0, 1], differentiable."""

    def settle(self) -> None:
        """Bring the values back to where they are allowed."""

    def become(self, images: Tensor) -> None:
        """Take the values that give ``images``; ``AssayError`` where there are none."""


class Pixels:
    """The pixels themselves, projected to [0, 1] after every step."""

    def __init__(self, start: Tensor) -> None:
        self.values = start.detach().clone().clamp(0, 1).requires_grad_(True)

    def images(self) -> Tensor:
        return self.values

    def settle(self) -> None:
        self.values.data.clamp_(0, 1)

    def become(self, images: Tensor) -> None:
        self.values.data.copy_(images.clamp(0, 1))


@dataclass(frozen=True, eq=False)
class Statistics:
    """Means of pictures: their colour (C,), the square root of its covariance (C, C), and the size of each spatial
    frequency of the pictures in uncorrelated colours (C, H, W // 2 + 1).
    """

    mean: Tensor
    colours: Tensor
    magnitude: Tensor

    @classmethod
    def of(cls, images: Tensor) -> "Statistics":
        """Measured on images (N, C, H, W)."""
        pixels = images.transpose(0, 1).flatten(1)
        mean = pixels.mean(1)
        covariance = (pixels - mean[:, None]).cov().reshape(len(mean), len(mean))
        values, vectors = torch.linalg.eigh(covariance)
        colours = vectors * values.clamp_min(1e-8).sqrt()
        plain = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(colours), images - mean[:, None, None])
        magnitude = torch.fft.rfft2(plain, norm="ortho").abs().mean(0)
        return cls(mean, colours, magnitude)

    @classmethod
    def usual(cls, like: Tensor) -> "Statistics":
        """Of photographs, at the size of ``like`` (N, C, H, W): spectra like 1/f, and their colours if C is 3."""
        channels, height, width = like.shape[1:]
        size = 1 / frequencies(like)
        total = size.square() * torch.where(torch.arange(width // 2 + 1, device=like.device) % (width / 2) == 0, 1, 2)
        magnitude = size * math.sqrt(height * width) / total.sum().sqrt()
        colours = SPREAD * torch.eye(channels).to(like)
        if channels == 3:
            colours = torch.tensor(PHOTOGRAPHS).to(like)
            colours = SPREAD * colours / colours.square().sum(1).mean().sqrt()
        return cls(like.new_full((channels,), 0.5), colours, magnitude.expand(channels, -1, -1))

    def correlate(self, plain: Tensor) -> Tensor:
        """Pictures in [0, 1] of pictures (N, C, H, W) in uncorrelated colours."""
        linear = torch.einsum("cd,ndhw->nchw", self.colours, plain) + self.mean[:, None, None]
        return (4 * (linear - 0.5)).sigmoid()  # of slope 1 at mid-grey

    def decorrelate(self, images: Tensor) -> Tensor:
        """The inverse of ``correlated``."""
        linear = images.clamp(0.005, 0.995).logit() / 4 + 0.5
        return torch.einsum("dc,nchw->ndhw", torch.linalg.inv(self.colours), linear - self.mean[:, None, None])


class Fourier:
    """Spatial frequencies of the picture in uncorrelated colours (Olah, Mordvintsev & Schubert 2017, "Feature
    visualization"), each in units of its usual size.
    """

    def __init__(self, start: Tensor, statistics: Statistics) -> None:
        self.statistics, self._size = statistics, start.shape[2:]
        self._unit = statistics.magnitude.clamp_min(1e-3 * float(statistics.magnitude.amax()))
        self.values = self._read(start).requires_grad_(True)

    def _read(self, images: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(self.statistics.decorrelate(images.detach()), norm="ortho")
        return torch.view_as_real((spectrum / self._unit).contiguous()).clone()

    def images(self) -> Tensor:
        spectrum = torch.view_as_complex(self.values) * self._unit
        return self.statistics.correlate(torch.fft.irfft2(spectrum, s=self._size, norm="ortho"))

    def settle(self) -> None: ...

    def become(self, images: Tensor) -> None:
        self.values.data.copy_(self._read(images))


class MACO:
    """The spectrum's phases alone, its sizes those of ``statistics`` (Fel et al. 2023, arXiv:2306.06805, eq. 3)."""

    def __init__(self, start: Tensor, statistics: Statistics) -> None:
        self.statistics, self._size = statistics, start.shape[2:]
        spectrum = torch.fft.rfft2(statistics.decorrelate(start.detach()))
        self.values = spectrum.angle().clone().requires_grad_(True)

    def images(self) -> Tensor:
        spectrum = torch.polar(self.statistics.magnitude.expand_as(self.values), self.values)
        return self.statistics.correlate(torch.fft.irfft2(spectrum, s=self._size, norm="ortho"))

    def settle(self) -> None: ...

    def become(self, images: Tensor) -> None:
        raise AssayError("filters change pixels, which phases alone cannot follow; use pixel or fourier")


class CPPN:
    """A small network from places to colours, one for each picture (Mordvintsev et al. 2018, "Differentiable image
    parameterizations"): smooth at any size. Eight layers of 24 arcus tangents and their squares.
    """

    WIDTH, DEPTH = 24, 8

    def __init__(self, normal: Tensor, size: tuple[int, int, int]) -> None:
        """``normal`` (N, ``count(C)``) are standard normal numbers, which the first weights are made of."""
        channels, height, width = size
        self._shapes = self.shapes(channels)
        parts = self._parts(normal)
        weights = [part / math.sqrt(shape[0]) for part, shape in zip(parts, self._shapes, strict=True)]
        weights[-1] = torch.zeros_like(weights[-1])
        self.values = torch.cat(weights, 1).requires_grad_(True)
        r = math.sqrt(3)  # places have unit variance
        y, x = torch.meshgrid(torch.linspace(-r, r, height), torch.linspace(-r, r, width), indexing="ij")
        self._places = torch.stack([x, y], -1).view(1, -1, 2).to(normal)
        self._size = (channels, height, width)

    @classmethod
    def shapes(cls, channels: int) -> list[tuple[int, int]]:
        inputs = [2, *[2 * cls.WIDTH] * (cls.DEPTH - 1)]
        return [*((width + 1, cls.WIDTH) for width in inputs), (2 * cls.WIDTH + 1, channels)]

    @classmethod
    def count(cls, channels: int) -> int:
        return sum(math.prod(shape) for shape in cls.shapes(channels))

    def _parts(self, values: Tensor) -> tuple[Tensor, ...]:
        return torch.split(values, [math.prod(shape) for shape in self._shapes], 1)

    def images(self) -> Tensor:
        n = len(self.values)
        at = self._places.expand(n, -1, -1)
        for part, shape in zip(self._parts(self.values), self._shapes, strict=True):
            weights = part.view(n, *shape)
            at = torch.baddbmm(weights[:, -1:], at, weights[:, :-1])
            if shape is not self._shapes[-1]:
                angles = at.atan()
                at = torch.cat([angles / 0.67, (angles.square() - 0.45) / 0.396], 2)  # of about unit variance
        return at.sigmoid().transpose(1, 2).reshape(n, *self._size)

    def settle(self) -> None: ...

    def become(self, images: Tensor) -> None:
        raise AssayError("filters change pixels, which a network of places cannot follow; use pixel or fourier")


class Latent:
    """The code of a generator, clipped to ``LIMIT`` standard deviations (Nguyen et al. 2016, arXiv:1605.09304)."""

    def __init__(self, start: Tensor, generator: nn.Module, size: tuple[int, int, int]) -> None:
        """``start`` (N, generator.latent)."""
        self.values, self._generator = start.detach().clone().requires_grad_(True), generator
        with torch.no_grad():
            shape = tuple(generator(start[:1]).shape[1:])
        if shape != size:
            raise NotApplicable(f"the generator makes pictures {shape} and the model takes {size}")

    def images(self) -> Tensor:
        images: Tensor = self._generator(self.values)
        return images.clamp(0, 1)

    def settle(self) -> None:
        self.values.data.clamp_(-LIMIT, LIMIT)

    def become(self, images: Tensor) -> None:
        raise AssayError("filters change pixels, which a generator's code cannot follow; use pixel or fourier")
