"""What syntheses cost beyond bare forward and backward passes that end at the deepest layer needed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from assay.core.borrow import evaluating
from assay.core.layers import activations
from assay.core.targets import LayerNorm2, Logit
from assay.synthesis import DeepDream, Invert, Visualize
from tests.perf.test_overhead import measure, network

pytestmark = pytest.mark.perf
STEPS = 10
LAYERS = {"resnet18": "body.layer2", "vit_tiny_patch16_224": "body.blocks.5"}


def passes(model: nn.Module, images: torch.Tensor, objective: Callable[[torch.Tensor], torch.Tensor]) -> None:
    with evaluating(model):
        for _ in range(STEPS):
            x = images.detach().requires_grad_(True)
            torch.autograd.grad(objective(x).sum(), x)


@pytest.mark.parametrize("what", ["bare", "method"])
@pytest.mark.parametrize("name", ["class", "channel", "invert", "dream"])
@pytest.mark.parametrize("arch", LAYERS)
def test_syntheses(benchmark: Any, arch: str, name: str, what: str, repeat: int) -> None:
    model, images, _ = network(arch)
    model.input_size = tuple(images.shape[1:])  # type: ignore[assignment]
    layer = LAYERS[arch]
    classes = torch.arange(len(images)) % 10
    channels = LayerNorm2(layer, torch.arange(len(images)))
    dream = DeepDream(layer=layer, octaves=1, steps=STEPS)
    methods: dict[str, Callable[[], object]] = {
        "class": lambda: Visualize(steps=STEPS)(model, Logit(classes)),
        "channel": lambda: Visualize(steps=STEPS)(model, channels),
        "invert": lambda: Invert(layer=layer, steps=STEPS)(model, images),
        "dream": lambda: dream(model, images),
    }
    objectives: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "class": lambda x: model(x).gather(1, classes[:, None]),
        "channel": lambda x: channels(model, x),
        "invert": lambda x: activations(model, x, layer).square(),
        "dream": lambda x: activations(model, x, layer).square(),
    }
    work = methods[name] if what == "method" else lambda: passes(model, images, objectives[name])
    measure(benchmark, f"{name} on {arch}", "bare" if what == "bare" else name, work)


@pytest.mark.parametrize("arch", LAYERS)
def test_the_floor_of_an_inversion(benchmark: Any, arch: str, repeat: int) -> None:
    """Its steps and the one forward pass for the code, which is paid once, however many steps follow."""
    model, images, _ = network(arch)
    layer = LAYERS[arch]

    def steps_and_code() -> None:
        with torch.no_grad():
            activations(model, images, layer)
        passes(model, images, lambda x: activations(model, x, layer).square())

    measure(benchmark, f"invert on {arch}", "steps and code", steps_and_code)
