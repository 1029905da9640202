"""Attention read without hooks, on families of timm and against a network that can be written down."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.errors import NotApplicable
from assay.core.targets import Channel, Logit
from assay.explain import AttentionRollout, TransformerAttribution
from assay.explain.attention import Attention, explicit
from tests.explain.models import built, pictures, small_vit

SMALL: dict[str, Any] = {"depth": 2, "embed_dim": 48, "num_heads": 3}
FAMILIES: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 64, **SMALL},
    "vit_base_patch16_siglip_224": {"img_size": 64, **SMALL},  # pooled by attention
    "vit_relpos_small_patch16_224": {"img_size": 64, **SMALL},  # pooled by average, biased attention
    "deit_tiny_distilled_patch16_224": {"img_size": 64, **SMALL},
    "beit_base_patch16_224": {"img_size": 64, **SMALL},
    "eva02_tiny_patch14_224": {"img_size": 56, **SMALL},  # rotary
    "vit_small_patch14_reg4_dinov2": {"img_size": 56, **SMALL},
}
LABELS = torch.tensor([3, 8])


def attended(model: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    with torch.no_grad(), Attention() as seen:
        seen.passes.append([])
        return model(x), seen.passes[0]


@pytest.mark.parametrize("name", FAMILIES)
def test_attention_is_seen_and_nothing_changes(name: str) -> None:
    model, x = built(name, **FAMILIES[name]), pictures(2, size=FAMILIES[name]["img_size"])
    logits, matrices = attended(model, x)
    with torch.no_grad():
        torch.testing.assert_close(logits, model(x), rtol=1e-5, atol=1e-5)
    assert len(matrices) == 2 + (name == "vit_base_patch16_siglip_224")
    for weights in matrices:
        assert weights.shape[:2] == (2, 3)
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("explainer", [AttentionRollout(), TransformerAttribution()])
def test_families_are_explained(name: str, explainer: AttentionRollout | TransformerAttribution) -> None:
    model, x = built(name, **FAMILIES[name]), pictures(2, size=FAMILIES[name]["img_size"])
    heat = explainer(model, x, LABELS)
    assert heat.shape == (2, *x.shape[2:])
    assert heat.isfinite().all()
    assert (heat >= 0).all()
    assert (heat.amax((1, 2)) > heat.amin((1, 2))).all()


def test_attention_that_is_not_fused_is_the_same() -> None:
    model, x = built("vit_tiny_patch16_224", **FAMILIES["vit_tiny_patch16_224"]), pictures(2, size=64)
    fused = [attended(model, x)[1], TransformerAttribution()(model, x, LABELS)]
    for block in model.blocks:  # type: ignore[union-attr]
        block.attn.fused_attn = not block.attn.fused_attn
    torch.testing.assert_close(attended(model, x)[1], fused[0])
    torch.testing.assert_close(TransformerAttribution()(model, x, LABELS), fused[1])


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("test_resnet", {}, "ResNet has no softmax attention"),
        ("test_convnext", {}, "no softmax attention"),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "embed_dim": 24, "depths": (1, 2), "num_heads": (2, 4), "window_size": 4},
            "within parts of the image",
        ),
        ("cait_xxs24_224", {"img_size": 64, **SMALL}, "1 x 17 tokens after 16"),
        ("pit_ti_224", {"img_size": 64}, "17 x 17 tokens after 50"),
    ],
)
def test_other_attention_is_refused_in_one_line(name: str, settings: dict[str, Any], message: str) -> None:
    for explainer in (AttentionRollout(), TransformerAttribution()):
        with pytest.raises(NotApplicable, match=message):
            explainer(built(name, **settings), pictures(2, size=64), LABELS)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"scale": 0.3},
        {"is_causal": True},
        {"attn_mask": torch.arange(25).reshape(5, 5) % 3 > 0},
        {"attn_mask": torch.linspace(-2, 2, 25).reshape(5, 5)},
    ],
)
def test_the_explicit_form_is_torchs(settings: dict[str, Any]) -> None:
    query, key, value = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    weights, values = explicit(query, key, value, **settings)
    torch.testing.assert_close(weights @ values, F.scaled_dot_product_attention(query, key, value, **settings))


def test_the_explicit_form_shares_keys_among_queries() -> None:
    query, (key, value) = torch.randn(2, 4, 5, 6), torch.randn(2, 2, 2, 5, 6)
    weights, values = explicit(query, key, value, enable_gqa=True)
    expected = F.scaled_dot_product_attention(query, key, value, enable_gqa=True)
    torch.testing.assert_close(weights @ values, expected)


class OneLayer(nn.Module):
    """Tokens are a class token and the pictures' 2 x 2 quarters; logits read the attention of the class token only."""

    def __init__(self, *, average: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.average = average
        self.begin = nn.Parameter(torch.randn(1, 1, 3, generator=generator))
        self.head = nn.Parameter(torch.randn(3, 2, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        quarters = F.adaptive_avg_pool2d(images, 2).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.begin.expand(len(images), -1, -1), quarters], 1)
        mixed = F.scaled_dot_product_attention(tokens[:, None], tokens[:, None], tokens[:, None])[:, 0]
        read = mixed[:, 1:].mean(1) if self.average else mixed[:, 0]
        return read @ self.head


@pytest.mark.parametrize("average", [False, True])
def test_one_layer_in_closed_form(average: bool) -> None:
    """The target is sum of A[q, k] v[k] . head, read at some queries: its derivative by A is v . head."""
    model, x = OneLayer(average=average), pictures(2, size=8)
    quarters = F.adaptive_avg_pool2d(x, 2).flatten(2).transpose(1, 2)
    tokens = torch.cat([model.begin.expand(2, -1, -1), quarters], 1).detach()
    attention = (tokens @ tokens.transpose(1, 2) / math.sqrt(3)).softmax(-1)
    read = slice(1, 5) if average else slice(0, 1)

    def enlarged(flow: Tensor) -> Tensor:
        grid = flow[:, read, 1:].mean(1).reshape(2, 1, 2, 2)
        return F.interpolate(grid, (8, 8), mode="bilinear").squeeze(1)

    expected = enlarged((attention + torch.eye(5)) / 2)
    torch.testing.assert_close(AttentionRollout()(model, x, Logit(1)), expected)
    worth = (tokens @ model.head[:, 1]).detach() / (4 if average else 1)
    expected = enlarged((attention * worth[:, None]).clamp(min=0))
    torch.testing.assert_close(TransformerAttribution()(model, x, Logit(1)), expected)


def test_rollout_of_two_layers_is_the_product() -> None:
    model, x = small_vit().eval(), pictures(2)
    first, second = ((weights.mean(1) + torch.eye(37)) / 2 for weights in attended(model, x)[1])
    expected = (second @ first)[:, 0, 1:].reshape(2, 1, 6, 6)
    expected = F.interpolate(expected, (24, 24), mode="bilinear").squeeze(1)
    torch.testing.assert_close(AttentionRollout()(model, x, Logit(0)), expected)


def test_both_tokens_of_a_distilled_model_are_read_and_registers_left_out() -> None:
    distilled = built("deit_tiny_distilled_patch16_224", **FAMILIES["deit_tiny_distilled_patch16_224"])
    registers = built("vit_small_patch14_reg4_dinov2", **FAMILIES["vit_small_patch14_reg4_dinov2"])
    for model, size, read, prefix in ((distilled, 64, 2, 2), (registers, 56, 1, 5)):
        x = pictures(2, size=size)
        first, second = ((w.mean(1) + torch.eye(w.shape[-1])) / 2 for w in attended(model, x)[1])
        grid = (second @ first)[:, :read, prefix:].mean(1).reshape(2, 1, 4, 4)
        expected = F.interpolate(grid, (size, size), mode="bilinear").squeeze(1)
        torch.testing.assert_close(AttentionRollout()(model, x, LABELS), expected)


def test_a_sum_of_targets_adds_the_gradients() -> None:
    model, x = small_vit().eval(), pictures(2)
    both = TransformerAttribution()(model, x, Logit(3) - Logit(1))
    with torch.no_grad():
        model.head.weight[3] -= model.head.weight[1]  # type: ignore[union-attr, operator, index]
        model.head.bias[3] -= model.head.bias[1]  # type: ignore[union-attr, operator, index]
    torch.testing.assert_close(both, TransformerAttribution()(model, x, Logit(3)))


def test_only_layers_before_the_target_count() -> None:
    model, x = small_vit().eval(), pictures(2)
    early = AttentionRollout()(model, x, Channel("blocks.0", 3))
    (first, _) = attended(model, x)[1]
    flow = ((first.mean(1) + torch.eye(37)) / 2)[:, 1:, 1:].mean(1).reshape(2, 1, 6, 6)
    torch.testing.assert_close(early, F.interpolate(flow, (24, 24), mode="bilinear").squeeze(1))
    late = AttentionRollout()(model, x, Logit(2))
    for both in (Channel("blocks.0", 0) + Logit(2), Logit(2) + Channel("blocks.0", 0)):
        torch.testing.assert_close(AttentionRollout()(model, x, both), late)
    with pytest.raises(NotApplicable, match="that the target depends on"):
        AttentionRollout()(model, x, Channel("patch_embed", 0))


def test_attention_inside_torchs_module_is_refused_by_name() -> None:
    encoder = nn.TransformerEncoderLayer(64, 2, 8, batch_first=True)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(2), encoder, nn.Flatten(), nn.Linear(256, 3)).eval()
    for explainer in (AttentionRollout(), TransformerAttribution()):
        with pytest.raises(NotApplicable, match=r"inside nn.MultiheadAttention is out of reach"):
            explainer(model, pictures(2, size=8), Logit(1))
