"""Networks that paint in one pass."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.synthesis.fast import ConditionalInstanceNorm, FastStyle, StyleNet, load, save
from tests.synthesis.pyramid import Pyramid, pictures, state_of


@pytest.fixture
def network() -> StyleNet:
    """Two styles whose norms differ."""
    torch.manual_seed(0)
    made = StyleNet(("wave", "night"), width=4, blocks=1)
    for module in made.modules():
        if isinstance(module, ConditionalInstanceNorm):
            nn.init.normal_(module.scale, 1, 0.3)
            nn.init.normal_(module.shift, 0, 0.3)
    return made


def test_the_norm_is_instance_norm_with_the_styles_scale_and_shift() -> None:
    norm = ConditionalInstanceNorm(3, 2)
    nn.init.normal_(norm.scale)
    nn.init.normal_(norm.shift)
    x = torch.randn(2, 3, 5, 6)
    peer = torch.cat(
        [F.instance_norm(x[i : i + 1], weight=norm.scale[i], bias=norm.shift[i], eps=1e-5) for i in range(2)]
    )
    torch.testing.assert_close(norm(x, torch.eye(2)), peer)


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (31, 8)])
def test_pictures_of_any_size_keep_it(network: StyleNet, size: tuple[int, int]) -> None:
    art = FastStyle()(network, pictures(2, *size))
    assert art.images.shape == (2, 3, *size)
    assert art.history.shape == (0, 2)
    assert 0 <= art.images.min() <= art.images.max() <= 1
    assert not art.images.requires_grad


def test_too_small_a_picture(network: StyleNet) -> None:
    with pytest.raises(AssayError, match="7 x 20 pixels is too small"):
        FastStyle()(network, pictures(1, 7, 20))


def test_a_blend_of_one_style_is_a_network_of_it_alone(network: StyleNet) -> None:
    images = pictures(1, 16, 16)
    for chosen, blend in enumerate([(1.0, 0.0), (0.0, 1.0)]):
        alone = StyleNet(("one",), width=4, blocks=1)
        state = network.state_dict()
        alone.load_state_dict({k: v[chosen : chosen + 1] if ".norm." in k else v for k, v in state.items()})
        torch.testing.assert_close(FastStyle(blend=blend)(network, images).images, FastStyle()(alone, images).images)


def test_blends_mix_scales_and_shifts(network: StyleNet) -> None:
    images = pictures(1, 16, 16)
    mixed = StyleNet(("mean",), width=4, blocks=1)
    state = network.state_dict()
    mixed.load_state_dict({k: (0.25 * v[:1] + 0.75 * v[1:]) if ".norm." in k else v for k, v in state.items()})
    wanted = FastStyle()(mixed, images).images
    torch.testing.assert_close(FastStyle(blend=(1, 3))(network, images).images, wanted)
    assert not torch.allclose(FastStyle()(network, images).images, wanted, atol=1e-3)


def test_noise_paints_where_an_image_is_flat(network: StyleNet) -> None:
    flat = torch.full((1, 3, 16, 20), 0.5)
    shares, noise = torch.tensor([[1.0, 0.0]]), torch.randn(1, *network.noise_shape(flat))
    assert noise.shape == (1, 8, 4, 5)
    with torch.no_grad():
        still, moved = (network(flat, shares, each) for each in (torch.zeros_like(noise), noise))
    assert still.std((2, 3)).max() < 1e-3
    assert moved.std((2, 3)).min() > 0.01
    assert not torch.equal(FastStyle()(network, flat, 0).images, FastStyle()(network, flat, 1).images)


def test_what_is_painted_joins_the_image(network: StyleNet) -> None:
    images, shares = pictures(2, 16, 20), torch.tensor([[1.0, 0.0]]).expand(2, -1)
    nn.init.zeros_(network.last.conv.weight)
    wanted = F.instance_norm(images, eps=0) * network.last.norm.scale[0, :, None, None]
    wanted = (wanted + network.last.norm.shift[0, :, None, None]).sigmoid()
    made = network(images, shares, torch.randn(2, *network.noise_shape(images)))
    torch.testing.assert_close(made, wanted, atol=1e-4, rtol=0)


def test_each_picture_alone_and_the_network_given_back(network: StyleNet) -> None:
    images = pictures(3, 16, 20)
    before, copy = state_of(network.train()), images.clone()
    batch = FastStyle()(network, images).images
    for i in range(3):
        alone = FastStyle()(network, images[i : i + 1], Draws.hashed("seed 0", [str(i)])).images[0]
        torch.testing.assert_close(alone, batch[i])
    assert state_of(network) == before
    assert torch.equal(images, copy)


@pytest.mark.parametrize("blend", [(1.0,), (0.0, 0.0), (1.0, -1.0), ()])
def test_blends_fit_the_styles(network: StyleNet, blend: tuple[float, ...]) -> None:
    with pytest.raises(AssayError, match="for the styles wave, night"):
        FastStyle(blend=blend)(network, pictures())


def test_other_networks_are_refused() -> None:
    with pytest.raises(AssayError, match="assay train style"):
        FastStyle()(Pyramid(), pictures())
    with pytest.raises(AssayError, match="pictures of 3 channels, not 1"):
        FastStyle()(StyleNet(("a",), 1, 1), pictures()[:, :1])
    with pytest.raises(AssayError, match="has a style"):
        StyleNet(())


def test_what_is_saved_is_loaded(network: StyleNet, tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "net.safetensors"
    card = save(network, path, {"steps": 3})
    loaded = load(path)
    assert not loaded.training
    assert loaded.styles == ("wave", "night")
    assert card == json.loads(path.with_suffix(".json").read_text())
    assert card["steps"] == 3
    assert torch.equal(FastStyle()(loaded, pictures()).images, FastStyle()(network, pictures()).images)
    assert sorted(each.name for each in path.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_files_that_are_no_style_network(network: StyleNet, tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(AssayError, match="assay train style writes both"):
        load(path)
    save(network, path, {})
    path.write_bytes(path.read_bytes()[:-4] + b"....")
    with pytest.raises(AssayError, match="not the style network"):
        load(path)
    save(network, path, {"kind": "zoo"})
    with pytest.raises(AssayError, match="not the style network"):
        load(path)
    path.with_suffix(".json").write_text("{}")
    with pytest.raises(AssayError, match="no style network"):
        load(path)


def test_a_frozen_record() -> None:
    assert eval(repr(FastStyle(blend=(0.5, 0.5)))) == replace(FastStyle(), blend=(0.5, 0.5))
