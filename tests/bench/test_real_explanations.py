"""Explanations of published weights on photographs, where they are there: against masks, and against captum."""

import sys
import warnings
from typing import Any, NamedTuple

import captum.attr
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor

from assay.bench.models import Subject, load
from assay.core.borrow import evaluating
from assay.core.layers import find
from assay.core.probe import default_layer
from assay.explain import GradCAM, InputXGradient, IntegratedGradients, RandomMap, Saliency
from assay.explain.metrics import MassAccuracy, PointingGame
from tests.bench.real import REAL, needed

pytestmark = pytest.mark.real
SIDE = 224


class Masked(NamedTuple):
    """Photographs with masks and, of the classes that name the object, the one the model finds likeliest."""

    model: Subject
    images: Tensor
    masks: Tensor
    classes: Tensor


@pytest.fixture(scope="module")
def masked() -> Masked:
    table = pd.read_csv(needed(REAL / "images" / "coco_masks.csv"))
    folder = REAL / "images" / "coco_masks"
    pictures = [Image.open(folder / name).convert("RGB").resize((SIDE, SIDE)) for name in table["image"]]
    shapes = [
        Image.open(folder / name).convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST) for name in table["mask"]
    ]
    images = torch.stack([torch.from_numpy(np.array(one)).permute(2, 0, 1).float() / 255 for one in pictures])
    masks = torch.stack([torch.from_numpy(np.array(one)) > 127 for one in shapes])
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REAL))
        patch.setattr(sys, "dont_write_bytecode", True)
        model = load("py:subjects:mobilenetv2_100")
    with torch.no_grad():
        logits = model(images)
    known = [torch.tensor([int(i) for i in str(row).split()]) for row in table["imagenet_indices"]]
    classes = torch.stack([one[logits[i, one].argmax()] for i, one in enumerate(known)])
    return Masked(model, images, masks, classes)


def test_grad_cam_points_at_the_object(masked: Masked) -> None:
    model, images, masks, classes = masked
    heat, chance = GradCAM()(model, images, classes), masks.float().mean().item()
    given = model, images, classes, heat
    assert PointingGame()(*given, masks=masks).mean() > 1.3 * chance
    assert PointingGame(tolerance=15)(*given, masks=masks).mean() > 2 * chance
    assert MassAccuracy()(*given, masks=masks).mean() > 1.2 * chance
    blind = RandomMap()(model, images, classes)
    assert MassAccuracy()(model, images, classes, blind, masks=masks).mean().item() == pytest.approx(chance, abs=0.02)


def test_captum_gives_the_same_maps(masked: Masked) -> None:
    """Guided backpropagation aside: captum's does not know ReLU6, the only activation here."""
    model, images, classes = masked.model, masked.images[:2], masked.classes[:2]
    layer = default_layer(model, images)

    def by_captum(name: str, **more: Any) -> Tensor:
        with warnings.catch_warnings(), evaluating(model):
            warnings.simplefilter("ignore")
            method = getattr(captum.attr, name)(*([model, find(model, layer)] if "Layer" in name else [model]))
            found: Tensor = method.attribute(images.clone().requires_grad_(True), target=classes, **more).detach()
        return found

    cam = by_captum("LayerGradCam", relu_attributions=True)
    large = torch.nn.functional.interpolate(cam, (SIDE, SIDE), mode="bilinear", align_corners=False).squeeze(1)
    pairs = [
        (Saliency(), by_captum("Saliency").amax(1)),
        (InputXGradient(), by_captum("InputXGradient").sum(1)),
        (IntegratedGradients(steps=10), by_captum("IntegratedGradients", n_steps=10).sum(1)),
        (GradCAM(), large),
    ]
    for ours, theirs in pairs:
        heat, size = ours(model, images, classes), theirs.abs().amax().item()
        assert (heat - theirs).abs().max().item() <= 1e-5 * size, repr(ours)
