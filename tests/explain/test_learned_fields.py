"""Receptive fields: the recursion against published figures and against derivatives."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from assay.core.receptive import Field, Reach, Traced, clipped, effective, measured, recursion
from assay.explain.representation.fields import growth, spread_layers
from tests.explain.models import built, pictures, small_cnn, small_vit, state


@pytest.mark.parametrize(
    ("name", "layer", "side", "stride"),
    [("vgg16", "features.30", 212, 32), ("resnet50", "layer4", 427, 32), ("resnet18", "layer4", 435, 32)],
)
def test_published_receptive_fields(name: str, layer: str, side: int, stride: int) -> None:
    """VGG16 and ResNet-18 as in Araujo et al. 2019; ResNet-50 with strides in its 3x3 convolutions, as timm has it."""
    with torch.device("meta"):
        model = timm.create_model(name)
    reach = recursion(model, torch.zeros(1, 3, 224, 224, device="meta"), [layer])[layer].reach
    assert reach is not None
    assert reach.size == (side, side)
    assert reach.stride == (stride, stride)
    assert not reach.gated


CNNS: list[tuple[str, dict[str, Any], int, list[str]]] = [
    ("vgg11", {"mlp_ratio": 0.01}, 128, ["features.0", "features.5", "features.15"]),
    ("test_resnet", {}, 224, ["layer1", "layer2", "layer3", "layer4"]),
    ("mobilenetv2_035", {}, 224, ["conv_stem", "blocks.1", "blocks.2"]),
    ("densenet121", {"growth_rate": 8, "block_config": (1, 1, 1, 1)}, 192, ["features.pool0", "features.norm5"]),
    ("dla46_c", {}, 224, ["level1", "level3"]),
    ("regnetx_002", {}, 224, ["s1", "s2", "s3.b1"]),
    ("test_convnext", {}, 192, ["stem", "stages.0", "stages.1"]),
    ("inception_v3", {}, 171, ["Conv2d_2b_3x3", "Mixed_5b", "Mixed_5d"]),
]


@pytest.mark.parametrize(("name", "settings", "size", "layers"), CNNS)
def test_the_recursion_equals_the_support_of_derivatives(
    name: str, settings: dict[str, Any], size: int, layers: list[str]
) -> None:
    model, images = built(name, **settings), torch.zeros(1, 3, size, size)
    for module in model.modules():  # so that what starts at zero and what fades away reaches the end
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    traced = recursion(model, images, layers)
    for layer, found in measured(model, images, layers):
        reach, reason = traced[layer]
        assert reach is not None, reason
        with torch.no_grad():
            height, width = _grid(model, images, layer)
        field = reach.at(height // 2, width // 2)
        assert clipped(field, (size, size)) == field, "compared inside the image only"
        assert found == field, layer


def _grid(model: nn.Module, images: Tensor, layer: str) -> tuple[int, int]:
    from assay.core.layers import activations

    grid = activations(model, images, layer)
    return grid.shape[2], grid.shape[3]


class Odd(nn.Module):
    """Everything that shifts or spreads a window otherwise than a plain convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.even = nn.Conv2d(3, 4, (2, 5), padding="same", dilation=(1, 2))
        self.pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.average = nn.AdaptiveAvgPool2d((3, 4))
        self.focus, self.turned, self.shuffled, self.padded = (nn.Identity() for _ in range(4))

    def forward(self, images: Tensor) -> Tensor:
        x = self.even(images)
        x = self.focus(torch.cat([x[:, :, ::2, ::2], x[..., 1::2, 1::2]], 1))
        x = self.turned(x.permute(0, 2, 3, 1).softmax(-1)).permute(0, 3, 1, 2)
        x = self.shuffled(x.reshape(len(x), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2))
        one, two = x.chunk(2, 1)
        x = one + two
        x = self.padded(nn.functional.pad(x, (1, 1, 1, 0)))[:, :, 1:, :]
        return self.average(self.pool(x)[:, :, :6, :8]).mean((2, 3))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
def test_slices_paddings_turns_and_even_windows_are_followed() -> None:
    torch.manual_seed(0)
    model, images = Odd(), torch.zeros(1, 3, 40, 48)
    names = ["even", "focus", "shuffled", "padded", "pool", "average"]
    traced = recursion(model, images, names)
    for name, found in measured(model, images, names):
        reach, reason = traced[name]
        assert reach is not None, f"{name}: {reason}"
        height, width = _grid(model, images, name)
        assert found == clipped(reach.at(height // 2, width // 2), (40, 48)), name


def test_what_no_arithmetic_covers_says_why() -> None:
    images = pictures(1, size=24)
    found = recursion(small_vit(), images, ["patch_embed.proj", "blocks.0"])
    assert found["patch_embed.proj"] == Traced(Reach((0, 0), (3, 3), (4, 4)))
    assert found["blocks.0"].reach is None
    assert "which the arithmetic of convolutions does not cover" in found["blocks.0"].reason


class Gate(nn.Module):
    """A convolution scaled by what the whole image holds, and the mean of that."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gated, self.mean = nn.Conv2d(3, 3, 3, padding=1), nn.Identity(), nn.Identity()
        self.norm = nn.GroupNorm(1, 3)

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        x = self.norm(self.gated(x * x.mean((2, 3), keepdim=True).sigmoid()))
        return self.mean(x.mean((2, 3), keepdim=True)).flatten(1)  # type: ignore[no-any-return]


def test_gates_are_told_apart_from_fields() -> None:
    found = recursion(Gate(), pictures(1), ["conv", "gated", "norm", "mean"])
    assert found["conv"].reach == Reach((-1, -1), (1, 1), (1, 1))
    assert found["gated"].reach == found["norm"].reach == Reach((-1, -1), (1, 1), (1, 1), gated=True)
    assert found["mean"] == Traced(None, "every unit reads the whole image")


def test_following_leaves_the_model_as_it_was() -> None:
    model = small_cnn()
    before = state(model)
    assert recursion(model, pictures(1), ["body"])["body"].reach == Reach((-2, -2), (2, 2), (2, 2))
    assert state(model) == before


class Blur(nn.Module):
    """``times`` averages over 3 pixels a side: the weight of a field is a power of the binomial's kind."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*(nn.AvgPool2d(3, 1, 1) for _ in range(times)))

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images).mean((2, 3))  # type: ignore[no-any-return]


def test_the_effective_field_is_where_the_weight_lies() -> None:
    """Of one average all of its 9 pixels; of eight the Gaussian that they tend to, narrower than their 17 pixels."""
    images = pictures(2, size=33)
    ((_, one),) = effective(Blur(1), images, ["body"])
    assert one.side == 3
    assert torch.equal((one.weight > 0).nonzero().amin(0), torch.tensor([15, 15]))
    torch.testing.assert_close(one.weight.sum(), torch.tensor(9.0))
    ((_, eight),) = effective(Blur(8), images, ["body"])
    kernel = torch.ones(1)
    for _ in range(8):
        kernel = nn.functional.conv1d(kernel[None, None], torch.ones(1, 1, 3), padding=2)[0, 0]
    expected = torch.outer(kernel, kernel) / kernel.amax() ** 2
    torch.testing.assert_close(eight.weight[8:25, 8:25], expected)
    assert eight.side == float((expected > 0.0455).sum()) ** 0.5
    assert 10 < eight.side < 17


def test_growth_tells_all_three_by_depth() -> None:
    model, images = built("test_resnet"), pictures(2, size=96)
    rows = growth(model, images, most=5)
    assert len(rows) == 5
    sides = [row.reach.size[0] for row in rows if row.reach]
    assert sides == sorted(set(sides)), "along the trunk fields only grow"
    for row in rows:
        assert row.expected == row.found
        assert row.reach is not None
        assert row.side <= row.reach.size[0]
        assert row.weight.amax() == 1
        outside = row.weight.clone()
        top, left, height, width = row.found or Field(0, 0, 0, 0)
        outside[top : top + height, left : left + width] = 0
        assert not outside.any()
    assert [row.name for row in growth(model, images, ["layer2"])] == ["layer2"]


def test_layers_of_a_network_without_arithmetic_are_spread_too() -> None:
    names = spread_layers(small_vit(), pictures(1), most=3)
    assert len(names) == 3
    assert names[0].startswith("patch_embed")
