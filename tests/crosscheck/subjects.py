"""Models, and the images that they have right."""

import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from assay.bench import data, models
from assay.bench.models import Subject
from tests.bench.real import REAL, mnist, needed


class Sample(NamedTuple):
    """A model with the first images of a set that it has right."""

    model: Subject
    images: Tensor
    labels: Tensor

    def first(self, n: int) -> "Sample":
        return self._replace(images=self.images[:n], labels=self.labels[:n])


class Source(NamedTuple):
    images: int
    seeds: int  # with which attacks that draw are repeated
    linf: float  # radii at which gradients fool about half of the images
    l2: float
    l1: float
    square: dict[str, float]  # radii at which questions do


SOURCES = {
    "mnist_lenet5": Source(100, 3, 0.11, 1.4, 7.0, {"linf": 0.17, "l2": 2.4}),
    "mnist_lenet5_robust": Source(100, 3, 0.35, 4.0, 20.0, {"linf": 0.37, "l2": 2.4}),
    "cifar10_resnet20": Source(64, 3, 0.0026, 0.107, 1.3, {"linf": 0.008, "l2": 0.35}),
    "cifar10_resnet56": Source(24, 1, 0.0026, 0.1, 1.3, {"linf": 0.008, "l2": 0.35}),
    "zoo:repvgg": Source(48, 2, 0.006, 0.4, 6.0, {"linf": 0.026, "l2": 2.0}),
    "zoo:vit": Source(48, 2, 0.0041, 0.28, 2.0, {"linf": 0.016, "l2": 1.2}),
    "zoo:repvgg-robust": Source(48, 2, 0.05, 1.0, 13.0, {"linf": 0.12, "l2": 4.0}),
}


@cache
def sample(name: str) -> Sample:
    source = SOURCES[name]
    if name.startswith("zoo:"):
        model, (images, labels) = models.load(name), _pictures("scenes?split=test", (3, 96, 96), 2 * source.images)
    else:
        folder = str(needed(REAL / "subjects.py").parent)
        sys.path.append(folder)
        model = models.load(f"py:subjects:{name}")
        sys.path.remove(folder)
        images, labels = _cifar() if name.startswith("cifar") else _mnist(2 * source.images)
    with torch.no_grad():
        right = (model(images).argmax(1) == labels).nonzero().flatten()[: source.images]
    assert len(right) == source.images
    return Sample(model, images[right], labels[right])


def _cifar() -> tuple[Tensor, Tensor]:
    with np.load(needed(REAL / "images" / "cifar10_test_300.npz")) as file:
        return torch.from_numpy(file["images"]).permute(0, 3, 1, 2).contiguous() / 255, torch.from_numpy(
            file["labels"]
        ).long()


def _mnist(n: int) -> tuple[Tensor, Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        return _pictures(mnist(Path(folder)), (1, 28, 28), n)


def _pictures(spec: str, size: tuple[int, int, int], n: int) -> tuple[Tensor, Tensor]:
    chosen = data.load(spec).at(size).take(n)
    examples = [chosen.example(i) for i in range(n)]
    return torch.stack([example.image for example in examples]), torch.tensor([example.label for example in examples])
