"""Explanations on one small variant of every family that timm has; a tenth of them runs with the other tests."""

import math
from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch import Tensor, nn

from assay.bench.families import FAMILIES, build
from assay.core.borrow import evaluating
from assay.core.errors import NotApplicable
from assay.core.layers import Layout, activations, find, find_layout, record, to_grid
from assay.core.probe import default_layer, is_cut, random_images
from assay.core.targets import Logit
from assay.explain import CAM
from tests.core.corners import corners_read

QUICK = (
    "coat", "convnext", "crossvit", "deit", "hiera", "mlp_mixer", "resnet", "swin_transformer", "tnt",
    "vision_transformer_sam",
)  # fmt: skip

# Families whose branches run side by side from the image on: no one grid carries everything.
PARALLEL = {"crossvit", "tnt"}

# Pixels per cell of the layer's grid where they are not 32, from the papers and the variants' settings.
STRIDES = {
    "beit": 16, "cait": 16, "coat": 8, "convit": 16, "convmixer": 7, "crossvit": 12, "csatv2": 64, "deepseek_vit": 14,
    "deit": 16, "efficientvim": 16, "efficientvit_msra": 64, "eva": 16, "gemma4_vit": 16, "levit": 64, "mlp_mixer": 16,
    "naflexvit": 16, "nest": 16, "qwen3_vit": 16, "sequencer": 14, "shvit": 64, "swin_transformer": 8,
    "swin_transformer_v2": 8, "swin_transformer_v2_cr": 8, "tnt": 16, "vision_transformer": 16,
    "vision_transformer_relpos": 16, "vision_transformer_sam": 16, "vitamin": 16, "volo": 16, "xcit": 16,
}  # fmt: skip
# Cells a side where no stride tells: convolutions without padding (107 pixels: 53, 51, 25, 23, 11, 5, 2), fixed output.
SIDES = {"inception_resnet_v2": 2, "inception_v3": 2, "inception_v4": 2, "mobilenetv5": 16}

# How many times the side, and how many images, it takes to see what a cell reads; twice and 4 for all others.
LARGER = {
    "convmixer": (4, 4),
    "efficientformer": (1, 4),  # takes one size only
    "efficientvit_mit": (4, 4),
    "efficientvit_msra": (4, 8),
    "gemma4_vit": (2, 8),
    "nasnet": (3, 4),
    "pnasnet": (3, 4),
}
# Its halvings are attentions that with random weights read all cells alike; the grid before them tells the order.
EARLIER = {"levit": "stages.0"}
# A batch norm, or the mean of two heads, stands between the mean over the grid and the logits.
BETWEEN = {
    "efficientformer", "efficientformer_v2", "efficientvit_msra", "iformer", "levit", "repvit", "shvit", "swiftformer",
}  # fmt: skip


def _of_families(names: Any) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.families) for name in names]


class Case(NamedTuple):
    family: str
    model: nn.Module
    images: Tensor
    layer: str
    layout: Layout

    def values(self, images: Tensor) -> Tensor:
        """The layer's grid (N, C, h, w)."""
        with record(self.model, self.layer) as outputs, torch.no_grad():
            self.model(images)
        return to_grid(outputs[self.layer], self.layout)

    def flattened(self, times: float) -> Tensor:
        """Logits when every cell of the layer's grid is ``times`` the mean over the grid."""

        def flatten(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            replaced = output.clone()
            grid = to_grid(replaced, self.layout)
            mean = times * grid.mean((2, 3), keepdim=True).expand_as(grid)
            if self.layout.order == "tokens":
                replaced[:, self.layout.prefix :] = mean.flatten(2).transpose(1, 2)
            else:
                grid[:] = mean
            return replaced

        handle = find(self.model, self.layer).register_forward_hook(flatten)
        try:
            with torch.no_grad():
                return self.model(self.images)  # type: ignore[no-any-return]
        finally:
            handle.remove()


@pytest.fixture(scope="module", params=_of_families(FAMILIES))
def case(request: pytest.FixtureRequest) -> Case:
    model, size = build(request.param), FAMILIES[request.param].size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    layer = default_layer(model, images)
    with record(model, layer) as outputs, torch.no_grad():
        model(images)
    return Case(request.param, model, images, layer, find_layout(model, layer, outputs[layer], images))


def test_every_family_of_timm_is_there() -> None:
    assert set(FAMILIES) == set(timm.list_modules())
    for name, family in FAMILIES.items():
        assert family.variant in timm.list_models(module=name)
    assert set(QUICK) < set(FAMILIES)
    assert len(QUICK) == round(len(FAMILIES) / 10)


def test_all_that_reaches_the_logits_passes_the_layer(case: Case) -> None:
    """With the layer's output cut off from what lies before it, no gradient comes back to the images."""
    images = case.images.clone().requires_grad_(True)
    handle = find(case.model, case.layer).register_forward_hook(lambda module, inputs, output: output.detach())
    try:
        logits = case.model(images)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(logits.sum() + 0 * images.sum(), images)
    assert bool(gradient.any()) == (case.family in PARALLEL)
    assert is_cut(case.model, case.images, case.layer) == (case.family not in PARALLEL)


def test_the_gradient_lives_on_the_grid(case: Case) -> None:
    """It differs between cells, or the head reads only the mean over the grid, where it is the same by definition."""
    with record(case.model, case.layer) as outputs:
        logits = case.model(case.images)
    (found,) = torch.autograd.grad(logits[:, 3].sum(), outputs[case.layer])
    gradient, values = (to_grid(each.detach(), case.layout) for each in (found, outputs[case.layer]))
    assert (gradient.abs().amax(1) > 0).float().mean() >= 0.5
    assert ((gradient * values).sum(1).flatten(1).std(1) > 0).all()
    spread = (gradient - gradient.mean((2, 3), keepdim=True)).abs().amax()
    if spread < 1e-5 * gradient.abs().amax():
        torch.testing.assert_close(case.flattened(1.0), logits, rtol=1e-3, atol=1e-3)


def test_cam_runs_where_the_logits_are_affine_in_the_mean_over_the_grid(case: Case) -> None:
    turned, nothing, once, twice = (case.flattened(times) for times in (-1.0, 0.0, 1.0, 2.0))
    with torch.no_grad():
        gaps = torch.stack([case.model(case.images) - once, twice - 2 * once + nothing, turned + once - 2 * nothing])
    affine = bool(gaps.abs().amax() < 1e-3 * (once - nothing).abs().amax())
    if affine and case.family not in BETWEEN:
        assert CAM()(case.model, case.images, Logit(3)).isfinite().all()
        return
    assert affine == (case.family in BETWEEN)
    with pytest.raises(NotApplicable, match="no linear function of the mean"):
        CAM()(case.model, case.images, Logit(3))


def test_the_grid_has_the_size_that_the_stride_leaves(case: Case) -> None:
    size, stride = FAMILIES[case.family].size, STRIDES.get(case.family, 32)
    sides = {SIDES[case.family]} if case.family in SIDES else {math.floor(size / stride), math.ceil(size / stride)}
    assert case.layout.height == case.layout.width
    assert case.layout.height in sides
    assert case.values(case.images).shape[2:] == (case.layout.height, case.layout.width)
    for info in getattr(case.model, "feature_info", []):
        if info["module"] == case.layer:
            assert info["reduction"] == stride


def test_each_corner_of_the_grid_reads_that_corner_of_the_image(case: Case) -> None:
    """So rows and columns are no other axes, and cells stand in the order of the pixels.

    On larger images than the other tests, where cells differ more in what they read.
    """
    times, count = LARGER.get(case.family, (2, 4))
    size = FAMILIES[case.family].size * times
    model = build(case.family, (size, size))
    noise = random_images(torch.zeros(1, 3, size, size), count)
    layer = EARLIER.get(case.family) or default_layer(model, noise)
    with evaluating(model):
        assert corners_read(lambda images: activations(model, images, layer), noise) == [0, 1, 2, 3]
