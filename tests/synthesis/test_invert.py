"""Inversion: identities, and what is lost with depth."""

import dataclasses

import pytest
import torch

from assay.attacks.rates import ssim
from assay.core.errors import AssayError
from assay.core.layers import activations
from assay.core.targets import CodeDistance
from assay.synthesis import Invert
from tests.synthesis.nets import Net, pictures


def error(net: Net, images: torch.Tensor, layer: str, made: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return CodeDistance(layer, activations(net, images, layer))(net, made)


def test_the_input_layer_gives_the_picture_back() -> None:
    images = pictures(2, 24, 24)
    art = Invert(layer="input")(Net(), images)
    assert torch.equal(art.images, images)
    assert art.history.tolist() == [[0, 0]]


@pytest.mark.parametrize("optimiser", ["momentum", "adam", "lbfgs"])
def test_codes_are_matched(optimiser: str) -> None:
    net, images = Net(), pictures(2, 24, 24)
    method = Invert(layer="body.0", tv=0.0, steps=150, optimiser=optimiser)  # type: ignore[arg-type]
    assert (error(net, images, "body.0", method(net, images).images) < 0.005).all()


def test_a_code_of_zeros_has_error_one() -> None:
    net = Net()
    with torch.no_grad():
        zero = torch.zeros_like(activations(net, pictures(1, 24, 24), "body.4"))
        some = torch.ones_like(zero)
        distance = (zero - some).square().sum() / some.square().sum()
    assert distance == 1  # the normalisation of the paper
    start = Invert(layer="body.4", steps=1)(net, pictures(1, 24, 24))
    assert start.history.shape == (1, 1)


def test_history_is_minus_what_is_minimised() -> None:
    net, images = Net(), pictures(1, 24, 24)
    art = Invert(layer="body.2", tv=0.0, steps=40)(net, images)
    torch.testing.assert_close(-art.history[-1], error(net, images, "body.2", art.images))
    assert (art.history.diff(dim=0) >= 0).all()


def test_total_variation_makes_the_picture_more_like_the_given_one() -> None:
    net, images = Net(), pictures(3, 24, 24)
    with_tv = Invert(layer="body.4", steps=80, tv=10.0)
    plain = dataclasses.replace(with_tv, tv=0.0, optimiser="adam", smoothness=0.0)
    better, worse = (ssim(images, method(net, images).images).mean() for method in (with_tv, plain))
    assert better > worse + 0.1


def test_no_picture_leaves_the_box() -> None:
    dark = (pictures(1, 24, 24) - 0.5).clamp(0, 1)
    art = Invert(layer="body.0", steps=30)(Net(), dark)
    assert art.images.min() >= 0
    assert art.images.max() <= 1


@pytest.mark.parametrize("setting", [{"steps": 0}, {"tv": -1.0}, {"contrast": -0.1}])
def test_impossible_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(AssayError, match="Invert: "):
        Invert(**setting)  # type: ignore[arg-type]
