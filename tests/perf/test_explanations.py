"""What explanations cost beside the best bare passes, beside captum, and in memory."""

import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import captum.attr
import pytest
from torch import Tensor, nn

from assay.core.layers import find
from assay.explain import Deconvnet, GradCAM, GuidedBackprop, InputXGradient, Occlusion, Saliency, together
from tests.perf.test_overhead import forwards, measure, network

pytestmark = pytest.mark.perf
LAYER = "body.layer4"


@pytest.mark.parametrize("what", ["bare, 16 at a time", "bare, 32 at a time", "bare, 80 at a time", "Occlusion"])
def test_occlusion(benchmark: Any, what: str, repeat: int) -> None:
    """Wanted: at most 1.05 times the best bare batch size."""
    model, images, labels = network()
    count = len(images) * (1 + 7 * 7)  # 48 pixels beyond the window in steps of 8, both ends included
    work: Callable[[], object] = lambda: Occlusion(window=16, stride=8)(model, images, labels)  # noqa: E731
    if what.startswith("bare"):
        size = int(what.split()[1])
        samples = images.repeat(size // len(images), 1, 1, 1)
        work = lambda: forwards(model, samples, count // size)  # noqa: E731
    measure(benchmark, "occlusion", what, work)


@pytest.mark.parametrize("what", ["captum, five calls", "together"])
@pytest.mark.parametrize("arch", ["resnet18", "vit_tiny_patch16_224"])
def test_a_family_of_gradients(benchmark: Any, arch: str, what: str, repeat: int) -> None:
    """Saliency, input x gradient, guided, deconvnet and Grad-CAM. Wanted: at most half."""
    model, images, labels = network(arch)
    layer = LAYER if arch == "resnet18" else "body.blocks.11.norm1"
    explainers = [Saliency(), InputXGradient(), GuidedBackprop(), Deconvnet(), GradCAM(layer=layer)]
    work: Callable[[], object] = lambda: together(explainers, model, images, labels)  # noqa: E731
    if what.startswith("captum"):
        work = lambda: by_captum(model, layer, images, labels)  # noqa: E731
    measure(benchmark, f"gradients on {arch}", what, work)


def by_captum(model: nn.Module, layer: str, images: Tensor, labels: Tensor) -> None:
    model.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("Saliency", "InputXGradient", "GuidedBackprop", "Deconvolution"):
            getattr(captum.attr, name)(model).attribute(images.clone().requires_grad_(True), target=labels)
        captum.attr.LayerGradCam(model, find(model, layer)).attribute(
            images.clone().requires_grad_(True), target=labels
        )


PROGRAM = """
import resource, torch
from assay.core.targets import Logit, gradient
from assay.explain import IntegratedGradients
from tests.perf.test_overhead import network
model, images, _ = network()
images, target = torch.rand(64, 3, 64, 64), Logit(torch.zeros(64, dtype=torch.int64))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
gradient(target[torch.arange(4)], model, images[:4])
before = peak()
{}
print(peak() - before)
"""


def added(work: str) -> float:
    """MiB by which the largest memory of a fresh process grows."""
    return float(subprocess.run([sys.executable, "-c", PROGRAM.format(work)], check=True, capture_output=True).stdout)


@pytest.mark.parametrize("batch", [8, 64])
def test_memory_of_integrated_gradients_is_that_of_one_batch(batch: int, record_property: Any) -> None:
    """64 images and 50 steps hold little more than one bare pass of ``batch`` images, and the images themselves."""
    pass_ = added(f"gradient(target[torch.arange({batch})], model, images[:{batch}])")
    whole = added(f"IntegratedGradients(steps=50, batch={batch})(model, images, target)")
    record_property("MiB", (pass_, whole))
    assert whole < 1.25 * pass_ + 16 * images_in_mib()


def images_in_mib() -> float:
    return 64 * 3 * 64 * 64 * 4 / 2**20
