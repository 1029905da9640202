"""Equality with captum on timm architectures of different kinds, random weights."""

import copy
import warnings
from typing import Any, Literal

import captum.attr
import pytest
import torch
from captum._utils.gradient import compute_layer_gradients_and_eval
from torch import Tensor, nn

from assay.core.layers import find, find_layout, record, to_grid
from assay.core.probe import default_layer
from assay.explain import (
    EXPLAINERS,
    Deconvnet,
    Explainer,
    FeatureAblation,
    GradCAM,
    GuidedBackprop,
    GuidedGradCAM,
    InputXGradient,
    Occlusion,
    Saliency,
)
from assay.explain.variants import segments_of
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
    "mobilenetv3_small_050": {},
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


def test_input_x_gradient(model: nn.Module) -> None:
    theirs = captum.attr.InputXGradient(model).attribute(images().requires_grad_(True), target=LABELS)
    assert_same(InputXGradient()(model, images(), LABELS), theirs.sum(1))


@pytest.mark.parametrize("method", ["gausslegendre", "riemann_middle"])
def test_integrated_gradients(model: nn.Module, method: str) -> None:
    theirs = captum.attr.IntegratedGradients(model).attribute(images(), target=LABELS, n_steps=6, method=method)
    name = "midpoint" if method == "riemann_middle" else method
    ours: Explainer = EXPLAINERS.parse(f"integrated-gradients(steps=6, method={name}, batch=5)")
    assert_same(ours(model, images(), LABELS), theirs.sum(1))


@pytest.mark.parametrize("name", ["GuidedBackprop", "Deconvolution"])
def test_gated(model: nn.Module, name: str) -> None:
    ours = {"GuidedBackprop": GuidedBackprop(), "Deconvolution": Deconvnet()}[name]
    assert_same(ours(model, images(), LABELS), gated(model, name).abs().amax(1))


def gated(model: nn.Module, name: str) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        attributed: Tensor = getattr(captum.attr, name)(model).attribute(images(), target=LABELS)
    return attributed


@pytest.mark.parametrize(("name", "flags"), [("test_resnet", ""), ("test_byobnet", ""), ("test_vit", "gates=0.00")])
def test_the_guided_rule_is_at_work_where_the_flags_say_so(name: str, flags: str) -> None:
    model = built(name, **ARCHITECTURES[name])
    assert GuidedBackprop().flags(model, images()) == flags
    guided, plain = (explainer(model, images(), LABELS) for explainer in (GuidedBackprop(), Saliency()))
    assert torch.equal(guided, plain) == bool(flags)


@pytest.mark.parametrize("segments", ["grid", "slic"])
def test_feature_ablation(model: nn.Module, segments: Literal["grid", "slic"]) -> None:
    """In double precision, as drops are small beside the logits."""
    precise, x = copy.deepcopy(model).double(), images().double()
    labels = segments_of(x, segments, 9)
    theirs = captum.attr.FeatureAblation(precise).attribute(
        x, target=LABELS, baselines=0, feature_mask=labels[:, None], perturbations_per_eval=4
    )
    ours = FeatureAblation(segments=segments, count=9, baseline="zero")(precise, x, LABELS)
    assert_same(ours, theirs[:, 0].float())


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
    assert_same(GradCAM()(model, images(), LABELS), grad_cam(model, name))
    assert torch.equal(GradCAM()(model, images(), LABELS), GradCAM(layer=name)(model, images(), LABELS))


def test_guided_grad_cam(model: nn.Module) -> None:
    name = default_layer(model, images())
    layer = find(model, name)
    if is_nchw(model, name):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = captum.attr.GuidedGradCam(model, layer).attribute(images(), LABELS, interpolate_mode="bilinear")
    else:
        theirs = gated(model, "GuidedBackprop") * grad_cam(model, name)[:, None]
    assert_same(GuidedGradCAM()(model, images(), LABELS), theirs.abs().amax(1))


def is_nchw(model: nn.Module, name: str) -> bool:
    with record(model, name) as outputs:
        model(images())
    return find_layout(model, name, outputs[name], images()).order == "nchw"


def grad_cam(model: nn.Module, name: str) -> Tensor:
    """captum's; where it would misread the grid, the formula on what captum finds at the layer."""
    layer = find(model, name)
    if is_nchw(model, name):
        cam = captum.attr.LayerGradCam(model, layer).attribute(images(), target=LABELS, relu_attributions=True)
    else:
        gradients, activations = compute_layer_gradients_and_eval(model, layer, images(), LABELS)
        layout = find_layout(model, name, activations[0], images())
        gradient, activation = (to_grid(values[0], layout) for values in (gradients, activations))
        cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
    enlarged: Tensor = captum.attr.LayerAttribution.interpolate(cam, (64, 64), "bilinear").squeeze(1)
    return enlarged
