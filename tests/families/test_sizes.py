"""How each family's layers lie, at sizes where channels are as many as rows or tokens, and on an oblong image."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch import Tensor, nn

from assay.bench.families import FAMILIES
from assay.core.borrow import evaluating
from assay.core.layers import Layout, activations
from assay.core.layouts import following
from assay.core.probe import default_layer, random_images
from tests.families.test_families import QUICK

CASES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.families) for name in FAMILIES]

# Sides of square images, in pixels, at which some layer has as many channels as rows, or as tokens.
SIZES: dict[tuple[int, ...], str] = {
    (64, 128): """
        beit byoanet cait coat convit cspnet deit dla efficientformer_v2 efficientvit_mit eva hgnet hrnet
        maxxvit mobilenetv3 naflexvit nasnet nextvit nfnet pvt_v2 qwen3_vit resnest resnet selecsls
        swin_transformer swin_transformer_v2 swin_transformer_v2_cr tnt vgg visformer vision_transformer
        vision_transformer_relpos vision_transformer_sam xception_aligned xcit""",
    (128, 256): """
        gcvit iformer levit lowformer res2net resnetv2 senet sknet vision_transformer_hybrid vitamin vovnet""",
    (64, 96): "byobnet densenet gemma4_vit hardcorenas hiera hieradet_sam2 mobilevit regnet",
    (96, 192): "cpubone cspnext edgenext fastvit lcnetv2 mvitv2 repvit",
    (64, 256): "dpn tiny_vit twins",
    (64, 192): "mambaout rexnet starnet swiftformer",
    (128,): "efficientvim mobilenetv5 shvit volo",
    (96, 256): "convnext efficientnet",
    (192, 256): "csatv2 tresnet",
    (64, 160): "fasternet inception_next",
    (96, 160): "ghostnet repghost",
    (133, 134): "inception_v3 inception_v4",
    (64,): "pit rdnet",
    (120,): "crossvit",
    (96,): "davit",
    (112, 168): "deepseek_vit",
    (256,): "efficientvit_msra metaformer",
    (56, 112): "sequencer",
}  # fmt: skip

# What makes it so where the variant's own widths do not.
_TOKENS = {64: {"embed_dim": 16}, 128: {"embed_dim": 64}}
_ROWS = {64: {"embed_dim": 16}, 128: {"embed_dim": 32}}
SETTINGS: dict[str, dict[int, dict[str, Any]]] = {
    "beit": _TOKENS,
    "cait": _TOKENS,
    "coat": {64: {"embed_dims": (256, 256, 256, 256)}, 128: {"embed_dims": (256, 256, 256, 256)}},
    "convit": {64: {"embed_dim": 4}, 128: {"embed_dim": 16}},
    "crossvit": {120: {"embed_dim": (100, 196), "num_heads": (2, 2)}},
    "deepseek_vit": {112: {"embed_dim": 64}, 168: {"embed_dim": 144}},
    "deit": _TOKENS,
    "efficientformer_v2": {64: {"embed_dims": (16, 32, 64, 128)}},
    "eva": _TOKENS,
    "fasternet": {64: {"embed_dim": 16}},
    "gemma4_vit": {64: {"embed_dim": 16}, 96: {"embed_dim": 36}},
    "hiera": {64: {"embed_dim": 16}},
    "hieradet_sam2": {64: {"embed_dim": 16}},
    "inception_next": {64: {"dims": (16, 32, 64, 128)}},
    "naflexvit": _TOKENS,
    "pit": {64: {"base_dims": (49, 49, 49), "heads": (1, 2, 4)}},
    "qwen3_vit": _TOKENS,
    "rdnet": {64: {"num_init_features": 16}},
    "repvit": {96: {"embed_dim": (24, 48, 96, 192)}},
    "sequencer": {56: {"embed_dims": (8, 16, 16, 16)}, 112: {"embed_dims": (16, 16, 16, 16)}},
    "swiftformer": {64: {"embed_dims": (16, 32, 64, 128)}},
    "swin_transformer": _ROWS,
    "swin_transformer_v2": _ROWS,
    "swin_transformer_v2_cr": _ROWS,
    "tnt": _TOKENS,
    "visformer": {64: {"init_channels": 32}, 128: {"init_channels": 64}},
    "vision_transformer": {64: {"embed_dim": 16, "num_heads": 2}},
    "vision_transformer_relpos": _TOKENS,
    "vision_transformer_sam": {64: {"embed_dim": 4}, 128: {"embed_dim": 8}},
    "xcit": {64: {"embed_dim": 16}},
}  # fmt: skip

# Families of fixed widths that meet no such size below 300 pixels, or only one.
NEVER = {
    "convmixer", "efficientformer", "focalnet", "inception_resnet_v2", "mlp_mixer", "nest", "pnasnet", "xception",
}  # fmt: skip
SQUARE = {"convit", "efficientformer", "mvitv2", "nest"}  # take no other images
WIDER = {"crossvit": 120, "deepseek_vit": 126}  # what an oblong image is wider by, where it is not 32


class Run(NamedTuple):
    """One pass over random images of ``size`` (H, W): outputs and layouts of the last call of each layer."""

    model: nn.Module
    images: Tensor
    default: str
    outputs: Mapping[str, Tensor]
    layouts: Mapping[str, Layout | None]

    @property
    def orders(self) -> dict[str, tuple[str, int]]:
        return {name: (layout.order, layout.prefix) for name, layout in self.layouts.items() if layout}


def run(name: str, height: int, width: int, **settings: Any) -> Run:
    family = FAMILIES[name]
    torch.manual_seed(0)
    sized = {"img_size": (height, width)} if family.img_size else {}
    model = timm.create_model(family.variant, num_classes=10, **{**family.settings, **sized, **settings}).eval()
    images, outputs, layouts = random_images(torch.zeros(1, 3, height, width)), dict[str, Tensor](), {}

    def see(layer: str, module: nn.Module, output: Tensor, layout: Layout | None) -> None:
        outputs[layer], layouts[layer] = output.clone(), layout  # an activation may write into it

    with evaluating(model), torch.no_grad(), following(model, images, see):
        model(images)
    return Run(model, images, default_layer(model, images), outputs, layouts)


def order_by_sizes(before: Tensor, after: Tensor) -> str | None:
    """What the dimensions tell that an image that is wider, or wider and higher, has moved."""
    moved = tuple(d for d, (a, b) in enumerate(zip(before.shape, after.shape, strict=True)) if a != b)
    return {(4, (3,)): "nchw", (4, (2, 3)): "nchw", (4, (2,)): "nhwc", (4, (1, 2)): "nhwc", (3, (1,)): "tokens"}.get(
        (before.ndim, moved)
    )


def as_given(output: Tensor, order: str, prefix: int, layout: Layout) -> Tensor:
    if order == "nchw":
        return output
    grid = output if order == "nhwc" else output[:, prefix:].reshape(len(output), layout.height, layout.width, -1)
    return grid.permute(0, 3, 1, 2)


def coincide(output: Tensor, order: str, prefix: int) -> bool:
    channels = output.shape[1 if order == "nchw" else -1]
    count = output.shape[1]
    return channels in {"nchw": output.shape[2:], "nhwc": output.shape[1:3], "tokens": (count, count - prefix)}[order]


@pytest.mark.parametrize("name", CASES)
def test_layers_lie_as_they_do_at_the_familys_own_size(name: str) -> None:
    side = FAMILIES[name].size
    own = run(name, side, side)
    if name not in SQUARE:
        oblong = run(name, side, side + WIDER.get(name, 32))
        check(own, oblong)
        for layer, (order, _) in own.orders.items():
            told = order_by_sizes(own.outputs[layer], oblong.outputs[layer])
            assert told in (None, order), layer
        assert any(order_by_sizes(own.outputs[layer], oblong.outputs[layer]) for layer in own.orders)
    sizes = next((sizes for sizes, names in SIZES.items() if name in names.split()), ())
    assert bool(sizes) == (name not in NEVER)
    for size in sizes:
        other = run(name, size, size, **SETTINGS.get(name, {}).get(size, {}))
        check(own, other)
        tight = [
            layer
            for layer, order in own.orders.items()
            if other.layouts[layer] and coincide(other.outputs[layer], *order)
        ]
        for layer in tight[:2]:
            order, prefix = own.orders[layer]
            layout = other.layouts[layer]
            assert layout is not None
            assert torch.equal(
                activations(other.model, other.images, layer), as_given(other.outputs[layer], order, prefix, layout)
            )
        assert tight, size


def check(own: Run, other: Run) -> None:
    in_windows = {layer for layer in own.outputs for one in (own, other) if len(one.outputs[layer]) != len(one.images)}
    for layer in own.outputs.keys() - in_windows:
        assert other.orders.get(layer) == own.orders.get(layer), layer
    assert other.default == own.default or own.default.startswith(f"{other.default}.")
    layout = other.layouts[other.default]
    assert layout is not None
    assert activations(other.model, other.images, other.default).shape[2:] == (layout.height, layout.width)
