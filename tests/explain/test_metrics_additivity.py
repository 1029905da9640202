"""Infidelity, completeness and ROAD against closed forms and slow references, image by image."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Logit, Probability
from assay.explain import IntegratedGradients, Saliency
from assay.explain.metrics import ROAD, Completeness, Infidelity
from assay.explain.metrics.imputation import impute
from assay.explain.variants import Baseline, baseline_of
from tests.explain.models import Linear, pictures, small_cnn

LABELS = torch.tensor([0, 2])


def images() -> Tensor:
    return pictures(2, size=8)


def effect(model: Linear, x: Tensor, baseline: Baseline) -> Tensor:
    """What each pixel adds to the logit of a linear model, over the baseline: (N, H, W)."""
    return (model.w.detach()[LABELS] * (x - baseline_of(x, baseline))).sum(1)


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_the_effect_of_a_linear_model_is_faithful_at_any_scale(baseline: Baseline) -> None:
    model, x, metric = Linear(), images(), Infidelity(baseline=baseline)
    perfect = effect(model, x, baseline)
    for scale in (1.0, 1e-3, 50.0):
        assert metric(model, x, Logit(LABELS), scale * perfect).abs().max() < 1e-5
    assert torch.equal(metric(model, x, Logit(LABELS), -perfect), torch.ones(2)), "a wrong sign explains nothing"
    assert torch.equal(metric(model, x, Logit(LABELS), torch.zeros(2, 8, 8)), torch.ones(2))


def test_infidelity_equals_a_reference() -> None:
    """Square by square; captum's number (``normalize=True``) is the error before it is divided."""
    model, x, heat = small_cnn().eval(), images(), torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(2))
    blank = baseline_of(x, "mean")
    ours = Infidelity(squares=40)(model, x, Probability(LABELS), heat, draws=7)
    dice = Draws.hashed("seed 7", ["0", "1"]).uniform((40, 3)).double().numpy()
    for i in range(2):
        products, drops = [], []
        for size, down, across in dice[i]:
            side = int(size * 3) + 1  # 0.35 of 8 pixels is 3
            top, left = int(down * (9 - side)), int(across * (9 - side))
            changed = x[i].clone()
            changed[:, top : top + side, left : left + side] = blank[i, :, top : top + side, left : left + side]
            with torch.no_grad():
                before, after = model(torch.stack([x[i], changed])).softmax(1)[:, LABELS[i]].tolist()
            products.append(heat[i, top : top + side, left : left + side].sum().item())
            drops.append(before - after)
        h, d = np.array(products), np.array(drops)
        scale = max((h * d).mean() / (h * h).mean(), 0)
        assert ours[i].item() == pytest.approx(((scale * h - d) ** 2).mean() / (d**2).mean(), abs=1e-4)


def test_infidelity_is_undefined_where_nothing_changes() -> None:
    blind = Linear()
    nn.init.zeros_(blind.w)
    assert Infidelity()(blind, images(), Logit(LABELS), torch.rand(2, 8, 8)).isnan().all()


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_integrated_gradients_of_a_linear_model_are_complete(baseline: Baseline) -> None:
    model, x, explainer = Linear(), images(), IntegratedGradients(steps=2, baseline=baseline)
    heat = explainer(model, x, Logit(LABELS))
    assert Completeness()(model, x, Logit(LABELS), heat, explainer=explainer).max() < 1e-4
    half = Completeness()(model, x, Logit(LABELS), heat / 2, explainer=explainer)
    torch.testing.assert_close(half, torch.full((2,), 0.5), rtol=1e-4, atol=1e-4)


def test_completeness_is_not_asked_of_a_method_that_does_not_claim_it() -> None:
    model, x = Linear(), images()
    assert Completeness()(model, x, Logit(LABELS), torch.rand(2, 8, 8), explainer=Saliency()).isnan().all()


def test_completeness_is_undefined_where_the_target_stays() -> None:
    blind, explainer = Linear(), IntegratedGradients()
    nn.init.zeros_(blind.w)
    assert Completeness()(blind, images(), Logit(LABELS), torch.rand(2, 8, 8), explainer=explainer).isnan().all()


def dense(image: NDArray[np.float64], removed: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Every pixel an unknown of a dense system: what is known is itself, a removed one the mean of its neighbours."""
    height, width = removed.shape
    system, right = np.eye(height * width), image.reshape(len(image), -1).T.copy()
    for y, x in zip(*removed.nonzero(), strict=True):
        row, weights = y * width + x, {}
        for down in (-1, 0, 1):
            for across in (-1, 0, 1):
                if (down or across) and 0 <= y + down < height and 0 <= x + across < width:
                    weights[(y + down) * width + x + across] = 1 / 12 if down and across else 1 / 6
        for place, weight in weights.items():
            system[row, place] = -weight / sum(weights.values())
        right[row] = 0
    solved: NDArray[np.float64] = np.linalg.inv(system) @ right
    return solved.T.reshape(image.shape)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_imputing_solves_the_papers_equations(share: float) -> None:
    x = torch.rand(3, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    removed = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(1)) < share
    removed[:, 4, 4] = False
    expected = [dense(image.double().numpy(), gone.numpy()) for image, gone in zip(x, removed, strict=True)]
    torch.testing.assert_close(impute(x, removed), torch.from_numpy(np.stack(expected)).float())


def test_imputing_keeps_what_is_known_and_constants() -> None:
    x, none = torch.full((1, 3, 8, 8), 0.25), torch.zeros(1, 8, 8, dtype=torch.bool)
    some = none.clone()
    some[:, 2:, 1:] = True
    assert torch.equal(impute(images()[:1], none), images()[:1])
    torch.testing.assert_close(impute(x, some), x)
    assert torch.equal(impute(images()[:1], some)[..., :2, :], images()[:1, :, :2])
    with pytest.raises(AssayError, match="no pixel is left"):
        impute(x, ~none)


def test_road_equals_a_reference() -> None:
    model, x = small_cnn().eval(), images()
    heat = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(4)).round(decimals=1)
    assert len(set(heat[0].flatten().tolist())) < 64, "ties are wanted"
    metric = ROAD(fractions=(0.25, 0.6), noise=0.05)
    ours = metric(model, x, Probability(LABELS), heat, draws=3)
    noise = 0.05 * Draws.hashed("seed 3", ["0", "1"]).normal((3, 8, 8))
    for i in range(2):
        gaps = []
        for count in (16, 38):
            values = []
            for sign in (-1, 1):  # hottest first, coldest first
                keys = (sign * heat[i].flatten()).tolist()
                order = sorted(range(64), key=keys.__getitem__)
                removed = np.zeros(64, bool)
                removed[order[:count]] = True
                filled = dense(x[i].double().numpy(), removed.reshape(8, 8))
                filled = np.clip(np.where(removed.reshape(8, 8), filled + noise[i].double().numpy(), filled), 0, 1)
                with torch.no_grad():
                    values.append(model(torch.from_numpy(filled).float()[None]).softmax(1)[0, LABELS[i]].item())
            gaps.append(values[1] - values[0])
        assert ours[i].item() == pytest.approx(np.mean(gaps), abs=1e-5)


def test_road_prefers_the_true_effect() -> None:
    model, x = Linear(), images()
    perfect, metric, target = effect(model, x, "mean"), ROAD(noise=0), Logit(LABELS)
    assert (metric(model, x, target, perfect) > metric(model, x, target, torch.rand(2, 8, 8))).all()
    torch.testing.assert_close(metric(model, x, target, -perfect), -metric(model, x, target, perfect))
    assert torch.equal(metric(model, x, target, torch.ones(2, 8, 8)), torch.zeros(2))
