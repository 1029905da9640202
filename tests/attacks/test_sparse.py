"""JSMA and the one-pixel attack against brute force."""

import itertools

import pytest
import torch
from torch import Tensor

from assay.attacks import JSMA, OnePixel, Targeted, evaluate
from assay.attacks.balls import distance
from assay.attacks.sparse import best_pair
from assay.core.borrow import counting
from assay.core.errors import AssayError, NotApplicable
from tests.attacks.models import Affine, near_grey


def every_pair(rise: Tensor, fall: Tensor, free: Tensor) -> tuple[float, tuple[int, int] | None]:
    """Papernot et al. 2016, algorithm 3, word by word."""
    most, best = 0.0, None
    for p, q in itertools.combinations(free.nonzero().flatten().tolist(), 2):
        up, down = (rise[p] + rise[q]).item(), (fall[p] + fall[q]).item()
        if up > 0 and down > 0 and up * down > most:
            most, best = up * down, (p, q)
    return most, best


@pytest.mark.parametrize("size", [12, 40])
def test_the_pair_is_that_of_a_search_over_all_pairs(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    rise, fall = (torch.randn(8, size, generator=generator) for _ in range(2))
    free = torch.rand(8, size, generator=generator) < 0.8
    found = best_pair(rise, fall, free, candidates=64)
    for i in range(8):
        most, pair = every_pair(rise[i], fall[i], free[i])
        assert found.saliency[i].item() == pytest.approx(most)
        assert tuple(sorted(found.places[i].tolist())) == pair


def test_candidates_lose_next_to_nothing_against_all_pairs() -> None:
    generator = torch.Generator().manual_seed(1)
    rise, fall = (torch.randn(20, 600, generator=generator) for _ in range(2))
    free = torch.rand(20, 600, generator=generator) < 0.8
    few, all_ = best_pair(rise, fall, free, 64), best_pair(rise, fall, free, 600)
    assert (few.saliency >= 0.99 * all_.saliency).all()
    assert (few.saliency == all_.saliency).float().mean() >= 0.9


def test_no_pair_that_helps_has_no_saliency() -> None:
    rise = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]])
    free = torch.tensor([[True, True, True], [True, False, False]])
    assert (best_pair(rise, torch.ones(2, 3), free, 3).saliency == 0).all()


@pytest.mark.parametrize("direction", ["both", "up", "down"])
@pytest.mark.parametrize("classes", [2, 10])
def test_jsma_fools_within_its_share_and_keeps_the_clean_image_otherwise(classes: int, direction: str) -> None:
    model, images = Affine(classes, seed=1), near_grey(50)
    labels = model(images).argmax(1)
    attack = JSMA(gamma=0.2, direction=direction)  # type: ignore[arg-type]
    outcome = evaluate(attack, model, images, labels)
    changed = outcome.distances["l0"]
    assert outcome.success.any()
    assert (changed <= 0.2 * 75).all()
    assert (changed[~outcome.success] == 0).all()
    difference = outcome.adversarial - images
    assert direction != "up" or (difference >= 0).all()
    assert direction != "down" or (difference <= 0).all()


def test_jsma_reaches_the_wanted_class() -> None:
    model, images = Affine(10, seed=2), near_grey(30)
    wanted = model(images).argmin(1)
    assert evaluate(JSMA(gamma=0.5), model, images, Targeted(wanted)).success.float().mean() > 0.9


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_jsma_needs_the_fewest_values_where_all_have_the_same_room(seed: int) -> None:
    """From mid-grey a value of two classes with opposite weights gains |w| / 2: the largest go first."""
    model, images = Affine(2, seed=seed), torch.full((1, 3, 5, 5), 0.5)
    with torch.no_grad():
        model.weight[1] = -model.weight[0]
        model.bias[:] = torch.tensor([8.0, 0.0]) - model.weight.sum(1) / 2
    gains = model.weight[0].abs().detach().sort(descending=True).values.cumsum(0)
    fewest = int((gains <= 8.0).sum()) + 1
    adversarial = JSMA(gamma=1.0)(model, images, model(images).argmax(1))
    assert distance(adversarial - images, "l0").item() == fewest + fewest % 2


def test_jsma_leaves_fooled_images_alone() -> None:
    model, images = Affine(3, seed=3), near_grey(20)
    wrong = (model(images).argmax(1) + 1) % 3
    assert torch.equal(JSMA()(model, images, wrong), images)


def test_jsma_refuses_what_cannot_be() -> None:
    with pytest.raises(AssayError, match="at most 1"):
        JSMA(gamma=2)
    with pytest.raises(AssayError, match="pair"):
        JSMA(candidates=1)
    with pytest.raises(NotApplicable, match="raise gamma"):
        JSMA(gamma=0.02)(Affine(2), near_grey(1), torch.zeros(1, dtype=torch.int64))


def best_margin_of_one_pixel(model: Affine, images: Tensor, labels: Tensor) -> Tensor:
    """The smallest margin that one pixel can give two classes, (N,): each channel goes where the margin falls."""
    other = 1 - labels
    slope = (model.weight[labels] - model.weight[other]).detach().view_as(images)
    fall = torch.maximum(slope * images, -slope * (1 - images)).sum(1)
    logits = model(images).detach()
    margin = (logits.gather(1, labels[:, None]) - logits.gather(1, other[:, None])).squeeze(1)
    smallest: Tensor = margin - fall.flatten(1).amax(1)
    return smallest


def test_one_pixel_finds_what_brute_force_finds() -> None:
    model, images = Affine(2, seed=4), near_grey(120)
    labels = model(images).argmax(1)
    truth = best_margin_of_one_pixel(model, images, labels)
    outcome = evaluate(OnePixel(population=100, generations=30), model, images, labels)
    changed = (outcome.adversarial != images).any(1).flatten(1).sum(1)
    assert (changed <= 1).all()
    assert not outcome.success[truth > 0].any()
    assert outcome.success[truth < -0.3].all()
    assert (changed[~outcome.success] == 0).all()


def test_more_pixels_fool_more_images() -> None:
    model, images = Affine(10, shape=(1, 16, 16), seed=5), torch.rand(60, 1, 16, 16)
    labels = model(images).argmax(1)
    one, three = (evaluate(OnePixel(pixels=k, generations=10), model, images, labels) for k in (1, 3))
    assert three.success.sum() > one.success.sum() > 0
    assert (three.adversarial != images).any(1).flatten(1).sum(1).max() <= 3


def test_one_pixel_counts_every_query() -> None:
    model, images = Affine(10, seed=6), near_grey(20)
    labels = model(images).argmax(1)
    labels[0] = (labels[0] + 1) % 10
    with counting(model) as passes:
        trace = OnePixel(population=20, generations=5).trace(model, images, labels)
    assert trace.queries.sum() == passes.forwards
    assert trace.queries[0] == 1
    assert torch.equal(trace.images[0], images[0])


def test_one_pixel_needs_a_population_of_four() -> None:
    with pytest.raises(AssayError, match="at least 4"):
        OnePixel(population=3)
