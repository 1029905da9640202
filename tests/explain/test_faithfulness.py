"""Deletion, insertion and single deletion against closed forms and brute force."""

from typing import Any, Literal

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from assay.core.errors import AssayError
from assay.core.targets import Logit, Probability
from assay.explain.metrics import Deletion, Insertion, SingleDeletion
from assay.explain.metrics.ranks import spearman
from assay.explain.variants import Baseline, baseline_of
from tests.explain.models import Linear, pictures, small_cnn

LABELS = torch.tensor([0, 2])


def images() -> Tensor:
    return pictures(2, size=8)


def effect(model: Linear, x: Tensor, baseline: Baseline) -> Tensor:
    """What each pixel adds to the logit of a linear model, over the baseline: (N, H, W)."""
    return (model.w.detach()[LABELS] * (x - baseline_of(x, baseline))).sum(1)


def brute_force(
    kind: Literal["deletion", "insertion"], model: nn.Module, x: Tensor, label: int, heat: Tensor, counts: list[int]
) -> float:
    """One image, one pixel at a time, probabilities and trapezoids written out."""
    order = sorted(range(heat.numel()), key=lambda i: (-heat.flatten()[i].item(), i))
    blank = baseline_of(x[None], "mean")[0]
    start, end = (x, blank) if kind == "deletion" else (blank, x)
    values = []
    for count in counts:
        changed = start.clone()
        for i in order[:count]:
            changed[:, i // x.shape[2], i % x.shape[2]] = end[:, i // x.shape[2], i % x.shape[2]]
        with torch.no_grad():
            values.append(model(changed[None]).softmax(1)[0, label].item())
    pairs = zip(zip(counts, values, strict=True), zip(counts[1:], values[1:], strict=False), strict=False)
    return float(sum((right - left) * (low + high) / 2 for (left, low), (right, high) in pairs)) / heat.numel()


@pytest.mark.parametrize(("steps", "counts"), [(1, [0, 64]), (3, [0, 21, 43, 64]), (64, list(range(65)))])
def test_curves_equal_brute_force(steps: int, counts: list[int]) -> None:
    model, x = small_cnn().eval(), images()
    heat = torch.randn(2, 8, 8).round(decimals=1)
    assert len(set(heat[0].flatten().tolist())) < 64, "ties are wanted"
    for kind, metric in (("deletion", Deletion(steps=steps)), ("insertion", Insertion(steps=steps, baseline="mean"))):
        ours = metric(model, x, Probability(LABELS), heat)
        theirs = [brute_force(kind, model, x[i], int(LABELS[i]), heat[i], counts) for i in range(2)]  # type: ignore[arg-type]
        torch.testing.assert_close(ours, torch.tensor(theirs), rtol=1e-5, atol=1e-6)


def test_more_steps_than_pixels_are_one_pixel_each() -> None:
    model, heat = small_cnn(), torch.rand(2, 8, 8)
    expected = Deletion(steps=64)(model, images(), Probability(LABELS), heat)
    torch.testing.assert_close(Deletion(steps=1000)(model, images(), Probability(LABELS), heat), expected)


def test_deletion_of_a_linear_model() -> None:
    """The curve of a logit falls by each pixel's effect: the area is known in closed form."""
    model, x = Linear(), images()
    pixels = effect(model, x, "zero")
    logits = model(x).detach().gather(1, LABELS[:, None])
    falls = pixels.flatten(1).sort(dim=1, descending=True).values.cumsum(1)
    curve = torch.cat([logits, logits - falls], 1)
    expected = (curve[:, 1:] + curve[:, :-1]).sum(1) / 2 / 64
    ours = Deletion(steps=64, baseline="zero")(model, x, Logit(LABELS), pixels)
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_the_true_effect_is_best_and_its_negative_worst(baseline: Baseline) -> None:
    model, x = Linear(), images()
    perfect = effect(model, x, baseline)
    maps = [perfect, torch.rand(2, 8, 8), -perfect]
    target = Logit(LABELS)
    deletion = [Deletion(steps=16, baseline=baseline)(model, x, target, heat) for heat in maps]
    insertion = [Insertion(steps=16, baseline=baseline)(model, x, target, heat) for heat in maps]
    assert (deletion[0] < deletion[1]).all()
    assert (deletion[1] < deletion[2]).all()
    assert (insertion[0] > insertion[1]).all()
    assert (insertion[1] > insertion[2]).all()


def test_insertion_runs_deletion_of_the_negative_backwards() -> None:
    model, x, heat = small_cnn(), images(), torch.randn(2, 8, 8)
    forth = Insertion(steps=16, baseline="mean")(model, x, Probability(LABELS), heat)
    back = Deletion(steps=16)(model, x, Probability(LABELS), -heat)
    torch.testing.assert_close(forth, back)


def test_curves_hold_a_bounded_number_of_samples() -> None:
    sizes: list[int] = []
    model = Linear()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    Deletion(steps=8, batch=7)(model, images(), Logit(LABELS), torch.rand(2, 8, 8))
    assert sizes == [7, 7, 4]
    sizes.clear()
    SingleDeletion()(model, images(), Logit(LABELS), torch.rand(2, 8, 8))
    assert sizes == [2 * 17]


def test_single_deletion_of_a_linear_model() -> None:
    model, x = Linear(), images()
    pixels = effect(model, x, "mean")
    metric = SingleDeletion()
    torch.testing.assert_close(metric(model, x, Logit(LABELS), pixels), torch.ones(2))
    torch.testing.assert_close(metric(model, x, Logit(LABELS), -pixels), -torch.ones(2))
    heat = torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(3))
    cells = [values.reshape(2, 4, 2, 4, 2).sum((2, 4)).flatten(1) for values in (heat, pixels)]
    expected = [spearmanr(cells[0][i], cells[1][i]).statistic for i in range(2)]
    torch.testing.assert_close(metric(model, x, Logit(LABELS), heat), torch.tensor(expected, dtype=torch.float32))


def test_single_deletion_is_undefined_where_nothing_differs() -> None:
    model, x = Linear(), images()
    blind = Linear()
    nn.init.zeros_(blind.w)
    assert SingleDeletion()(model, x, Logit(LABELS), torch.ones(2, 8, 8)).isnan().all()
    assert SingleDeletion()(blind, x, Logit(LABELS), torch.rand(2, 8, 8)).isnan().all()


def test_single_deletion_with_cells_of_unequal_size() -> None:
    model, x = Linear((3, 10, 7)), torch.rand(2, 3, 10, 7)
    pixels = effect(model, x, "zero")
    torch.testing.assert_close(SingleDeletion(grid=3, baseline="zero")(model, x, Logit(LABELS), pixels), torch.ones(2))
    with pytest.raises(AssayError, match="fewer pixels than cells"):
        SingleDeletion(grid=8)(model, x, Logit(LABELS), pixels)


def test_spearman_equals_scipy() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(6, (20, 9), generator=generator).double() for _ in range(2))
    scale: Any = {"a_scale": torch.ones(20), "b_scale": torch.ones(20)}
    expected = torch.tensor([spearmanr(p, q).statistic for p, q in zip(a, b, strict=True)])
    torch.testing.assert_close(spearman(a, b, **scale), expected)
    noise = torch.rand(20, 9, generator=generator) * 1e-6
    torch.testing.assert_close(spearman(a + noise, b - noise, **scale), expected)
    valid = torch.rand(20, 9, generator=generator) < 0.6
    valid[:, :3] = True
    some = [spearmanr(p[v], q[v]).statistic for p, q, v in zip(a, b, valid, strict=True) if p[v].std() * q[v].std() > 0]
    ours = spearman(a, b, **scale, valid=valid)
    torch.testing.assert_close(ours[~ours.isnan()], torch.tensor(some))


def test_spearman_of_a_constant_row_is_undefined() -> None:
    a, b, one = torch.ones(1, 4), torch.arange(4.0)[None], torch.ones(1)
    assert spearman(a, b, a_scale=one, b_scale=one).isnan().all()
    assert spearman(b, a, a_scale=one, b_scale=one).isnan().all()
    assert spearman(b, b, a_scale=one, b_scale=one).item() == 1
