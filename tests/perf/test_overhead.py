"""What a method costs beyond its bare forward and backward passes.

The bare side runs the same number of passes on the same images with frozen parameters, and nothing else.
"""

from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import APGD, DDN, FGSM, MIFGSM, PGD
from assay.core.borrow import counting, evaluating
from assay.explain import GradCAM, GuidedBackprop, Saliency

pytestmark = pytest.mark.perf
STEPS = 10


class Steadfast(nn.Module):
    """A network that is always right, so that no image ever leaves the batch of an attack."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits + 100 * F.one_hot(torch.zeros(len(logits), dtype=torch.int64), logits.shape[1])


def network(arch: str = "resnet18") -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    body, size = timm.create_model(arch, num_classes=10), 224 if arch.startswith("vit") else 64
    count = 2 if size == 224 else 16
    return Steadfast(body).eval(), torch.rand(count, 3, size, size), torch.zeros(count, dtype=torch.int64)


def passes(model: nn.Module, images: Tensor, labels: Tensor, count: int) -> None:
    with evaluating(model):
        for _ in range(count):
            x = images.detach().requires_grad_(True)
            torch.autograd.grad(F.cross_entropy(model(x), labels, reduction="sum"), x)


def forwards(model: nn.Module, images: Tensor, count: int) -> None:
    with torch.no_grad():
        for _ in range(count):
            model(images)


def measure(benchmark: Any, group: str, what: str, work: Callable[[], object]) -> None:
    benchmark.group, benchmark.extra_info["what"] = group, what
    benchmark.pedantic(work, rounds=2, warmup_rounds=1)


ATTACKS = {
    "FGSM": FGSM(eps=1 / 255),
    "PGD": PGD(eps=1 / 255, steps=STEPS),
    "MI-FGSM": MIFGSM(eps=1 / 255, steps=STEPS),
    "APGD": APGD(eps=1 / 255, steps=STEPS),
    "DDN": DDN(steps=STEPS),
}


@pytest.mark.parametrize("side", ["bare", "attack"])
@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_attacks(benchmark: Any, arch: str, name: str, side: str, repeat: int) -> None:
    """The bare side makes as many passes as the attack was seen to make."""
    model, images, labels = network(arch)
    attack = ATTACKS[name]
    with counting(model) as seen:
        attack(model, images, labels)
    back, ahead = seen.backwards // len(images), seen.forwards // len(images)

    def bare() -> None:
        passes(model, images, labels, back)
        forwards(model, images, ahead - back)

    work = bare if side == "bare" else lambda: attack(model, images, labels)
    measure(benchmark, f"{name} on {arch}", "bare" if side == "bare" else name, work)


@pytest.mark.parametrize("what", ["bare", "Saliency", "GuidedBackprop", "GradCAM"])
def test_one_gradient(benchmark: Any, what: str, repeat: int) -> None:
    model, images, labels = network()
    methods = {"Saliency": Saliency(), "GuidedBackprop": GuidedBackprop(), "GradCAM": GradCAM(layer="body.layer4")}
    if what == "bare":
        measure(benchmark, "one gradient", what, lambda: passes(model, images, labels, 1))
    else:
        measure(benchmark, "one gradient", what, lambda: methods[what](model, images, labels))
