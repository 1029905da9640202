"""Equality with captum on timm architectures of different kinds, random weights."""

import warnings
from typing import Any

import captum.attr
import pytest
import torch
from captum._utils.gradient import compute_layer_gradients_and_eval
from torch import Tensor, nn

from core.layers import default_layer, find, find_layout, to_grid
from explain import GradCAM, GuidedBackprop, Occlusion, Saliency
from tests.explain.models import built, pictures

LABELS = torch.tensor([3, 8])
SWIN = {"img_size": 64, "embed_dim": 24, "depths": (1, 2), "num_heads": (2, 4), "window_size": 4}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_byobnet": {},
    "test_efficientnet": {},
    "test_convnext": {},
    "test_nfnet": {},
    "test_mambaout": {},
    "test_vit": {"img_size": 64},
    "test_vit3": {"img_size": 64},
    "swin_tiny_patch4_window7_224": SWIN,
}


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    return built(request.param, **ARCHITECTURES[request.param])


def images() -> Tensor:
    return pictures(2, size=64)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-5 of the map's largest value."""
    scale = theirs.abs().max()
    assert scale > 0
    torch.testing.assert_close(ours / scale, theirs.detach() / scale, rtol=0, atol=1e-5)


def test_saliency(model: nn.Module) -> None:
    theirs = captum.attr.Saliency(model).attribute(images().requires_grad_(True), target=LABELS)
    assert_same(Saliency()(model, images(), LABELS), theirs.amax(1))


def test_guided_backprop(model: nn.Module) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.attr.GuidedBackprop(model).attribute(images(), target=LABELS)
    assert_same(GuidedBackprop()(model, images(), LABELS), theirs.abs().amax(1))


@pytest.mark.parametrize(("name", "flags"), [("test_resnet", ""), ("test_byobnet", ""), ("test_vit", "gates=0.00")])
def test_the_guided_rule_is_at_work_where_the_flags_say_so(name: str, flags: str) -> None:
    model = built(name, **ARCHITECTURES[name])
    assert GuidedBackprop().flags(model, images()) == flags
    guided, plain = (explainer(model, images(), LABELS) for explainer in (GuidedBackprop(), Saliency()))
    assert torch.equal(guided, plain) == bool(flags)


@pytest.mark.parametrize(("window", "stride"), [(32, 32), (24, 16)])
def test_occlusion(model: nn.Module, window: int, stride: int) -> None:
    theirs = captum.attr.Occlusion(model).attribute(
        images(), (3, window, window), strides=(3, stride, stride), target=LABELS, baselines=0, perturbations_per_eval=4
    )
    assert torch.equal(theirs[:, 0], theirs[:, 2])
    ours = Occlusion(window=window, stride=stride, baseline="zero")(model, images(), LABELS)
    assert_same(ours, theirs[:, 0])


def test_grad_cam(model: nn.Module) -> None:
    name = default_layer(model, images())
    layer = find(model, name)
    gradients, activations = compute_layer_gradients_and_eval(model, layer, images(), LABELS)
    layout = find_layout(model, name, activations[0], images())
    if layout.order == "nchw":
        cam = captum.attr.LayerGradCam(model, layer).attribute(images(), target=LABELS, relu_attributions=True)
    else:
        gradient, activation = (to_grid(values[0], layout) for values in (gradients, activations))
        cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
    theirs = captum.attr.LayerAttribution.interpolate(cam, (64, 64), "bilinear").squeeze(1)
    assert_same(GradCAM()(model, images(), LABELS), theirs)
    assert torch.equal(GradCAM()(model, images(), LABELS), GradCAM(layer=name)(model, images(), LABELS))
