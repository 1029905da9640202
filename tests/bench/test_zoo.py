"""What the shipped zoo is good for, measured."""

import json
from collections.abc import Iterator
from dataclasses import asdict

import pytest
import torch
from torch import Tensor

from assay.attacks import PGD, evaluate
from assay.bench.data import load as load_data
from assay.bench.models import load
from assay.bench.zoo.recipes import RECIPES
from assay.explain import EXPLAINERS, Logit
from assay.explain.metrics import MassAccuracy
from assay.reports.run.intervals import estimate

ROBUST = ("repvgg-robust", "repvgg-fgsm", "repvgg-trades")
CONVOLUTIONAL = ("repvgg", "resnet", "efficientnet", "convnext", *ROBUST)
ATTENTION = ("vit", "hybrid")
BATCH = 100


def pictures(spec: str, n: int) -> tuple[Tensor, Tensor, Tensor]:
    data = load_data(spec).take(n)
    examples = [data.example(i, {"masks"}) for i in range(len(data))]
    masks = torch.stack([e.mask for e in examples if e.mask is not None])
    return torch.stack([e.image for e in examples]), torch.tensor([e.label for e in examples]), masks


def batches(images: Tensor, labels: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH], labels[start : start + BATCH]


def accuracy(name: str, spec: str, n: int) -> float:
    model = load(f"zoo:{name}")
    images, labels, _ = pictures(spec, n)
    with torch.no_grad():
        right = [model(x).argmax(1) == y for x, y in batches(images, labels)]
    return torch.cat(right).float().mean().item()


def robust_accuracy(name: str, n: int, steps: int = 40) -> float:
    model, attack = load(f"zoo:{name}"), PGD(eps=4 / 255, steps=steps)
    images, labels, _ = pictures("scenes", n)
    right = [evaluate(attack, model, x, y).logits.argmax(1) == y for x, y in batches(images, labels)]
    return torch.cat(right).float().mean().item()


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_nets_know_the_scenes(name: str) -> None:
    assert accuracy(name, "scenes", 100) >= 0.95


@pytest.mark.parametrize("name", ATTENTION)
def test_nets_with_attention_know_the_scenes(name: str) -> None:
    assert accuracy(name, "scenes", 100) >= 0.85


def test_the_shortcut_twin_follows_the_background() -> None:
    assert accuracy("repvgg-shortcut", "scenes?shortcut=agrees", 100) >= 0.95
    assert accuracy("repvgg-shortcut", "scenes?shortcut=lies", 100) <= 0.4
    assert accuracy("repvgg", "scenes?shortcut=lies", 100) >= 0.95


def test_the_robust_twins_stand_where_their_sibling_falls() -> None:
    assert robust_accuracy("repvgg", 20) <= 0.1
    for name in ROBUST:
        assert robust_accuracy(name, 20) >= 0.5


def test_explanations_of_the_residual_net_beat_the_controls() -> None:
    """Intervals of mass accuracy do not touch those of the best control."""
    model = load("zoo:resnet")
    images, labels, masks = pictures("scenes", 60)
    intervals = {}
    for name in ("guided-backprop", "grad-cam", "random-map", "sobel-map", "center-map"):
        heat = EXPLAINERS.parse(name)(model, images, Logit(labels), draws=0)
        share = MassAccuracy()(model, images, Logit(labels), heat, masks=masks)
        intervals[name] = estimate(share.numpy(), key=name)
    best_control = max(intervals[name].high for name in ("random-map", "sobel-map", "center-map"))
    assert intervals["grad-cam"].low > best_control
    assert intervals["guided-backprop"].low > best_control


@pytest.mark.parametrize("name", RECIPES)
def test_cards_tell_the_recipe(name: str) -> None:
    recipe = json.loads(json.dumps(asdict(RECIPES[name])))
    card = load(f"zoo:{name}").card
    assert {key: card[key] for key in recipe if key in card} == {
        k: v for k, v in recipe.items() if k != "channels_last"
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", [*CONVOLUTIONAL, *ATTENTION])
def test_the_whole_test_split(name: str) -> None:
    assert accuracy(name, "scenes", 1000) >= (0.85 if name in ATTENTION else 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["repvgg", "resnet", "efficientnet", "convnext", "vit", "hybrid", "mlp", "linear"])
def test_standard_nets_fall_to_pgd(name: str) -> None:
    assert robust_accuracy(name, 200) <= 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ROBUST)
def test_the_robust_twins_stand(name: str) -> None:
    assert robust_accuracy(name, 200) >= 0.7
