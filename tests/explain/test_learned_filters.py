"""First-layer filters are the weights; Gabor functions are recognised, noise is not."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.bench.models import load
from assay.bench.zoo.nets import MLP
from assay.core.errors import NotApplicable
from assay.explain.representation.filters import class_templates, first_filters, gabors, layer_weights, tiles
from tests.explain.models import Linear, pictures, small_cnn, small_vit, state


def test_filters_are_the_weights_and_the_model_is_left_as_it_was() -> None:
    for model, weight in ((small_cnn(), "stem.0.weight"), (small_vit(), "patch_embed.proj.weight")):
        before = state(model)
        found = first_filters(model, pictures(1))
        assert f"{found.name}.weight" == weight
        assert torch.equal(found.weights, model.get_parameter(weight))
        assert state(model) == before


@pytest.mark.parametrize("common", [True, False])
def test_tiles_hold_the_weights_exactly_after_the_stated_scaling(common: bool) -> None:
    weights = first_filters(load("zoo:repvgg"), torch.zeros(1, 3, 96, 96)).weights.double()
    found = tiles(weights, common=common)
    back = (found.pixels - 0.5) * 2 * found.scale[:, None, None, None]
    torch.testing.assert_close(back, weights, rtol=0, atol=1e-15)
    assert found.pixels.amin() >= 0
    assert found.pixels.amax() <= 1
    assert len(set(found.scale.tolist())) == (1 if common else len(weights))


def test_filters_that_are_all_zero_are_grey() -> None:
    assert torch.equal(tiles(torch.zeros(2, 3, 4, 4), common=False).pixels, torch.full((2, 3, 4, 4), 0.5))


class Rearranged(nn.Module):
    """Reads the pixels ``how``: blocks as channels, patches as rows, all in a row, or their frequencies."""

    def __init__(self, how: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how = how
        self.body = nn.Conv2d(12, 5, 3, padding=1) if how == "blocks" else nn.Linear(768 if how == "row" else 48, 5)

    def forward(self, images: Tensor) -> Tensor:
        if self.how == "blocks":
            return self.body(nn.functional.pixel_unshuffle(images, 2)).mean((2, 3))  # type: ignore[no-any-return]
        if self.how == "row":
            return self.body(images.movedim(1, -1).flatten(1))  # type: ignore[no-any-return]
        if self.how == "frequencies":
            images = torch.fft.rfft2(images, norm="ortho").abs()[..., :8].repeat(1, 1, 1, 2)
        patches = images.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)
        return self.body(patches).mean(1)  # type: ignore[no-any-return]


@pytest.mark.parametrize(("how", "shape"), [("blocks", (6, 6)), ("patches", (4, 4)), ("row", (16, 16))])
def test_weights_stand_at_the_pixels_that_they_multiply(how: str, shape: tuple[int, int]) -> None:
    """The derivative of a unit is its weights, each at its pixel."""
    model, images = Rearranged(how), torch.rand(1, 3, 16, 16).requires_grad_(True)
    found = first_filters(model, images)
    assert found.weights.shape == (5, 3, *shape)
    outputs: list[Tensor] = []
    handle = model.body.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    model(images)
    handle.remove()
    units = {"blocks": lambda o: o[0, :, 4, 4], "patches": lambda o: o[0, 8], "row": lambda o: o[0]}[how](outputs[0])
    for unit, weight in zip(units, found.weights, strict=True):
        (gradient,) = torch.autograd.grad(unit, images, retain_graph=True)
        rows, columns = ((gradient[0] != 0).any(0).any(axis).nonzero().flatten() for axis in (1, 0))
        assert torch.equal(gradient[0, :, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1], weight)


def test_what_reads_no_single_pixels_has_no_picture() -> None:
    with pytest.raises(NotApplicable, match="body reads something else than single pixels"):
        first_filters(Rearranged("frequencies"), torch.zeros(1, 3, 16, 16))


def test_what_averages_pixels_first_has_its_weights_at_each_of_them() -> None:
    torch.manual_seed(0)
    model = MLP(10, size=64, hidden=8)
    found = first_filters(model, torch.zeros(1, 3, 64, 64)).weights
    blocks = model.layers[0].weight.reshape(8, 3, 32, 32).repeat_interleave(2, 2).repeat_interleave(2, 3)  # type: ignore[operator]
    assert torch.equal(found, blocks)


def test_deeper_weights_come_as_they_are() -> None:
    model = small_cnn()
    assert torch.equal(layer_weights(model, "body"), model.body.weight)
    assert torch.equal(layer_weights(model, "head")[:, :, 0, 0], model.head.weight)
    with pytest.raises(NotApplicable, match=r"'stem\.2' is no convolution"):
        layer_weights(model, "stem.2")


def test_class_templates_of_a_linear_network_are_its_weights() -> None:
    model = Linear()
    torch.testing.assert_close(class_templates(model, pictures(3, size=8), torch.tensor([2, 0])), model.w[[2, 0]])


def synthetic(angle: float, frequency: float, size: int = 11, seed: int = 0) -> np.ndarray:
    """A Gabor function in three colours, of other phases and amplitudes each, its centre off the middle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] - (size - 1) / 2 + rng.uniform(-1, 1, (2, 1, 1))
    u = x * np.cos(angle) + y * np.sin(angle)
    v = y * np.cos(angle) - x * np.sin(angle)
    envelope = np.exp(-0.5 * ((u / 2.2) ** 2 + (v / 2.8) ** 2))
    phases, amplitudes = rng.uniform(0, 2 * np.pi, 3), rng.uniform(0.5, 2, 3)
    return np.stack(
        [a * envelope * np.cos(2 * np.pi * frequency * u + p) for a, p in zip(amplitudes, phases, strict=True)]
    )


def test_gabor_functions_are_recognised() -> None:
    wanted = [(0.3, 0.15), (1.2, 0.22), (1.8, 0.3), (2.7, 0.18)]
    found = gabors(np.stack([synthetic(*each, seed=i) for i, each in enumerate(wanted)]), noise=20)
    assert (found.quality > 0.999).all()
    np.testing.assert_allclose(found.orientation, np.degrees([angle for angle, _ in wanted]), atol=1)
    np.testing.assert_allclose(found.frequency, [frequency for _, frequency in wanted], atol=0.005)
    assert found.share == 1


def test_noise_is_not_like_a_gabor_function() -> None:
    found = gabors(np.random.default_rng(7).standard_normal((20, 3, 11, 11)), noise=20)
    assert found.chance < 0.2
    assert np.median(found.quality) < found.chance
    assert found.share < 0.25


def test_quality_falls_with_noise_and_is_not_there_without_a_shape() -> None:
    clean = synthetic(0.8, 0.2)
    noise = np.random.default_rng(0).standard_normal(clean.shape) * clean.std()
    found = gabors(np.stack([clean + 3 * clean.mean(), clean + noise, np.ones_like(clean)]), noise=5)
    assert found.quality[0] > 0.999, "an offset of a colour is no misfit"
    assert 0.4 < found.quality[1] < 0.7, "half of the variance is noise"
    assert np.isnan(found.quality[2])
    small = gabors(np.random.default_rng(0).standard_normal((2, 3, 3, 3)))
    assert np.isnan([*small.quality, small.chance, small.share]).all(), "six shape parameters fit nine weights"


def test_trained_filters_are_more_like_gabor_functions_than_random_ones() -> None:
    trained = first_filters(load("zoo:vit"), torch.zeros(1, 3, 96, 96)).weights[:8].double().numpy()
    random = np.random.default_rng(1).standard_normal(trained.shape)
    learned, drawn = gabors(trained, noise=12), gabors(random, noise=12)
    assert np.median(learned.quality) > 0.25 > 3 * np.median(drawn.quality)
    assert learned.share > 0.9 > 0.4 > drawn.share
