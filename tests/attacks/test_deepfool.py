"""DeepFool against closed forms, and what it costs."""

from typing import Any

import pytest
import torch

from assay.attacks import DeepFool, Targeted
from assay.attacks.balls import distance
from assay.core.borrow import counting
from assay.core.errors import AssayError
from tests.attacks.boxes import cornered, most, network
from tests.attacks.models import Affine, near_grey

NORMS = ("linf", "l2", "l1")


def deepfool(**settings: Any) -> DeepFool:
    return DeepFool(**settings)


@pytest.mark.parametrize("overshoot", [0.02, 0.5])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", NORMS)
def test_the_distance_is_the_optimum_times_one_plus_overshoot(
    norm: str, classes: int, seed: int, overshoot: float
) -> None:
    model, images = Affine(classes, seed=seed), near_grey(200)
    labels = model(images).argmax(1)
    optimum = model.distance(images, labels, norm)
    adversarial = deepfool(norm=norm, overshoot=overshoot)(model, images, labels)
    assert (model(adversarial).argmax(1) != labels).all()
    ratio = distance(adversarial - images, norm) / optimum
    assert ratio.median().item() == pytest.approx(1 + overshoot, abs=1e-4)
    # not at the boundary itself, where float32 does not carry the digits, nor where one pixel meets the box
    clear = (optimum > 0.01 * optimum.median()) & ((1 + overshoot) * optimum < 0.4)
    torch.testing.assert_close(ratio[clear], torch.full_like(ratio[clear], 1 + overshoot), rtol=1e-3, atol=0)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", NORMS)
def test_no_overshoot_still_fools_at_the_boundary(norm: str, classes: int) -> None:
    model, images = Affine(classes, seed=3), near_grey(200)
    labels = model(images).argmax(1)
    adversarial = deepfool(norm=norm, overshoot=0)(model, images, labels)
    alone = torch.cat([model(image[None]) for image in adversarial])
    assert (model(adversarial).argmax(1) != labels).all()
    assert (alone.argmax(1) != labels).all()
    ratio = distance(adversarial - images, norm) / model.distance(images, labels, norm)
    assert ratio.median().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_a_step_is_the_smallest_inside_the_box(norm: str) -> None:
    """It ends where the margin has fallen by 1.02 times itself, and no shorter change does that."""
    model, images, lead, weight = cornered()
    adversarial = deepfool(norm=norm, box="project")(model, images, torch.zeros(50, dtype=torch.int64))
    assert (model(adversarial).argmax(1) == 1).all()
    assert ((adversarial == 0) | (adversarial == 1)).flatten(1).any(1).all()
    size = distance(adversarial - images, norm).double()
    for scale, reaches in ((0.999, False), (1.001, True)):
        best = most(scale * size, images.double(), weight.double().expand_as(images), norm)
        assert ((best >= 1.02 * lead) == reaches).all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_wanted_class_is_reached_and_no_other(norm: str) -> None:
    model, images = Affine(10, seed=5), near_grey(50)
    wanted = model(images).argsort(1)[:, 5]
    adversarial = deepfool(norm=norm)(model, images, Targeted(wanted))
    assert (model(adversarial).argmax(1) == wanted).all()


@pytest.mark.parametrize("norm", NORMS)
def test_what_is_fooled_already_comes_back_unchanged(norm: str) -> None:
    model, images = Affine(10, seed=6), near_grey(20)
    labels = model(images).argmax(1)
    labels[::2] = (labels[::2] + 1) % 10
    adversarial = deepfool(norm=norm)(model, images, labels)
    assert torch.equal(adversarial[::2], images[::2])
    assert (adversarial[1::2] != images[1::2]).flatten(1).any(1).all()


def test_an_image_that_cannot_be_fooled_comes_back_unchanged() -> None:
    model, images = Affine(2), near_grey(5)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([1.0, 0.0]))
    assert torch.equal(DeepFool()(model, images, torch.zeros(5, dtype=torch.int64)), images)


@pytest.mark.parametrize("classes", [2, 4, 10, 20])
def test_a_step_costs_one_forward_and_a_backward_for_each_other_class(classes: int) -> None:
    model, images = Affine(10, seed=7), near_grey(30)
    labels = model(images).argmax(1)
    with counting(model) as passes:
        DeepFool(classes=classes)(model, images, labels)
    assert passes.backwards == 30 * (min(classes, 10) - 1)
    assert passes.forwards == 30 * 2


def test_only_the_likeliest_classes_take_part() -> None:
    model, images = Affine(10, seed=8), near_grey(100)
    logits = model(images)
    labels, second = logits.topk(2, 1).indices.unbind(1)
    adversarial = DeepFool(classes=2)(model, images, labels)
    reached = (model(adversarial).argmax(1) == second).float().mean()
    assert reached > 0.9  # on the way to it some images meet another class
    every = distance(DeepFool()(model, images, labels) - images, "l2")
    assert (distance(adversarial - images, "l2") > 1.01 * every).any()


@pytest.mark.parametrize("norm", NORMS)
def test_it_fools_a_network_one_by_one_as_in_a_batch(norm: str) -> None:
    model, images = network(), near_grey(8)
    labels = model(images).argmax(1)
    adversarial = deepfool(norm=norm)(model, images, labels)
    assert (model(adversarial).argmax(1) != labels).all()
    apart = [deepfool(norm=norm)(model, images[[i]], labels[[i]]) for i in range(8)]
    torch.testing.assert_close(adversarial, torch.cat(apart), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"overshoot": -0.1}, {"overshoot": float("nan")}, {"classes": 1}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AssayError, match=next(iter(settings))):
        deepfool(**settings)


@pytest.mark.parametrize("norm", NORMS)
def test_clipped_steps_reach_the_boundary_in_a_corner_too(norm: str) -> None:
    model, images, _, _ = cornered()
    labels = torch.zeros(50, dtype=torch.int64)
    clipped, projected = (deepfool(norm=norm, box=box)(model, images, labels) for box in ("clip", "project"))
    assert (model(clipped).argmax(1) == 1).all()
    ratio = distance(clipped - images, norm) / distance(projected - images, norm)
    assert (ratio <= 1).all()  # it overshoots by a share of the last step alone
