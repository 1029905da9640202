"""One number per image, against the definitions."""

import pytest
import torch
from torch import Tensor, nn

from assay.core import layers
from assay.core.targets import (
    Channel,
    CodeDistance,
    GramDistance,
    LayerNorm2,
    Logit,
    Margin,
    Neuron,
    Probability,
    Target,
    gradient,
    gram,
)
from tests.explain.models import CLASSES, pictures, small_cnn

CHOSEN = torch.tensor([0, 1, 2, 3])


@pytest.fixture
def model() -> nn.Module:
    return small_cnn().eval()


def code(model: nn.Module) -> Tensor:
    return layers.activations(model, pictures(), "body").detach()


def test_numbers_of_classes(model: nn.Module) -> None:
    logits = model(pictures())
    rows = torch.arange(4)
    torch.testing.assert_close(Logit(CHOSEN)(model, pictures()), logits[rows, CHOSEN])
    torch.testing.assert_close(Logit(3)(model, pictures()), logits[:, 3])
    torch.testing.assert_close(Probability(CHOSEN)(model, pictures()), logits.softmax(1)[rows, CHOSEN])
    margin = Margin(CHOSEN)(model, pictures())
    for i in range(4):
        others = [logits[i, k] for k in range(CLASSES) if k != CHOSEN[i]]
        assert margin[i] == logits[i, CHOSEN[i]] - max(others)


def test_targets_add_and_scale_without_changing_each_other(model: nn.Module) -> None:
    one, other = Logit(CHOSEN), Channel("body", 2)
    first, second = one(model, pictures()), other(model, pictures())
    for made, expected in (
        (one + other, first + second),
        (one - 2 * other, first - 2 * second),
        (-(one - other) * 0.5, (second - first) / 2),
    ):
        torch.testing.assert_close(made(model, pictures()), expected)
    torch.testing.assert_close(one(model, pictures()), first)


@pytest.mark.parametrize("index", [torch.tensor([False, True, True, False]), torch.tensor([2, 2, 0])])
@pytest.mark.parametrize(
    "target", [Logit(CHOSEN), Logit(1), Probability(CHOSEN) - 0.5 * Logit(2), Neuron("body", 1, 0, 3)]
)
def test_an_index_picks_the_images(model: nn.Module, target: Target, index: Tensor) -> None:
    torch.testing.assert_close(target[index](model, pictures()[index]), target(model, pictures())[index])


def test_units_are_read_off_the_layer(model: nn.Module) -> None:
    features = code(model)
    torch.testing.assert_close(Channel("body", 2)(model, pictures()), features[:, 2].mean((1, 2)))
    torch.testing.assert_close(Neuron("body", 1, 0, 3)(model, pictures()), features[:, 1, 0, 3])
    torch.testing.assert_close(LayerNorm2("body")(model, pictures()), features.square().sum((1, 2, 3)) / 2)


def test_code_distance_is_zero_at_the_code_and_one_at_nothing(model: nn.Module) -> None:
    torch.testing.assert_close(CodeDistance("body", code(model))(model, pictures()), torch.zeros(4))
    silent = small_cnn().eval()
    for parameter in silent.parameters():
        nn.init.zeros_(parameter)
    torch.testing.assert_close(CodeDistance("body", code(model))(silent, pictures()), torch.ones(4))


def test_gram_distance_has_gatys_identities(model: nn.Module) -> None:
    features = code(model)
    shuffled = features.flatten(2)[:, :, torch.randperm(features[0, 0].numel())].view_as(features)
    torch.testing.assert_close(gram(features), gram(shuffled), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gram(features), gram(features).transpose(1, 2))
    names, sample = ("body", "stem"), pictures()[:1]
    grams = tuple(gram(a)[0].detach() for a in layers.many_activations(model, sample, names))
    torch.testing.assert_close(GramDistance(names, grams)(model, sample), torch.zeros(1))
    empty = tuple(torch.zeros_like(g) for g in grams)
    expected = sum(
        gram(a).square().sum((1, 2)) / (4 * a.shape[1] ** 2) for a in layers.many_activations(model, sample, names)
    )
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(GramDistance(names, empty)(model, sample), expected)


def test_a_stopped_pass_gives_the_whole_networks_activations(model: nn.Module) -> None:
    with layers.record(model, "body") as outputs:
        model(pictures())
    assert torch.equal(outputs["body"], layers.activations(model, pictures(), "body"))


def test_the_gradient_is_that_of_each_image_alone(model: nn.Module) -> None:
    together = gradient(Logit(CHOSEN), model, pictures())
    for i in range(4):
        alone = gradient(Logit(CHOSEN[[i]]), model, pictures()[[i]])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-6)
