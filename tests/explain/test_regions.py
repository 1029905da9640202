"""Which pixels made this region "cat": explanations of segmentation models."""

import pytest
import torch
import torchvision
from torch import Tensor, nn

from assay.core.probe import default_layer
from assay.core.targets import Region
from assay.explain import GradCAM, InputXGradient, Occlusion, Saliency
from tests.core.test_regions import CLASSES, SIZE, Pointwise, images, masks


def test_closed_forms_on_pointwise_convolutions() -> None:
    """A pixel outside the mask explains nothing, one inside exactly its share of the summed logits."""
    model, target = Pointwise(), Region(masks(), CLASSES)
    weights = model.weights()[CLASSES]
    share = torch.einsum("nchw,nc->nhw", images(), weights) * masks()
    torch.testing.assert_close(Saliency()(model, images(), target), weights.abs().amax(1)[:, None, None] * masks())
    torch.testing.assert_close(InputXGradient()(model, images(), target), share)
    occluded = Occlusion(window=1, stride=1, baseline="zero")(model, images(), target)
    torch.testing.assert_close(occluded, share, rtol=1e-4, atol=1e-5)
    head = model.classifier.weight.flatten(1)[CLASSES] * masks().sum((1, 2))[:, None] / SIZE**2
    cam = torch.einsum("nchw,nc->nhw", model.features(images()), head).relu()
    torch.testing.assert_close(GradCAM()(model, images(), target), cam)


@pytest.fixture(scope="module")
def segmenter() -> nn.Module:
    torch.manual_seed(0)
    builder = torchvision.models.segmentation.lraspp_mobilenet_v3_large
    model: nn.Module = builder(weights=None, weights_backbone=None, num_classes=5)
    return model.eval()


def test_a_torchvision_model_is_explained(segmenter: nn.Module) -> None:
    """The default layer is the finest grid that both of the head's branches read; a region moves by what lies near."""
    photos = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :16, :16] = masks[1, -16:, -16:] = True
    target = Region(masks, torch.tensor([1, 3]), key="out", reduce="mean")
    heats: dict[str, Tensor] = {
        "saliency": Saliency()(segmenter, photos, target),
        "occlusion": Occlusion(window=32, stride=32)(segmenter, photos, target),
        "grad-cam": GradCAM()(segmenter, photos, target),
    }
    for name, heat in heats.items():
        assert heat.shape == (2, 64, 64), name
        assert heat.isfinite().all(), name
        assert heat.any(), name
    for i, quarter in enumerate((slice(0, 32), slice(32, 64))):
        near = heats["saliency"][i, quarter, quarter].sum() / heats["saliency"][i].sum()
        assert near > 0.25
    assert default_layer(segmenter, photos).startswith("backbone.")
