"""Sensitivity against closed forms and references; what the adversarial search may do, and that it finds more."""

import pytest
import torch
from torch import Tensor, nn

from assay.core.borrow import evaluating
from assay.core.draws import Draws, as_draws
from assay.core.errors import NotApplicable
from assay.core.targets import Logit
from assay.explain import EXPLAINERS, Explainer, InputXGradient, RandomMap, Saliency
from assay.explain.metrics import SensitivityMax
from assay.explain.metrics.stability import map_gradient
from tests.explain.models import CLASSES, Linear, pictures, small_cnn, state

LABELS = torch.tensor([0, 2])
SMOOTH = ("saliency", "input-x-gradient", "grad-cam", "layer-cam")  # methods whose maps have a derivative here
RIGID = ("occlusion", "random-map")
COSTLY = ("rise", "extremal-perturbation", "lime", "kernel-shap")
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in COSTLY else name for name in EXPLAINERS]


def images(size: int = 8) -> Tensor:
    return pictures(2, size=size)


@pytest.mark.parametrize("search", ["random", "adversarial"])
def test_saliency_of_a_linear_model_does_not_move(search: str) -> None:
    model, x, metric = Linear(), images(), SensitivityMax(search=search)  # type: ignore[arg-type]
    heat = Saliency()(model, x, Logit(LABELS))
    assert torch.equal(metric(model, x, Logit(LABELS), heat, explainer=Saliency()), torch.zeros(2))


def test_random_search_equals_a_reference() -> None:
    """Image by image, perturbation by perturbation, from the same streams."""
    model, x, radius = small_cnn().eval(), images(16), 0.1
    heat = InputXGradient()(model, x, LABELS)
    metric = SensitivityMax(radius=radius, samples=3)
    ours = metric(model, x, LABELS, heat, explainer=InputXGradient(), draws=5)
    for i in range(2):
        stream, most = Draws.hashed("seed 5", [str(i)]), 0.0
        for _ in range(3):
            near = (x[i : i + 1] + stream.uniform((3, 16, 16), -radius, radius)).clamp(0, 1).requires_grad_(True)
            (gradient,) = torch.autograd.grad(model(near)[0, LABELS[i]], near)
            change = (near * gradient).sum(1)[0] - heat[i]
            most = max(most, (change.norm() / heat[i].norm()).item())
        assert ours[i].item() == pytest.approx(most, rel=1e-4)


def test_input_x_gradient_of_a_linear_model_has_a_closed_form() -> None:
    """The map moves by sum_c w d: at most radius * sum_c |w| a pixel, which signed steps reach in one corner."""
    model, x, radius = Linear(), images() * 0.4 + 0.3, 0.05
    model.w.data *= 1e-3  # too flat to change a class
    model.b.data = torch.tensor([5.0, 0.0, -5.0])
    explainer, target = InputXGradient(), Logit(LABELS)
    heat = explainer(model, x, target)
    bound = radius * model.w[LABELS].detach().abs().sum(1).flatten(1).norm(dim=1) / heat.flatten(1).norm(dim=1)
    found = SensitivityMax(radius=radius, search="adversarial")(model, x, target, heat, explainer=explainer)
    random = SensitivityMax(radius=radius)(model, x, target, heat, explainer=explainer)
    assert (found <= bound * 1.0001).all()
    assert (found > 0.99 * bound).all()
    assert (random < 0.8 * bound).all()


class Recording(nn.Module):
    """A model that remembers every image that it was shown."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model, self.seen = model, list[Tensor]()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        logits: Tensor = self.model(x)
        return logits


def test_every_image_tried_lies_in_the_ball_and_the_box() -> None:
    model, x = Recording(small_cnn().eval()), images(16)
    heat = Saliency()(model, x, LABELS)
    SensitivityMax(radius=0.05, search="adversarial")(model, x, LABELS, heat, explainer=Saliency())
    for seen in model.seen:
        assert (seen - x).abs().max() <= 0.05 + 1e-6
        assert seen.min() >= 0
        assert seen.max() <= 1


class Cliff(nn.Module):
    """Two classes that change places, and the gradient its size, where the first pixel falls below 1/2."""

    def forward(self, x: Tensor) -> Tensor:
        first = x[:, 0, 0, 0]
        steep = torch.where(first < 0.5, 100.0, 1.0)
        side = torch.where(first < 0.5, -1e4, 1e4)
        score = steep * x.sum((1, 2, 3)) * (1 + 0.01 * x.mean((1, 2, 3)))
        return torch.stack([side + score * 1e-3, -side], 1)


def test_the_adversarial_search_keeps_the_class() -> None:
    """Random search falls off the cliff, where the map is a hundred times as large; the other may not."""
    x = torch.full((2, 1, 4, 4), 0.6)
    x[:, 0, 0, 0] = 0.51
    heat = Saliency()(Cliff(), x, torch.zeros(2, dtype=torch.int64))
    settings = {"radius": 0.05, "samples": 20}
    scores = [
        SensitivityMax(search=search, **settings)(Cliff(), x, Logit(0), heat, explainer=Saliency())  # type: ignore[arg-type]
        for search in ("random", "adversarial")
    ]
    assert (scores[0] > 90).all()
    assert (scores[1] < 1).all()
    assert (scores[1] > 0).all()


@pytest.mark.parametrize("name", SMOOTH + RIGID)
def test_which_maps_have_a_derivative(name: str) -> None:
    model, x = small_cnn(), pictures(2)
    explainer: Explainer = EXPLAINERS.parse(name)
    target = Logit(torch.arange(2) % CLASSES)
    near = (x + 0.01).clamp(0, 1)
    with evaluating(model):
        slope = map_gradient(explainer, model, near, target, explainer(model, x, target), as_draws(0, x))
    assert (slope is not None) == (name in SMOOTH)
    if slope is not None:
        assert slope.flatten(1).any(1).all()


@pytest.mark.parametrize("name", SMOOTH)
def test_steps_find_more_than_as_many_random_ones(name: str) -> None:
    model, x = small_cnn().eval(), pictures(2)
    explainer: Explainer = EXPLAINERS.parse(name)
    heat, classes = explainer(model, x, LABELS), LABELS
    random = SensitivityMax(samples=20)(model, x, classes, heat, explainer=explainer)
    found = SensitivityMax(samples=10, search="adversarial")(model, x, classes, heat, explainer=explainer)
    assert (found > random).all()


@pytest.mark.parametrize("name", EVERY)
def test_the_adversarial_search_takes_every_method(name: str) -> None:
    model, x = small_cnn(), pictures(2)
    explainer: Explainer = EXPLAINERS.parse(name)
    try:
        heat = explainer(model, x, LABELS)
    except NotApplicable as reason:
        pytest.skip(str(reason))
    before = state(model)
    metric = SensitivityMax(samples=1, steps=1, search="adversarial")
    values = metric(model, x, LABELS, heat, explainer=explainer, draws=1)
    assert (values.isfinite() | ~heat.flatten(1).any(1)).all()
    assert (values.nan_to_num() >= 0).all()
    assert state(model) == before


def test_the_derivative_of_a_map_is_that_of_its_formula() -> None:
    """Of x * f'(x) for f = sum x^3 the squared distance to a map h has the derivative 2 (3 x^3 - h) 9 x^2."""

    class Cubic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.pow(3).sum((1, 2, 3))[:, None]

    x, heat = torch.rand(2, 1, 4, 4), torch.rand(2, 4, 4)
    slope = map_gradient(InputXGradient(), Cubic(), x, Logit(0), heat, as_draws(0, x))
    assert slope is not None
    torch.testing.assert_close(slope[:, 0], 2 * (3 * x[:, 0] ** 3 - heat) * 9 * x[:, 0] ** 2)


def test_a_methods_own_noise_counts() -> None:
    x = images()
    heat = RandomMap()(Linear(), x, Logit(LABELS))
    assert (SensitivityMax()(Linear(), x, Logit(LABELS), heat, explainer=RandomMap(), draws=1) > 0.5).all()


def test_a_map_of_zeros_is_undefined() -> None:
    values = SensitivityMax()(Linear(), images(), Logit(LABELS), torch.zeros(2, 8, 8), explainer=Saliency())
    assert values.isnan().all()
