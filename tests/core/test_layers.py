"""Layers by name, layouts, and the default layer of timm architectures of many kinds."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, NotApplicable
from assay.core.layers import Layout, activations, find, find_layout, many_activations, record, to_grid
from assay.core.probe import default_layer, describe, is_cut
from tests.core.corners import corners_read
from tests.explain.models import Linear, built, pictures, small_cnn, state

TINY_VIT = {"img_size": 64, "embed_dim": 32, "depth": 3, "num_heads": 2}
TINY_SWIN = {"img_size": 64, "embed_dim": 24, "depths": (1, 2), "num_heads": (2, 4), "window_size": 4}
NCHW, NHWC, TOKENS = "nchw", "nhwc", "tokens"

DEFAULTS: list[tuple[str, dict[str, Any], str, Layout]] = [
    ("resnet18", {}, "layer4", Layout(NCHW, 2, 2)),
    ("test_resnet", {}, "layer4", Layout(NCHW, 2, 2)),
    ("test_efficientnet", {}, "bn2", Layout(NCHW, 2, 2)),
    ("test_efficientnet_gn", {}, "bn2", Layout(NCHW, 2, 2)),
    ("test_byobnet", {}, "stages", Layout(NCHW, 2, 2)),
    ("test_convnext", {}, "stages", Layout(NCHW, 2, 2)),
    ("test_nfnet", {}, "final_act", Layout(NCHW, 2, 2)),
    ("test_mambaout", {}, "stages", Layout(NHWC, 2, 2)),
    ("densenet121", {"growth_rate": 8, "block_config": (1, 1, 1, 1)}, "features", Layout(NCHW, 2, 2)),
    ("mobilenetv2_050", {}, "bn2", Layout(NCHW, 2, 2)),
    ("mobilenetv3_small_050", {}, "blocks", Layout(NCHW, 2, 2)),
    ("regnetx_002", {}, "s4", Layout(NCHW, 2, 2)),
    ("ghostnet_050", {}, "blocks", Layout(NCHW, 2, 2)),
    ("repvgg_a0", {}, "stages", Layout(NCHW, 2, 2)),
    ("mobilevit_xxs", {}, "final_conv", Layout(NCHW, 2, 2)),
    ("edgenext_xx_small", {}, "stages", Layout(NCHW, 2, 2)),
    ("efficientvit_m0", {"img_size": 64}, "stages.2.downsample.patchmerge.conv1", Layout(NCHW, 2, 2)),
    ("test_vit", {"img_size": 64}, "blocks.4", Layout(TOKENS, 4, 4, 1)),
    ("test_vit2", {"img_size": 64}, "blocks", Layout(TOKENS, 4, 4, 1)),
    ("test_vit3", {"img_size": 64}, "norm", Layout(TOKENS, 4, 4, 1)),
    ("vit_tiny_patch16_224", TINY_VIT, "blocks.1", Layout(TOKENS, 4, 4, 1)),
    ("deit_tiny_distilled_patch16_224", TINY_VIT, "blocks.1", Layout(TOKENS, 4, 4, 2)),
    ("beit_base_patch16_224", TINY_VIT, "blocks.2", Layout(TOKENS, 4, 4, 1)),
    ("cait_xxs24_224", TINY_VIT, "blocks", Layout(TOKENS, 4, 4, 0)),
    ("swin_tiny_patch4_window7_224", TINY_SWIN, "norm", Layout(NHWC, 8, 8)),
    ("swinv2_tiny_window8_256", TINY_SWIN, "norm", Layout(NHWC, 8, 8)),
    ("levit_128s", {"img_size": 64}, "stages.1", Layout(TOKENS, 2, 2, 0)),
    ("mixer_s32_224", {"img_size": 64}, "norm", Layout(TOKENS, 2, 2, 0)),
    ("coat_tiny", {"img_size": 64}, "serial_blocks2.1", Layout(TOKENS, 8, 8, 1)),
]


@pytest.mark.parametrize(("name", "settings", "expected", "grid"), DEFAULTS, ids=[row[0] for row in DEFAULTS])
def test_default_layer(name: str, settings: dict[str, Any], expected: str, grid: Layout) -> None:
    model, images = built(name, **settings), pictures(2, size=64)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = default_layer(model, images)
    assert found == expected
    with record(model, found) as outputs, torch.no_grad():
        model(images)
    assert find_layout(model, found, outputs[found], images) == grid
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_default_layer_holds_all_that_reaches_the_logits() -> None:
    """The definition itself, by cutting: with the layer detached no gradient comes back to the images."""
    model, images = built("test_vit", img_size=64), pictures(2, size=64).requires_grad_(True)
    layer = find(model, default_layer(model, images))
    handle = layer.register_forward_hook(lambda module, inputs, output: output.detach())
    logits = model(images)
    handle.remove()
    (gradient,) = torch.autograd.grad(logits.sum() + 0 * images.sum(), images)
    assert not gradient.any()


class Shared(nn.Module):
    """One activation module at two places; branches that meet after their grids are gone."""

    def __init__(self, branches: bool) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4 if not branches else 3, 4, 8, padding=0)
        self.act = nn.GELU()
        self.head = nn.Linear(8 if branches else 4, 5)
        self.branches = branches

    def forward(self, images: Tensor) -> Tensor:
        if self.branches:
            both = [self.act(self.one(images)).mean((2, 3)), self.act(self.two(images)).mean((2, 3))]
            return self.head(torch.cat(both, 1))  # type: ignore[no-any-return]
        return self.head(self.act(self.two(self.act(self.one(images)))).mean((2, 3)))  # type: ignore[no-any-return]


def test_of_a_module_called_twice_the_last_call_counts() -> None:
    """The shared activation's last output is one cell, so it is no candidate although its first output was a grid."""
    torch.manual_seed(0)
    assert default_layer(Shared(branches=False), pictures(1, size=8)) == "one"


def test_branches_that_never_meet_in_a_grid_give_the_last_of_them() -> None:
    torch.manual_seed(0)
    assert default_layer(Shared(branches=True), pictures(1, size=12)) == "act"


def test_a_network_without_grids_has_no_default() -> None:
    with pytest.raises(NotApplicable, match="Linear has no layer with a live grid"):
        default_layer(Linear(), pictures(1, size=8))


def test_default_layer_is_kept_per_size_and_leaves_the_model() -> None:
    model = small_cnn()
    before = state(model)
    assert default_layer(model, pictures(1)) == default_layer(model, pictures(3)) == "body"
    assert default_layer(model, pictures(1, size=3)) == "body"
    assert state(model) == before


def test_record_keeps_what_the_layer_gave() -> None:
    model, images = small_cnn().eval(), pictures()
    with record(model, "stem.1", "body") as outputs:
        model(images)
    before = model.stem[1](model.stem[0](images))
    torch.testing.assert_close(outputs["stem.1"], before)
    assert (outputs["stem.1"] < 0).any(), "the in-place ReLU behind it wrote elsewhere"
    assert list(outputs) == ["stem.1", "body"]
    assert not any(module._forward_hooks for module in model.modules())


def test_activations_end_the_pass_at_the_deepest_layer() -> None:
    model, images = small_cnn().eval(), pictures()
    model.head.register_forward_pre_hook(_never)
    one, two = many_activations(model, images, ["body", "stem.0"])
    assert one.shape == (4, 12, 12, 12)
    assert two.shape == (4, 8, 24, 24)
    assert torch.equal(activations(model, images, "body"), one)


def _never(module: nn.Module, inputs: object) -> None:
    raise AssertionError("the pass went on")


def test_find_names_what_is_near() -> None:
    with pytest.raises(AssayError, match=r"unknown layer 'stem\.9'; did you mean"):
        find(small_cnn(), "stem.9")
    with pytest.raises(AssayError, match="unknown layer ''"):
        find(small_cnn(), "")


def test_layout_reads_the_grid_and_the_prefix_off_the_patch_embedding() -> None:
    model = timm.create_model("test_vit", img_size=(32, 128), num_classes=10).eval()
    images = torch.rand(1, 3, 32, 128)
    with record(model, "blocks.1") as outputs, torch.no_grad():
        model(images)
    assert find_layout(model, "blocks.1", outputs["blocks.1"], images) == Layout(TOKENS, 2, 8, 1)


OBLONG: list[tuple[str, dict[str, Any], Layout]] = [
    ("vit_tiny_patch16_224", {**TINY_VIT, "img_size": (64, 96)}, Layout(TOKENS, 4, 6, 1)),
    ("vit_tiny_patch16_224", {**TINY_VIT, "img_size": 224, "dynamic_img_size": True}, Layout(TOKENS, 4, 6, 1)),
    ("vit_tiny_patch16_224", {**TINY_VIT, "img_size": (64, 96), "reg_tokens": 4}, Layout(TOKENS, 4, 6, 5)),
    ("deit_tiny_distilled_patch16_224", {**TINY_VIT, "img_size": (64, 96)}, Layout(TOKENS, 4, 6, 2)),
    ("swin_tiny_patch4_window7_224", {**TINY_SWIN, "img_size": (64, 96)}, Layout(NHWC, 8, 12)),
    ("pit_ti_224", {"img_size": (64, 96)}, Layout(TOKENS, 2, 3, 1)),
    ("test_convnext", {}, Layout(NCHW, 2, 3)),
    ("test_mambaout", {}, Layout(NHWC, 2, 3)),
    ("test_efficientnet", {}, Layout(NCHW, 2, 3)),
]


@pytest.mark.parametrize(("name", "settings", "expected"), OBLONG)
def test_default_layer_of_oblong_images(name: str, settings: dict[str, Any], expected: Layout) -> None:
    model, images = built(name, **settings), torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    chosen = default_layer(model, images)
    with record(model, chosen) as outputs, torch.no_grad():
        model(images)
    assert find_layout(model, chosen, outputs[chosen], images) == expected
    assert corners_read(lambda x: activations(model, x, chosen), images) == [0, 1, 2, 3]


def test_the_grid_is_counted_for_this_image_not_for_the_size_the_network_was_built_for() -> None:
    """7 x 28 patches are as many as 14 x 14, which is what ``grid_size`` says."""
    model = built("vit_tiny_patch16_224", **{**TINY_VIT, "img_size": 224}, dynamic_img_size=True)
    images = torch.rand(1, 3, 112, 448)
    with record(model, "blocks.0") as outputs, torch.no_grad():
        model(images)
    assert find_layout(model, "blocks.0", outputs["blocks.0"], images) == Layout(TOKENS, 7, 28, 1)


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    [
        ("hiera_tiny_224", {"img_size": 64, "embed_dim": 24, "num_heads": 1, "stages": (1, 1, 1, 1)}, "blocks.3"),
        ("test_resnet", {}, "layer4"),
    ],
)
def test_weights_that_are_zero_do_not_hide_the_layer(name: str, settings: dict[str, Any], expected: str) -> None:
    """The head of a network that was never trained, and the last norm of its residual branches."""
    model = timm.create_model(name, num_classes=10, **settings).eval()
    nn.init.zeros_(model.get_classifier().weight)
    before = state(model)
    assert default_layer(model, pictures(1, size=64)) == expected
    assert state(model) == before


def test_outputs_that_are_no_batch_of_grids_are_refused() -> None:
    """TNT's pixel embedding holds one row of pixels per patch of every image."""
    model = built("tnt_s_patch16_224", img_size=64, embed_dim=48, inner_dim=12, depth=2, num_heads_outer=2)
    with pytest.raises(NotApplicable, match=r"'pixel_embed' holds \(32, 16, 12\), which is not a grid"):
        activations(model, pictures(2, size=64), "pixel_embed")


def test_whether_a_layer_is_a_cut_follows_from_the_branches() -> None:
    torch.manual_seed(0)
    one, both = Shared(branches=False), Shared(branches=True)
    images = pictures(1, size=12)
    assert is_cut(one, images, "one")
    assert is_cut(one, images, "head") is False, "only outputs of three or more dimensions are listed"
    assert not is_cut(both, images, "one")
    assert not is_cut(both, images, "act")


def test_grids_are_put_back_in_place() -> None:
    grid = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    assert to_grid(grid, Layout(NCHW, 4, 5)) is grid
    assert torch.equal(to_grid(grid.permute(0, 2, 3, 1), Layout(NHWC, 4, 5)), grid)
    tokens = torch.cat([torch.full((2, 2, 3), -1.0), grid.flatten(2).transpose(1, 2)], 1)
    assert torch.equal(to_grid(tokens, Layout(TOKENS, 4, 5, 2)), grid)


def test_describe_lists_layers_as_they_finish() -> None:
    model = small_cnn()
    before = state(model)
    rows = describe(model, pictures(2))
    assert [row.name for row in rows] == ["stem.0", "stem.1", "stem.2", "stem", "dropout", "body"]
    assert rows[-1].kind == "Conv2d"
    assert rows[-1].shape == (12, 12, 12)
    assert rows[-1].layout == Layout(NCHW, 12, 12)
    assert state(model) == before


class Trailing(nn.Module):
    """An empty sequence behind the last convolution, and one layer that no pass calls."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.act, self.rest = nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Sequential()
        self.aux, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.rest(self.act(self.body(images))).mean((2, 3)))  # type: ignore[no-any-return]


def test_a_module_that_hands_on_is_found_but_is_no_default() -> None:
    torch.manual_seed(0)
    model, images = Trailing(), pictures(1, size=8)
    assert find(model, "rest") is model.rest
    assert default_layer(model, images) == "act", "it writes in place, and is a layer of its own"
    assert torch.equal(activations(model, images, "rest"), activations(model, images, "act"))


def test_a_layer_that_is_not_called_says_so() -> None:
    with pytest.raises(AssayError, match="layer 'aux' is not called"):
        activations(Trailing(), pictures(1, size=8), "aux")
    with pytest.raises(AssayError, match=r"by its dotted name, such as 'layer4\.1', not by a Sequential"):
        find(Trailing(), nn.Sequential())  # type: ignore[arg-type]


def test_a_network_without_derivatives_has_no_default() -> None:
    class Frozen(Trailing):
        @torch.no_grad()
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)

    with pytest.raises(AssayError, match="does not depend on the pixels, or no derivative leads there"):
        default_layer(Frozen(), pictures(1, size=8))
