"""Explainers against closed forms."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import as_draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Channel, Logit, Margin, Neuron
from assay.explain import (
    CAM,
    CenterMap,
    Deconvnet,
    ExpectedGradients,
    Explainer,
    GradCAM,
    GuidedBackprop,
    HiResCAM,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    RandomMap,
    Saliency,
    SmoothGrad,
    SobelMap,
    VarGrad,
)
from assay.explain.variants import Baseline, baseline_of
from tests.explain.models import Linear, pictures, small_cnn

LABELS = torch.tensor([0, 2])


def images() -> Tensor:
    return pictures(2, size=8)


@pytest.mark.parametrize("explainer", [Saliency(), GuidedBackprop(), Deconvnet(), SmoothGrad(), SmoothGrad(sigma=2)])
def test_gradient_of_a_linear_model_is_its_weight(explainer: Explainer) -> None:
    model = Linear()
    torch.testing.assert_close(explainer(model, images(), LABELS), model.w.detach()[LABELS].abs().amax(1))


def test_gradient_of_a_linear_model_does_not_vary() -> None:
    assert VarGrad()(Linear(), images(), LABELS).abs().amax() < 1e-10


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
@pytest.mark.parametrize("steps", [1, 2, 7])
@pytest.mark.parametrize("method", ["gausslegendre", "midpoint"])
def test_products_with_the_gradient_of_a_linear_model(baseline: Baseline, steps: int, method: Any) -> None:
    model, x = Linear(), images()
    weight = model.w.detach()[LABELS]
    torch.testing.assert_close(InputXGradient()(model, x, LABELS), (weight * x).sum(1))
    heat = IntegratedGradients(steps=steps, baseline=baseline, method=method)(model, x, LABELS)
    torch.testing.assert_close(heat, (weight * (x - baseline_of(x, baseline))).sum(1))


@pytest.mark.parametrize(("references", "each"), [("colour", (3, 1, 1)), ("noise", (3, 8, 8))])
def test_expected_gradients_of_a_linear_model(references: Any, each: tuple[int, ...]) -> None:
    """A reference is drawn after the point on its line, sample by sample."""
    model, x = Linear(), images()
    size = torch.Size(each).numel()
    drawn = as_draws(5, x).uniform((9, 1 + size))[:, :, 1:].reshape(2, 9, *each)
    expected = (model.w.detach()[LABELS] * (x - drawn.mean(1))).sum(1)
    heat = ExpectedGradients(samples=9, references=references)(model, x, LABELS, draws=5)
    torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-5)


def test_of_a_relu_network_without_bias() -> None:
    """It is homogeneous: f(x) = sum(x * gradient), and the gradient is the same on the whole line from black."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), nn.ReLU(inplace=True)]
    model, x = nn.Sequential(*layers, nn.Flatten(), nn.Linear(8 * 16, 3, bias=False)), images()
    value = Logit(LABELS)(model, x).detach()
    product = InputXGradient()(model, x, LABELS)
    torch.testing.assert_close(product.sum((1, 2)), value, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(IntegratedGradients(steps=3)(model, x, LABELS), product, rtol=1e-4, atol=1e-6)


def test_any_target_is_explained() -> None:
    model = Linear(classes=2)
    difference = (model.w[1] - model.w[0]).detach().abs().amax(0).expand(2, -1, -1)
    torch.testing.assert_close(Saliency()(model, images(), Logit(1) - Logit(0)), difference)
    torch.testing.assert_close(Saliency()(model, images(), Margin(1)), difference)
    torch.testing.assert_close(Saliency()(model, images(), -2 * Logit(0)), 2 * Saliency()(model, images(), Logit(0)))


def test_saliency_of_a_neuron_stays_in_its_field_of_view() -> None:
    heat = Saliency()(small_cnn(), pictures(), Neuron("stem.0", 1, 10, 12))
    assert (heat.nonzero()[:, 1:].float() - torch.tensor([10, 12])).abs().max() <= 1
    assert (heat > 0).any()


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_occlusion_of_a_linear_model_sums_the_window(baseline: Literal["zero", "mean", "blur"]) -> None:
    model, x = Linear(), images()
    effect = (model.w.detach()[LABELS] * (x - baseline_of(x, baseline))).sum(1)
    heat = Occlusion(window=4, stride=4, baseline=baseline)(model, x, LABELS)
    sums = F.avg_pool2d(effect[:, None], 4) * 16
    torch.testing.assert_close(heat, F.interpolate(sums, scale_factor=4.0).squeeze(1), rtol=1e-4, atol=1e-5)


def test_overlapping_windows_are_averaged_and_the_last_is_cut_off() -> None:
    model, x = Linear(), images()
    effect = (model.w.detach()[LABELS] * x).sum(1)
    heat = Occlusion(window=3, stride=2, baseline="zero")(model, x, LABELS)
    spans = [(0, 3), (2, 5), (4, 7), (6, 8)]
    total, covering = torch.zeros_like(effect), torch.zeros_like(effect)
    for top, bottom in spans:
        for left, right in spans:
            total[:, top:bottom, left:right] += effect[:, top:bottom, left:right].sum((1, 2), keepdim=True)
            covering[:, top:bottom, left:right] += 1
    torch.testing.assert_close(heat, total / covering, rtol=1e-4, atol=1e-5)


def test_a_window_larger_than_the_image_covers_it() -> None:
    model, x = Linear(), images()
    whole = (model.w.detach()[LABELS] * x).sum((1, 2, 3))[:, None, None].expand(-1, 8, 8)
    torch.testing.assert_close(Occlusion(baseline="zero")(model, x, LABELS), whole, rtol=1e-4, atol=1e-5)


def test_occlusion_holds_a_bounded_number_of_samples() -> None:
    sizes: list[int] = []
    model = Linear()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    Occlusion(window=2, stride=2, batch=5)(model, images(), LABELS)
    assert max(sizes) == 5
    assert sum(sizes) == 2 * (16 + 1)


def test_maps_under_average_pooling() -> None:
    """CAM sums w A; its mean plus bias is the logit. Grad-CAM and HiResCAM are CAM / (h w)."""
    model = small_cnn().eval()
    x, labels = pictures(), torch.tensor([0, 1, 2, 3])
    features = model.features(x).detach()
    cam = torch.einsum("nchw,nc->nhw", features, model.head.weight.detach()[labels])
    torch.testing.assert_close(cam.mean((1, 2)) + model.head.bias[labels], model(x).gather(1, labels[:, None])[:, 0])
    wrapped = nn.Sequential(Features(model), nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.head)
    signed, positive = (
        F.interpolate(heat[:, None], (24, 24), mode="bilinear").squeeze(1) for heat in (cam, cam.relu())
    )
    torch.testing.assert_close(CAM()(wrapped, x, labels), signed)
    torch.testing.assert_close(HiResCAM()(wrapped, x, labels), signed / 144)
    for layer in (None, "0"):
        torch.testing.assert_close(GradCAM(layer=layer)(wrapped, x, labels), positive / 144)


class Features(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model.features(images)  # type: ignore[operator]
        return features


def test_grad_cam_of_a_sum_of_targets_adds_the_gradients() -> None:
    """Each term is a pass of its own, all of which count."""
    model, x = small_cnn().eval(), pictures()
    both = GradCAM(layer="body")(model, x, Logit(3) - Logit(1))
    with torch.no_grad():
        model.head.weight[3] -= model.head.weight[1]
    torch.testing.assert_close(both, GradCAM(layer="body")(model, x, Logit(3)))


def test_grad_cam_reads_the_layer_before_what_changes_it_in_place() -> None:
    model = small_cnn().eval()
    x = pictures().requires_grad_(True)
    before = model.stem[1](model.stem[0](x))
    logit = model.head(F.relu(model.body(F.relu(before))).mean((2, 3)))[:, 2].sum()
    (gradient,) = torch.autograd.grad(logit, before)
    expected = (gradient.mean((2, 3), keepdim=True) * before).sum(1).relu().detach()
    assert (before < 0).any()
    torch.testing.assert_close(GradCAM(layer="stem.1")(model, x.detach(), Logit(2)), expected)


def test_grad_cam_of_a_channel() -> None:
    model, x = small_cnn().eval(), pictures()
    heat = GradCAM(layer="body")(model, x, Channel("body", 4))
    expected = model.body(model.stem(x))[:, 4].relu() / 144
    expected = F.interpolate(expected[:, None], (24, 24), mode="bilinear").squeeze(1).detach()
    torch.testing.assert_close(heat, expected)


def test_grad_cam_refuses_layers_that_do_not_matter() -> None:
    model, x = small_cnn(), pictures()
    with pytest.raises(AssayError, match="does not depend on layer 'body'"):
        GradCAM(layer="body")(model, x, Channel("stem", 0))
    with pytest.raises(AssayError, match="unknown layer 'bodi'"):
        GradCAM(layer="bodi")(model, x, Logit(0))
    with pytest.raises(NotApplicable, match="not a grid"):
        GradCAM(layer="head")(model, x, Logit(0))
    with pytest.raises(NotApplicable, match="no layer with a live grid"):
        GradCAM()(Linear(), images(), Logit(0))


def test_what_is_not_finite_stays_so() -> None:
    model = small_cnn()
    with torch.no_grad():
        model.head.weight[0] = torch.nan
    assert Saliency()(model, pictures(), Logit(0)).isnan().all()
    assert GuidedBackprop()(model, pictures(), Logit(0)).isnan().any()
    assert GradCAM(layer="body")(model, pictures(), Logit(0)).isnan().any()
    assert Occlusion()(model, pictures(), Logit(0)).isnan().all()


def test_controls() -> None:
    model, x = Linear(), images()
    centre = CenterMap()(model, x, LABELS)
    assert torch.equal(centre[0], centre[1].flip(0))
    assert torch.equal(centre[0], centre[0].T)
    assert centre[0].argmax() in (27, 28, 35, 36)
    edge = torch.zeros(2, 3, 8, 8)
    edge[0, :, :, 4:] = 1
    edge[1, :, 4:] = 1
    sobel = SobelMap()(model, edge, LABELS)
    assert sobel[0, :, 3:5].eq(0.5).all()
    assert sobel[0].sum() == 0.5 * 16
    assert torch.equal(sobel[1], sobel[0].T)
    noise = RandomMap()(model, x, LABELS, draws=1)
    assert not torch.equal(noise[0], noise[1])
    assert not torch.equal(noise, RandomMap()(model, x, LABELS, draws=2))


def test_baselines() -> None:
    x = pictures(2, size=20)
    assert not baseline_of(x, "zero").any()
    torch.testing.assert_close(baseline_of(x, "mean")[:, :, 3, 7], x.mean((2, 3)))
    blurred = baseline_of(x, "blur")
    assert blurred.std() < x.std()
    assert blurred.amin() >= x.amin()
    assert blurred.amax() <= x.amax()
    flat = torch.full((1, 3, 20, 20), 0.4)
    torch.testing.assert_close(baseline_of(flat, "blur"), flat)
    assert torch.equal(baseline_of(x[:, :, :1, :1], "blur"), x[:, :, :1, :1])
