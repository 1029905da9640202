"""What holds for every member of ``ATTACKS``."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from attacks import ATTACKS, Untargeted, evaluate
from attacks.base import Attack
from attacks.judge import TOLERANCE
from core.draws import Draws
from core.errors import AssayError
from tests.explain.models import CLASSES, Tripping, pictures, small_cnn, state

IDS = ["a", "b", "c", "d"]


@pytest.fixture(params=list(ATTACKS))
def attack(request: pytest.FixtureRequest) -> Attack:
    record: Attack = ATTACKS.parse(request.param)
    return record


def labels() -> Tensor:
    return torch.arange(4) % CLASSES


def streams() -> Draws:
    return Draws.hashed("contract", IDS)


def test_is_a_frozen_record(attack: Attack) -> None:
    record: Any = attack
    assert repr(record) == repr(type(record)())
    assert not hasattr(record, "__dict__")
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        record.anything = 1
    assert ATTACKS.parse(ATTACKS.name_of(record)) == record


def test_gives_images(attack: Attack) -> None:
    images = pictures()
    adversarial = attack(small_cnn(), images, labels())
    assert adversarial.shape == images.shape
    assert adversarial.dtype == torch.float32
    assert not adversarial.requires_grad
    assert adversarial.isfinite().all()
    assert adversarial.amin() >= 0
    assert adversarial.amax() <= 1


def test_keeps_its_budget(attack: Attack) -> None:
    record: Any = attack
    outcome = evaluate(record, small_cnn(), pictures(), labels())
    assert not any("over-budget" in flags or "out-of-range" in flags for flags in outcome.flags)
    if hasattr(record, "eps"):
        norm = getattr(record, "norm", "linf")
        assert (outcome.distances[norm] <= record.eps + TOLERANCE).all()


def test_no_budget_returns_the_input_bit_for_bit(attack: Attack) -> None:
    if "eps" not in {field.name for field in dataclasses.fields(attack)}:  # type: ignore[arg-type]
        pytest.skip("has no budget")
    images, record = pictures(), dataclasses.replace(attack, eps=0.0)  # type: ignore[type-var]
    assert torch.equal(record(small_cnn(), images, labels()), images)


def test_batch_equals_one_by_one(attack: Attack) -> None:
    images, model = pictures(), small_cnn()
    together = attack(model, images, labels(), streams())
    apart = [attack(model, images[[i]], labels()[[i]], streams()[torch.tensor([i])]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=1e-4, atol=1e-5)


def test_order_only_permutes(attack: Attack) -> None:
    images, model, order = pictures(), small_cnn(), torch.tensor([2, 0, 3, 1])
    straight = attack(model, images, labels(), streams())
    permuted = attack(model, images[order], labels()[order], streams()[order])
    torch.testing.assert_close(permuted, straight[order], rtol=1e-4, atol=1e-5)


def test_same_draws_same_output(attack: Attack) -> None:
    model = small_cnn()
    first, again = (attack(model, pictures(), labels(), 3) for _ in range(2))
    assert torch.equal(first, again)


def test_leaves_model_and_images_as_they_were(attack: Attack) -> None:
    model, images = small_cnn(), pictures()
    before, kept = state(model), images.clone()
    attack(model, images, labels())
    assert state(model) == before
    assert torch.equal(images, kept)


def test_gives_the_model_back_after_an_error(attack: Attack) -> None:
    model = small_cnn(Tripping)
    before = state(model)
    with pytest.raises(RuntimeError):
        attack(model, pictures(), labels())
    assert state(model) == before


def test_works_without_gradients_around_it(attack: Attack) -> None:
    model = small_cnn()
    expected = attack(model, pictures(), labels())
    with torch.no_grad():
        assert torch.equal(attack(model, pictures(), labels()), expected)


def test_takes_no_images(attack: Attack) -> None:
    images = pictures()[:0]
    assert attack(small_cnn(), images, Untargeted(labels()[:0])).shape == images.shape


def test_refuses_images_outside_the_range(attack: Attack) -> None:
    with pytest.raises(AssayError, match=r"\[0, 1\]"):
        attack(small_cnn(), pictures() * 2 - 1, labels())
