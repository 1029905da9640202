"""Subjects for the ``py:`` spec: small, quick, and some of them broken on purpose."""

from functools import cache
from typing import Any

import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeClassifier
from torch import Tensor, nn
from torch.nn import functional as F

OWN = "py:tests.bench.nets:"
FACTS: dict[str, Any] = {"input_size": (1, 8, 8), "mean": (0.0,), "std": (1.0,)}


class Convolutional(nn.Module):
    """Fixed random edge features and a linear head fitted to the digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.edges = nn.Conv2d(1, 12, 3, padding=1)
        self.head = nn.Linear(12 * 16, 10)

    def features(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(self.edges(images)), 2).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images))
        return logits


@cache
def _digits() -> tuple[Tensor, Any]:
    data = load_digits()
    return torch.from_numpy(data.images).float()[:, None] / 16, data.target


def _fitted(features: Tensor, labels: Any) -> nn.Linear:
    """Ridge regression by its closed form, the same in every process; about 95 % on the digits."""
    fitted = RidgeClassifier(alpha=1.0, solver="cholesky").fit(features.double().numpy(), labels)
    layer = nn.Linear(features.shape[1], 10)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(fitted.coef_).mul(8))
        layer.bias.copy_(torch.from_numpy(fitted.intercept_).mul(8))
    return layer


def convolutional() -> tuple[nn.Module, dict[str, Any]]:
    model = Convolutional().eval()
    images, labels = _digits()
    with torch.no_grad():
        model.head = _fitted(model.features(images), labels)
    return model, FACTS


class Deep(Convolutional):
    """Two convolutions, on normalised images."""

    def __init__(self) -> None:
        super().__init__()
        self.corners = nn.Conv2d(12, 16, 3, padding=1)
        self.head = nn.Linear(16 * 16, 10)

    def features(self, images: Tensor) -> Tensor:
        return F.avg_pool2d(F.relu(self.corners(F.relu(self.edges(images)))), 2).flatten(1)


def deep() -> tuple[nn.Module, dict[str, Any]]:
    model = Deep().eval()
    images, labels = _digits()
    with torch.no_grad():
        model.head = _fitted(model.features((images - 0.3) / 0.4), labels)
    return model, {**FACTS, "mean": (0.3,), "std": (0.4,)}


def linear() -> tuple[nn.Module, dict[str, Any]]:
    images, labels = _digits()
    return nn.Sequential(nn.Flatten(), _fitted(images.flatten(1), labels)), FACTS


def different_each_time() -> tuple[nn.Module, dict[str, Any]]:
    torch.seed()
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), FACTS


class _NaNWhereDark(Convolutional):
    def forward(self, images: Tensor) -> Tensor:
        logits = super().forward(images)
        return logits.masked_fill((images.mean((1, 2, 3)) < 0.28)[:, None], float("nan"))


def nan_where_dark() -> tuple[nn.Module, dict[str, Any]]:
    return _NaNWhereDark(), FACTS


class _NoGradients(Convolutional):
    def forward(self, images: Tensor) -> Tensor:
        if images.requires_grad:
            raise RuntimeError("this model\nhas no gradients")
        return super().forward(images)


def no_gradients() -> tuple[nn.Module, dict[str, Any]]:
    return _NoGradients(), FACTS


def not_a_pair() -> nn.Module:
    return Convolutional()


def no_logits() -> tuple[nn.Module, dict[str, Any]]:
    return nn.Conv2d(1, 2, 3), FACTS


def large() -> tuple[nn.Module, dict[str, Any]]:
    facts = {**FACTS, "input_size": (3, 64, 64)}
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 10)), facts
