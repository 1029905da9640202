"""Explanations from many derivatives: bounded memory, convergence, what their flags say."""

from collections.abc import Callable

import captum.attr
import pytest
import torch
from torch import nn

from assay.core.borrow import counting
from assay.core.draws import as_draws
from assay.core.targets import Logit, gradient
from assay.explain import EXPLAINERS, Explainer, IntegratedGradients, Occlusion, Saliency, SmoothGrad, VarGrad
from assay.explain.base import completeness_gap
from assay.explain.variants import baseline_of
from tests.explain.models import pictures, small_cnn

LABELS = torch.tensor([0, 1, 2, 3])


class Bent(nn.Module):
    """f(x) = exp(4 m), m the mean of the pixels: its derivative runs along the line from black."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.exp(4 * images.mean((1, 2, 3)))[:, None]


@pytest.mark.parametrize("name", ["integrated-gradients", "smooth-grad", "var-grad", "expected-gradients"])
@pytest.mark.parametrize("batch", [1, 3, 10, 64])
def test_no_pass_holds_more_than_a_batch(name: str, batch: int) -> None:
    count = "steps" if name == "integrated-gradients" else "samples"
    explainer: Explainer = EXPLAINERS.parse(f"{name}({count}=5, batch={batch})")
    sizes: list[int] = []
    model = small_cnn()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    with counting(model) as passes:
        explainer(model, pictures(), LABELS)
    assert max(sizes) <= batch
    assert (passes.forwards, passes.backwards) == (20, 20)


@pytest.mark.parametrize("count", [8, 24])
def test_memory_is_that_of_one_batch(count: int) -> None:
    """What the graph of any pass of IG-50 saves is no more than what one pass of ``batch`` images does."""
    model, images = small_cnn().eval(), pictures(count)
    one = graph(model, lambda: Saliency()(model, pictures(8), Logit(0)))
    many = graph(model, lambda: IntegratedGradients(batch=8)(model, images, Logit(0)))
    assert many == pytest.approx(one, rel=1e-3)


def graph(model: nn.Module, work: Callable[[], object]) -> int:
    """The most bytes that one pass saves for its backward pass, each storage counted once."""
    passes: list[dict[int, int]] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        passes[-1][tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    handle = model.register_forward_pre_hook(lambda module, inputs: passes.append({}))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        work()
    handle.remove()
    return max(sum(one.values()) for one in passes)


@pytest.mark.parametrize(("method", "theirs"), [("gausslegendre", "gausslegendre"), ("midpoint", "riemann_middle")])
@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_integrated_gradients_are_those_of_captum(method: str, theirs: str, baseline: str) -> None:
    model, x = small_cnn().eval(), pictures()
    ours: IntegratedGradients = EXPLAINERS.parse(
        f"integrated-gradients(steps=20, method={method}, baseline={baseline})"
    )
    expected = captum.attr.IntegratedGradients(model).attribute(
        x,
        baseline_of(x, ours.baseline),
        LABELS,
        n_steps=20,
        method=theirs,
    )
    torch.testing.assert_close(ours(model, x, LABELS), expected.sum(1).float(), rtol=1e-4, atol=1e-6)


def test_integrated_gradients_of_a_curve() -> None:
    """The integral of 4 exp(4 a m) over the line is (exp(4 m) - 1) / m, split over pixels by their brightness."""
    x = pictures()
    mean = x.mean((1, 2, 3))
    share = x.sum(1) / x.sum((1, 2, 3))[:, None, None]
    expected = share * (torch.exp(4 * mean) - 1)[:, None, None]
    torch.testing.assert_close(IntegratedGradients(steps=8)(Bent(), x, Logit(0)), expected, rtol=1e-4, atol=1e-7)


def test_the_gap_is_measured_and_told() -> None:
    model, x, target = Bent(), pictures(), Logit(0)
    gaps = {}
    for steps in (1, 2, 20):
        explainer = IntegratedGradients(steps=steps, method="midpoint")
        heat = explainer(model, x, target)
        rise = model(x)[:, 0] - 1
        gaps[steps] = completeness_gap(explainer, model, x, target, heat)
        torch.testing.assert_close(gaps[steps], ((heat.sum((1, 2)) - rise).abs() / rise).double(), rtol=1e-2, atol=1e-5)
        assert explainer.doubts(model, x, target, heat) == [
            "completeness-gap" if gap > 0.05 else "" for gap in gaps[steps]
        ]
    assert (gaps[1] > 0.05).all()
    assert (gaps[20] < 0.001).all()


def test_only_a_complete_method_promises_a_sum() -> None:
    x, heat = pictures(), torch.ones(4, 24, 24)
    heat[2, 0, 0] = torch.nan
    assert completeness_gap(Saliency(), Bent(), x, Logit(0), heat).isnan().all()
    assert Saliency().doubts(Bent(), x, Logit(0), heat) == ["", "", "non-finite", ""]
    told = IntegratedGradients().doubts(Bent(), x, Logit(0), heat)
    assert told == ["completeness-gap", "completeness-gap", "non-finite", "completeness-gap"]
    black = torch.zeros_like(x)
    assert completeness_gap(IntegratedGradients(), Bent(), black, Logit(0), heat).isnan().all()
    assert [Occlusion.complete, IntegratedGradients.complete] == [False, True]


def test_noise_is_a_share_of_the_images_range() -> None:
    """Mean and variance of the derivative at the very copies that the draws give."""
    model, x = small_cnn().eval(), pictures() * 0.5
    spread = 0.2 * (x.amax((1, 2, 3)) - x.amin((1, 2, 3)))
    noise = as_draws(4, x).normal((6, 3, 24, 24)) * spread[:, None, None, None, None]
    found = torch.stack([gradient(Logit(LABELS), model, x + noise[:, i]) for i in range(6)])
    mean, variance = found.mean(0), found.var(0, correction=0)
    heat = SmoothGrad(samples=6, sigma=0.2)(model, x, LABELS, draws=4)
    torch.testing.assert_close(heat, mean.abs().amax(1), rtol=1e-4, atol=1e-7)
    heat = VarGrad(samples=6, sigma=0.2)(model, x, LABELS, draws=4)
    torch.testing.assert_close(heat, variance.amax(1), rtol=1e-3, atol=1e-9)


def test_without_noise_smoothgrad_is_saliency() -> None:
    heat = SmoothGrad(samples=2, sigma=0)(small_cnn(), pictures(), LABELS)
    torch.testing.assert_close(heat, Saliency()(small_cnn(), pictures(), LABELS))


@pytest.mark.parametrize(
    "text",
    ["integrated-gradients(steps=0)", "smooth-grad(samples=0)", "var-grad(sigma=-1)", "expected-gradients(batch=0)"],
)
def test_impossible_settings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="needs"):
        EXPLAINERS.parse(text)
