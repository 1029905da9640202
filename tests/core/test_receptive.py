"""Receptive fields against the arithmetic of convolutions."""

import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import NotApplicable
from assay.core.receptive import Field, box, measured
from assay.core.targets import Neuron, gradient
from tests.explain.models import pictures, small_cnn, state


class Stack(nn.Module):
    """conv 3/1, max-pool 2/2, conv 5/2, dilated conv 3/1: fields of 3, 4, 12 and 28 pixels, strides 1, 2, 4, 4."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.pool = nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)
        self.two, self.three = nn.Conv2d(4, 4, 5, stride=2, padding=2), nn.Conv2d(4, 4, 3, dilation=2, padding=2)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        grid = self.three(torch.relu(self.two(self.pool(torch.relu(self.one(images))))))
        return self.head(grid.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.fixture
def stack() -> nn.Module:
    torch.manual_seed(0)
    return Stack().eval()


def boxes(model: nn.Module, height: int, width: int) -> dict[str, Field | None]:
    return dict(measured(model, torch.zeros(1, 3, height, width), ["one", "pool", "two", "three"]))


def test_boxes_follow_from_kernels_strides_and_dilations(stack: nn.Module) -> None:
    """Unit y of ``two`` reads pooled rows 2y - 2 to 2y + 2: pixels 4y - 4 - 1 to 4y + 5 + 1."""
    assert boxes(stack, 64, 96) == {
        "one": Field(31, 47, 3, 3),
        "pool": Field(31, 47, 4, 4),
        "two": Field(27, 43, 12, 12),
        "three": Field(19, 35, 28, 28),
    }


def test_boxes_are_clipped_by_the_image(stack: nn.Module) -> None:
    """Of unit 2's rows 0, 2 and 4 of ``two`` the last is padding, so pixel 14 is the lowest that counts."""
    found = boxes(stack, 16, 64)["three"]
    assert found is not None
    assert (found.top, found.height) == (0, 15)
    assert found.width == 28


def test_saliency_of_a_neuron_is_zero_outside_its_field_at_every_stage(stack: nn.Module) -> None:
    """A filter's saliency at each stage: the support grows with the depth and lies inside the box."""
    images, sides = pictures(2, size=64), []
    for name, field in measured(stack, images, ["one", "pool", "two", "three"]):
        assert field is not None
        middle = 32 // {"one": 1, "pool": 2, "two": 4, "three": 4}[name]
        reached = (gradient(Neuron(name, 1, middle, middle), stack, images) != 0).any(1)
        inside = torch.zeros(64, 64, dtype=torch.bool)
        inside[field.top : field.top + field.height, field.left : field.left + field.width] = True
        assert reached.any()
        assert not reached[:, ~inside].any()
        sides.append(field.height)
    assert sides == [3, 4, 12, 28]


def test_branches_that_start_at_zero_count(stack: nn.Module) -> None:
    """Residual branches whose last norm starts at zero are part of the architecture."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
            self.sum = nn.Identity()
            nn.init.zeros_(self.norm.weight)

        def forward(self, images: Tensor) -> Tensor:
            return self.sum(images + self.norm(self.conv(images))).mean((2, 3))  # type: ignore[no-any-return]

    model = Residual()
    assert dict(measured(model, torch.zeros(1, 3, 8, 8), ["sum"])) == {"sum": Field(3, 3, 3, 3)}
    assert not model.norm.weight.any()


def test_measuring_leaves_the_model_as_it_was() -> None:
    model = small_cnn()
    before = state(model)
    assert [name for name, _ in measured(model, pictures(1), ["stem.0", "body"])] == ["stem.0", "body"]
    assert state(model) == before


def test_a_layer_without_a_grid_has_no_field(stack: nn.Module) -> None:
    with pytest.raises(NotApplicable, match="not a grid"):
        list(measured(stack, pictures(1), ["head"]))


def test_a_box_holds_all_that_is_true() -> None:
    support = torch.zeros(5, 7, dtype=torch.bool)
    assert box(support) is None
    support[1, 2] = support[3, 6] = True
    assert box(support) == Field(1, 2, 3, 5)


def test_what_nothing_reaches_has_no_field() -> None:
    """A table of positions; one that is learnt carries a gradient of its own, but none of the pixels."""

    class Table(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place, self.aux, self.body = nn.Identity(), nn.Identity(), nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            leaf = torch.ones_like(images).requires_grad_(True)
            return (self.body(images) + self.place(torch.ones_like(images)) + self.aux(leaf)).mean((2, 3))  # type: ignore[no-any-return]

    found = dict(measured(Table(), torch.zeros(1, 3, 8, 8), ["place", "aux", "body"]))
    assert found == {"place": None, "aux": None, "body": Field(4, 4, 1, 1)}
