"""Rotations and translations against exact ones, and against templates."""

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import SpatialAttack, evaluate
from assay.attacks.spatial import move
from assay.core.borrow import counting
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey


def moves(angle: float = 0.0, down: float = 0.0, right: float = 0.0) -> Tensor:
    return torch.tensor([[angle, down, right]])


class Corner(nn.Module):
    """Says 1 once something bright is in the first row or column."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, images: Tensor) -> Tensor:
        edge = torch.maximum(images[:, :, 0].amax((1, 2)), images[:, :, :, 0].amax((1, 2))) * self.scale
        return torch.stack([0.5 - edge, edge - 0.5], 1)


@pytest.mark.parametrize("turns", [-1, 1, 2])
def test_a_quarter_turn_is_exact(turns: int) -> None:
    image = torch.rand(1, 3, 7, 7)
    turned = move(image, moves(angle=90.0 * turns), "zeros")
    torch.testing.assert_close(turned, torch.rot90(image, turns, (2, 3)), rtol=0, atol=1e-5)


def test_a_shift_by_whole_pixels_is_exact_and_brings_in_black() -> None:
    image = torch.rand(1, 3, 10, 20)
    shifted = move(image, moves(down=0.2, right=-0.1), "zeros")
    expected = torch.zeros_like(image)
    expected[:, :, 2:, :-2] = image[:, :, :-2, 2:]
    torch.testing.assert_close(shifted, expected, rtol=0, atol=1e-5)


def test_padding_brings_in_the_edge_or_the_reflection() -> None:
    image = torch.rand(1, 1, 10, 10)
    down = move(image, moves(down=0.2), "border")
    torch.testing.assert_close(down[:, :, 0], image[:, :, 0], rtol=0, atol=1e-5)
    down = move(image, moves(down=0.2), "reflection")
    torch.testing.assert_close(down[:, :, :2], image[:, :, :2].flip(2), rtol=0, atol=1e-5)


def test_a_turn_keeps_the_shape_in_an_oblong_image() -> None:
    """A round bump stays one: pixels, not shares of the sides, are turned."""
    y, x = torch.meshgrid(torch.arange(20.0) - 9.5, torch.arange(40.0) - 19.5, indexing="ij")
    bump = torch.exp(-(y**2 + x**2) / 18)[None, None]
    between = 2 / 9 / 8  # what a straight line between pixels misses: the second derivatives' bounds by 1/8
    torch.testing.assert_close(move(bump, moves(angle=30.0), "zeros"), bump, rtol=0, atol=between)


@pytest.mark.parametrize("sampling", ["grid", "random"])
def test_no_angle_and_no_shift_return_the_input_bit_for_bit(sampling: str) -> None:
    model, images = Affine(3), near_grey(5)
    attack = SpatialAttack(sampling=sampling, max_angle=0, max_shift=0)  # type: ignore[arg-type]
    assert torch.equal(attack(model, images, model(images).argmax(1)), images)


def test_the_grid_finds_the_one_shift_that_fools() -> None:
    images = torch.zeros(2, 1, 20, 20)
    images[0, :, 2, 10] = 1.0  # two rows from the edge: the largest shift up brings it there
    images[1, :, 3, 10] = 1.0
    outcome = evaluate(SpatialAttack(max_angle=0), Corner(), images, torch.zeros(2, dtype=torch.int64))
    assert outcome.success.tolist() == [True, False]
    assert outcome.adversarial[0, 0, 0, 10] == pytest.approx(1, abs=1e-5)


def test_every_angle_and_shift_is_tried_where_nothing_fools() -> None:
    model, images = Corner(), torch.zeros(3, 1, 12, 12)
    with counting(model) as passes:
        trace = SpatialAttack().trace(model, images, torch.zeros(3, dtype=torch.int64))
    assert trace.queries.tolist() == [31 * 25 + 1] * 3
    assert passes.forwards == 3 * (31 * 25 + 1)
    assert torch.equal(trace.images, images)


def test_an_image_leaves_once_it_is_fooled_and_is_the_worst_of_all_otherwise() -> None:
    model, images = Affine(10, shape=(1, 12, 12), seed=1), torch.rand(30, 1, 12, 12)
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    early, late = (SpatialAttack(early_stop=flag).trace(model, images, labels) for flag in (True, False))
    fooled = [model(trace.images).argmax(1) != labels for trace in (early, late)]
    assert torch.equal(fooled[0], fooled[1])
    assert early.queries[0] == 1
    assert torch.equal(early.images[0], images[0])
    assert early.queries.sum() < late.queries.sum()
    lead = [model(t.images).gather(1, labels[:, None]).squeeze(1) - model(t.images).amax(1) for t in (early, late)]
    assert (lead[1] <= lead[0] + 1e-4).all()


def test_more_random_tries_are_never_weaker() -> None:
    model, images = Affine(10, shape=(1, 12, 12), seed=2), torch.rand(60, 1, 12, 12)
    labels = model(images).argmax(1)
    one, ten = (
        evaluate(SpatialAttack(sampling="random", tries=k, max_angle=5, max_shift=0.01), model, images, labels).success
        for k in (1, 10)
    )
    assert not (one & ~ten).any()
    assert ten.sum() > one.sum()


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(AssayError, match="0 to 180"):
        SpatialAttack(max_angle=-1)
    with pytest.raises(AssayError, match="above 0"):
        SpatialAttack(tries=0)
