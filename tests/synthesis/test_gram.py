"""Gram matrices and the textures made of them, against closed forms."""

import math
import sys
from dataclasses import FrozenInstanceError, replace
from typing import Literal

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core import layers
from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import GramDistance, gram
from assay.synthesis.gram import (
    CONTRAST,
    Seen,
    TextureSynthesis,
    gram_loss,
    layer_weights,
    noise_like,
    roughness,
    style_layers,
)
from assay.synthesis.tiles import resized, windows
from tests.bench.real import REAL, needed
from tests.synthesis.pyramid import Fixed, Pyramid, pictures, state_of

NAMES = ("first", "second", "third")
QUICK = TextureSynthesis(steps=12, scales=1)


@pytest.fixture
def model() -> nn.Module:
    return Pyramid().eval()


def features(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def distance(images: Tensor, sample: Tensor, model: nn.Module) -> Tensor:
    grams = tuple(gram(grid) for grid in layers.many_activations(model, sample, NAMES))
    return GramDistance(NAMES, grams)(model, images)


def test_the_distance_is_gatys(model: nn.Module) -> None:
    """Eq. 4 of the paper by its sums, for pictures of one size; the mean squared error of G / M is 4 E."""
    images, sample = pictures(2), pictures(1, seed=1)
    expected, errors = torch.zeros(2), torch.zeros(2)
    for name in NAMES:
        own, wanted = layers.activations(model, images, name), layers.activations(model, sample, name)
        n, m = own.shape[1], math.prod(own.shape[2:])
        g = torch.einsum("nchw,ndhw->ncd", own, own)
        a = torch.einsum("nchw,ndhw->ncd", wanted, wanted)
        expected += (g - a).square().sum((1, 2)) / (4 * n**2 * m**2)
        errors += F.mse_loss(g / m, (a / m).expand_as(g), reduction="none").mean((1, 2)) / 4
    torch.testing.assert_close(distance(images, sample, model), expected)
    torch.testing.assert_close(errors, expected)


def test_mean_squared_errors_of_other_projects() -> None:
    f, own = features(1, 5, 6, 7), features(1, 5, 6, 7, seed=1)
    e = ((gram(f) - gram(own)) * 42).square().sum() / (4 * 5**2 * 42**2)
    assert F.mse_loss(gram(f), gram(own)).item() == pytest.approx(4 * e.item())
    assert F.mse_loss(gram(f) / 5, gram(own) / 5).item() == pytest.approx(4 * e.item() / 5**2)


def test_the_distance_of_scaled_activations_is_the_scales_fourth_power() -> None:
    f, own = features(2, 5, 6, 7), features(2, 5, 6, 7, seed=1)
    e, scaled = ((gram(s * f) - gram(s * own)).square().sum() for s in (1.0, 3.0))
    assert scaled.item() == pytest.approx(81 * e.item())


def test_gram_matrices_know_no_places_and_are_positive() -> None:
    f = features(2, 5, 6, 7)
    shuffled = f.flatten(2)[:, :, torch.randperm(42, generator=torch.Generator().manual_seed(0))].view_as(f)
    torch.testing.assert_close(gram(shuffled), gram(f))
    torch.testing.assert_close(gram(f), gram(f).transpose(1, 2))
    assert torch.linalg.eigvalsh(gram(f)).min() > -1e-12


def test_a_picture_laid_beside_itself_has_its_own_matrices() -> None:
    f = features(1, 5, 6, 7)
    torch.testing.assert_close(gram(torch.cat([f, f], 3)), gram(f))


def test_the_distance_holds_one_sample_for_each_image(model: nn.Module) -> None:
    images, samples = pictures(3), pictures(3, 30, 18, seed=2)
    grams = tuple(gram(grid) for grid in layers.many_activations(model, samples, NAMES))
    target = GramDistance(NAMES, grams)
    assert target.count == 3
    one_by_one = torch.cat([distance(images[i : i + 1], samples[i : i + 1], model) for i in range(3)])
    torch.testing.assert_close(target(model, images), one_by_one)
    index = torch.tensor([2, 0])
    torch.testing.assert_close(target[index](model, images[index]), one_by_one[index])
    with pytest.raises(AssayError, match="for 2 and for 3 images"):
        GramDistance(NAMES[:2], (grams[0], grams[1][:2]))


def test_the_loss_is_the_distance_relative_to_the_sample(model: nn.Module) -> None:
    images, sample = pictures(2), pictures(1, seed=1)
    see = Seen(model, NAMES)
    wanted = [gram(grid) for grid in see(sample)]
    parts = [
        GramDistance((name,), (own,))(model, images) * 4 * own.shape[1] ** 2 / own.square().sum()
        for name, own in zip(NAMES, wanted, strict=True)
    ]
    weights = layer_weights((1, 2, 1), NAMES)
    torch.testing.assert_close(
        gram_loss(see(images), wanted, weights), 0.25 * parts[0] + 0.5 * parts[1] + 0.25 * parts[2]
    )
    assert gram_loss(see(sample), wanted, weights).item() == 0
    assert gram_loss([torch.zeros_like(g) for g in see(sample)], wanted, weights).item() == pytest.approx(1)


def test_the_loss_does_not_depend_on_the_scale_of_a_layer() -> None:
    f, own = features(1, 5, 6, 7), features(1, 5, 6, 7, seed=1)
    plain, scaled = (gram_loss([s * f], [gram(s * own)], (1.0,)) for s in (1.0, 1e3))
    torch.testing.assert_close(plain, scaled)


@pytest.mark.parametrize("weights", [(1.0,), (0.0, 0.0, 0.0), (1.0, -1.0, 1.0)])
def test_weights_fit_the_layers(weights: tuple[float, ...], model: nn.Module) -> None:
    with pytest.raises(AssayError, match="for the layers first, second, third"):
        replace(QUICK, layers=NAMES, weights=weights)(model, pictures())


def test_roughness_of_an_impulse() -> None:
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    assert roughness(impulse).item() == pytest.approx(4 / 81)


def test_layers_are_the_last_of_each_grid(model: nn.Module) -> None:
    assert style_layers(model, pictures()) == ("image", "first", "second", "third")
    vgg = timm.create_model("vgg19", mlp_ratio=0.01).eval()
    assert style_layers(vgg, torch.zeros(1, 3, 64, 64)) == ("image", *(f"features.{i}" for i in (3, 8, 17, 26)))


def test_layers_of_one_grid_are_spread_in_depth() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=4, embed_dim=16, num_heads=2)
    chosen = style_layers(vit.eval(), torch.zeros(1, 3, 32, 32))
    assert len(chosen) == 5
    assert chosen[-1] in ("blocks", "blocks.3", "norm")


def test_no_grid_no_texture() -> None:
    with pytest.raises(NotApplicable, match="no layer with a grid"):
        QUICK(nn.Sequential(nn.Flatten(), nn.Linear(3 * 24 * 20, 4)), pictures())


def test_the_picture_itself_is_a_layer(model: nn.Module) -> None:
    images = pictures(2)
    first, own, third = Seen(model, ["first", "image", "third"])(images)
    assert own is images
    torch.testing.assert_close([first, third], layers.many_activations(model, images, ["first", "third"]))
    assert torch.equal(Seen(model, ["image"])(images)[0], images)


def test_windows_cover_the_picture() -> None:
    images = pictures(2, 20, 33)
    cut = windows(images, (16, 16)).view(2, -1, 3, 16, 16)
    assert cut.shape == (2, 2 * 3, 3, 16, 16)
    assert torch.equal(cut[:, 0], images[:, :, :16, :16])
    assert torch.equal(cut[:, -1], images[:, :, -16:, -16:])
    assert torch.equal(cut[1, 1], images[1, :, :16, 8:24])
    assert torch.equal(windows(pictures(2, 16, 16), (16, 16)), pictures(2, 16, 16))
    assert windows(pictures(1, 5, 20), (16, 16)).shape == (2, 3, 16, 16)


def test_a_model_of_a_fixed_size_sees_windows() -> None:
    model = Fixed().eval()
    images = pictures(2, 20, 33)
    (grid,) = Seen(model, ["third"])(images)
    (alone,) = layers.many_activations(model, images[1:, :, -16:, -16:], ["third"])
    assert grid.shape == (2, 16, 6 * 4, 4)
    torch.testing.assert_close(grid[1:, :, -4:], alone)
    art = replace(QUICK, size=(21, 37))(model, images[:, :, :12, :12])
    assert art.images.shape == (2, 3, 21, 37)
    assert art.history[-1].gt(art.history[0]).all()


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(AssayError, match="unknown layer 'fourth'"):
        replace(QUICK, layers=("fourth",))(Fixed(), pictures())


def test_noise_has_the_colours_of_each_image() -> None:
    images = pictures(2)
    noise = noise_like(images, (400, 450), Draws.hashed("work", "ab"))
    assert noise.shape == (2, 3, 400, 450)
    for own, wanted in zip(noise, images, strict=True):
        torch.testing.assert_close(own.mean((1, 2)), wanted.mean((1, 2)), atol=0.01, rtol=0)
        torch.testing.assert_close(own.flatten(1).cov(), CONTRAST**2 * wanted.flatten(1).cov(), atol=2e-5, rtol=0)


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
@pytest.mark.parametrize("size", [None, (40, 44)])
def test_the_texture_takes_the_samples_matrices(
    optimiser: Literal["lbfgs", "adam"], size: tuple[int, int] | None, model: nn.Module
) -> None:
    sample = pictures(2)
    art = replace(QUICK, optimiser=optimiser, size=size, steps=60, step_size=0.05)(model, sample)
    assert art.images.shape == (2, 3, *(size or (24, 20)))
    assert art.history.shape == (60, 2)
    assert 0 <= art.images.min() <= art.images.max() <= 1
    assert (art.history[-1] > 0.2 * art.history[0]).all()  # both negative: the loss fell to a fifth
    see = Seen(model, ("image", *NAMES))
    loss = gram_loss(see(art.images), [gram(grid) for grid in see(sample)], layer_weights(None, see.names))
    torch.testing.assert_close(-art.history[-1], loss, rtol=0.3, atol=1e-4)


def test_the_history_of_quasi_newton_never_falls(model: nn.Module) -> None:
    history = replace(QUICK, steps=30)(model, pictures()).history
    assert (history.diff(dim=0) >= 0).all()


def test_scales_go_from_coarse_to_fine(model: nn.Module) -> None:
    seen: list[tuple[int, ...]] = []
    handle = model.get_submodule("first").register_forward_pre_hook(lambda _, x: seen.append(tuple(x[0].shape[2:])))
    told: list[tuple[int, int]] = []
    method = replace(QUICK, layers=NAMES, scales=4, steps=10, optimiser="adam")
    art = method(model, pictures(1, 70, 130), callback=lambda step, steps, _: told.append((step, steps)))
    handle.remove()
    assert list(dict.fromkeys(seen)) == [(35, 65), (70, 130)]  # below 32 pixels nothing is asked
    assert told == [(i + 1, 10) for i in range(10)]
    assert art.history.shape == (10, 1)


def test_same_draws_same_picture_and_batch_as_one_by_one(model: nn.Module) -> None:
    images = pictures(2)
    before = images.clone()
    batch = QUICK(model, images, Draws.hashed("work", "ab"))
    assert torch.equal(images, before)
    for i, name in enumerate("ab"):
        alone = QUICK(model, images[i : i + 1], Draws.hashed("work", [name]))
        torch.testing.assert_close(alone.images[0], batch.images[i])
    assert torch.equal(QUICK(model, images, 3).images, QUICK(model, images, 3).images)
    assert not torch.equal(QUICK(model, images, 3).images, QUICK(model, images, 4).images)


def test_the_model_is_given_back() -> None:
    model = Pyramid().train()
    before = state_of(model)
    QUICK(model, pictures())
    assert state_of(model) == before


def test_a_frozen_record() -> None:
    assert eval(repr(QUICK), vars(sys.modules["assay.synthesis.gram"])) == QUICK
    with pytest.raises(FrozenInstanceError):
        QUICK.steps = 3  # type: ignore[misc]


@pytest.mark.parametrize("settings", [{"steps": 1, "scales": 2}, {"scales": 0}, {"tv": -1.0}, {"step_size": 0.0}])
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(AssayError, match="TextureSynthesis: "):
        TextureSynthesis(**settings)  # type: ignore[arg-type]


@pytest.mark.real
def test_a_real_texture_on_a_zoo_net() -> None:
    from assay.bench.models import load

    with Image.open(needed(REAL / "images" / "style" / "texture_embark_1.jpg")) as picture:
        sample = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[None].float() / 255
    sample = resized(sample, (64, 64))
    art = TextureSynthesis(steps=40, scales=1)(load("zoo:resnet"), sample)
    assert art.history[-1].item() > 0.05 * art.history[0].item()
