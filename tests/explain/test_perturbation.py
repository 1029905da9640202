"""Occlusion's positions, segments, RISE and extremal perturbations against closed forms and brute force."""

import itertools
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Channel, Logit
from assay.explain import RISE, ExtremalPerturbation, FeatureAblation, InputMagnitude, Occlusion
from assay.explain.perturbation import rise_masks
from assay.explain.variants import baseline_of, segments_of
from tests.explain.models import Linear, pictures, small_cnn

LABELS = torch.tensor([0, 2])


def images() -> Tensor:
    return pictures(2, size=8)


def test_positions_are_what_the_model_says_of_each_occluded_picture() -> None:
    model, x = small_cnn().eval(), pictures(2)
    occlusion = Occlusion(window=10, stride=7, batch=3)
    found = occlusion.positions(model, x, LABELS)
    assert found.probability.shape == found.predicted.shape == (2, 3, 3)
    for n, i, j in itertools.product(range(2), range(3), range(3)):
        picture = x[n].clone()
        picture[:, 7 * i : 7 * i + 10, 7 * j : 7 * j + 10] = x[n].mean((1, 2))[:, None, None]
        probabilities = model(picture[None]).softmax(1)[0]
        torch.testing.assert_close(found.probability[n, i, j], probabilities[LABELS[n]].detach())
        assert found.predicted[n, i, j] == probabilities.argmax()


def test_positions_of_a_linear_model_give_its_heatmap() -> None:
    """With squares side by side, the heatmap is the logit's drop, and two classes' probabilities tell the logit."""
    model, x = Linear(classes=2), images()
    found = Occlusion(window=4, stride=4).positions(model, x, Logit(1))
    margins = (Occlusion(window=4, stride=4)(model, x, Logit(1) - Logit(0)))[:, ::4, ::4]
    whole = model(x).diff(dim=1)[:, :, None].detach()
    torch.testing.assert_close(torch.logit(found.probability), whole - margins, rtol=1e-3, atol=1e-4)
    assert torch.equal(found.predicted == 1, found.probability > 0.5)


def test_positions_need_a_class_and_leave_the_model_as_it_was() -> None:
    model = small_cnn()
    with pytest.raises(NotApplicable, match="not of a Channel"):
        Occlusion().positions(model, pictures(), Channel("body", 0))
    Occlusion().positions(model, pictures(), torch.zeros(4, dtype=torch.int64))
    assert model.training


@pytest.mark.parametrize("segments", ["grid", "slic"])
def test_segments_cover_each_image(segments: Literal["grid", "slic"]) -> None:
    labels = segments_of(pictures(3), segments, 16)
    assert labels.shape == (3, 24, 24)
    for row in labels:
        assert torch.equal(row.unique(), torch.arange(int(row.max()) + 1))
        assert 8 <= row.max() + 1 <= 24
    assert torch.equal(segments_of(pictures(3)[1:2], segments, 16), labels[1:2])


def test_a_grid_is_of_equal_rectangles() -> None:
    assert torch.equal(
        segments_of(torch.zeros(1, 1, 4, 6), "grid", 4)[0],
        torch.tensor([[0] * 3 + [1] * 3] * 2 + [[2] * 3 + [3] * 3] * 2),
    )
    assert segments_of(torch.zeros(1, 1, 2, 3), "grid", 100)[0].flatten().tolist() == list(range(6))


@pytest.mark.parametrize("segments", ["grid", "slic"])
@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_feature_ablation_of_a_linear_model_sums_the_segment(
    segments: Literal["grid", "slic"], baseline: Literal["zero", "mean", "blur"]
) -> None:
    model, x = Linear(), images()
    heat = FeatureAblation(segments=segments, count=9, baseline=baseline, batch=5)(model, x, LABELS)
    torch.testing.assert_close(heat, summed(model, x, baseline, segments_of(x, segments, 9)), rtol=1e-4, atol=1e-5)


def summed(model: Linear, x: Tensor, baseline: Literal["zero", "mean", "blur"], labels: Tensor) -> Tensor:
    """The sum of w (x - x') over each pixel's segment."""
    effect = (model.w.detach()[LABELS] * (x - baseline_of(x, baseline))).sum(1)
    sums = torch.zeros(len(x), int(labels.max()) + 1).scatter_add_(1, labels.flatten(1), effect.flatten(1))
    return sums.gather(1, labels.flatten(1)).reshape(labels.shape)


def test_rise_masks_are_shifted_cuts_of_enlarged_bits() -> None:
    bits = torch.randint(2, (5, 3, 3)).float()
    down, across = torch.tensor([0, 1, 2, 0, 1]), torch.tensor([0, 1, 1, 2, 0])
    masks = rise_masks(bits, down, across, (8, 7))
    whole = F.interpolate(bits[:, None], (12, 12), mode="bilinear")[:, 0]
    for mask, big, y, x in zip(masks, whole, down, across, strict=True):
        torch.testing.assert_close(mask, big[y : y + 8, x : x + 7])


@pytest.mark.parametrize("centred", [False, True])
def test_rise_is_the_mean_of_scores_weighted_by_masks(centred: bool) -> None:
    model, x = Linear(), images()
    rise = RISE(samples=9, cells=3, keep=0.3, centred=centred, baseline="mean", batch=4)
    heat = rise(model, x, LABELS, draws=5)
    draws = as_draws(5, x)
    bits = (draws.uniform((9, 3, 3)) < 0.3).float()
    down, across = draws.integers(3, (9,)), draws.integers(3, (9,))
    for n in range(2):
        masks = rise_masks(bits[n], down[n], across[n], (8, 8))
        shown = masks[:, None] * x[n] + (1 - masks[:, None]) * x[n].mean((1, 2))[:, None, None]
        weights = model(shown)[:, LABELS[n]].detach()
        weights = weights - weights.mean() if centred else weights
        torch.testing.assert_close(heat[n], torch.einsum("m,mhw->hw", weights, masks) / (9 * 0.3))


def test_rise_of_a_linear_model_tends_to_its_expectation() -> None:
    """Over all bits and shifts of a 2 x 2 grid: E[f(M x) M] / keep; the estimate is within five standard errors.

    Centred, that is less E[f(M x)].
    """
    model = Linear(shape=(3, 4, 4))
    x = pictures(1, size=8)[:, :, :4, :4]
    every = [
        rise_masks(torch.tensor(bits).float().reshape(1, 2, 2), torch.tensor([y]), torch.tensor([z]), (4, 4))[0]
        for bits in itertools.product((0, 1), repeat=4)
        for y, z in itertools.product(range(2), repeat=2)
    ]
    masks = torch.stack(every)
    torch.testing.assert_close(masks.mean(0), torch.full((4, 4), 0.5))
    scores = model(masks[:, None] * x)[:, 1].detach()
    terms = scores[:, None, None] * masks / 0.5
    error = 5 * terms.std(0) / 4000**0.5
    heat = RISE(samples=4000, cells=2, centred=False)(model, x, torch.tensor([1]))[0]
    assert ((heat - terms.mean(0)).abs() <= error).all()
    centred = RISE(samples=4000, cells=2)(model, x, torch.tensor([1]))[0]
    assert ((centred - (terms.mean(0) - scores.mean())).abs() <= error).all()


class Window(nn.Module):
    """Logits that read one square of the picture: how much its pixels differ from 0.5."""

    def forward(self, x: Tensor) -> Tensor:
        evidence = (x[:, :, 8:16, 16:24] - 0.5).abs().mean((1, 2, 3)) * 20
        return torch.stack([evidence, -evidence], 1)


def test_extremal_perturbation_finds_the_evidence() -> None:
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    masks = ExtremalPerturbation(areas=(64 / 32**2,), steps=200)(Window(), x, torch.tensor([0, 0]))
    assert masks.amin() >= 0
    assert masks.amax() <= 1
    assert ((masks.mean((1, 2)) * 32**2 / 64 - 1).abs() < 0.3).all()
    inside = masks[:, 8:16, 16:24]
    assert (inside.mean((1, 2)) > 0.75).all()
    assert (inside.sum((1, 2)) > 0.6 * masks.sum((1, 2))).all()


def test_extremal_perturbation_has_the_area_it_is_asked_for_where_nothing_matters() -> None:
    flat, x = Linear(shape=(3, 24, 24)), pictures(1)
    with torch.no_grad():
        flat.w.zero_()
    small, large, both = (
        ExtremalPerturbation(areas=areas, steps=120, cells=8)(flat, x, torch.tensor([0]))[0]
        for areas in ((0.1,), (0.4,), (0.1, 0.4))
    )
    torch.testing.assert_close(both, (small + large) / 2)
    assert small.mean() < large.mean()


def test_settings_that_mean_nothing_are_refused() -> None:
    for make in (
        lambda: ExtremalPerturbation(areas=()),
        lambda: ExtremalPerturbation(areas=(0.1, 1.0)),
        lambda: ExtremalPerturbation(sigma=0),
        lambda: RISE(keep=0),
        lambda: RISE(samples=0),
        lambda: FeatureAblation(count=1),
    ):
        with pytest.raises(AssayError, match="needs"):
            make()


def test_input_magnitude_is_brightness() -> None:
    x = images()
    assert torch.equal(InputMagnitude()(Linear(), x, LABELS), x.mean(1))


def test_masks_are_each_images_own() -> None:
    first, second = (
        RISE(samples=4)(Linear(), images()[:1].repeat(2, 1, 1, 1), torch.tensor([0, 0]), Draws.hashed("a", i))
        for i in ("xy", "yx")
    )
    assert torch.equal(first, second.flip(0))
    assert not torch.equal(first[0], first[1])


def test_one_area_alone_is_told_to_be_a_tuple() -> None:
    with pytest.raises(AssayError, match=r"areas=0.1 is not tuple\[float, ...\]"):
        ExtremalPerturbation(areas=0.1)  # type: ignore[arg-type]


def test_the_mask_of_an_answer_that_is_not_finite_is_nan() -> None:
    class Broken(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * torch.where(images.amax((1, 2, 3)) < 0.5, 1, torch.nan)[:, None]

    x = pictures(2, size=8) * 0.4
    x[1] = x[1] * 0 + 0.9
    heat = ExtremalPerturbation(steps=3, cells=4)(Broken(), x, torch.tensor([0, 1]))
    assert heat[0].isfinite().all()
    assert heat[1].isnan().all()
