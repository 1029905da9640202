"""Equality with zennit where a ReLU's input also feeds a skip path, which captum gets wrong."""

import warnings

import captum.attr
import pytest
import torch
import zennit.composites
from torch import Tensor, nn

from assay.core.targets import Logit
from assay.explain import Deconvnet, GuidedBackprop
from tests.explain.models import built, pictures

LABELS = torch.tensor([8])
ARCHITECTURES = [
    pytest.param("legacy_xception", {}, id="legacy_xception"),
    pytest.param("xception41", {}, id="xception41"),
    pytest.param("nasnetalarge", {"stem_size": 8, "num_features": 288}, id="nasnet"),
    pytest.param("pnasnet5large", {}, id="pnasnet", marks=pytest.mark.slow),  # 82 million parameters, no smaller one
]


@pytest.mark.parametrize(("name", "settings"), ARCHITECTURES)
def test_guided_and_deconvnet(name: str, settings: dict[str, int]) -> None:
    model, images = built(name, **settings), pictures(1, size=96 if "nasnet" in name else 72)
    guided = by_zennit(zennit.composites.GuidedBackprop(), model, images)
    deconvnet = by_zennit(zennit.composites.DeconvNet(), model, images)
    assert_same(GuidedBackprop()(model, images, LABELS), guided)
    assert_same(Deconvnet()(model, images, LABELS), deconvnet)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.attr.GuidedBackprop(model).attribute(images, target=LABELS).abs().amax(1)
    assert (theirs - guided).abs().max() > 0.1 * guided.abs().max()


def by_zennit(composite: zennit.composites.Composite, model: nn.Module, images: Tensor) -> Tensor:
    images = images.clone().requires_grad_(True)
    gradient: Tensor
    with composite.context(model) as hooked:
        (gradient,) = torch.autograd.grad(Logit(LABELS)(hooked, images).sum(), images)
    return gradient.abs().amax(1)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-5 of the map's largest value."""
    scale = theirs.abs().max()
    assert scale > 0
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5)


def test_the_hand_worked_example() -> None:
    """relu(h) (1, -2) + h (-3, -1) at h = (1, 1) has [-2, -1] by definition; captum gives [0, 0] and [1, 0]."""
    model = Skip().eval()
    h = torch.ones(1, 2, 1, 1)
    for composite in (zennit.composites.GuidedBackprop(), zennit.composites.DeconvNet()):
        x = h.clone().requires_grad_(True)
        with composite.context(model) as hooked:
            (gradient,) = torch.autograd.grad(hooked(x).sum(), x)
        assert gradient.flatten().tolist() == [-2, -1]
    for explainer in (GuidedBackprop(), Deconvnet()):
        assert explainer(model, h, Logit(0)).tolist() == [[[2]]]  # the largest absolute value over channels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert captum.attr.GuidedBackprop(model).attribute(h, target=0).flatten().tolist() == [0, 0]
        assert captum.attr.Deconvolution(model).attribute(h, target=0).flatten().tolist() == [1, 0]


class Skip(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        h = images * 1
        both = self.relu(h) * h.new_tensor([1, -2]).view(2, 1, 1) + h * h.new_tensor([-3, -1]).view(2, 1, 1)
        logits: Tensor = both.sum((1, 2, 3))[:, None]
        return logits
