"""DeepDream: the identities of its step, octaves, guides, windows and tiles."""

import pytest
import torch
from torch import nn

from assay.core.errors import AssayError
from assay.core.layers import activations
from assay.core.targets import LayerNorm2, gradient
from assay.synthesis import DeepDream
from assay.synthesis.tiles import margin, slope, slope_by_tiles, slope_by_windows
from assay.synthesis.transforms import roll
from tests.synthesis.nets import Fixed, Net, pictures

ONE = {"octaves": 1, "steps": 1, "jitter": 0}


def test_a_steps_mean_size_is_the_step_size() -> None:
    net, images = Net(), pictures(3, 30, 36)
    change = DeepDream().step(gradient(LayerNorm2("body.3"), net, images))
    torch.testing.assert_close(change.abs().mean((1, 2, 3)), torch.full((3,), 1.5 / 255))


def test_mean_square_and_norm_give_the_same_step() -> None:
    net, images, method = Net(), pictures(2, 30, 36), DeepDream(step_size=0.1)
    half = method.step(gradient(LayerNorm2("body.3"), net, images))
    mean = method.step(gradient(lambda m, x: activations(m, x, "body.3").square().mean((1, 2, 3)), net, images))
    norm = method.step(gradient(lambda m, x: activations(m, x, "body.3").flatten(1).norm(dim=1), net, images))
    torch.testing.assert_close(half, mean)
    torch.testing.assert_close(half, norm)


def test_one_step_by_hand() -> None:
    net, images = Net(), pictures(2, 30, 36)
    by_hand = (images + DeepDream().step(gradient(LayerNorm2("body.2"), net, images))).clamp(0, 1)
    torch.testing.assert_close(DeepDream(layer="body.2", **ONE)(net, images).images, by_hand)


def test_rolling_back_a_roll_is_the_identity() -> None:
    images, shifts = pictures(2, 12, 15), torch.tensor([[3, -4], [0, 7]])
    assert torch.equal(roll(roll(images, shifts), -shifts), images)


def test_the_layer_grows() -> None:
    net, images = Net(), pictures(2, 40, 48)
    art = DeepDream(layer="body.4", octaves=2)(net, images)
    assert art.history.shape == (20, 2)
    with torch.no_grad():
        before, after = (LayerNorm2("body.4")(net, x) for x in (images, art.images))
    assert (after > 1.3 * before).all()


def test_a_channel_alone() -> None:
    net, images = Net(), pictures(1, 30, 30)
    with torch.no_grad():
        one = DeepDream(layer="body.2", channel=3)(net, images)
        grown = activations(net, one.images, "body.2")[0].square().sum((1, 2))
        first = activations(net, images, "body.2")[0].square().sum((1, 2))
    assert grown[3] / first[3] > 1.5 * (grown.sum() / first.sum())
    with pytest.raises(AssayError, match=r"'body\.2' has 8 x"):
        DeepDream(layer="body.2", channel=8)(net, images)


def test_what_is_in_the_guide_grows() -> None:
    """Each place takes after the guide's place with the largest inner product."""
    net, images = Net(), pictures(1, 30, 30)
    guide = pictures(1, 24, 24, seed=5)
    with torch.no_grad():
        wanted = activations(net, guide, "body.4").flatten(2)[0]

    def by_hand(x: torch.Tensor) -> torch.Tensor:
        places = activations(net, x, "body.4")[0].flatten(1).unbind(1)
        return torch.stack([max(place @ other for other in wanted.unbind(1)) for place in places]).sum()

    art = DeepDream(layer="body.4", **ONE)(net, images, guide=guide)
    torch.testing.assert_close(art.history[0, 0], by_hand(images))
    step = DeepDream().step(gradient(lambda m, x: by_hand(x)[None], net, images))
    torch.testing.assert_close(art.images, (images + step).clamp(0, 1))
    with pytest.raises(AssayError, match="leave channel out"):
        DeepDream(channel=1)(net, images, guide=guide)


@pytest.mark.parametrize("layer", ["body.0", "body.2", "body.4"])
@pytest.mark.parametrize("tile", [1, 16, 20, 50])
def test_tiles_are_exact(layer: str, tile: int) -> None:
    net, images = Net(), pictures(2, 53, 70)
    around, stride = margin(net, layer, net.input_size)
    target = LayerNorm2(layer)
    whole = slope(lambda x: target(net, x), images)
    parts = slope_by_tiles(lambda x: target(net, x), images, tile, around, stride)
    torch.testing.assert_close(parts.gradient, whole.gradient, atol=1e-5 * whole.gradient.abs().max().item(), rtol=1e-4)
    assert ((parts.value / whole.value - 1).abs() < 0.3).all()  # estimated from tiles with their surroundings


def test_a_dream_in_tiles_is_the_dream() -> None:
    net, images = Net(), pictures(1, 40, 56)
    settings = {"layer": "body.2", "octaves": 2, "steps": 3}
    whole, parts = (DeepDream(tile=tile, **settings)(net, images) for tile in (None, 24))  # type: ignore[arg-type]
    torch.testing.assert_close(parts.images, whole.images, atol=1e-4, rtol=0)


def test_no_tiles_behind_a_gate() -> None:
    class Gated(Net):
        def __init__(self) -> None:
            super().__init__()
            self.gate = nn.AdaptiveAvgPool2d(1)
            self.after = nn.Identity()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            grid = self.body(images)
            gated: torch.Tensor = self.after(grid * self.gate(grid).sigmoid()).mean((2, 3))
            return gated

    with pytest.raises(AssayError, match="leave tile out, or take an earlier layer"):
        DeepDream(layer="after", tile=16)(Gated(), pictures(1, 40, 40))


@pytest.mark.parametrize("size", [(24, 24), (60, 50), (20, 30), (12, 12)])
def test_a_model_of_a_fixed_size_dreams_about_any_picture(size: tuple[int, int]) -> None:
    images = pictures(2, *size)
    art = DeepDream(layer="body.4", octaves=2, steps=3)(Fixed(), images)
    assert art.images.shape == images.shape
    assert (art.images - images).abs().mean() > 0.005


def test_windows_average_where_they_overlap() -> None:
    net, images = Fixed(), pictures(1, 24, 36)
    target = LayerNorm2("body.4")
    found = slope_by_windows(lambda x: target(net, x), images, (24, 24))
    left, right = (gradient(target, net, images[..., at : at + 24]) for at in (0, 12))
    torch.testing.assert_close(found.gradient[..., :12], left[..., :12])
    torch.testing.assert_close(found.gradient[..., 12:24], (left[..., 12:] + right[..., :12]) / 2)
    torch.testing.assert_close(found.gradient[..., 24:], right[..., 12:])


@pytest.mark.parametrize(
    "setting", [{"steps": 0}, {"octaves": 0}, {"octave_scale": 1.0}, {"tile": 0}, {"step_size": -1.0}]
)
def test_impossible_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(AssayError, match="DeepDream: "):
        DeepDream(**setting)  # type: ignore[arg-type]
