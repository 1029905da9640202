"""Class pictures, channels, inversions and dreams of twelve families, four of them transformers."""

import pytest
import torch
from torch import Tensor

from assay.bench.families import FAMILIES, build
from assay.bench.models import Subject
from assay.core.errors import NotApplicable
from assay.core.layers import activations
from assay.core.probe import default_layer
from assay.core.targets import CodeDistance, LayerNorm2, Logit
from assay.synthesis import DeepDream, Invert, Visualize
from assay.synthesis.tiles import takes

TRANSFORMERS = ("vision_transformer", "deit", "swin_transformer", "cait")
NAMES = (
    "resnet", "convnext", "efficientnet", "byobnet", "densenet", "mobilenetv3", "nfnet", "ghostnet", *TRANSFORMERS,
)  # fmt: skip
FIXED = "deit"  # takes no other size than its own


def subject(name: str) -> Subject:
    side = FAMILIES[name].size
    return Subject(build(name), name=name, input_size=(3, side, side), mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> Subject:
    return subject(request.param)


def images(model: Subject, times: float = 1.0) -> Tensor:
    side = round(model.input_size[1] * times)
    rough = torch.rand(1, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(rough, (side, side), mode="bicubic").clamp(0, 1)


STILL = {"jitter": 0.0, "degrees": 0.0, "scale": 0.0, "steps": 10}  # so that the history is of one view


def test_a_class(model: Subject) -> None:
    art = Visualize(**STILL)(model, Logit(torch.tensor([3, 7])))  # type: ignore[arg-type]
    assert art.images.shape == (2, *model.input_size)
    assert (art.history[-1] > art.history[0]).all()


def test_a_channel(model: Subject) -> None:
    layer = default_layer(model, images(model))
    with torch.no_grad():
        living = activations(model, images(model), layer)[0].std((1, 2)).topk(2).indices
    art = Visualize(**STILL)(model, LayerNorm2(layer, living))  # type: ignore[arg-type]
    assert (art.history[-1] > art.history[0]).all()


def test_an_inversion(model: Subject) -> None:
    layer = default_layer(model, images(model))
    given = images(model)
    art = Invert(layer=layer, steps=40, tv=0.0)(model, given)
    with torch.no_grad():
        target = CodeDistance(layer, activations(model, given, layer))
        start = Invert(layer=layer, steps=1, tv=0.0)(model, given)
        assert target(model, art.images) < 0.9 * target(model, start.images)


@pytest.mark.parametrize("times", [1.0, 1.5])
def test_a_dream_of_any_size(model: Subject, times: float) -> None:
    given = images(model, times)
    art = DeepDream(octaves=2, steps=4, jitter=0)(model, given)
    assert art.images.shape == given.shape
    assert art.history[-1] > art.history[-4]  # within the last octave


def test_one_of_them_has_a_fixed_size() -> None:
    model = subject(FIXED)
    side = model.input_size[1]
    assert takes(model, (3, side, side))
    assert not takes(model, (3, 2 * side, side))


def test_what_has_no_grid_says_so() -> None:
    plain = Subject(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 5)),
        name="plain", input_size=(3, 4, 4), mean=(0,) * 3, std=(1,) * 3,
    )  # fmt: skip
    with pytest.raises(NotApplicable, match="no layer with a live grid"):
        DeepDream()(plain, torch.rand(1, 3, 4, 4))
