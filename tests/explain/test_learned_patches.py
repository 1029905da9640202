"""The streaming top against brute force; patches fed alone."""

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import NotApplicable
from assay.core.layers import activations
from assay.core.receptive import Field, Reach, clipped, recursion
from assay.explain.representation.patches import alone, cell_field, crop, strongest
from tests.explain.models import Pooled, built, pictures, small_cnn, small_vit, state


@pytest.mark.parametrize(("model", "name"), [(small_cnn(Pooled), "last"), (small_vit(), "blocks.0")])
@pytest.mark.parametrize("size", [1, 4, 23])
def test_the_stream_finds_what_brute_force_finds(model: nn.Module, name: str, size: int) -> None:
    """Also among equal values: some images are there twice, and many units of a dead channel are zero."""
    images = pictures(20)
    images = torch.cat([images, images[[3, 7, 3]]])
    batches = [images[at : at + size] for at in range(0, len(images), size)]
    if isinstance(model, Pooled):
        with torch.no_grad():
            model.get_parameter("body.bias")[2] = -100.0
    before = state(model)
    found = strongest(model, batches, [name], 5)[name]
    assert state(model) == before
    with torch.no_grad():
        maps = torch.cat([activations(model.eval(), batch, name) for batch in batches])
    model.train()
    width = maps.shape[3]
    assert found.grid == tuple(maps.shape[2:])
    for c in range(maps.shape[1]):
        all_units = [max((value, -place) for place, value in enumerate(one[c].flatten().tolist())) for one in maps]
        order = sorted(range(len(images)), key=lambda i: (-all_units[i][0], i))[:5]
        assert found.images[c].tolist() == order
        assert found.values[c].tolist() == [all_units[i][0] for i in order]
        assert (found.rows[c] * width + found.columns[c]).tolist() == [-all_units[i][1] for i in order]


def test_fewer_images_than_asked_for_give_all_of_them() -> None:
    assert strongest(small_cnn(), [pictures(2)], ["stem", "body"], 9)["body"].values.shape == (12, 2)


MEMORY = """
import resource, sys, torch
from assay.explain.representation.patches import strongest
from tests.explain.models import Pooled, small_cnn
torch.set_num_threads(1)
generator = torch.Generator().manual_seed(0)
batches = (torch.rand(50, 3, 32, 32, generator=generator) for _ in range(int(sys.argv[1]) // 50))
found = strongest(small_cnn(Pooled), batches, ["stem", "last"], 9)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, int(found["last"].images.max()))
"""


def _peak(count: int) -> int:
    """MiB at most, of a process that looks at so many images, 12 KiB each."""
    ran = subprocess.run([sys.executable, "-c", MEMORY, str(count)], check=True, capture_output=True, text=True)
    peak, last = map(int, ran.stdout.split())
    assert last > count / 2
    return peak


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data_set() -> None:
    """10,000 images take 117 MiB, their activations another 2.3 GiB."""
    small, large = _peak(1000), _peak(10_000)
    assert large - small < 30, (small, large)


def _settled(name: str, **settings: Any) -> nn.Module:
    """A network whose norms know noise, so that activations are of the size of a trained one's."""
    model = built(name, **settings)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(pictures(4, size=96))
    return model.eval()


ALONE: list[tuple[str, str, int, dict[str, Any]]] = [
    ("vgg11", "features.12", 64, {"mlp_ratio": 0.01}),
    ("test_resnet", "layer3", 128, {}),
    ("mobilenetv2_035", "blocks.2", 128, {"pad_type": "same"}),
    ("mobilenetv2_035", "blocks.2", 123, {"pad_type": "same"}),
    ("densenet121", "features.transition2", 128, {"growth_rate": 8, "block_config": (1, 1, 1, 1)}),
    ("test_convnext", "stages.0", 96, {}),
    ("inception_v3", "Mixed_5b", 107, {}),
]


@pytest.mark.parametrize(("name", "layer", "size", "settings"), ALONE)
def test_a_patch_fed_alone_gives_the_reported_activation(
    name: str, layer: str, size: int, settings: dict[str, Any]
) -> None:
    """Of every channel's strongest interior unit, whatever lies around the patch."""
    model, images = _settled(name, **settings), pictures(2, size=size)
    reach, reason = recursion(model, images, [layer])[layer]
    assert reach is not None, reason
    with torch.no_grad():
        grid = activations(model, images, layer)
    inside = torch.zeros(grid.shape[2:], dtype=torch.bool)
    for y, x in torch.cartesian_prod(*map(torch.arange, grid.shape[2:])).tolist():
        inside[y, x] = clipped(reach.at(y, x), (size, size)) == reach.at(y, x)
    assert inside.any()
    scale = float(grid.abs().amax())
    hidden = grid.masked_fill(~inside, -torch.inf)
    top = strongest(_Given(hidden), [torch.zeros(2, 1, *hidden.shape[2:])], ["grid"], 1)["grid"]
    seen = set()
    for c in range(0, grid.shape[1], max(grid.shape[1] // 4, 1)):
        i, y, x = (int(each[c, 0]) for each in (top.images, top.rows, top.columns))
        patch = crop(images[i], reach.at(y, x))
        seen.add((i, y, x))
        for fill in (0.0, 1.0):
            found = alone(model, patch, reach, layer, (size, size), fill)
            assert abs(found[c] - top.values[c, 0]) < 1e-5 * scale
            torch.testing.assert_close(found, grid[i, :, y, x], rtol=0, atol=1e-5 * scale)
    assert len(seen) > 1


class _Given(nn.Module):
    """Gives stored activations, whatever it is asked."""

    def __init__(self, grid: Tensor) -> None:
        super().__init__()
        self.stored, self.grid = grid, nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        return self.grid(self.stored)  # type: ignore[no-any-return]


def test_a_unit_that_the_whole_image_scales_has_no_patch_of_its_own() -> None:
    model, images = built("test_byobnet"), pictures(1, size=64)
    reach, _ = recursion(model, images, ["stages.1"])["stages.1"]
    assert reach is not None
    assert reach.gated
    with pytest.raises(NotApplicable, match="no patch has its activation alone"):
        alone(model, torch.zeros(3, *reach.size), reach, "stages.1", (64, 64))


def test_a_patch_of_another_size_is_refused() -> None:
    with pytest.raises(NotApplicable, match=r"a patch of \(4, 5\) is no field of \(5, 5\)"):
        alone(small_cnn(), torch.zeros(3, 4, 5), Reach((-2, -2), (2, 2), (2, 2)), "body", (24, 24))


def test_a_crop_shows_what_lies_beyond_the_image_as_grey() -> None:
    image = torch.arange(3 * 4 * 5.0).reshape(3, 4, 5)
    assert torch.equal(crop(image, Field(1, 2, 2, 3)), image[:, 1:3, 2:5])
    found = crop(image, Field(-1, 3, 3, 4), fill=-1.0)
    assert torch.equal(found[:, 1:, :2], image[:, :2, 3:])
    assert (found[:, 0] == -1).all()
    assert (found[:, :, 2:] == -1).all()
    assert (crop(image, Field(9, 9, 2, 2)) == 0.5).all()


def test_cells_share_out_the_image() -> None:
    covered = torch.zeros(10, 7, dtype=torch.int64)
    for y, x in torch.cartesian_prod(torch.arange(5), torch.arange(7)).tolist():
        top, left, height, width = cell_field((5, 7), (10, 7), y, x)
        covered[top : top + height, left : left + width] += 1
    assert (covered == 1).all()
