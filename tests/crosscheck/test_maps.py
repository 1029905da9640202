"""Our maps of a layer against those of pytorch-grad-cam, before it stretches them to [0, 1], and where it differs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.layers import find, find_layout, record, to_grid
from assay.core.probe import default_layer
from assay.explain import EXPLAINERS, Explainer
from tests.explain.models import built, pictures

pytestmark = pytest.mark.crosscheck
peer = pytest.importorskip("pytorch_grad_cam")

LABELS = torch.tensor([3, 8])
SIZE = 64
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "test_efficientnet": {},
    "test_convnext": {},
    "test_vit": {"img_size": SIZE},
    "resnet18": {},
}
PEERS = {
    "grad-cam": "GradCAM",
    "grad-cam-plus-plus": "GradCAMPlusPlus",
    "xgrad-cam": "XGradCAM",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "eigen-cam(centred=True)": "EigenCAM",
    "score-cam": "ScoreCAM",
}
UNITS = {"GradCAMPlusPlus": 1e-6, "XGradCAM": 1e6}  # of A, in which the 1e-6 and 1e-7 that they add are nothing


@pytest.fixture(scope="module", params=ARCHITECTURES)
def model(request: pytest.FixtureRequest) -> nn.Module:
    """In double precision: sums of both signs cancel."""
    return built(request.param, **ARCHITECTURES[request.param]).double()


@pytest.fixture(autouse=True)
def corners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Score-CAM there enlarges its masks with corners aligned, unlike the authors' code and ours."""
    monkeypatch.setattr(torch.nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size, mode="bilinear"))


def images() -> Tensor:
    return pictures(2, size=SIZE).double()


def theirs(name: str, model: nn.Module, unit: float = 1.0) -> Tensor:
    """Their map (N, h, w) with its signs, at the layer that we choose, its weights from A in another unit."""
    layer = default_layer(model, images())
    cls = getattr(peer, PEERS[name])
    raw: list[Any] = []

    class Raw(cls):  # type: ignore[misc, valid-type]
        def get_cam_image(self, *arguments: Any, **settings: Any) -> Any:
            raw.append(super().get_cam_image(*arguments, **settings))
            return raw[-1]

        def get_cam_weights(self, x: Any, layers: Any, targets: Any, values: Any, gradient: Any) -> Any:
            gradient = None if gradient is None else gradient / unit
            return super().get_cam_weights(x, layers, targets, values * unit, gradient) * unit

    targets = [lambda logits, label=label: logits[label] for label in LABELS.tolist()]
    with Raw(model, [find(model, layer)], reshape_transform=reader(model, layer)) as cam:
        cam(images(), targets)
    return torch.from_numpy(raw[0])


def reader(model: nn.Module, layer: str) -> Callable[[Tensor], Tensor]:
    with torch.no_grad(), record(model, layer) as outputs:
        model(images())
    layout = find_layout(model, layer, outputs[layer], images())
    return lambda tensor: to_grid(tensor, layout)


def enlarged(grid: Tensor) -> Tensor:
    return F.interpolate(grid[:, None], (SIZE, SIZE), mode="bilinear", align_corners=False).squeeze(1)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Within 1e-5 of each map's largest value; a map that the ReLU empties is empty in both."""
    scale = theirs.abs().amax((1, 2), keepdim=True)
    assert scale.max() > 0
    scale = torch.where(scale > 0, scale, 1)
    torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-5, check_dtype=False)


@pytest.mark.parametrize("name", PEERS)
def test_maps(name: str, model: nn.Module) -> None:
    explainer: Explainer = EXPLAINERS.parse(name)
    ours, raw = explainer(model, images(), LABELS), theirs(name, model, UNITS.get(PEERS[name], 1.0))
    if name.startswith("eigen"):  # the sign is defined nowhere
        same = (enlarged(raw) * ours).sum((1, 2)).sign()
        raw = raw * same[:, None, None]
    assert_same(ours, enlarged(raw if explainer.signed else raw.relu()))


def test_the_final_picture_is_ours_stretched(model: nn.Module) -> None:
    """What their call returns: the ReLU, stretched to [0, 1], enlarged by OpenCV and stretched again."""
    layer = default_layer(model, images())
    targets = [lambda logits, label=label: logits[label] for label in LABELS.tolist()]
    with peer.LayerCAM(model, [find(model, layer)], reshape_transform=reader(model, layer)) as cam:
        final = torch.from_numpy(cam(images(), targets))
    ours = EXPLAINERS.parse("layer-cam")(model, images(), LABELS)
    low, high = ours.amin((1, 2), keepdim=True), ours.amax((1, 2), keepdim=True)
    torch.testing.assert_close((ours - low) / (high - low), final, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["grad-cam-plus-plus", "xgrad-cam"])
def test_what_they_add_to_the_denominator_matters(name: str) -> None:
    """Where g^2 or the sum of A is not far above it, as in this network."""
    model = built("test_efficientnet").double()
    exact, added = (theirs(name, model, unit).relu() for unit in (UNITS[PEERS[name]], 1.0))
    assert (exact - added).abs().max() > 1e-4 * exact.abs().max()
