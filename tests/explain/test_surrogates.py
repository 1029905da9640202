"""LIME, KernelSHAP and DeepLIFT against closed forms, brute force and captum."""

import itertools
import math
import pickle
import warnings

import captum.attr
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Logit
from assay.explain import LIME, DeepLift, IntegratedGradients, KernelSHAP, surrogates
from assay.explain.surrogates import _Surrogate
from assay.explain.variants import baseline_of, segments_of
from tests.explain.models import Linear, built, pictures, small_cnn
from tests.explain.test_perturbation import LABELS, summed


@pytest.mark.parametrize("explainer", [KernelSHAP(count=9, samples=200), LIME(count=9, samples=200, ridge=0.0)])
def test_of_a_linear_model_every_weight_is_its_segments_effect(explainer: _Surrogate) -> None:
    model, x = Linear(), pictures(2, size=8)
    expected = summed(model, x, "mean", segments_of(x, "slic", 9))
    torch.testing.assert_close(explainer(model, x, LABELS), expected, rtol=1e-4, atol=1e-4)


def test_kernel_shap_of_all_choices_gives_the_shapley_values() -> None:
    model, x, label = small_cnn().eval(), pictures(1), torch.tensor([2])
    labels, blank = segments_of(x, "grid", 4)[0], baseline_of(x, "mean")
    values: dict[tuple[int, ...], float] = {}
    for kept in itertools.product((0, 1), repeat=4):
        shown = torch.tensor(kept).bool()[labels]
        values[kept] = model(torch.where(shown, x, blank))[0, 2].item()
    shapley = torch.zeros(4)
    for i, kept in itertools.product(range(4), values):
        if not kept[i]:
            weight = math.factorial(sum(kept)) * math.factorial(3 - sum(kept)) / math.factorial(4)
            shapley[i] += weight * (values[(*kept[:i], 1, *kept[i + 1 :])] - values[kept])
    heat = KernelSHAP(segments="grid", count=4, samples=4000)(model, x, label)[0]
    torch.testing.assert_close(heat, shapley[labels], rtol=0.02, atol=0.02 * shapley.abs().max().item())
    total = sum(heat[labels == i][0] for i in range(4))
    torch.testing.assert_close(total, torch.tensor(values[1, 1, 1, 1] - values[0, 0, 0, 0]), rtol=1e-3, atol=1e-5)


def test_lime_is_a_weighted_ridge_regression() -> None:
    """Solved again by hand from the variants that the model was shown."""
    model, x = Linear(classes=1), pictures(1, size=8)
    seen: list[Tensor] = []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    heat = LIME(segments="grid", count=4, samples=60, width=0.4, ridge=2.0, baseline="zero")(model, x, Logit(0))
    variants = torch.cat(seen).double()
    labels = segments_of(x, "grid", 4)[0]
    kept = torch.stack([variants[:, :, labels == i].amax((1, 2)) > 0 for i in range(4)], 1).double()
    weights = torch.exp(-(((1 - kept.mean(1).sqrt()) / 0.4) ** 2))
    answers = model(variants.float())[:, 0].double().detach()
    centred = kept - (weights @ kept) / weights.sum()
    moments = centred.T @ (weights[:, None] * centred) + 2 * torch.eye(4)
    slopes = torch.linalg.solve(moments, centred.T @ (weights * (answers - (weights @ answers) / weights.sum())))
    torch.testing.assert_close(heat[0].double(), slopes[labels], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("explainer", [KernelSHAP(samples=20), LIME(samples=20)])
def test_draws_are_the_only_randomness(explainer: _Surrogate) -> None:
    model, x, labels = small_cnn(), pictures(), torch.arange(4)
    torch.manual_seed(4)
    before, numpys = torch.get_rng_state(), pickle.dumps(np.random.get_state())  # noqa: NPY002
    first = explainer(model, x, labels, draws=1)
    assert torch.equal(before, torch.get_rng_state())
    assert numpys == pickle.dumps(np.random.get_state())  # noqa: NPY002
    torch.manual_seed(5)
    assert torch.equal(explainer(model, x, labels, draws=1), first)
    assert not torch.equal(explainer(model, x, labels, draws=2), first)


def test_surrogates_hold_a_bounded_number_of_samples() -> None:
    sizes: list[int] = []
    model = small_cnn()
    model.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    KernelSHAP(samples=30, batch=8)(model, pictures(1), torch.tensor([0]))
    assert max(sizes) == 8
    assert sum(sizes) == 30


def test_impossible_surrogates_are_refused() -> None:
    for make in (
        lambda: LIME(width=0),
        lambda: LIME(count=1),
        lambda: KernelSHAP(samples=1),
        lambda: DeepLift(batch=0),
    ):
        with pytest.raises(AssayError, match="needs"):
            make()


def test_deep_lift_of_a_linear_model_is_its_effect() -> None:
    model, x = Linear(), pictures(2, size=8)
    expected = (model.w.detach()[LABELS] * (x - baseline_of(x, "blur"))).sum(1)
    torch.testing.assert_close(DeepLift(baseline="blur")(model, x, LABELS), expected)


class Reused(nn.Module):
    """One activation module used twice, a functional one, one in place, ReLU6, SiLU and overlapping pooling."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.third = (nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 6), (6, 6), (6, 6)))
        self.act = nn.ReLU()
        self.head = nn.Linear(6 * 5 * 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.second(self.act(self.first(x))))
        x = F.max_pool2d(F.silu(self.third(x)), 3, stride=2, padding=1)
        x = F.relu6(F.max_pool2d(x, 2, stride=1) * 4, inplace=True)
        x = F.pad(x, (0, 0))[:, :, :5, :5]
        logits: Tensor = self.head(x.flatten(1))
        return logits


@pytest.mark.parametrize("baseline", ["zero", "mean"])
def test_deep_lift_is_complete_where_captum_is_not(baseline: str) -> None:
    model, x = Reused().eval(), pictures(2, size=12)
    explainer = DeepLift(baseline=baseline)  # type: ignore[arg-type]
    blank = baseline_of(x, explainer.baseline)
    change = (model(x) - model(blank)).gather(1, LABELS[:, None])[:, 0].detach()
    torch.testing.assert_close(explainer(model, x, LABELS).sum((1, 2)), change, rtol=1e-4, atol=1e-5)
    assert explainer.doubts(model, x, LABELS, explainer(model, x, LABELS)) == ["", ""]
    pooled = nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(3, 2, 1), nn.Flatten(), nn.Linear(4 * 5 * 5, 3))
    whole = (pooled(x) - pooled(blank)).gather(1, LABELS[:, None])[:, 0].detach()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.attr.DeepLift(pooled).attribute(x, baselines=blank, target=LABELS).sum((1, 2, 3))
    torch.testing.assert_close(explainer(pooled, x, LABELS).sum((1, 2)), whole, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(theirs, whole, rtol=0.01)


@pytest.mark.parametrize("name", ["test_resnet", "test_byobnet", "regnetx_002"])
def test_deep_lift_equals_captum_where_it_knows_every_activation(name: str) -> None:
    model, x, labels = built(name), pictures(2, size=48), torch.tensor([3, 8])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.attr.DeepLift(model).attribute(x, target=labels).sum(1).detach()
    ours = DeepLift(baseline="zero")(model, x, labels)
    assert theirs.any()
    torch.testing.assert_close(ours / theirs.abs().max(), theirs / theirs.abs().max(), rtol=0, atol=1e-5)


def test_deep_lift_tells_what_it_misses() -> None:
    model, x, labels = built("test_vit", img_size=48), pictures(2, size=48), torch.tensor([3, 8])
    assert DeepLift().doubts(model, x, labels, DeepLift()(model, x, labels)) == ["completeness-gap"] * 2
    assert IntegratedGradients.complete
    assert DeepLift.complete


class Tokens(nn.Module):
    """A perceptron on each quarter of the image; the batch is the first dimension or the second."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.batch_first = batch_first
        self.wide, self.head = nn.Linear(3, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        tokens = F.adaptive_avg_pool2d(images, 2).flatten(2).transpose(1, 2) - 0.5
        tokens = tokens if self.batch_first else tokens.transpose(0, 1)
        logits: Tensor = self.head(F.relu(self.wide(tokens))).mean(1 if self.batch_first else 0)
        return logits


@pytest.mark.parametrize("n", [1, 2, 3])
def test_deep_lift_refuses_batches_that_do_not_come_first(n: int) -> None:
    """Of one image with its baseline, or of two, the four tokens would be taken for pairs of samples."""
    x, labels = pictures(n, size=8), torch.zeros(n, dtype=torch.int64)
    model = Tokens(batch_first=True)
    assert DeepLift().doubts(model, x, labels, DeepLift()(model, x, labels)) == [""] * n
    with pytest.raises(NotApplicable, match="first dimension is not the batch"):
        DeepLift()(Tokens(batch_first=False), x, labels)
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=False)
    sequence = nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Flatten(2), nn.Linear(192, 4), Swapped(layer), nn.Linear(4, 3))
    with pytest.raises(NotApplicable, match="first dimension is not the batch"):
        DeepLift()(nn.Sequential(sequence, nn.Flatten()), x, labels)


def test_deep_lift_leaves_gates_of_parameters_alone() -> None:
    class Gated(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * torch.sigmoid(self.b)

    model, x = Gated(), pictures(2, size=8)
    weight = (model.w * torch.sigmoid(model.b)[:, None, None, None]).detach()
    expected = (weight[LABELS] * (x - baseline_of(x, "mean"))).sum(1)
    torch.testing.assert_close(DeepLift()(model, x, LABELS), expected)


class Swapped(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor) -> Tensor:
        swapped: Tensor = self.layer(tokens.transpose(0, 1)).transpose(0, 1)
        return swapped


@pytest.mark.parametrize("explainer", [KernelSHAP(samples=20), LIME(samples=20)])
def test_answers_that_are_not_finite_make_their_own_map_nan(explainer: _Surrogate) -> None:
    class Broken(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) / (images.amax((1, 2, 3)) < 0.95)[:, None]

    x = pictures(2, size=8) * torch.tensor([0.9, 1])[:, None, None, None]
    x[1, :, 0, 0] = 1
    heat = explainer(Broken(), x, LABELS)
    assert heat[0].isfinite().all()
    assert heat[1].isnan().all()


def test_one_segment_has_the_whole_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surrogates, "segments_of", lambda images, *_: torch.zeros(len(images), 8, 8, dtype=torch.int64))
    model, x = Linear(), pictures(2, size=8)
    whole = (model(x) - model(baseline_of(x, "mean"))).gather(1, LABELS[:, None])[:, :, None].expand(2, 8, 8)
    torch.testing.assert_close(KernelSHAP()(model, x, LABELS), whole.detach())


def test_the_generators_of_other_devices_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """``torch.manual_seed`` seeds CUDA's too, which ``fork_rng`` of the CPU does not give back."""
    model = Linear()
    monkeypatch.setattr(torch, "manual_seed", lambda seed: pytest.fail("seeds all devices"))
    monkeypatch.setattr(torch.random, "manual_seed", lambda seed: pytest.fail("seeds all devices"))
    assert KernelSHAP(samples=4)(model, pictures(1, size=8), LABELS[:1]).isfinite().all()
