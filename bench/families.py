"""One small variant of every architecture family that timm has, and what the layer probe finds on each.

A family is a module of ``timm.models``. A variant is shrunk where its constructor allows it and takes the smallest
square input (a multiple of 32 where it is free) that leaves a grid of two by two cells.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import timm
import torch
from torch import nn

from assay.core.borrow import evaluating
from assay.core.errors import unknown
from assay.core.layers import find_layout, record
from assay.core.probe import default_layer, describe, is_cut, random_images
from assay.explain.gates import gated_share

CLASSES = 10


@dataclass(frozen=True)
class Family:
    """How a family's variant is built; ``img_size`` passes the input size to the constructor, which fixes it."""

    variant: str
    size: int = 64  # height and width of the input, pixels
    img_size: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


def _of(variant: str, size: int = 64, *, img_size: bool = False, **settings: Any) -> Family:
    return Family(variant, size, img_size, settings)


_VIT: dict[str, Any] = {"embed_dim": 32, "depth": 3, "num_heads": 2}
_SWIN: dict[str, Any] = {"embed_dim": 24, "depths": (1, 2), "num_heads": (2, 4), "window_size": 4}
_STAGES = (1, 1, 1, 1)

FAMILIES: dict[str, Family] = {
    "beit": _of("beit_base_patch16_224", img_size=True, **_VIT),
    "byoanet": _of("botnet26t_256", img_size=True),
    "byobnet": _of("test_byobnet"),
    "cait": _of("cait_xxs24_224", img_size=True, **_VIT),
    "coat": _of("coat_tiny", img_size=True),
    "convit": _of("convit_tiny", img_size=True, depth=3, local_up_to_layer=2),
    "convmixer": _of("convmixer_768_32", 28),
    "convnext": _of("test_convnext"),
    "cpubone": _of("cpubone_nano"),
    "crossvit": _of("crossvit_tiny_240", 120, img_size=True),
    "csatv2": _of("csatv2", 128),
    "cspnet": _of("cs3darknet_s"),
    "cspnext": _of("cspnext_tiny"),
    "davit": _of("davit_tiny", embed_dims=(24, 48, 96, 192), num_heads=(1, 2, 4, 8), depths=_STAGES),
    "deepseek_vit": _of("deepseek_vit_412m", 126, **_VIT),
    "deit": _of("deit_tiny_distilled_patch16_224", img_size=True, **_VIT),
    "densenet": _of("densenet121", growth_rate=8, block_config=_STAGES),
    "dla": _of("dla46_c"),
    "dpn": _of("dpn48b"),
    "edgenext": _of("edgenext_xx_small"),
    "efficientformer": _of("efficientformer_l1", 224),
    "efficientformer_v2": _of("efficientformerv2_s0", img_size=True),
    "efficientnet": _of("test_efficientnet"),
    "efficientvim": _of("efficientvim_m1", 128),
    "efficientvit_mit": _of("efficientvit_b0"),
    "efficientvit_msra": _of("efficientvit_m0", 128, img_size=True),
    "eva": _of("vit_tiny_patch16_dinov3_qkvb", img_size=True, **_VIT),
    "fasternet": _of("fasternet_t0"),
    "fastvit": _of("fastvit_t8"),
    "focalnet": _of("focalnet_tiny_srf"),
    "gcvit": _of("gcvit_xxtiny", img_size=True),
    "gemma4_vit": _of("gemma4_vit_167m", 96, **_VIT),
    "ghostnet": _of("ghostnet_050"),
    "hardcorenas": _of("hardcorenas_b"),
    "hgnet": _of("hgnetv2_b0"),
    "hiera": _of("hiera_tiny_224", img_size=True, embed_dim=24, num_heads=1, stages=_STAGES),
    "hieradet_sam2": _of("hieradet_small", embed_dim=24, num_heads=1, stages=(1, 1, 2, 1), global_att_blocks=()),
    "hrnet": _of("hrnet_w18_small"),
    "iformer": _of("iformer_t"),
    "inception_next": _of("inception_next_atto"),
    "inception_resnet_v2": _of("inception_resnet_v2", 107),
    "inception_v3": _of("inception_v3", 107),
    "inception_v4": _of("inception_v4", 107),
    "lcnetv2": _of("lcnetv2_small"),
    "levit": _of("levit_128s", 128, img_size=True),
    "lowformer": _of("lowformer_b0"),
    "mambaout": _of("test_mambaout"),
    "maxxvit": _of("test_maxvit", img_size=True),
    "metaformer": _of("poolformerv2_s12"),
    "mlp_mixer": _of("gmlp_ti16_224", img_size=True),
    "mobilenetv3": _of("mobilenetv3_small_050"),
    "mobilenetv5": _of("mobilenetv5_base"),
    "mobilevit": _of("mobilevit_xxs"),
    "mvitv2": _of("mvitv2_tiny", img_size=True),
    "naflexvit": _of("naflexvit_base_patch16_gap", **_VIT),
    "nasnet": _of("nasnetalarge", stem_size=8, num_features=192),
    "nest": _of("nest_tiny", img_size=True),
    "nextvit": _of("nextvit_small"),
    "nfnet": _of("test_nfnet"),
    "pit": _of("pit_ti_224", img_size=True),
    "pnasnet": _of("pnasnet5large"),
    "pvt_v2": _of("pvt_v2_b0"),
    "qwen3_vit": _of("qwen3_vit_88m", **_VIT),
    "rdnet": _of("rdnet_tiny"),
    "regnet": _of("regnetx_002"),
    "repghost": _of("repghostnet_050"),
    "repvit": _of("repvit_m0_9"),
    "res2net": _of("res2next50", layers=_STAGES),
    "resnest": _of("resnest14d"),
    "resnet": _of("test_resnet"),
    "resnetv2": _of("resnetv2_18"),
    "rexnet": _of("rexnet_100"),
    "selecsls": _of("selecsls42"),
    "senet": _of("legacy_seresnet18"),
    "sequencer": _of(
        "sequencer2d_s", img_size=True, layers=_STAGES, embed_dims=(24, 48, 48, 48), hidden_sizes=(6, 12, 12, 12)
    ),
    "shvit": _of("shvit_s1", 128),
    "sknet": _of("skresnet18"),
    "starnet": _of("starnet_s050"),
    "swiftformer": _of("swiftformer_xs"),
    "swin_transformer": _of("swin_tiny_patch4_window7_224", img_size=True, **_SWIN),
    "swin_transformer_v2": _of("swinv2_tiny_window8_256", img_size=True, **_SWIN),
    "swin_transformer_v2_cr": _of("swinv2_cr_tiny_224", img_size=True, **_SWIN),
    "tiny_vit": _of("tiny_vit_5m_224"),
    "tnt": _of(
        "tnt_s_patch16_224", img_size=True, embed_dim=48, inner_dim=12, depth=3, num_heads_outer=2, num_heads_inner=2
    ),
    "tresnet": _of("tresnet_m"),
    "twins": _of("twins_svt_small", img_size=True),
    "vgg": _of("vgg11"),
    "visformer": _of("visformer_tiny", img_size=True),
    "vision_transformer": _of("test_vit", img_size=True),
    "vision_transformer_hybrid": _of("vit_tiny_r_s16_p8_224", img_size=True, embed_dim=48, depth=3, num_heads=2),
    "vision_transformer_relpos": _of("vit_relpos_small_patch16_224", img_size=True, **_VIT),
    "vision_transformer_sam": _of("samvit_base_patch16_224", img_size=True, **_VIT),
    "vitamin": _of("vitamin_small_224", img_size=True),
    "volo": _of("volo_d1_224", img_size=True),
    "vovnet": _of("ese_vovnet19b_slim_dw"),
    "xception": _of("legacy_xception"),
    "xception_aligned": _of("xception41"),
    "xcit": _of("xcit_nano_12_p16_224", img_size=True),
}


def build(name: str, size: tuple[int, int] | None = None) -> nn.Module:
    """The family's variant with ten classes and random weights, drawn from seed 0, as alive as a trained one.

    For inputs of ``size`` (H, W), square ones as large as the table says unless given. What starts at zero (heads,
    last norms of residual branches) is drawn too, and batch norms know the statistics of noise, without which the
    signal of deep networks fades away.
    """
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    family = FAMILIES[name]
    height, width = size or (family.size, family.size)
    settings = {**family.settings, **({"img_size": (height, width)} if family.img_size else {})}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        model: nn.Module = timm.create_model(family.variant, num_classes=CLASSES, **settings).eval()
        for part, weight in model.named_parameters():
            if not part.endswith("bias") and not weight.any():
                nn.init.normal_(weight, std=0.1) if weight.ndim > 1 else nn.init.ones_(weight)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
        for norm in norms:
            norm.momentum = 1.0
            norm.train()
        if norms:
            model(torch.rand(8, 3, height, width))
        for norm in norms:
            norm.momentum = 0.1
    return model.eval()


class Facts(NamedTuple):
    """One row of the table of families."""

    family: str
    variant: str
    size: int  # of the input, pixels
    layer: str
    order: str
    grid: str
    prefix: int
    whole: bool  # whether the layer lies on every path from image to logits
    place: float  # share of the network's layer calls that come before it
    gates: float  # share of activation calls that are ReLU; NaN where there is none


def measure(name: str) -> Facts:
    """What the probe finds on the family's variant."""
    model, family = build(name), FAMILIES[name]
    images = random_images(torch.zeros(1, 3, family.size, family.size))
    layer = default_layer(model, images)
    calls = [info.name for info in describe(model, images)]
    with evaluating(model), torch.no_grad(), record(model, layer) as outputs:
        model(images)
    layout = find_layout(model, layer, outputs[layer], images)
    return Facts(
        family=name,
        variant=family.variant,
        size=family.size,
        layer=layer,
        order=layout.order,
        grid=f"{layout.height}x{layout.width}",
        prefix=layout.prefix,
        whole=is_cut(model, images, layer),
        place=(len(calls) - 1 - calls[::-1].index(layer)) / len(calls),
        gates=gated_share(model, images),
    )


def rows(names: Sequence[str] = ()) -> Iterator[Facts]:
    """The facts of the named families, of all unless some are named, one model at a time."""
    for name in names:
        if name not in FAMILIES:
            raise unknown("family", name, FAMILIES)
    for name in names or FAMILIES:
        yield measure(name)


def table(facts: Sequence[Facts]) -> str:
    """A Markdown page with one row per family."""
    lines = [_HEAD, _RULE]
    for row in facts:
        gates = "-" if row.gates != row.gates else f"{row.gates:.2f}"
        whole = "yes" if row.whole else "no"
        cells = (
            row.family, f"`{row.variant}`", f"{row.size}x{row.size}", f"`{row.layer}`", row.order, row.grid,
            row.prefix, whole, f"{row.place:.0%}", gates,
        )  # fmt: skip
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return f"{_PAGE.format(count=len(facts), timm=timm.__version__)}\n" + "\n".join(lines) + "\n"


_HEAD = "| family | variant | input | Grad-CAM layer | layout | grid | prefix | every path | place | gates |"
_RULE = "|---|---|---|---|---|---|---|---|---|---|"
_PAGE = """# Families

What `assay families` finds on one small variant with random weights of each of {count} families of timm {timm}.
Written by `assay families --out docs/families.md`.

- **Grad-CAM layer**: the last layer with a live grid on every path from the image to the logits, which explainers
  take unless another is named. Layers are listed by `assay layers MODEL`.
- **layout**, **grid**, **prefix**: how the layer holds its grid, its rows and columns, and how many class, register or
  distillation tokens come before it.
- **every path**: *no* where the network has no such layer, because branches run side by side from the start; then it
  is the last live grid of one of them, and its heatmap shows that branch.
- **place**: the share of the network's layer calls that come before it. Where it is small, parallel branches or
  heads on every stage leave early, and a later layer, named by hand, shows more but not all.
- **gates**: the share of activation calls that are ReLU. Guided backpropagation and deconvnet change nothing at 0.00
  unless `activations=all`; - means that the network calls no known activation function.
"""
