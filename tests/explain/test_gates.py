"""The guided rule, against hand-worked gradients and the definition."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.targets import Logit
from assay.explain import Deconvnet, GuidedBackprop, GuidedGradCAM, Saliency
from assay.explain.gates import Activations, Gates, Rule
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
    "clamp": lambda x: x.clamp(min=0),
    "torch.clamp": lambda x: torch.clamp(x, 0),
    "clamp in place": lambda x: x.clamp_(min=0.0),
    "clip": lambda x: x.clip(0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clamp_min in place": lambda x: torch.clamp_min_(x, 0),
    "maximum": lambda x: torch.maximum(x, torch.zeros(())),
    "max": lambda x: torch.max(x, torch.zeros_like(x)),
    "threshold": nn.Threshold(0, 0),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where as a method": lambda x: x.where(x > 0, torch.zeros(())),
    "mask": lambda x: x * (x > 0),
    "mask of numbers": lambda x: (x > 0).float() * x,
    "aten": torch.ops.aten.relu.default,
}
RULES: tuple[Rule, ...] = ("plain", "guided", "deconvnet")
X = torch.tensor([-1.0, 0.0, 2.0, 3.0, 9.0])
WEIGHT = torch.tensor([1.0, 1.0, 1.0, -1.0, 2.0])


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu with tanh": nn.GELU("tanh"),
    "silu": F.silu,
    "silu in place": nn.SiLU(inplace=True),
    "mish": nn.Mish(),
    "hardswish in place": nn.Hardswish(inplace=True),
    "leaky relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky relu in place": lambda x: F.leaky_relu_(x, 0.2),
    "prelu": lambda x: F.prelu(x, torch.tensor([0.3])),
    "elu in place": nn.ELU(inplace=True),
    "selu": nn.SELU(),
    "celu": lambda x: torch.celu(x, 1.5),
    "softplus": nn.Softplus(),
    "hardtanh": nn.Hardtanh(-2, 2),
}


def passed(activation: Callable[[Tensor], Tensor], gates: Gates) -> Tensor:
    x = X.clone().requires_grad_(True)
    with gates:
        result = (activation(x * 1) * WEIGHT).sum()
    (gradient,) = torch.autograd.grad(result, x, retain_graph=True)
    return gradient


def guided(relu: Callable[[Tensor], Tensor]) -> Tensor:
    x = X.clone().requires_grad_(True)
    with Gates(rule="guided") as gates:
        (gradient,) = torch.autograd.grad((relu(x * 1) * WEIGHT).sum(), x)
    assert gates.gated == gates.calls == 1
    return gradient


@pytest.mark.parametrize("relu", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_is_gated(relu: Callable[[Tensor], Tensor]) -> None:
    assert guided(relu).tolist() == [0, 0, 1, 0, 2]


@pytest.mark.parametrize("relu", [*SPELLINGS.values(), F.relu6], ids=[*SPELLINGS, "relu6"])
def test_deconvnet_looks_at_the_gradient_alone(relu: Callable[[Tensor], Tensor]) -> None:
    assert passed(relu, Gates(rule="deconvnet")).tolist() == [1, 1, 1, 0, 2]


@pytest.mark.parametrize("relu", [*SPELLINGS.values(), F.relu6], ids=[*SPELLINGS, "relu6"])
def test_the_plain_rule_is_the_derivative(relu: Callable[[Tensor], Tensor]) -> None:
    x = X.clone().requires_grad_(True)
    (plain,) = torch.autograd.grad((relu(x * 1) * WEIGHT).sum(), x)
    assert torch.equal(passed(relu, Gates()), plain)


@pytest.mark.parametrize("activation", SMOOTH.values(), ids=SMOOTH)
def test_the_generalised_rules(activation: Callable[[Tensor], Tensor]) -> None:
    """a'(x) g where x > 0 and g > 0; g where g > 0; and nothing but the derivative unless ``activations="all"``."""
    x = X.clone().requires_grad_(True)
    expected = activation(x * 1).detach()
    (slope,) = torch.autograd.grad(activation(x * 1).sum(), x)
    torch.testing.assert_close(passed(activation, Gates("all")), slope * WEIGHT)
    torch.testing.assert_close(passed(activation, Gates("all", "guided")), slope * WEIGHT * (X > 0) * (WEIGHT > 0))
    assert torch.equal(passed(activation, Gates("all", "deconvnet")), WEIGHT.clamp(min=0))
    assert torch.equal(passed(activation, Gates("relu", "guided")), slope * WEIGHT)
    with Gates("all") as gates:
        values = X * 1
        result = activation(values)
    assert (gates.gated, gates.calls) == (1, 1)
    assert torch.equal(result, expected)
    assert (result is values) == (activation(other := X * 1) is other)


@pytest.mark.parametrize("relu", SPELLINGS.values(), ids=SPELLINGS)
@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_on_relu_the_generalised_rules_are_the_published_ones(relu: Callable[[Tensor], Tensor], rule: Rule) -> None:
    assert torch.equal(passed(relu, Gates("all", rule)), passed(relu, Gates("relu", rule)))


def test_rules_switch_between_backward_passes_of_one_forward() -> None:
    x = X.clone().requires_grad_(True)
    with Gates("all") as gates:
        value = ((F.relu(x) + F.silu(x)) * WEIGHT).sum()
    (slope,) = torch.autograd.grad(F.silu(x).sum(), x)
    plain, silu = WEIGHT * (X > 0), slope * WEIGHT
    both = (X > 0) & (WEIGHT > 0)
    expected: list[tuple[Rule, Activations, Tensor]] = [
        ("guided", "relu", WEIGHT * both + silu),
        ("plain", "relu", plain + silu),
        ("guided", "all", (WEIGHT + silu) * both),
        ("deconvnet", "relu", WEIGHT.clamp(min=0) + silu),
        ("deconvnet", "all", 2 * WEIGHT.clamp(min=0)),
    ]
    for rule, activations, gradient in expected:
        gates.switch(rule, activations)
        torch.testing.assert_close(torch.autograd.grad(value, x, retain_graph=True)[0], gradient)


@pytest.mark.parametrize("relu", [F.relu6, nn.ReLU6(), nn.ReLU6(inplace=True), nn.Hardtanh(0, 6)])
def test_a_ceiling_stops_the_gradient_too(relu: Callable[[Tensor], Tensor]) -> None:
    assert guided(relu).tolist() == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("relu", [*SPELLINGS.values(), F.relu6, nn.ReLU6(inplace=True)])
def test_values_and_places_are_those_of_the_real_call(relu: Callable[[Tensor], Tensor]) -> None:
    plain, gated = X.clone(), X.clone()
    expected = relu(plain)
    with Gates(rule="guided"):
        result = relu(gated)
    assert torch.equal(result, expected)
    assert torch.equal(gated, plain)
    assert (result.data_ptr() == gated.data_ptr()) == (expected.data_ptr() == plain.data_ptr())


def test_writing_into_a_view_reaches_its_base() -> None:
    x = torch.tensor([[-1.0, 2.0], [3.0, -4.0]]).requires_grad_(True)
    with Gates(rule="guided"):
        y = x * 1
        y[:, 0].relu_()
        (gradient,) = torch.autograd.grad((y * torch.tensor([[1.0, -2.0], [5.0, -3.0]])).sum(), x)
    assert y.tolist() == [[0, 2], [3, -4]]
    assert gradient.tolist() == [[0, -2], [5, -3]]


def test_a_reused_relu_is_gated_at_each_call() -> None:
    relu, x = nn.ReLU(), torch.tensor([1.0, 1.0], requires_grad=True)
    with Gates(rule="guided") as gates:
        (gradient,) = torch.autograd.grad((relu(-2 * relu(x) + 3) * torch.tensor([1.0, -1.0])).sum(), x)
    assert gradient.tolist() == [0, 0]
    assert gates.gated == 2


def test_a_skip_path_keeps_its_gradient() -> None:
    """The definition gives [-2, -1]; captum, which clamps the summed gradient at h, gives [0, 0] and [1, 0]."""
    h = torch.ones(2, requires_grad=True)
    with Gates() as gates:
        value = (F.relu(h) * torch.tensor([1.0, -2.0]) + h * torch.tensor([-3.0, -1.0])).sum()
    for rule in RULES:
        gates.switch(rule)
        (gradient,) = torch.autograd.grad(value, h, retain_graph=True)
        assert gradient.tolist() == [-2, -1 if rule != "plain" else -3]


def test_other_activations_are_counted_and_left_alone() -> None:
    x = X.clone().requires_grad_(True)
    with Gates(rule="guided") as gates:
        value = F.gelu(F.relu(x)) + F.hardtanh(x) + F.silu(x) + torch.sigmoid(x)
    assert (gates.gated, gates.calls) == (1, 4)
    assert torch.equal(value, F.gelu(F.relu(x)) + F.hardtanh(x) + F.silu(x) + torch.sigmoid(x))


def test_nothing_stays_after_the_block() -> None:
    with Gates(rule="guided"):
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
    for explainer in (GuidedBackprop(), Deconvnet(), GuidedGradCAM()):
        assert explainer.flags(model, pictures()) == flags
    assert Saliency().flags(model, pictures()) == ""


def test_the_generalised_rule_reaches_all() -> None:
    model, target = network(nn.GELU(), nn.SiLU()), Logit(2)
    assert Deconvnet(activations="all").flags(model, pictures()) == ""
    assert GuidedBackprop(activations="all").flags(network(), pictures()) == "gates=0.00"
    plain, all_guided = (one(model, pictures(), target) for one in (Saliency(), GuidedBackprop(activations="all")))
    assert not torch.allclose(plain, all_guided)


def test_without_relu_guided_is_saliency() -> None:
    model, target = network(nn.GELU(), nn.SiLU()), Logit(2)
    assert torch.equal(GuidedBackprop()(model, pictures(), target), Saliency()(model, pictures(), target))
    model = network(nn.ReLU(), nn.ReLU())
    assert not torch.allclose(GuidedBackprop()(model, pictures(), target), Saliency()(model, pictures(), target))
