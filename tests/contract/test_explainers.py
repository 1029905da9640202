"""What holds for every member of ``EXPLAINERS``."""

import dataclasses
from contextlib import suppress
from typing import Any

import pytest
import torch
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Logit
from assay.explain import EXPLAINERS, Explainer
from tests.explain.models import CLASSES, Tripping, choices_of, pictures, small_cnn, state, suited

IDS = ["a", "b", "c", "d"]


@pytest.fixture(params=list(EXPLAINERS))
def explainer(request: pytest.FixtureRequest) -> Explainer:
    """With fewer passes than by default, where that is a setting."""
    record: Explainer = EXPLAINERS.parse(request.param, samples=64, steps=16)
    return record


def classes() -> Tensor:
    return torch.arange(4) % CLASSES


def streams() -> Draws:
    return Draws.hashed("contract", IDS)


def test_is_a_frozen_record(explainer: Explainer) -> None:
    record: Any = type(explainer)()
    assert record.version >= 1
    assert repr(record) == repr(type(record)())
    assert "batch" not in repr(record)
    assert not hasattr(record, "__dict__")
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        record.anything = 1
    assert EXPLAINERS.parse(EXPLAINERS.name_of(record)) == record


def test_gives_finite_maps(explainer: Explainer) -> None:
    heat = explainer(suited(explainer), pictures(), classes())
    assert heat.shape == (4, 24, 24)
    assert heat.dtype == torch.float32
    assert heat.isfinite().all()
    assert not heat.requires_grad
    assert all(row.amax() > row.amin() for row in heat)


def test_batch_equals_one_by_one(explainer: Explainer) -> None:
    images, model = pictures(), suited(explainer)
    together = explainer(model, images, classes(), streams())
    apart = [explainer(model, images[[i]], classes()[[i]], streams()[torch.tensor([i])]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-6)


def test_order_only_permutes(explainer: Explainer) -> None:
    images, model, order = pictures(), suited(explainer), torch.tensor([2, 0, 3, 1])
    straight = explainer(model, images, classes(), streams())
    permuted = explainer(model, images[order], classes()[order], streams()[order])
    torch.testing.assert_close(permuted, straight[order], rtol=1e-4, atol=1e-6)


def test_same_draws_same_output(explainer: Explainer) -> None:
    model = suited(explainer)
    first, again = (explainer(model, pictures(), classes(), 3) for _ in range(2))
    assert torch.equal(first, again)


def test_batch_setting_changes_no_result(explainer: Explainer) -> None:
    record: Any = explainer
    if "batch" not in {field.name for field in dataclasses.fields(record)}:
        pytest.skip("makes no batches")
    small, model = dataclasses.replace(record, batch=3), suited(explainer)
    assert repr(small) == repr(record)
    expected = explainer(model, pictures(), classes())
    torch.testing.assert_close(small(model, pictures(), classes()), expected, rtol=1e-4, atol=1e-6)


def test_works_without_gradient_mode(explainer: Explainer) -> None:
    model = suited(explainer)
    expected = explainer(model, pictures(), classes())
    with torch.no_grad():
        assert torch.equal(explainer(model, pictures(), classes()), expected)


def test_plain_classes_mean_logit(explainer: Explainer) -> None:
    model = suited(explainer)
    expected = explainer(model, pictures(), Logit(classes()))
    assert torch.equal(explainer(model, pictures(), classes().to(torch.int32)), expected)


def test_leaves_the_model_and_the_arguments_as_they_were(explainer: Explainer) -> None:
    model, images, target = suited(explainer), pictures(), classes()
    before = state(model)
    explainer(model, images, target)
    assert state(model) == before
    assert torch.equal(images, pictures())
    assert not images.requires_grad
    assert torch.equal(target, classes())


def test_gives_the_model_back_after_an_error(explainer: Explainer) -> None:
    model = small_cnn(Tripping)
    before = state(model)
    with suppress(RuntimeError, NotApplicable):
        explainer(model, pictures(), classes())
    assert state(model) == before


@pytest.mark.parametrize("images", [pictures() * 2, pictures()[0], (pictures() * 255).to(torch.uint8)])
def test_refuses_what_are_not_images(explainer: Explainer, images: Tensor) -> None:
    with pytest.raises(AssayError, match="images must"):
        explainer(suited(explainer), images, classes())


def test_no_images_give_no_maps(explainer: Explainer) -> None:
    heat = explainer(suited(explainer), pictures()[:0], classes()[:0])
    assert (heat.shape, heat.dtype) == ((0, 24, 24), torch.float32)
    assert explainer.doubts(suited(explainer), pictures()[:0], classes()[:0], heat) == []


def test_refuses_settings_that_it_does_not_have(explainer: Explainer) -> None:
    record: Any = explainer
    for field, choices in choices_of(record):
        with pytest.raises(AssayError, match=f"{field}='nonsense' is not one of {choices[0]}"):
            dataclasses.replace(record, **{field: "nonsense"})(suited(explainer), pictures(), classes())


def test_refuses_a_target_for_other_images(explainer: Explainer) -> None:
    with pytest.raises(AssayError, match="holds data for 3 images, not for 4"):
        explainer(suited(explainer), pictures(), 2 * Logit(classes()[:3]))


@pytest.mark.parametrize("wrong", [torch.zeros(4), torch.zeros(4, dtype=torch.bool), torch.zeros(3, dtype=torch.int64)])
def test_refuses_what_are_not_classes(explainer: Explainer, wrong: Tensor) -> None:
    with pytest.raises(AssayError, match="classes must be integers"):
        explainer(suited(explainer), pictures(), wrong)
