"""Every explainer on every family, for one image alone as in a batch."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.bench.families import FAMILIES, build
from assay.core.errors import NotApplicable
from assay.core.targets import Logit
from assay.explain import EXPLAINERS
from assay.explain.base import Explainer
from assay.explain.passes import Derived, together
from tests.families.test_families import QUICK

CASES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.families) for name in FAMILIES]
ATTENTION = ("attention-rollout", "transformer-attribution")
# One pass for each channel: of a layer with three, the pixels themselves.
BY_CHANNEL = ("score-cam", "ablation-cam")
# All of whose attentions are of all tokens to all tokens.
ATTENTIVE = {
    "beit", "cpubone", "deepseek_vit", "deit", "eva", "gemma4_vit", "lowformer", "naflexvit", "qwen3_vit",
    "vision_transformer", "vision_transformer_hybrid", "vision_transformer_relpos", "vitamin",
}  # fmt: skip
# Small numbers of passes; of other settings than these, none changes how many there are.
FEW: dict[str, Any] = {"steps": 2, "samples": 2, "count": 4, "segments": "grid"}


def few(name: str, size: int) -> Explainer:
    """The method with as few passes as it takes."""
    record: Explainer = EXPLAINERS.parse(name)
    values = {**FEW, "window": size // 2, "stride": size // 2}
    if name in BY_CHANNEL:
        values["layer"] = "0"
    known = {field.name for field in dataclasses.fields(record)}  # type: ignore[arg-type]
    return dataclasses.replace(record, **{key: value for key, value in values.items() if key in known})  # type: ignore[type-var]


def heatmaps(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The maps of all methods that have a meaning on the network."""
    target, heats, shared = Logit(torch.tensor([3, 7])[: len(images)]), dict[str, Tensor](), dict[str, Derived]()
    for name in EXPLAINERS:
        method = few(name, images.shape[-1])
        try:
            if isinstance(method, Derived):
                method.requests(model, images)
                shared[name] = method
            else:
                heats[name] = method(
                    nn.Sequential(nn.Identity(), model) if name in BY_CHANNEL else model, images, target
                )
        except NotApplicable:
            assert name in ("cam", *ATTENTION), name
    return {**heats, **dict(zip(shared, together(list(shared.values()), model, images, target), strict=True))}


@pytest.mark.parametrize("name", CASES)
def test_every_explainer_gives_an_image_the_same_map_alone_and_in_a_batch(name: str) -> None:
    """In double precision, since a rounding may switch a ReLU."""
    model, size = build(name).double(), FAMILIES[name].size
    images = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    both, alone = heatmaps(model, images), heatmaps(model, images[:1])
    assert both.keys() == alone.keys() >= set(EXPLAINERS) - {"cam", *ATTENTION}
    assert set(ATTENTION) <= both.keys() if name in ATTENTIVE else not set(ATTENTION) & both.keys()
    for method in ("saliency", "input-x-gradient", "hires-cam", "occlusion"):
        assert (both[method].amax((1, 2)) > both[method].amin((1, 2))).all(), method
    for method, heat in both.items():
        assert heat.shape == (2, size, size)
        assert heat.isfinite().all(), method
        assert heat.dtype == torch.float32
        scale = heat.abs().amax().item()
        assert (alone[method][0] - heat[0]).abs().amax().item() <= 1e-5 * scale, method
