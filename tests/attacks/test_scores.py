"""Attacks that see logits, against closed forms, brute force and the number of questions they may ask."""

import math
from typing import Any

import pytest
import torch
from scipy.fft import dctn
from torch import Tensor, nn

from assay.attacks import NES, SPSA, SimBA, Square, Targeted, Untargeted
from assay.attacks.balls import distance
from assay.attacks.score_based import _bump, _vector, _waves
from assay.core.borrow import counting
from assay.core.draws import as_draws
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey

BOUNDED: list[tuple[Any, dict[str, Any]]] = [
    (Square, {"norm": "linf", "queries": 400}),
    (Square, {"norm": "l2", "queries": 400}),
    (Square, {"norm": "l1", "queries": 400}),
    (NES, {"norm": "linf", "queries": 1000}),
    (NES, {"norm": "l2", "queries": 1000}),
    (SPSA, {"norm": "linf", "queries": 1500}),
    (SPSA, {"norm": "l2", "queries": 1500}),
]
REACH = {(Square, "l2"): 3.0, (Square, "l1"): 5.0}  # windows are no answer to weights without structure
NAMES = [f"{cls.__name__}-{settings['norm']}" for cls, settings in BOUNDED]


class Flat(nn.Module):
    """Every image is the first class by the same lead."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, 0.0]).expand(len(images), 3) + 0 * images.flatten(1).sum(1, keepdim=True)


def subject(classes: int, seed: int, n: int = 30) -> tuple[Affine, Tensor, Tensor]:
    model, images = Affine(classes, seed=seed), near_grey(n)
    return model, images, model(images).argmax(1)


@pytest.mark.parametrize(("cls", "settings"), BOUNDED, ids=NAMES)
@pytest.mark.parametrize("classes", [2, 10])
def test_half_more_than_the_optimum_fools(cls: Any, settings: Any, classes: int) -> None:
    model, images, labels = subject(classes, seed=classes, n=12)
    optimum = model.distance(images, labels, settings["norm"])
    for i in range(3):
        attack = cls(**settings, eps=REACH.get((cls, settings["norm"]), 1.5) * optimum[i].item())
        trace = attack.trace(model, images[i : i + 1], labels[i : i + 1])
        assert model(trace.images).argmax(1) != labels[i]
        assert trace.queries < settings["queries"]


@pytest.mark.parametrize(("cls", "settings"), BOUNDED, ids=NAMES)
def test_nothing_is_fooled_within_less_than_the_optimum(cls: Any, settings: Any) -> None:
    model, images, labels = subject(10, seed=1)
    optimum = model.distance(images, labels, settings["norm"])
    eps = optimum.median().item()
    adversarial = cls(**{**settings, "queries": 300}, eps=eps)(model, images, labels)
    assert (distance(adversarial - images, settings["norm"]) <= eps * (1 + 1e-6) + 1e-6).all()
    assert (model(adversarial).argmax(1) == labels)[optimum > eps * 1.0001].all()


@pytest.mark.parametrize(("cls", "settings"), BOUNDED, ids=NAMES)
def test_every_question_is_counted_for_its_image(cls: Any, settings: Any) -> None:
    model, images, labels = subject(10, seed=2)
    labels = torch.where(torch.arange(len(labels)) < 5, (labels + 1) % 10, labels)
    eps = model.distance(images, labels, settings["norm"])[5:].median().item()
    settings = {**settings, "queries": 160}
    with counting(model) as passes:
        trace = cls(**settings, eps=eps).trace(model, images, labels)
    fooled = model(trace.images).argmax(1) != labels
    assert trace.queries.sum() == passes.forwards
    assert (trace.queries[:5] == 1).all()
    assert torch.equal(trace.images[:5], images[:5])
    assert (trace.queries <= settings["queries"]).all()
    round_ = 1 if cls is Square else cls(**settings).samples + 1
    assert (trace.queries[~fooled] == 1 + (settings["queries"] - 1) // round_ * round_).all()


@pytest.mark.parametrize("cls", [Square, NES, SPSA])
def test_without_a_budget_one_question_is_enough(cls: Any) -> None:
    model, images, labels = subject(2, seed=0)
    trace = cls(eps=0.0).trace(model, images, labels)
    assert torch.equal(trace.images, images)
    assert (trace.queries == 1).all()


@pytest.mark.parametrize("cls", [Square, NES, SPSA])
def test_more_questions_fool_more(cls: Any) -> None:
    model, images, labels = subject(10, seed=4, n=60)
    eps = 1.2 * model.distance(images, labels, "linf").median().item()
    few, many = (cls(eps=eps, queries=queries)(model, images, labels) for queries in (140, 600))
    stands = [(model(adversarial).argmax(1) == labels).float().mean() for adversarial in (few, many)]
    assert stands[1] < stands[0]


@pytest.mark.parametrize("cls", [Square, NES, SPSA])
def test_reaches_a_wanted_class(cls: Any) -> None:
    model, images, labels = subject(10, seed=5, n=8)
    wanted = (labels + 3) % 10
    lead = (model(images).amax(1) - model(images).gather(1, wanted[:, None])[:, 0]).detach()
    width = (model.weight[wanted] - model.weight[labels]).abs().sum(1).detach()
    adversarial = cls(eps=3 * (lead / width).max().item(), queries=2000)(model, images, Targeted(wanted))
    assert (model(adversarial).argmax(1) == wanted).all()


def test_square_in_linf_leaves_every_value_in_a_corner() -> None:
    images, eps = near_grey(5), 0.05
    adversarial = Square(eps=eps, queries=60)(Flat(), images, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close((adversarial - images).abs(), torch.full_like(images, eps), rtol=0, atol=1e-7)


def test_square_starts_with_vertical_stripes() -> None:
    images = near_grey(5)
    change = Square(eps=0.05, queries=2)(Flat(), images, torch.zeros(5, dtype=torch.int64)) - images
    torch.testing.assert_close(change, change[:, :, :1].expand_as(change), rtol=0, atol=1e-7)
    assert not torch.equal(change[0], change[1])


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_square_spends_the_whole_budget_away_from_the_box(norm: Any) -> None:
    model, images, labels = subject(2, seed=0, n=5)
    eps = 0.5 * model.distance(images, labels, norm).min().item()
    adversarial = Square(norm=norm, eps=eps, queries=200)(model, images, labels)
    torch.testing.assert_close(distance(adversarial - images, norm), torch.full((5,), eps), rtol=1e-5, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_square_keeps_box_and_budget_where_both_bind(norm: Any) -> None:
    model = Affine(2, shape=(1, 6, 9), seed=3)
    images = (torch.rand(20, 1, 6, 9, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    labels = model(images).argmax(1)
    eps = {"linf": 0.2, "l2": 1.2, "l1": 4.0}[norm]
    adversarial = Square(norm=norm, eps=eps, queries=300)(model, images, labels)
    assert adversarial.amin() >= 0
    assert adversarial.amax() <= 1
    assert (distance(adversarial - images, norm) <= eps * (1 + 1e-6)).all()
    before, after = (
        model(x).gather(1, labels[:, None]) - model(x).gather(1, 1 - labels[:, None]) for x in (images, adversarial)
    )
    assert (after < before).all()


def test_square_touches_the_last_row_and_column() -> None:
    class Corner(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            last = images[:, 0, -1, -1]
            return torch.stack([0.5 + 0 * last, last], 1)

    images = torch.full((8, 1, 6, 6), 0.4)
    adversarial = Square(eps=0.15, queries=500)(Corner(), images, torch.zeros(8, dtype=torch.int64))
    assert (adversarial[:, 0, -1, -1] > 0.5).all()


def test_square_halves_its_share_on_the_papers_schedule() -> None:
    attack, images = Square(queries=10_000, p_init=0.8), torch.zeros(1, 3, 100, 100)
    starts = {1: 0.8, 10: 0.4, 50: 0.2, 200: 0.1, 1000: 0.05, 2000: 0.025, 4000: 0.0125, 6000: 0.00625, 8000: 0.003125}
    for k, share in starts.items():
        assert attack._side(k, images) == round(100 * math.sqrt(share))
    assert Square(queries=1000)._side(5, images) == attack._side(50, images)


@pytest.mark.parametrize("side", [2, 3, 5, 8])
def test_bump_is_the_sum_of_the_paper(side: int) -> None:
    """Eq. 2, term by term: M(r, s) = n - max(|r - floor(h1 / 2) - 1|, |s - floor(h2 / 2) - 1|), places from 1."""

    def block(height: int, width: int) -> Tensor:
        n = max(height, width) // 2
        values = torch.zeros(height, width)
        for r in range(1, height + 1):
            for s in range(1, width + 1):
                most = n - max(abs(r - height // 2 - 1), abs(s - width // 2 - 1))
                values[r - 1, s - 1] = sum(1 / (n + 1 - k) ** 2 for k in range(most + 1))
        return values / distance(values[None], "l2")

    expected = torch.cat([block(side // 2, side), -block(side - side // 2, side)]) / math.sqrt(2)
    torch.testing.assert_close(_bump(side), expected)


@pytest.mark.parametrize("cls", [NES, SPSA])
def test_estimate_is_the_gradient_on_average(cls: Any) -> None:
    model, images, labels = subject(2, seed=6, n=3)
    attack = cls(samples=20_000, sigma=0.01)
    with torch.no_grad():
        estimate = attack._estimate(model, images, Untargeted(labels), as_draws(0, images))
        truth = (model.weight[1 - labels] - model.weight[labels]).view_as(images)
    # 10,000 pairs in 75 dimensions: relative error sqrt(75 / 10,000) = 0.09
    assert (distance(estimate - truth, "l2") < 0.12 * distance(truth, "l2")).all()


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_simba_moves_at_most_root_of_its_changes(basis: Any) -> None:
    model, images, labels = subject(10, seed=7)
    with counting(model) as passes:
        trace = SimBA(basis=basis, step=0.1, queries=75)(model, images, labels), passes.forwards
        traced = SimBA(basis=basis, step=0.1, queries=75).trace(model, images, labels)
    assert torch.equal(trace[0], traced.images)
    assert traced.queries.sum() == trace[1]
    assert (distance(traced.images - images, "l2") <= 0.1 * (traced.queries - 1).clamp(min=0).sqrt() + 1e-6).all()
    fooled = model(traced.images).argmax(1) != labels
    assert fooled.any()
    assert torch.equal(traced.images[~fooled], images[~fooled])
    assert (traced.queries[~fooled] == 75).all()


@pytest.mark.parametrize("basis", ["pixel", "dct"])
def test_simba_fools_every_image_with_steps_beyond_the_optimum(basis: Any) -> None:
    """For two classes every vector helps one way, so a whole round adds up to a step along each."""
    model, images, labels = subject(2, seed=8)
    step = 1.1 * model.distance(images, labels, "linf").max().item()
    if basis == "dct":
        weight = (model.weight[0] - model.weight[1]).detach().view(3, 5, 5).numpy()
        gap = (model(images)[:, 0] - model(images)[:, 1]).abs().max().item()
        step = 1.1 * gap / abs(dctn(weight, axes=(1, 2), norm="ortho")).sum()
    trace = SimBA(basis=basis, step=float(step), queries=151).trace(model, images, labels)
    assert (model(trace.images).argmax(1) != labels).all()


def test_simba_in_pixels_changes_single_values_by_the_step() -> None:
    model, images, labels = subject(10, seed=9)
    change = SimBA(step=0.05, queries=100)(model, images, labels) - images
    torch.testing.assert_close(change.abs(), 0.05 * change.ne(0), rtol=0, atol=1e-6)


def test_waves_are_the_orthonormal_cosines() -> None:
    images = torch.zeros(54, 1, 6, 9)
    vectors = _vector(torch.arange(54), images, _waves(6, "dct"), _waves(9, "dct"))
    flat = vectors.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(54), rtol=0, atol=1e-6)
    picture = torch.rand(6, 9)
    expected = torch.from_numpy(dctn(picture.double().numpy(), norm="ortho")).float().flatten()
    torch.testing.assert_close(flat @ picture.flatten(), expected)


def test_low_waves_go_first() -> None:
    images = torch.zeros(2, 3, 8, 8)
    first = SimBA(basis="dct", low=0.25)._order(images, as_draws(0, images))[:, : 3 * 2 * 2]
    assert (first // 8 % 8 < 2).all()
    assert (first % 8 < 2).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 7), (3, 4, 4), (1, 11, 3)])
@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_square_works_on_any_size(norm: Any, shape: tuple[int, int, int]) -> None:
    model, images = Affine(3, shape=shape, seed=1), near_grey(6, shape)
    labels = model(images).argmax(1)
    eps = 1.5 * model.distance(images, labels, norm).max().item()
    adversarial = Square(norm=norm, eps=min(eps, 1.0), queries=100)(model, images, labels)
    assert adversarial.isfinite().all()
    assert (distance(adversarial - images, norm) <= eps + 1e-6).all()


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (Square, {"p_init": 1.5}),
        (Square, {"p_init": 0}),
        (Square, {"queries": 0}),
        (Square, {"eps": 8}),
        (NES, {"samples": 7}),
        (NES, {"momentum": 1}),
        (NES, {"sigma": 0}),
        (SPSA, {"step": -1}),
        (SimBA, {"basis": "wavelet"}),
        (SimBA, {"step": 0}),
        (SimBA, {"low": 5.0}),
    ],
)
def test_impossible_settings_are_refused(cls: Any, settings: Any) -> None:
    with pytest.raises(AssayError, match=next(iter(settings))):
        cls(**settings)
