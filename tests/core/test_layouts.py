"""What lies over the images is followed, not guessed: channels, rows, columns and tokens are as many here."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.errors import NotApplicable
from assay.core.layers import Layout, activations, find_layout, record
from assay.core.layouts import Followed
from assay.core.probe import default_layer
from tests.explain.models import built, pictures

NCHW, NHWC, TOKENS = "nchw", "nhwc", "tokens"
SIDE = 8  # rows, columns and channels; 64 tokens
Function = Callable[[Tensor], Tensor]


def windows(x: Tensor) -> Tensor:
    """Swin's: (N, H, W, C) to (N * 4, 16, C)."""
    n, h, w, c = x.shape
    return x.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)


def whole(x: Tensor, n: int) -> Tensor:
    """Windows put back."""
    return x.view(n, 2, 2, 4, 4, -1).permute(0, 1, 3, 2, 4, 5).reshape(n, 8, 8, -1)


def classed(x: Tensor) -> Tensor:
    return torch.cat([torch.ones(len(x), 2, x.shape[2]), x], 1)


def rows_of_tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


def last(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1)


def self_attended(x: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x, x, x)


def attended(x: Tensor) -> Tensor:
    """Tokens through two heads of attention, written out."""
    n, count, width = x.shape
    q, k, v = x.repeat(1, 1, 3).reshape(n, count, 3, 2, width // 2).permute(2, 0, 3, 1, 4).unbind(0)
    return ((q @ k.transpose(-2, -1)).softmax(-1) @ v).transpose(1, 2).reshape(n, count, width)


FUNCTIONS: dict[str, tuple[Function, Layout | None]] = {
    "as it is": (lambda x: x, Layout(NCHW, 8, 8)),
    "channels last": (last, Layout(NHWC, 8, 8)),
    "there and back": (lambda x: last(x).movedim(-1, 1), Layout(NCHW, 8, 8)),
    "columns first": (lambda x: x.transpose(2, 3), None),
    "T": (lambda x: x.mT, None),
    "stride": (lambda x: F.max_pool2d(x, 3, 2), Layout(NCHW, 3, 3)),
    "every other row": (lambda x: last(x)[:, ::2, 1::2], Layout(NHWC, 4, 4)),
    "the upper half": (lambda x: x[:, :, :4], None),
    "padded and cropped": (lambda x: F.pad(x, (0, 24, 0, 24))[:, :, :8, :8] * 2, Layout(NCHW, 8, 8)),
    "merged patches": (
        lambda x: last(x).reshape(-1, 4, 2, 4, 2, 8).permute(0, 1, 3, 4, 2, 5).flatten(3),
        Layout(NHWC, 4, 4),
    ),
    "tokens": (rows_of_tokens, Layout(TOKENS, 8, 8)),
    "tokens last": (lambda x: x.flatten(2), None),
    "class tokens": (lambda x: classed(rows_of_tokens(x)), Layout(TOKENS, 8, 8, 2)),
    "registers behind": (lambda x: classed(rows_of_tokens(x).flip(1)).flip(1), None),
    "without its class": (lambda x: classed(rows_of_tokens(x))[:, 2:], Layout(TOKENS, 8, 8)),
    "the class alone": (lambda x: classed(rows_of_tokens(x))[:, :2], None),
    "attention": (lambda x: attended(classed(rows_of_tokens(x))), Layout(TOKENS, 8, 8, 2)),
    "fused attention": (
        lambda x: self_attended(rows_of_tokens(x)[:, None])[:, 0],
        Layout(TOKENS, 8, 8),
    ),
    "the matrix of attention": (lambda x: (rows_of_tokens(x) @ x.flatten(2)).softmax(-1), None),
    "einsum": (lambda x: torch.einsum("nchw,dc->nhwd", x, torch.ones(8, 8)), Layout(NHWC, 8, 8)),
    "windows": (lambda x: windows(last(x)), None),
    "windows put back": (lambda x: whole(windows(last(x)), len(x)), Layout(NHWC, 8, 8)),
    "windows in a row": (lambda x: windows(last(x)).reshape(len(x), 64, -1), None),
    "pooled": (lambda x: F.adaptive_avg_pool1d(x.flatten(2), 1), None),
    "pooled to one cell": (lambda x: x.mean((2, 3), keepdim=True), Layout(NCHW, 1, 1)),
    "gated": (lambda x: x * x.mean((2, 3), keepdim=True), Layout(NCHW, 8, 8)),
    "channels by channels": (lambda x: x.flatten(2) @ rows_of_tokens(x), None),
    "mixed tokens": (lambda x: F.linear(x.flatten(2), torch.ones(64, 64)).transpose(1, 2), None),
    "and added": (
        lambda x: rows_of_tokens(x) + F.linear(x.flatten(2), torch.ones(64, 64)).transpose(1, 2),
        Layout(TOKENS, 8, 8),
    ),
    "flipped": (lambda x: F.conv2d(x.flip(3), torch.ones(8, 8, 1, 1)), None),
    "turned": (lambda x: x.rot90(1, (2, 3)), None),
    "patches by unfold": (
        lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 2, 3, 1, 4, 5).reshape(len(x), 16, -1),
        Layout(TOKENS, 4, 4),
    ),
    "im2col": (lambda x: F.unfold(x, 2, stride=2).transpose(1, 2), Layout(TOKENS, 4, 4)),
    "shuffled": (lambda x: F.pixel_shuffle(x, 2), Layout(NCHW, 16, 16)),
    "one image's own kernel": (
        lambda x: F.conv2d(x.reshape(1, -1, 8, 8), torch.ones(16, 8, 1, 1), groups=2).view(2, 8, 8, 8),
        Layout(NCHW, 8, 8),
    ),
    "of several crops": (lambda x: torch.cat([x[..., :4], x[..., 4:]]), None),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_axes_are_followed(name: str) -> None:
    function, expected = FUNCTIONS[name]
    images = torch.rand(2, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with Followed() as axes:
        axes.start(images)
        assert axes.layout(function(images)) == expected


class Own(torch.autograd.Function):
    """A rectifier that no function mode sees."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        return values.relu()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        slope: Tensor = gradients[0] * (ctx.saved_tensors[0] > 0)
        return slope


class Block(nn.Module):
    """Applies a function."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.function(images)
        return result


def test_a_convolution_behind_an_unknown_function_finds_the_grid_again() -> None:
    torch.manual_seed(0)
    own = Block(lambda x: Own.apply(x))
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), own, nn.Conv2d(4, 6, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert default_layer(net, torch.zeros(1, 3, 32, 48)) == "2"


@pytest.mark.parametrize(("name", "side"), [("test_convnext", 96), ("convnext_atto", 160)])
def test_a_norm_over_channels_first_is_read_as_it_is(name: str, side: int) -> None:
    """Timm's LayerNorm2d is an nn.LayerNorm, and has as many rows as channels here."""
    model, images = built(name), torch.rand(1, 3, side, side)
    with record(model, "stem.1") as outputs, torch.no_grad():
        model(images)
    given = outputs["stem.1"]
    assert given.shape[1] == given.shape[2] == given.shape[3]
    assert torch.equal(activations(model, images, "stem.1"), given)


@pytest.mark.parametrize("channels", [16, 64, 256])
def test_a_pooled_vector_is_no_grid_of_channels(channels: int) -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(3, channels, 3, 2, 1), nn.ReLU())
    net = nn.Sequential(conv, nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(channels, 5))
    assert default_layer(net, pictures(1, size=32)) == "0"
    with pytest.raises(NotApplicable, match=rf"'2' holds \(1, {channels}, 1\), which is not a grid"):
        activations(net, pictures(1, size=32), "2")


def test_unpadded_convolutions_have_grids_that_are_not_in_proportion() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2))
    model = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    images = torch.rand(2, 3, 32, 64)
    assert default_layer(model, images) == "0"
    assert activations(model, images, "0").shape == (2, 16, 5, 13)


def test_tokens_in_windows_are_no_grid_until_one_is_left_of_each() -> None:
    model = built("hiera_tiny_224", img_size=64, embed_dim=24, num_heads=1, stages=(1, 1, 1, 1))
    images = pictures(1, size=64)
    assert default_layer(model, images) == "blocks.3"
    assert activations(model, images, "blocks.3").shape == (1, 192, 2, 2)
    with pytest.raises(NotApplicable, match=r"'blocks\.1' holds \(1, 64, 48\), which is not a grid"):
        activations(model, images, "blocks.1")


def test_as_many_tokens_as_channels() -> None:
    model = built("vit_tiny_patch16_224", img_size=64, patch_size=8, embed_dim=64, depth=2, num_heads=2)
    images = torch.rand(1, 3, 64, 64)
    with record(model, "blocks.1", "patch_embed") as outputs, torch.no_grad():
        model(images)
    assert outputs["patch_embed"].shape == (1, 64, 64)
    assert find_layout(model, "blocks.1", outputs["blocks.1"], images) == Layout(TOKENS, 8, 8, 1)
    grid = activations(model, images, "patch_embed")
    assert torch.equal(grid[0, :, 1, 2], outputs["patch_embed"][0, 10])


def test_what_was_found_is_looked_for_again_when_the_network_has_changed() -> None:
    model, images = built("test_resnet"), pictures(1, size=64)
    assert default_layer(model, images) == "layer4"
    model.layer4, model.fc = nn.Identity(), nn.Linear(192, 5)
    assert default_layer(model, images) == "layer3"
    block = Block(rows_of_tokens)
    net = nn.Sequential(nn.Conv2d(3, 16, 4, 4), block, Block(lambda x: x.mean(1)), nn.Linear(16, 5))
    assert activations(net, images, "1").shape == (1, 16, 16, 16)
    block.function = lambda x: last(x).flatten(1, 2).flip(1)
    with pytest.raises(NotApplicable, match="which is not a grid"):
        activations(net, images, "1")


def test_a_pass_counts_as_few_as_it_can() -> None:
    """One more for a size and a state of the network, and none where the default layer has been looked for."""
    model, images = built("test_resnet"), pictures(2, size=64)
    passes: list[int] = []
    model.register_forward_pre_hook(lambda module, inputs: passes.append(len(inputs[0])))
    default_layer(model, images)
    for _ in range(3):
        activations(model, images, "layer2")
    assert passes == [2, 2, 2, 2]
    activations(model, images[..., :32], "layer2")
    assert len(passes) == 6
    with torch.no_grad():
        model.get_parameter("conv1.0.weight").mul_(2)
    activations(model, images, "layer2")
    assert len(passes) == 8
