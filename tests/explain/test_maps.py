"""Heatmaps of a layer against slow references, one image and one channel at a time."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.borrow import counting
from assay.core.errors import AssayError, NotApplicable
from assay.core.layers import activations
from assay.core.probe import default_layer
from assay.core.targets import Channel, Logit
from assay.explain import (
    CAM,
    EXPLAINERS,
    AblationCAM,
    EigenCAM,
    Explainer,
    GradCAM,
    GradCAMPlusPlus,
    GuidedBackprop,
    GuidedGradCAM,
    HiResCAM,
    LayerCAM,
    ScoreCAM,
    XGradCAM,
)
from tests.explain.models import Pooled, SmallCNN, built, pictures, small_cnn, small_vit

LABELS = torch.tensor([0, 1, 2, 3])
MAPS = [name for name in EXPLAINERS if name.endswith(("cam", "plus-plus"))]


def enlarged(grid: Tensor) -> Tensor:
    return F.interpolate(grid[None, None], (24, 24), mode="bilinear", align_corners=False)[0, 0]


def parts(model: Pooled, image: Tensor) -> Tensor:
    grid: Tensor = model.features(image[None])[0].detach()
    return grid


def slow(combine: Callable[[Tensor, Tensor, float], Tensor]) -> Callable[[Pooled, Tensor, int], Tensor]:
    """A map from A, g and the score of one image."""

    def heat(model: Pooled, image: Tensor, label: int) -> Tensor:
        grid = parts(model, image).requires_grad_(True)
        score = bent(model, grid[None])[0, label]
        (gradient,) = torch.autograd.grad(score, grid)
        return enlarged(combine(grid.detach(), gradient, score.item()))

    return heat


def bent(model: Pooled, grid: Tensor) -> Tensor:
    """Logits that are no linear function of the mean: the gradient varies over positions and has both signs."""
    logits: Tensor = model.head((grid * (1 - grid)).sum((2, 3)))
    return logits


class Bent(Pooled):
    def forward(self, images: Tensor) -> Tensor:
        return bent(self, self.features(images))


def plus_plus(grid: Tensor, gradient: Tensor, score: float) -> Tensor:
    """Equations 5, 6 and 19 as printed, on the exponential of the score, per channel and position."""
    first, second, third = (gradient.double() ** k for k in (1, 2, 3))
    heat = torch.zeros(grid.shape[1:], dtype=torch.float64)
    for k, values in enumerate(grid.double()):
        alpha = torch.zeros_like(values)
        for y in range(values.shape[0]):
            for x in range(values.shape[1]):
                below = 2 * second[k, y, x] + values.sum() * third[k, y, x]
                alpha[y, x] = second[k, y, x] / below if below != 0 else 0
        heat += (alpha * first[k].relu()).sum() * values
    return heat.relu().float()


def axiomatic(grid: Tensor, gradient: Tensor, score: float) -> Tensor:
    weights = [(g * a / a.sum()).sum() if a.sum() else g.sum() * 0 for a, g in zip(grid, gradient, strict=True)]
    return torch.stack([w * a for w, a in zip(weights, grid, strict=True)]).sum(0).relu()


FORMULAS: dict[Explainer, Callable[[Pooled, Tensor, int], Tensor]] = {
    GradCAM(): slow(lambda a, g, s: torch.stack([w.mean() * k for w, k in zip(g, a, strict=True)]).sum(0).relu()),
    GradCAMPlusPlus(): slow(plus_plus),
    HiResCAM(): slow(lambda a, g, s: (a * g).sum(0)),
    LayerCAM(): slow(lambda a, g, s: (a * g.clamp(min=0)).sum(0).clamp(min=0)),
    XGradCAM(): slow(axiomatic),
}


def scored(model: Pooled, image: Tensor, label: int) -> Tensor:
    grid = parts(model, image)
    black = model(torch.zeros_like(image)[None])[0, label]
    gains = []
    for channel in grid:
        mask = enlarged(channel)
        mask = (mask - mask.min()) / (mask.max() - mask.min()) if mask.max() > mask.min() else mask * 0
        gains.append(model((image * mask)[None])[0, label] - black)
    weights = torch.stack(gains).softmax(0)
    return enlarged((weights[:, None, None] * grid).sum(0).relu())


def ablated(model: Pooled, image: Tensor, label: int) -> Tensor:
    grid = parts(model, image)
    whole = bent(model, grid[None])[0, label]
    total = torch.zeros_like(grid[0])
    for k in range(len(grid)):
        less = grid.clone()
        less[k] = 0
        total += (whole - bent(model, less[None])[0, label]) / whole.abs() * grid[k]
    return enlarged(total.relu())


@pytest.mark.parametrize(
    ("explainer", "reference"),
    [*FORMULAS.items(), (ScoreCAM(batch=5), scored), (AblationCAM(batch=5), ablated)],
    ids=lambda value: type(value).__name__ if isinstance(value, Explainer) else "",
)
def test_a_map_is_its_formula(explainer: Explainer, reference: Callable[[Pooled, Tensor, int], Tensor]) -> None:
    model, images = small_cnn(Bent).eval(), pictures()
    assert isinstance(model, Pooled)
    with torch.no_grad():
        model.head.weight[:3] *= -1  # scores of both signs
        assert model(images).gather(1, LABELS[:, None]).sign().unique().numel() == 2
    heat = explainer(model, images, LABELS)
    expected = torch.stack([reference(model, images[i], int(LABELS[i])).detach() for i in range(4)])
    assert (expected.abs().amax((1, 2)) > 0).sum() >= 2
    torch.testing.assert_close(heat / expected.abs().amax(), expected / expected.abs().amax(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("centred", [False, True])
def test_eigen_cam_is_the_direction_of_most_energy(centred: bool) -> None:
    """No other unit vector gives projections of more energy, and strong activations are positive."""
    model, images = small_cnn(Pooled).eval(), pictures()
    grid = activations(model, images, "last").flatten(2).transpose(1, 2).detach()
    rows = grid - grid.mean(1, keepdim=True) if centred else grid
    energy, directions = torch.linalg.eigh(rows.transpose(1, 2) @ rows)
    expected = (rows @ directions[:, :, -1:]).squeeze(2)
    torch.testing.assert_close(expected.square().sum(1), energy[:, -1], rtol=1e-4, atol=1e-4)
    strength = grid.norm(dim=2)
    expected = expected * ((strength - strength.mean(1, keepdim=True) * centred) * expected).sum(1, keepdim=True).sign()
    expected = torch.stack([enlarged(row.view(12, 12)) for row in expected])
    heat = EigenCAM(centred=centred)(model, images, LABELS)
    torch.testing.assert_close(heat, expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(heat, EigenCAM(centred=centred)(model, images, Logit(4)))
    assert bool((heat < 0).any()) == centred


def test_guided_grad_cam_is_a_product() -> None:
    model, images = small_cnn(Pooled), pictures()
    product = GuidedBackprop()(model, images, LABELS) * GradCAM(layer="body")(model, images, LABELS)
    torch.testing.assert_close(GuidedGradCAM(layer="body")(model, images, LABELS), product)


def test_cam_needs_a_head_on_the_mean() -> None:
    images, labels = pictures(2, size=64), torch.tensor([0, 7])
    for name in ("test_resnet", "test_efficientnet"):
        model = built(name)
        heat = CAM()(model, images, labels)
        features = model.forward_features(images).detach()  # type: ignore[operator]
        weight = model.get_classifier().weight.detach()[labels]  # type: ignore[operator]
        cam = torch.einsum("nchw,nc->nhw", features, weight)[:, None]
        expected = F.interpolate(cam, (64, 64), mode="bilinear").squeeze(1)
        torch.testing.assert_close(heat, expected, rtol=1e-4, atol=1e-5)
    for model in (built("test_vit", img_size=64), built("test_convnext")):
        with pytest.raises(NotApplicable, match="no linear function of the mean of layer"):
            CAM()(model, images, labels)
    with pytest.raises(NotApplicable, match="no linear function of the mean of layer 'stem'"):
        CAM(layer="stem")(small_cnn(Pooled), pictures(), LABELS)


def test_a_convolution_may_be_the_head_of_cam() -> None:
    torch.manual_seed(0)
    grid, head = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU()), nn.Conv2d(6, 4, 1)
    model = nn.Sequential(grid, nn.AdaptiveAvgPool2d(1), head, nn.Flatten()).eval()
    heat = CAM(layer="0")(model, pictures(), LABELS)
    expected = torch.einsum("nchw,nc->nhw", grid(pictures()), head.weight[LABELS].flatten(1))
    torch.testing.assert_close(heat, F.interpolate(expected[:, None], (24, 24), mode="bilinear").squeeze(1).detach())


@pytest.mark.parametrize("name", [name for name in MAPS if name != "cam"])
def test_tokens_and_channels_last_are_read_as_grids(name: str) -> None:
    """The maps of a network that keeps its grid otherwise are those of the same grid in NCHW."""
    images, vit = pictures(), small_vit().eval()
    explainer: Explainer = EXPLAINERS.parse(name)
    heat = explainer(vit, images, LABELS)
    assert heat.shape == (4, 24, 24)
    layer = default_layer(vit, images)
    assert activations(vit, images, layer).shape == (4, 16, 6, 6)
    cnn, images = small_cnn(Pooled), pictures(size=32)  # a grid of 16, other than its 12 channels
    straight = explainer(cnn, images, LABELS)
    torch.testing.assert_close(explainer(ChannelsLast(cnn), images, LABELS), straight, rtol=1e-4, atol=1e-6)


class ChannelsLast(nn.Module):
    def __init__(self, model: SmallCNN) -> None:
        super().__init__()
        self.model = model
        self.last = nn.Sequential(ToLast())

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model.head(self.last(self.model.features(images)).mean((1, 2)))
        return logits


class ToLast(nn.Module):
    def forward(self, grid: Tensor) -> Tensor:
        return grid.permute(0, 2, 3, 1)


def test_ablation_of_tokens_leaves_the_class_token() -> None:
    """In a network that reads the class token alone, at a layer behind which tokens do not mix, nothing is lost."""
    vit = small_vit().eval()
    heat = AblationCAM(layer="blocks.1")(vit, pictures(), LABELS)
    assert not heat.any()
    assert AblationCAM(layer="blocks.0")(vit, pictures(), LABELS).any()


@pytest.mark.parametrize(("name", "each"), [("score-cam", 12), ("ablation-cam", 13)])
def test_no_pass_holds_more_than_a_batch(name: str, each: int) -> None:
    sizes: list[int] = []
    model = small_cnn(Pooled)
    explainer: Explainer = EXPLAINERS.parse(f"{name}(layer=last, batch=7)")
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    explainer(model, pictures(), LABELS)  # which follows the layers once
    assert max(sizes) == 7
    with counting(model) as passes:
        explainer(model, pictures(), LABELS)
    assert (passes.forwards, passes.backwards) == (4 + 4 * each, 0)


def test_a_dead_layer_gives_zeros_not_nan() -> None:
    model = small_cnn(Pooled)
    with torch.no_grad():
        model.body.weight.zero_()
        assert model.body.bias is not None
        model.body.bias.fill_(-1)
    for name in MAPS:
        assert not EXPLAINERS.parse(f"{name}(layer=last)")(model, pictures(), LABELS).any(), name


@pytest.mark.parametrize("name", MAPS)
def test_a_layer_behind_the_target_is_refused(name: str) -> None:
    explainer: Explainer = EXPLAINERS.parse(f"{name}(layer=last)")
    with pytest.raises(AssayError, match="does not depend on layer 'last'"):
        explainer(small_cnn(Pooled), pictures(), Channel("stem", 0))


def test_sums_that_are_rounding_make_no_weights() -> None:
    values = torch.tensor([[[[1.0, -1.0], [3e-7, 0.0]], [[1.0, 2.0], [0.0, 1.0]]]])
    heat = XGradCAM().combine(values, torch.tensor([[[[1.0, -1.0], [1.0, 1.0]], [[1.0] * 2] * 2]]))
    torch.testing.assert_close(heat, values[:, 1])


def test_a_score_that_is_rounding_keeps_the_map_finite() -> None:
    model = small_cnn(Bent).eval()
    with torch.no_grad():
        model.head.bias.sub_(model(pictures(1))[0])
    heat = AblationCAM()(model, pictures(1), LABELS[:1])
    assert heat.isfinite().all()
    assert heat.amax() < 1e6


def test_eigen_cam_of_values_that_are_not_finite_is_nan() -> None:
    values = torch.rand(2, 3, 4, 4)
    values[1, 0, 0, 0] = torch.nan
    heat = EigenCAM().combine(values, values)
    torch.testing.assert_close(heat[:1], EigenCAM().combine(values[:1], values))
    assert heat[1].isnan().all()
