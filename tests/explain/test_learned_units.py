"""Units against parts: perfect units, brute force, and trained networks beside random ones."""

from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.bench.loading import dataset
from assay.bench.models import Subject, create, load
from assay.bench.scene_parts import part_maps, randomized
from assay.bench.zoo.recipes import RECIPES
from assay.core.errors import AssayError
from assay.explain.representation.units import Dissection, dissect, unit_masks
from tests.explain.models import in_batches, pictures, small_cnn, state

Pairs = list[tuple[Tensor, Tensor]]
PARTS = 2


def two_parts(n: int = 6, size: int = 24) -> Tensor:
    """Maps (n, size, size): a square that is part 1 and beside it a bar that is part 2, another place each."""
    maps = torch.zeros(n, size, size, dtype=torch.uint8)
    for i, each in enumerate(maps):
        each[2 + i : 8 + i, 3:9] = 1
        each[4:20, 14 + i : 16 + i] = 2
    return maps


class Shown(nn.Module):
    """Its layer holds the red, green and blue of the picture themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = nn.Identity()
        self.head = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.grid(images).mean((2, 3)))
        return logits


def test_units_that_light_up_where_their_part_is_and_nowhere_else_have_an_iou_of_one() -> None:
    maps = two_parts()
    images = torch.stack([(maps == 1).float(), (maps == 2).float(), 0.5 * (maps == 0).float()], 1)
    (found,) = dissect(Shown(), [(images, maps)], ["grid"], PARTS)
    np.testing.assert_array_equal(found.iou[:2], np.eye(2))
    assert found.iou[2].max() == 0
    np.testing.assert_array_equal(found.best, [0, 1])
    np.testing.assert_allclose(found.shares, [36 / 576, 32 / 576])
    assert found.n == len(maps)
    assert torch.equal(unit_masks(Shown(), images, "grid", 1, found.thresholds[1, 1]), maps == 2)


@pytest.mark.parametrize("top", [None, 0.02, 0.3])
def test_iou_is_that_of_brute_force(top: float | None) -> None:
    model, images, maps = small_cnn(), pictures(6), two_parts()
    before = state(model)
    found = dissect(
        model, list(zip(in_batches(images, 4), in_batches(maps, 4), strict=True)), ["stem.1", "body"], PARTS, top=top
    )
    assert state(model) == before
    model.eval()
    with torch.no_grad():
        stem = model.stem[1](model.stem[0](images))
        grids = {"stem.1": stem, "body": model.body(stem.relu())}
    for dissected in found:
        grid = grids[dissected.layer]
        for unit in range(grid.shape[1]):
            for part in range(PARTS):
                shown = maps == part + 1
                share = shown.double().mean().item() if top is None else top
                cells = grid[:, unit].flatten().sort(descending=True).values
                limit = cells[int(share * len(cells))]
                on = F.interpolate(grid[:, unit : unit + 1], images.shape[-2:], mode="bilinear")[:, 0] > limit
                expected = (on & shown).sum() / (on | shown).sum()
                assert dissected.thresholds[unit, part] == pytest.approx(limit.item(), abs=1e-6)
                assert dissected.iou[unit, part] == pytest.approx(expected.item(), abs=1e-6)


def test_the_place_of_a_part_is_scored_as_a_unit_that_is_the_same_in_every_picture() -> None:
    maps = two_parts()
    (found,) = dissect(Shown(), [(torch.rand(6, 3, 24, 24), maps)], ["grid"], PARTS)
    for part in range(PARTS):
        shown = maps == part + 1
        often = shown.double().mean(0).flatten()
        place = torch.zeros(576, dtype=torch.bool)
        place[often.sort(descending=True).indices[: round(found.shares[part] * 576)]] = True
        on = place.view(1, 24, 24).expand_as(shown)
        assert found.place[part] == pytest.approx(((on & shown).sum() / (on | shown).sum()).item())


def test_a_part_that_is_never_shown_is_undefined_and_a_dead_unit_finds_nothing() -> None:
    maps = two_parts()
    (found,) = dissect(Shown(), [(torch.zeros(6, 3, 24, 24), maps)], ["grid"], 3)
    assert (found.iou[:, :2] == 0).all()
    assert np.isnan(found.iou[:, 2]).all()
    assert np.isnan(found.place[2])


def test_thresholds_from_a_sample_of_cells_are_near_those_from_all() -> None:
    images, maps = torch.rand(20, 3, 24, 24, generator=torch.Generator().manual_seed(0)), two_parts(1).repeat(20, 1, 1)
    pairs = list(zip(in_batches(images, 3), in_batches(maps, 3), strict=True))
    (all_,), (some,) = (dissect(Shown(), pairs, ["grid"], PARTS, top=0.1, cells=cells) for cells in (20_000, 4000))
    np.testing.assert_allclose(all_.thresholds, 0.9, atol=0.01)
    assert (some.thresholds != all_.thresholds).all()
    np.testing.assert_allclose(some.thresholds, all_.thresholds, atol=0.02)  # four standard errors of 2000 cells


def test_what_cannot_be_dissected_is_said() -> None:
    images, maps = torch.rand(2, 3, 24, 24), two_parts(2)
    with pytest.raises(AssayError, match="no pictures"):
        dissect(Shown(), [], ["grid"], PARTS)
    with pytest.raises(AssayError, match="do not lie on images"):
        dissect(Shown(), [(images, maps[:, 1:])], ["grid"], PARTS)
    for top in (0.0, 1.0):
        with pytest.raises(AssayError, match="between 0 and 1"):
            dissect(Shown(), [(images, maps)], ["grid"], PARTS, top=top)


# what networks have learned


class Kept:
    """Pictures and maps of scenes, drawn once."""

    def __init__(self, model: Subject, n: int) -> None:
        maps = part_maps(dataset("scenes", n, model))
        self.names, self.pairs = maps.names, list(maps)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.pairs)


@cache
def scenes() -> Kept:
    return Kept(load("zoo:repvgg"), 60)


def dissected(model: Subject) -> Dissection:
    (found,) = dissect(model, scenes(), ["body.stages"], len(scenes().names))
    return found


def test_a_unit_of_the_sound_network_finds_a_part_and_none_of_random_weights_does() -> None:
    """Neither with new parameters of the same moments nor untrained, and not for knowing the place alone."""
    model = load("zoo:repvgg")
    trained, changed = dissected(model), dissected(randomized(model, 0))
    torch.manual_seed(0)
    model.body = create(RECIPES["repvgg"], len(model.classes)).eval()
    untrained = dissected(model)
    best = int(trained.iou.max(0).argmax())
    assert scenes().names[best] in ("square", "disc")
    assert trained.iou.max() > 0.45
    assert max(changed.iou.max(), untrained.iou.max()) < 0.25
    assert trained.place.max() < 0.25


def test_parts_of_scenes_are_called_by_what_they_show() -> None:
    names = scenes().names
    assert set(names) == {"disc", "square", "triangle", "star", "crescent", "ring", "cross", "distractor"}
    _, maps = scenes().pairs[0]
    body, mark = (names.index(name) + 1 for name in ("disc", "ring"))  # the first scene is a disc with a ring
    assert {body, mark} <= set(maps[0].flatten().tolist()) <= {0, body, mark, names.index("distractor") + 1}
