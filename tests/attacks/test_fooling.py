"""Fooling images from anything, and pictures that networks draw."""

import colorsys

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import CPPNFooling, GradientFooling, Targeted
from assay.attacks.cppn import FUNCTIONS, INPUTS, Genomes, _colours
from assay.core.borrow import counting
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey


class TwoSides(nn.Module):
    """An affine model of two classes whose weights are all of a size, from -1 to -0.5 or 0.5 to 1."""

    def __init__(self, scale: float, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        w = torch.rand(3, 4, 4, generator=generator) - 0.5
        self.w = nn.Parameter(scale * (w + 0.5 * w.sign()))

    def forward(self, images: Tensor) -> Tensor:
        score = ((images - 0.5) * self.w).flatten(1).sum(1)
        return torch.stack([-score, score], 1)


class Bright(nn.Module):
    """Three classes: the left half is brighter, the right half is, or both are dark."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[3] // 2
        left, right = (part.mean((1, 2, 3)) for part in (images[..., :half], images[..., half:]))
        return self.scale * torch.stack([left - right, right - left, 0.3 - left - right], 1)


@pytest.mark.parametrize("start", ["image", "noise", "grey"])
def test_climbing_an_affine_model_ends_in_the_corner_of_the_box(start: str) -> None:
    """A scale that no image can be certain at, so that it climbs to the end."""
    model, images = TwoSides(scale=0.05), torch.rand(3, 3, 4, 4)
    goal = Targeted(torch.tensor([1, 1, 0]))
    attack = GradientFooling(start=start, confidence=0.999, steps=60)  # type: ignore[arg-type]
    corner = (model.w > 0).float()
    expected = torch.stack([corner, corner, 1 - corner])
    assert torch.equal(attack(model, images, goal), expected)


@pytest.mark.parametrize("start", ["image", "noise", "grey"])
def test_stops_at_the_confidence_that_is_asked_for(start: str) -> None:
    model, images = Affine(10, seed=1), near_grey(20)
    wanted = model(images).argmin(1)
    attack = GradientFooling(start=start, confidence=0.9, step=0.05, steps=400)  # type: ignore[arg-type]
    sure = model(attack(model, images, Targeted(wanted))).softmax(1).gather(1, wanted[:, None])
    assert (sure >= 0.9).all()
    assert (sure < 0.97).all()


def test_what_starts_from_nothing_does_not_depend_on_the_image() -> None:
    model, goal = Affine(10, seed=2), Targeted(torch.arange(10))
    noise, grey = (GradientFooling(start=start, confidence=0.9) for start in ("noise", "grey"))
    for attack in (noise, grey):
        one, other = (attack(model, near_grey(10, seed=seed), goal, 3) for seed in (1, 2))
        assert torch.equal(one, other)
    assert not torch.equal(noise(model, one, goal, 3), noise(model, one, goal, 4))
    assert torch.equal(grey(model, one, goal, 3), grey(model, one, goal, 4))


def test_decay_keeps_the_picture_nearer_to_grey() -> None:
    model, images, goal = TwoSides(scale=0.05), torch.rand(2, 3, 4, 4), Targeted(torch.ones(2, dtype=torch.int64))
    far, near = (
        GradientFooling(start="noise", confidence=0.999, decay=decay)(model, images, goal) for decay in (0.0, 0.1)
    )
    assert (near - 0.5).norm() < (far - 0.5).norm()
    assert (model(near).argmax(1) == 1).all()


def test_gradient_fooling_returns_the_best_of_a_path_that_ends_too_early() -> None:
    model, images = Affine(10, seed=4), near_grey(20)
    wanted = Targeted(model(images).argmin(1))
    short, longer = (GradientFooling(confidence=0.999, step=0.02, steps=k)(model, images, wanted) for k in (5, 20))
    sure = [model(x).softmax(1).gather(1, wanted.classes[:, None]) for x in (images, short, longer)]
    assert (sure[0] <= sure[1]).all()
    assert (sure[1] <= sure[2]).all()


def test_evolution_reaches_the_confidence_or_says_so_honestly() -> None:
    model, images = Bright(), torch.rand(6, 3, 16, 16)
    classes = torch.tensor([0, 1, 2, 0, 1, 2])
    with counting(model) as passes:
        trace = CPPNFooling(generations=60).trace(model, images, Targeted(classes))
    sure = model(trace.images).softmax(1).gather(1, classes[:, None]).squeeze(1)
    assert (sure >= 0.99).all()
    assert trace.queries.sum() == passes.forwards
    assert (trace.queries % 20 == 0).all()


def test_an_untargeted_evolution_takes_the_runner_up_for_one_query() -> None:
    model, images = Bright(), torch.cat([torch.ones(1, 3, 16, 8), torch.full((1, 3, 16, 8), 0.5)], 3)
    trace = CPPNFooling(generations=60).trace(model, images, torch.tensor([0]))
    assert model(trace.images).argmax(1).item() == 1
    assert trace.queries.item() % 20 == 1


def test_an_evolution_depends_on_its_own_draws_alone() -> None:
    model, images = Bright(), torch.rand(3, 3, 12, 12)
    attack, goal = CPPNFooling(generations=6), torch.tensor([0, 1, 2])
    together = attack(model, images, Targeted(goal), Draws.hashed("x", "abc"))
    for i, name in enumerate("abc"):
        alone = attack(model, torch.zeros(1, 3, 12, 12), Targeted(goal[[i]]), Draws.hashed("x", name))
        torch.testing.assert_close(alone, together[[i]], rtol=1e-4, atol=1e-5)


def test_a_longer_evolution_is_never_less_certain() -> None:
    model, images, goal = Bright(), torch.rand(3, 3, 12, 12), Targeted(torch.tensor([0, 1, 2]))
    sure = [
        model(CPPNFooling(generations=k, confidence=0.999999)(model, images, goal))
        .softmax(1)
        .gather(1, goal.classes[:, None])
        for k in (1, 10)
    ]
    assert (sure[1] >= sure[0]).all()
    assert (sure[1] > sure[0]).any()


def by_hand(genomes: Genomes, member: int, x: float, y: float) -> list[float]:
    """One network at one place, slot by slot."""
    weights, kinds, active = genomes.weights[0, member], genomes.kinds[0, member], genomes.active[0, member]
    values = [x, y, (x * x + y * y) ** 0.5, 1.0]
    for slot in range(INPUTS, len(kinds)):
        reached = sum(weights[slot, i] * values[i] for i in range(slot))
        values.append(FUNCTIONS[int(kinds[slot])](torch.as_tensor(reached)).item() if active[slot] else 0.0)
    return values[-3:]


def test_a_picture_is_the_network_at_every_place() -> None:
    draws = as_draws(1, torch.zeros(1, 3, 5, 7))
    genomes = Genomes.random(draws, 6, 3, 8)
    for _ in range(5):
        genomes = genomes.children(draws, 3)
    pictures = genomes.draw(torch.Size((3, 5, 7)))
    for member in range(6):
        for row, column in ((0, 0), (2, 3), (4, 6), (1, 5)):
            hue, saturation, value = by_hand(genomes, member, (column - 3) / 3.5, (row - 2) / 3.5)
            hsv = ((hue + 1) / 2 % 1, min(max((saturation + 1) / 2, 0), 1), min(max((value + 1) / 2, 0), 1))
            expected = torch.tensor(colorsys.hsv_to_rgb(*hsv))
            torch.testing.assert_close(pictures[member, :, row, column], expected, rtol=0, atol=1e-4)


def test_colours_are_those_of_the_standard_library() -> None:
    hsv = torch.rand(1, 3, 50)
    expected = torch.tensor([colorsys.hsv_to_rgb(*point) for point in hsv[0].T.tolist()]).T[None]
    torch.testing.assert_close(_colours(hsv), expected, rtol=0, atol=1e-5)


def test_networks_grow_and_stay_sound() -> None:
    """Connections lead to later slots in use, never into inputs or out of outputs, and no weight leaves its limit."""
    draws = as_draws(2, torch.zeros(4, 3, 8, 8))
    genomes = first = Genomes.random(draws, 10, 3, 6)
    for _ in range(40):
        genomes = genomes.children(draws, 3)
    there = genomes.weights != 0
    assert not there.triu().any()
    assert not there[..., :INPUTS, :].any()
    assert not there[..., -3:].any()
    assert not (there.any(3) & ~genomes.active).any()
    assert not (there.any(2) & ~genomes.active).any()
    assert genomes.weights.abs().max() <= 3
    assert genomes.active.sum() > first.active.sum()


def test_grey_and_oblong_pictures() -> None:
    class Mean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(5.0))

        def forward(self, images: Tensor) -> Tensor:
            mean = images.mean((1, 2, 3)) - 0.5
            return self.scale * torch.stack([mean, -mean], 1)

    images = torch.rand(2, 1, 8, 13)
    pictures = CPPNFooling(generations=10, confidence=0.9)(Mean(), images, Targeted(torch.tensor([0, 1])))
    assert pictures.shape == images.shape
    assert Mean()(pictures).argmax(1).tolist() == [0, 1]


def test_refuses_what_cannot_be() -> None:
    for make in (lambda: CPPNFooling(confidence=1.0), lambda: GradientFooling(confidence=0.0)):
        with pytest.raises(AssayError, match="probability"):
            make()
    with pytest.raises(AssayError, match="decay"):
        GradientFooling(decay=1)
