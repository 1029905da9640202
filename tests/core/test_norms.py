"""Gradients behind batch and instance norms, which torch 2.15 mixes up on a CPU where they arrive permuted."""

from collections.abc import Callable
from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from assay.core.borrow import evaluating

SHAPES = [
    (1, 8, 6, 6),
    (1, 8, 5, 7),
    (1, 8, 1, 6),
    (2, 8, 6, 1),
    (3, 4, 1, 7),
    (2, 1, 6, 6),
    (1, 16, 2, 2),
    (2, 8, 6, 6),
]
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "instance": lambda channels: nn.InstanceNorm2d(channels, affine=True, track_running_stats=True),
}


def norm(kind: str, channels: int) -> nn.Module:
    """In eval mode, with statistics and weights that are drawn."""
    module = NORMS[kind](channels).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        module.running_var.uniform_(0.01, 1, generator=generator)  # type: ignore[operator]
        module.weight.uniform_(0.5, 2, generator=generator)  # type: ignore[operator]
    return module


def as_strided(values: Tensor, order: tuple[int, ...]) -> Tensor:
    """The same values, stored in another order of dimensions."""
    return values.permute(order).contiguous().permute([order.index(i) for i in range(4)])


def wrong(module: nn.Module, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Orders of storage in which the gradient that arrives is not multiplied by weight / sqrt(variance + eps)."""
    factor = (module.weight / (module.running_var + module.eps).sqrt()).detach().view(1, -1, 1, 1)  # type: ignore
    images, gradient = torch.rand(shape), torch.rand(shape)
    wrong = []
    for stored in ((0, 1, 2, 3), (0, 2, 3, 1)):
        for order in permutations(range(4)):
            x = as_strided(images, stored).requires_grad_(True)
            (slope,) = torch.autograd.grad(module(x), x, as_strided(gradient, order))
            if not torch.allclose(slope, gradient * factor, rtol=1e-4, atol=1e-5):
                wrong.append(order)
    return wrong


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", NORMS)
def test_a_borrowed_norm_has_the_closed_form_of_its_gradient(kind: str, shape: tuple[int, ...]) -> None:
    with evaluating(norm(kind, shape[1])) as module:
        assert wrong(module, shape) == []


def test_torch_still_mixes_up_a_gradient_that_arrives_permuted() -> None:
    """Once this fails, ``core.norms`` and ``_Scripted``'s doubled image can go."""
    module = norm("batch", 8).requires_grad_(False)
    assert wrong(module, (1, 8, 6, 6)), f"torch {torch.__version__} needs no guard"


class Tokens(nn.Module):
    """A grid read as tokens with weights of their own, as levit and xcit do."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.stem, self.norm, self.head = nn.Conv2d(3, 8, 3, 2, 1), norm("batch", 8), nn.Linear(8, 5)
        self.weights = nn.Parameter(torch.randn(64, 8, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.norm(self.stem(images)).flatten(2).transpose(1, 2)
        logits: Tensor = self.head((tokens * self.weights).sum(1).tanh())
        return logits


def lone_difference(model: nn.Module) -> float:
    """How far the gradient of an image alone is from that in a batch of two, as a share of the largest."""
    pair = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    slopes = []
    for images in (pair, pair[1:]):
        x = images.clone().requires_grad_(True)
        slopes.append(torch.autograd.grad(model(x)[:, 0].sum(), x)[0][-1])
    return ((slopes[0] - slopes[1]).abs().amax() / slopes[0].abs().amax()).item()


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("change", [lambda model: model, torch.jit.script], ids=["module", "scripted"])
def test_an_image_alone_has_the_gradient_that_it_has_in_a_batch(change: Callable[[nn.Module], nn.Module]) -> None:
    with evaluating(change(Tokens().eval())) as model:
        assert lone_difference(model) < 1e-4
