"""The guided rule, against hand-worked gradients and the definition."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.targets import Logit
from explain import GuidedBackprop, Saliency
from explain.gates import GuidedReLU
from tests.explain.models import pictures, small_cnn

SPELLINGS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.relu": F.relu,
    "F.relu in place": lambda x: F.relu(x, inplace=True),
    "torch.relu": torch.relu,
    "torch.relu_": torch.relu_,
    "method": lambda x: x.relu(),
    "method in place": lambda x: x.relu_(),
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "module given by name": lambda x: torch.relu(input=x),
}
X = torch.tensor([-1.0, 0.0, 2.0, 3.0, 9.0])
WEIGHT = torch.tensor([1.0, 1.0, 1.0, -1.0, 2.0])


def guided(relu: Callable[[Tensor], Tensor]) -> Tensor:
    x = X.clone().requires_grad_(True)
    with GuidedReLU() as gates:
        (gradient,) = torch.autograd.grad((relu(x * 1) * WEIGHT).sum(), x)
    assert gates.gated == gates.calls == 1
    return gradient


@pytest.mark.parametrize("relu", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_gated(relu: Callable[[Tensor], Tensor]) -> None:
    assert guided(relu).tolist() == [0, 0, 1, 0, 2]


@pytest.mark.parametrize("relu", [F.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0, 6)])
def test_a_ceiling_stops_the_gradient_too(relu: Callable[[Tensor], Tensor]) -> None:
    assert guided(relu).tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("relu", [*SPELLINGS.values(), F.relu6, nn.ReLU6(inplace=True)])
def test_values_and_places_are_those_of_the_real_call(relu: Callable[[Tensor], Tensor]) -> None:
    plain, gated = X.clone(), X.clone()
    expected = relu(plain)
    with GuidedReLU():
        result = relu(gated)
    assert torch.equal(result, expected)
    assert torch.equal(gated, plain)
    assert (result.data_ptr() == gated.data_ptr()) == (expected.data_ptr() == plain.data_ptr())


def test_writing_into_a_view_reaches_its_base() -> None:
    x = torch.tensor([[-1.0, 2.0], [3.0, -4.0]]).requires_grad_(True)
    with GuidedReLU():
        y = x * 1
        y[:, 0].relu_()
        (gradient,) = torch.autograd.grad((y * torch.tensor([[1.0, -2.0], [5.0, -3.0]])).sum(), x)
    assert y.tolist() == [[0, 2], [3, -4]]
    assert gradient.tolist() == [[0, -2], [5, -3]]


def test_a_reused_relu_is_gated_at_each_call() -> None:
    relu, x = nn.ReLU(), torch.tensor([1.0, 1.0], requires_grad=True)
    with GuidedReLU() as gates:
        (gradient,) = torch.autograd.grad((relu(-2 * relu(x) + 3) * torch.tensor([1.0, -1.0])).sum(), x)
    assert gradient.tolist() == [0, 0]
    assert gates.gated == 2


def test_a_skip_path_keeps_its_gradient() -> None:
    """The definition gives [-2, -1]; clamping the summed gradient at the shared tensor would give [0, 0]."""
    h = torch.ones(2, requires_grad=True)
    with GuidedReLU():
        value = (F.relu(h) * torch.tensor([1.0, -2.0]) + h * torch.tensor([-3.0, -1.0])).sum()
        (gradient,) = torch.autograd.grad(value, h)
    assert gradient.tolist() == [-2, -1]


def test_other_activations_are_counted_and_left_alone() -> None:
    x = X.clone().requires_grad_(True)
    with GuidedReLU() as gates:
        value = F.gelu(F.relu(x)) + F.hardtanh(x) + F.silu(x) + torch.sigmoid(x)
    assert (gates.gated, gates.calls) == (1, 4)
    assert torch.equal(value, F.gelu(F.relu(x)) + F.hardtanh(x) + F.silu(x) + torch.sigmoid(x))


def test_nothing_stays_after_the_block() -> None:
    with GuidedReLU():
        pass
    x = X.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad((F.relu(x) * WEIGHT).sum(), x)
    assert gradient.tolist() == [0, 0, 1, -1, 2]


def network(*activations: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    layers = [layer for activation in activations for layer in (nn.Conv2d(3, 3, 3), activation)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        (network(nn.ReLU(), nn.ReLU6()), ""),
        (network(nn.ReLU(), nn.GELU(), nn.LeakyReLU()), "gates=0.33"),
        (network(nn.SiLU()), "gates=0.00"),
        (network(), "gates=0.00"),
        (small_cnn(), ""),
    ],
)
def test_flags_tell_the_share_of_gated_activations(model: nn.Module, flags: str) -> None:
    assert GuidedBackprop().flags(model, pictures()) == flags
    assert Saliency().flags(model, pictures()) == ""


def test_without_relu_guided_is_saliency() -> None:
    model, target = network(nn.GELU(), nn.SiLU()), Logit(2)
    assert torch.equal(GuidedBackprop()(model, pictures(), target), Saliency()(model, pictures(), target))
    model = network(nn.ReLU(), nn.ReLU())
    assert not torch.allclose(GuidedBackprop()(model, pictures(), target), Saliency()(model, pictures(), target))
