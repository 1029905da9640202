"""Style transfer against closed forms."""

import sys
from dataclasses import FrozenInstanceError, replace
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.layers import activations
from assay.core.targets import CodeDistance, gram
from assay.synthesis.gram import Seen, gram_loss, layer_weights
from assay.synthesis.scores_style import against_budget, gram_distance, held_out
from assay.synthesis.style_transfer import StyleTransfer, code_loss, grey, luminance, matched_contrast, restore_chroma
from assay.synthesis.tiles import resized
from tests.bench.real import REAL, needed
from tests.synthesis.pyramid import Fixed, Pyramid, pictures, state_of

NAMES = ("first", "second", "third")
QUICK = StyleTransfer(steps=10, scales=1, tv=0.0)


@pytest.fixture
def model() -> nn.Module:
    return Pyramid().eval()


def styles() -> list[Tensor]:
    """Of different sizes, one of them without a batch."""
    return [pictures(1, 30, 26, seed=5), pictures(1, 18, 24, seed=6)[0]]


def test_losses_are_nothing_at_what_they_aim_at(model: nn.Module) -> None:
    images = pictures(2)
    losses = QUICK.losses(model, images, images, styles())
    assert torch.equal(losses.content, torch.zeros(2))
    assert (losses.style > 0).all()
    itself = QUICK.losses(model, images[:1], images[1:], [images[0]])
    assert itself.style.item() == 0
    assert itself.content.item() > 0


def test_losses_are_those_of_the_targets(model: nn.Module) -> None:
    made, images, style = pictures(2, seed=3), pictures(2), pictures(1, seed=4)
    losses = replace(QUICK, style_layers=NAMES, layer_weights=(3.0, 0.0, 1.0)).losses(model, made, images, [style])
    content = CodeDistance("second", activations(model, images, "second").detach())(model, made)
    torch.testing.assert_close(losses.content, content)
    see = Seen(model, NAMES)
    wanted = [gram(grid) for grid in see(style)]
    torch.testing.assert_close(losses.style, gram_loss(see(made), wanted, (0.75, 0.0, 0.25)))


def test_losses_do_not_depend_on_the_scale_of_a_layer(model: nn.Module) -> None:
    """So weights mean the same for models whose activations are of another size."""
    args = pictures(1, seed=3), pictures(1), styles()
    plain = QUICK.losses(model, *args)
    with torch.no_grad():
        for parameter in model.get_submodule("third").parameters():
            parameter.mul_(100)
        next(model.get_submodule("second").parameters()).mul_(7)
        model.get_submodule("second.0").bias.mul_(7)  # type: ignore[operator]
        model.get_submodule("third.0").bias.mul_(7)  # type: ignore[operator]
    for own, scaled in zip(plain, QUICK.losses(model, *args), strict=True):
        torch.testing.assert_close(scaled, own)


def test_several_styles_are_their_weighted_mean(model: nn.Module) -> None:
    made, images = pictures(2, seed=3), pictures(2)
    first, second = (QUICK.losses(model, made, images, [style]).style for style in styles())
    both = QUICK.losses(model, made, images, styles(), weights=(3, 1)).style
    torch.testing.assert_close(both, 0.75 * first + 0.25 * second)
    torch.testing.assert_close(QUICK.losses(model, made, images, styles(), weights=(1, 0)).style, first)


def test_the_style_is_resized_to_a_share_of_the_content(model: nn.Module) -> None:
    made, images, style = pictures(1, 32, 24, seed=3), pictures(1, 32, 24), pictures(1, 40, 60, seed=4)
    found = replace(QUICK, style_size=0.75).losses(model, made, images, [style]).style
    same = replace(QUICK, style_size=24 / 32).losses(model, made, images, [resized(style, (16, 24))]).style
    torch.testing.assert_close(found, same)
    assert not torch.allclose(found, QUICK.losses(model, made, images, [style]).style)


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_the_style_comes_and_the_content_stays(optimiser: Literal["lbfgs", "adam"], model: nn.Module) -> None:
    images, style = pictures(2), styles()[:1]
    method = replace(QUICK, optimiser=optimiser, steps=50)
    art = method(model, images, style)
    assert art.images.shape == images.shape
    assert art.history.shape == (50, 2)
    assert 0 <= art.images.min() <= art.images.max() <= 1
    losses = method.losses(model, art.images, images, style)
    assert (losses.style < 0.2 * method.losses(model, images, images, style).style).all()
    other = pictures(2, seed=9)
    assert (losses.content < method.losses(model, other, images, style).content).all()
    start = method.losses(model, images, images, style)
    torch.testing.assert_close(art.history[0], -method.style_weight * start.style)
    assert (art.history[-1] > art.history[0]).all()


def test_without_style_weight_the_content_stays_as_it_is(model: nn.Module) -> None:
    images = pictures(1)
    assert torch.equal(replace(QUICK, style_weight=0.0)(model, images, styles()).images, images)


def test_noise_comes_to_the_content(model: nn.Module) -> None:
    images = pictures(1)
    art = replace(QUICK, style_weight=0.0, init="noise", steps=60)(model, images, styles())
    assert art.history[-1].item() > 0.05 * art.history[0].item()
    others = [replace(QUICK, init="noise")(model, images, styles(), seed).images for seed in (0, 0, 1)]
    assert torch.equal(others[0], others[1])
    assert not torch.equal(others[0], others[2])


def test_luminance_and_chroma() -> None:
    images = pictures(2)
    torch.testing.assert_close(luminance(torch.ones(1, 3, 2, 2)), torch.ones(1, 1, 2, 2))
    torch.testing.assert_close(grey(images)[:, 1], luminance(images)[:, 0])
    assert luminance(images[:, :1]).equal(images[:, :1])
    made = restore_chroma(0.8 * images + 0.1, 0.6 * images + 0.2)
    red_green = made[:, 0] - made[:, 1]
    torch.testing.assert_close(red_green, 0.6 * (images[:, 0] - images[:, 1]))
    torch.testing.assert_close(restore_chroma(images, images), images)


def test_contrast_is_matched_to_each_image() -> None:
    images, style = 0.2 * grey(pictures(2)) + 0.4, grey(pictures(1, seed=4))
    matched = matched_contrast(style, images)
    torch.testing.assert_close(matched.mean((1, 2, 3)), images.mean((1, 2, 3)))
    torch.testing.assert_close(matched.std((1, 2, 3)), images.std((1, 2, 3)))


def test_the_contents_colours_are_kept(model: nn.Module) -> None:
    images = 0.5 * pictures(1) + 0.25
    method = replace(QUICK, colours="content", steps=30)
    art = method(model, images, styles())
    inside = ((art.images > 0) & (art.images < 1)).all(1)
    assert inside.float().mean() > 0.5
    for a, b in ((0, 1), (1, 2)):
        kept = (art.images[:, a] - art.images[:, b])[inside]
        torch.testing.assert_close(kept, (images[:, a] - images[:, b])[inside], atol=1e-5, rtol=0)
    assert not torch.allclose(art.images, images, atol=0.02)
    assert method.losses(model, images, images, styles()).content.item() == pytest.approx(0, abs=1e-9)


def test_grey_pictures_have_one_channel() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, 1, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, 1, 1), nn.Flatten(), nn.Linear(400, 2)
    )
    images = pictures(1, 10, 10)[:, :1]
    for method in (QUICK, replace(QUICK, colours="content")):
        assert method(model, images, [1 - images]).images.shape == images.shape


def test_a_model_of_a_fixed_size_takes_any_picture() -> None:
    art = replace(QUICK, scales=2)(Fixed(), pictures(1, 66, 70), styles())
    assert art.images.shape == (1, 3, 66, 70)
    assert art.history[-1] > art.history[5]


def test_batch_as_one_by_one_and_nothing_touched(model: nn.Module) -> None:
    images, given = pictures(2), styles()
    copies = [each.clone() for each in (images, *given)]
    method = replace(QUICK, init="noise", colours="content")
    batch = method(model, images, given, Draws.hashed("work", "ab"))
    assert all(torch.equal(*pair) for pair in zip(copies, (images, *given), strict=True))
    for i, name in enumerate("ab"):
        alone = method(model, images[i : i + 1], given, Draws.hashed("work", [name]))
        torch.testing.assert_close(alone.images[0], batch.images[i], atol=1e-4, rtol=0)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_given_back(fails: bool) -> None:
    model = Pyramid().train()
    before = state_of(model)
    if fails:
        with pytest.raises(AssayError, match="unknown layer"):
            replace(QUICK, content_layers=("nowhere",))(model, pictures(), styles())
    else:
        QUICK(model, pictures(), styles())
    assert state_of(model) == before


@pytest.mark.parametrize(
    ("given", "weights", "message"),
    [
        ([], None, "for 0 styles"),
        ([pictures(2)], None, "a style is one picture of 3 channels"),
        ([pictures(1)[:, :1]], None, "a style is one picture of 3 channels"),
        ([2 * pictures(1)], None, r"lie in \[0, 1\]"),
        ([pictures(1)], (1, 2), "for 1 styles"),
        ([pictures(1)], (0,), "not all 0"),
    ],
)
def test_wrong_styles(given: list[Tensor], weights: tuple[int, ...] | None, message: str, model: nn.Module) -> None:
    with pytest.raises(AssayError, match=message):
        QUICK(model, pictures(), given, weights=weights)


@pytest.mark.parametrize("settings", [{"style_weight": -1.0}, {"style_size": 0.0}, {"steps": 0}, {"tv": -1.0}])
def test_settings_out_of_range(settings: dict[str, float]) -> None:
    with pytest.raises(AssayError, match="StyleTransfer: "):
        StyleTransfer(**settings)  # type: ignore[arg-type]


def test_a_frozen_record() -> None:
    assert eval(repr(QUICK), vars(sys.modules["assay.synthesis.style_transfer"])) == QUICK
    with pytest.raises(FrozenInstanceError):
        QUICK.steps = 3  # type: ignore[misc]


def test_code_loss_of_nothing_is_one() -> None:
    wanted = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(code_loss(torch.zeros(2, 3, 4, 5), wanted), torch.ones(2))


def test_held_out_layers_and_their_distance(model: nn.Module) -> None:
    images = pictures(2)
    held = held_out(model, images, NAMES)
    assert held
    assert not set(held) & set(NAMES)
    assert held_out(model, images, ("third",))[-1] != "third"
    assert torch.equal(gram_distance(model, images[:1], images[:1], held), torch.zeros(1))
    larger = torch.cat([images, images], 3)
    by_layer = torch.stack([gram_distance(model, larger, images, [name]) for name in NAMES]).mean(0)
    torch.testing.assert_close(gram_distance(model, larger, images, NAMES), by_layer)
    with pytest.raises(AssayError, match="2 pictures and 3 samples"):
        gram_distance(model, images, pictures(3))


def test_losses_against_the_budget(model: nn.Module) -> None:
    few, many = against_budget(QUICK, model, pictures(2), styles(), [4, 40])
    assert (few.steps, many.steps) == (4, 40)
    assert min(few.seconds, many.seconds) > 0
    total = [QUICK.content_weight * each.content + QUICK.style_weight * each.style for each in (few, many)]
    assert (total[1] < total[0]).all()


@pytest.mark.real
def test_a_real_painting_on_a_zoo_net() -> None:
    from assay.bench.models import load

    def read(name: str, size: tuple[int, int]) -> Tensor:
        with Image.open(needed(REAL / "images" / "style" / name)) as picture:
            pixels = torch.from_numpy(np.array(picture.convert("RGB").reduce(8)))
        return resized(pixels.permute(2, 0, 1)[None].float() / 255, size)

    images, style = read("content_tuebingen_neckarfront.jpg", (48, 64)), read("vangogh_starry_night_1889.jpg", (48, 60))
    subject = load("zoo:resnet")
    art = replace(QUICK, steps=30)(subject, images, [style])
    first, last = (QUICK.losses(subject, made, images, [style]).style.item() for made in (images, art.images))
    assert last < 0.3 * first


def test_weights_of_layers_sum_to_one() -> None:
    assert layer_weights(None, NAMES) == pytest.approx((1 / 3,) * 3)
    assert layer_weights((2, 1, 1), NAMES) == (0.5, 0.25, 0.25)
