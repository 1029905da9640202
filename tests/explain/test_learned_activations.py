"""Maps of one image, and what channels do over many."""

import pytest
import torch

from assay.bench.models import load
from assay.core.layers import activations
from assay.core.probe import grid_layers, trunk
from assay.explain.representation.activations import lives, strongest_channels
from tests.explain.models import Pooled, built, pictures, small_cnn, small_vit, state


@pytest.mark.parametrize(("model", "name"), [(small_cnn(Pooled), "last"), (small_vit(), "blocks.0")])
def test_the_strongest_channels_are_those_with_the_largest_value(model: torch.nn.Module, name: str) -> None:
    image = pictures(1)
    before = state(model)
    found = strongest_channels(model, image, name, 5)
    assert state(model) == before
    with torch.no_grad():
        maps = activations(model.eval(), image, name)[0]
    peaks = maps.amax((1, 2))
    assert torch.equal(found.maps, maps[found.channels])
    assert peaks[found.channels].tolist() == sorted(peaks.tolist(), reverse=True)[:5]


def test_a_layer_with_fewer_channels_gives_all_of_them() -> None:
    assert len(strongest_channels(small_cnn(), pictures(1), "stem.0", 99).channels) == 8


def test_dead_units_are_found_and_batches_do_not_matter() -> None:
    model = small_cnn(Pooled)
    bias = model.get_parameter("body.bias")
    with torch.no_grad():
        bias[3] = -100.0  # its ReLU never opens
        bias[5] += 100.0  # always open
    images = pictures(7)
    found = lives(model, [images[:3], images[3:6], images[6:]], ["stem", "last"])
    with torch.no_grad():
        values = activations(model.eval(), images, "last").movedim(1, 0).flatten(1)
    torch.testing.assert_close(found["last"].low, values.amin(1))
    torch.testing.assert_close(found["last"].high, values.amax(1))
    torch.testing.assert_close(found["last"].positive, (values > 0).double().mean(1))
    assert found["last"].dead.nonzero().flatten().tolist() == [3]
    assert found["last"].positive[5] == 1
    assert not found["stem"].dead.any()


def test_the_zoo_net_has_no_dead_layer() -> None:
    model = load("zoo:repvgg")
    found = lives(model, [torch.rand(4, 3, 96, 96, generator=torch.Generator().manual_seed(0))], ["stem", "stages.1"])
    assert all(life.dead.float().mean() < 0.5 for life in found.values())


def test_layers_with_grids_are_listed_once_and_the_trunk_leaves_branches_out() -> None:
    model, images = built("test_resnet"), pictures(1, size=64)
    names, on_every_path = grid_layers(model, images), trunk(model, images)
    assert len(names) == len(set(names))
    assert set(on_every_path) < set(names)
    assert {"layer1", "layer2", "layer3"} <= set(on_every_path)
    assert not [name for name in on_every_path if name.startswith("layer1.0.")]
