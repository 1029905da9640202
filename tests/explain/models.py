"""Small models and pictures that the tests of explanations share."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.errors import NotApplicable
from assay.explain.base import Explainer

SIZE = 24
CLASSES = 5


class SmallCNN(nn.Module):
    """Batch norm, dropout, an in-place and a functional ReLU, average pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.body = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.head = nn.Linear(12, CLASSES)

    def features(self, images: Tensor) -> Tensor:
        return F.relu(self.body(self.dropout(self.stem(images))))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).mean((2, 3)))
        return logits


class Rectify(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return F.relu(values)


class Pooled(SmallCNN):
    """Its last grid, behind the functional ReLU, is a layer, and every class has channels for it: what maps need."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.head.weight.add_(0.1)
        self.last = Rectify()

    def features(self, images: Tensor) -> Tensor:
        grid: Tensor = self.last(self.body(self.dropout(self.stem(images))))
        return grid


class Tripping(Pooled):
    """Fails once the features are there."""

    def forward(self, images: Tensor) -> Tensor:
        self.features(images)
        raise RuntimeError("tripped")


def small_cnn(cls: type[SmallCNN] = SmallCNN) -> SmallCNN:
    """In train mode, one parameter frozen, batch statistics that matter: what a careless borrower would lose."""
    torch.manual_seed(0)
    model = cls()
    norm = model.stem[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 1.5)
    model.head.bias.requires_grad_(False)
    return model


def small_vit() -> nn.Module:
    """Patches of 4 pixels, a class token, two blocks; in train mode, one parameter frozen."""
    torch.manual_seed(0)
    settings = {"img_size": SIZE, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": CLASSES}
    model: nn.Module = VisionTransformer(**settings)
    head = model.get_submodule("head")
    assert isinstance(head, nn.Linear)
    nn.init.normal_(head.weight, std=0.5)
    head.bias.requires_grad_(False)
    return model


def suited(explainer: Explainer) -> nn.Module:
    """A new one of the first kind of small network on which the method has a meaning."""
    return _maker(explainer)()


@cache
def _maker(explainer: Explainer) -> Callable[[], nn.Module]:
    for make in (lambda: small_cnn(Pooled), small_vit):
        with suppress(NotApplicable):
            explainer(make(), pictures(1), torch.tensor([0]))
            return make
    raise AssertionError(f"{explainer} has no meaning on any small network")


class Linear(nn.Module):
    """Logits w x + b, the weight seen as (K, C, H, W) in ``w``."""

    def __init__(self, shape: Sequence[int] = (3, 8, 8), classes: int = 3) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.w = nn.Parameter(torch.randn(classes, *shape))
        self.b = nn.Parameter(torch.randn(classes))

    def forward(self, images: Tensor) -> Tensor:
        return torch.einsum("nchw,kchw->nk", images, self.w) + self.b


def pictures(n: int = 4, size: int = SIZE, seed: int = 0) -> Tensor:
    """(n, 3, size, size) in [0, 1]: noise under a bright square, another place each."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, size, size, generator=generator) * 0.6
    for i, image in enumerate(images):
        at = (5 * i + 2) % (size // 2)
        image[:, at : at + size // 3, at : at + size // 3] += 0.4
    return images


def in_batches(rows: Tensor, size: int) -> list[Tensor]:
    """Slices of at most so many rows."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def built(name: str, **settings: Any) -> nn.Module:
    """A timm architecture with random weights, ten classes, eval mode; a head that starts at zero is drawn anew."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, num_classes=10, **settings).eval()
    for module in model.modules():
        if isinstance(module, nn.Linear) and module.out_features == 10 and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return model


def choices_of(record: object) -> list[tuple[str, tuple[Any, ...]]]:
    """The settings of a record that take one of a few words, with these words."""
    hints = get_type_hints(type(record)).items()
    return [(name, get_args(hint)) for name, hint in hints if get_origin(hint) is Literal]


def state(model: nn.Module) -> dict[str, Any]:
    """Everything a method could leave behind on a model, comparable with ``==``."""
    return {
        "hooks": [
            [len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks)]
            for module in model.modules()
        ],
        "training": [module.training for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in model.parameters()],
        "grad": [parameter.grad is None for parameter in model.parameters()],
        "values": {name: value.tolist() for name, value in model.state_dict().items()},
    }
