"""What holds for every member of ``ATTACKS``."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import ATTACKS, Targeted, Untargeted, evaluate
from assay.attacks.base import Attack, BlackBox
from assay.attacks.checks import SLACK
from assay.core.borrow import counting
from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from tests.explain.models import CLASSES, SmallCNN, Tripping, pictures, small_cnn, state

IDS = ["a", "b", "c", "d"]


NOISE = 1e-4  # a path that meets a boundary within float noise may turn either way: a fortieth of a grey level
# what makes an attack long, and how much of it shows what these tests ask
BRIEF = {"steps": 6, "queries": 60, "restarts": 1, "search_steps": 2, "generations": 3, "population": 8, "tries": 4}


@pytest.fixture(params=list(ATTACKS))
def attack(request: pytest.FixtureRequest) -> Attack:
    """Each attack with its defaults, only shorter."""
    record: Any = ATTACKS.parse(request.param)
    fields = {field.name for field in dataclasses.fields(record)}
    shorter = {name: min(most, getattr(record, name)) for name, most in BRIEF.items() if name in fields}
    brief: Attack = dataclasses.replace(record, **shorter)
    return brief


def alone(attack: Attack) -> Attack:
    """The attack, if it treats each image by itself."""
    if attack.universal:
        pytest.skip("makes one perturbation for all images")
    return attack


def network() -> SmallCNN:
    """The small network, with another class for each picture and boundaries nearby, back in train mode."""
    model = small_cnn().eval()
    with torch.no_grad():
        model.head.bias.sub_(model(pictures()).mean(0))
        for parameter in model.head.parameters():
            parameter.mul_(100)
    return model.train()


def labels() -> Tensor:
    """What ``network`` says of the four pictures."""
    return torch.tensor([1, 0, 4, 2])


def streams() -> Draws:
    return Draws.hashed("contract", IDS)


def test_the_network_can_be_fooled() -> None:
    assert torch.equal(network().eval()(pictures()).argmax(1), labels())
    assert evaluate(ATTACKS.parse("pgd"), network(), pictures(), labels()).success.all()


def test_is_a_frozen_record(attack: Attack) -> None:
    record: Any = type(attack)()
    assert not hasattr(record, "__dict__")
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        record.anything = 1
    assert ATTACKS.parse(ATTACKS.name_of(record)) == record


def test_gives_images(attack: Attack) -> None:
    images = pictures()
    adversarial = attack(network(), images, labels())
    assert adversarial.shape == images.shape
    assert adversarial.dtype == torch.float32
    assert not adversarial.requires_grad
    assert adversarial.isfinite().all()
    assert adversarial.amin() >= 0
    assert adversarial.amax() <= 1


def test_keeps_its_budget(attack: Attack) -> None:
    record: Any = attack
    outcome = evaluate(attack, network(), pictures(), labels())
    assert not any("over-budget" in flags or "out-of-range" in flags for flags in outcome.flags)
    if hasattr(record, "eps"):
        norm = getattr(record, "norm", "linf")
        assert (outcome.distances[norm] <= record.eps + SLACK).all()


def test_no_budget_returns_the_input_bit_for_bit(attack: Attack) -> None:
    if "eps" not in {field.name for field in dataclasses.fields(attack)}:  # type: ignore[arg-type]
        pytest.skip("has no budget")
    images, record = pictures(), dataclasses.replace(attack, eps=0.0)  # type: ignore[type-var]
    assert torch.equal(record(network(), images, labels()), images)


def test_batch_equals_one_by_one(attack: Attack) -> None:
    images, model = pictures(), network()
    together = alone(attack)(model, images, labels(), streams())
    apart = [attack(model, images[[i]], labels()[[i]], streams()[torch.tensor([i])]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=NOISE)


def test_order_only_permutes(attack: Attack) -> None:
    images, model, order = pictures(), network(), torch.tensor([2, 0, 3, 1])
    straight = alone(attack)(model, images, labels(), streams())
    permuted = attack(model, images[order], labels()[order], streams()[order])
    torch.testing.assert_close(permuted, straight[order], rtol=0, atol=NOISE)


def test_same_draws_same_output(attack: Attack) -> None:
    model = network()
    first, again = (attack(model, pictures(), labels(), 3) for _ in range(2))
    assert torch.equal(first, again)


def test_leaves_model_and_images_as_they_were(attack: Attack) -> None:
    model, images = network(), pictures()
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
    model = network()
    expected = attack(model, pictures(), labels())
    with torch.no_grad():
        assert torch.equal(attack(model, pictures(), labels()), expected)


def test_takes_no_images(attack: Attack) -> None:
    images = pictures()[:0]
    assert attack(network(), images, Untargeted(labels()[:0])).shape == images.shape


def test_refuses_images_outside_the_range(attack: Attack) -> None:
    with pytest.raises(AssayError, match=r"\[0, 1\]"):
        attack(network(), pictures() * 2 - 1, labels())


def test_takes_grey_images(attack: Attack) -> None:
    torch.manual_seed(0)
    model, images = nn.Sequential(nn.Conv2d(1, 4, 3, 2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(CLASSES)), pictures()
    model(images[:, :1])
    outcome = evaluate(attack, model, images[:, :1], labels())
    assert outcome.adversarial.shape == (4, 1, *images.shape[-2:])
    assert outcome.valid.all()


def test_takes_two_classes_or_says_what_it_needs(attack: Attack) -> None:
    torch.manual_seed(0)
    images = pictures()
    model = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 2))
    try:
        outcome = evaluate(attack, model, images, torch.zeros(4, dtype=torch.int64))
    except NotApplicable as error:
        assert "classes" in str(error)  # noqa: PT017
    else:
        assert outcome.valid.all()


def test_what_was_wrong_before_stays_wrong(attack: Attack) -> None:
    if getattr(attack, "from_nothing", False):
        pytest.skip("starts from nothing")
    model, images = network(), pictures()
    wrong = (model.eval()(images).argmax(1) + 1) % CLASSES
    assert evaluate(alone(attack), model, images, wrong).success.all()


def test_aims_at_a_class(attack: Attack) -> None:
    model, images = network(), pictures()
    wanted = (labels() + 1) % CLASSES
    outcome = evaluate(attack, model, images, Targeted(wanted))
    assert outcome.valid.all()
    assert torch.equal(outcome.success, outcome.logits.argmax(1) == wanted)


def test_a_black_box_counts_its_questions(attack: Attack) -> None:
    if not isinstance(attack, BlackBox):
        pytest.skip("asks for more than answers")
    model = network()
    with counting(model) as passes:
        trace = attack.trace(model, pictures(), Untargeted(labels()), streams())
    assert trace.queries.shape == (4,)
    assert trace.queries.sum() == passes.forwards
    assert passes.backwards == 0
    if hasattr(attack, "queries"):
        assert trace.queries.max() <= attack.queries


def test_what_a_universal_attack_made_is_put_on_each_image_alone(attack: Attack) -> None:
    if not attack.universal:
        pytest.skip("treats each image by itself")
    made: Any = attack
    model, images = network().eval(), pictures()
    crafted = made.craft(model, images, Untargeted(labels()), streams())
    together = made.apply(images, crafted, streams())
    apart = [made.apply(images[[i]], crafted, streams()[torch.tensor([i])]) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(apart), rtol=0, atol=1e-6)
