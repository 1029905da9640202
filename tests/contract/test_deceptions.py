"""What holds for every member of ``DECEPTIONS``."""

import dataclasses
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Logit
from assay.explain import DECEPTIONS, EXPLAINERS, Deception, DeceptionResult, Explainer
from assay.explain.deception import heat_share
from tests.explain.models import CLASSES, Pooled, Tripping, pictures, small_cnn, state

N = 4


@pytest.fixture(params=list(DECEPTIONS))
def deception(request: pytest.FixtureRequest) -> Deception:
    """With fewer steps than by default."""
    record: Deception = DECEPTIONS.parse(request.param, steps=6)
    return record


def explainer(text: str = "smooth-grad(samples=2)") -> Explainer:
    """One that draws random numbers and has a derivative, unless another is named."""
    record: Explainer = EXPLAINERS.parse(text)
    return record


def classes() -> Tensor:
    return torch.arange(N) % CLASSES


def streams() -> Draws:
    return Draws.hashed("contract", map(str, range(N)))


def deceive(deception: Deception, text: str = "smooth-grad(samples=2)") -> DeceptionResult:
    return deception(explainer(text), small_cnn(Pooled), pictures(N), classes(), streams())


def predicted(images: Tensor) -> Tensor:
    classes: Tensor = small_cnn(Pooled).eval()(images).argmax(1)
    return classes


def test_is_a_frozen_record(deception: Deception) -> None:
    record: Any = deception
    assert record.version >= 1
    assert not hasattr(record, "__dict__")
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        record.anything = 1
    assert DECEPTIONS.parse(DECEPTIONS.name_of(record)) == type(record)()


@pytest.mark.parametrize("text", ["saliency", "grad-cam", "smooth-grad(samples=2)"])
def test_moves_heat_within_the_ball_and_keeps_the_class(deception: Deception, text: str) -> None:
    images = pictures(N)
    result = deceive(deception, text)
    clean = explainer(text)(small_cnn(Pooled), images, classes(), streams())
    assert result.derivable
    assert (result.images - images).abs().max() <= deception.eps + 1e-6
    assert result.images.min() >= 0
    assert result.images.max() <= 1
    assert torch.equal(predicted(result.images), predicted(images))
    assert result.corner.sum((1, 2)).tolist() == [12 * 12] * N
    before, after = heat_share(clean, result.corner), heat_share(result.heat, result.corner)
    assert (after >= before).all()
    assert after.mean() > before.mean()
    assert not result.images.requires_grad
    assert not result.heat.requires_grad


def test_maps_are_those_of_the_images(deception: Deception) -> None:
    result = deceive(deception, "saliency")
    heat = explainer("saliency")(small_cnn(Pooled), result.images, classes())
    torch.testing.assert_close(result.heat, heat)


def test_batch_equals_one_by_one(deception: Deception) -> None:
    images, target, model = pictures(N), classes(), small_cnn(Pooled)
    batch, draws = deceive(deception), streams()
    for i in range(N):
        at = torch.tensor([i])
        single = deception(explainer(), model, images[at], target[at], draws[at])
        torch.testing.assert_close(single.images, batch.images[at], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(single.heat, batch.heat[at], rtol=1e-4, atol=1e-6)
        assert torch.equal(single.corner, batch.corner[at])


def test_same_draws_same_output(deception: Deception) -> None:
    first, second = deceive(deception), deceive(deception)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.heat, second.heat)


def test_works_without_gradient_mode(deception: Deception) -> None:
    expected = deceive(deception)
    with torch.no_grad():
        assert torch.equal(deceive(deception).images, expected.images)


def test_plain_classes_mean_logit(deception: Deception) -> None:
    by_target = deception(explainer(), small_cnn(Pooled), pictures(N), Logit(classes()), streams())
    assert torch.equal(by_target.images, deceive(deception).images)


@pytest.mark.parametrize("text", ["center-map", "occlusion(window=12, stride=12)"])
def test_a_map_without_derivative_stays_and_says_so(deception: Deception, text: str) -> None:
    result = deceive(deception, text)
    assert not result.derivable
    assert torch.equal(result.images, pictures(N))
    assert torch.equal(result.heat, explainer(text)(small_cnn(Pooled), pictures(N), classes(), streams()))


def test_leaves_the_model_and_the_arguments_as_they_were(deception: Deception) -> None:
    model, images, target = small_cnn(Pooled), pictures(N), classes()
    before = state(model)
    deception(explainer(), model, images, target, streams())
    assert state(model) == before
    assert torch.equal(images, pictures(N))
    assert not images.requires_grad
    assert torch.equal(target, classes())


def test_gives_the_model_back_after_an_error(deception: Deception) -> None:
    model = small_cnn(Tripping)
    before = state(model)
    with suppress(RuntimeError):
        deception(explainer(), model, pictures(N), classes(), 0)
    assert state(model) == before


def test_no_images_give_no_maps(deception: Deception) -> None:
    result = deception(explainer(), small_cnn(Pooled), pictures(N)[:0], classes()[:0], 0)
    assert (result.images.shape, result.heat.shape, result.corner.shape) == ((0, 3, 24, 24), (0, 24, 24), (0, 24, 24))


def test_refuses_arguments_that_are_none(deception: Deception) -> None:
    with pytest.raises(AssayError, match="images must"):
        deception(explainer(), small_cnn(Pooled), pictures(N) * 2, classes(), 0)
    with pytest.raises(AssayError, match="classes must be integers"):
        deception(explainer(), small_cnn(Pooled), pictures(N), torch.zeros(N), 0)
    with pytest.raises(AssayError, match="needs eps > 0"):
        dataclasses.replace(deception, eps=0.0)
