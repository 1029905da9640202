"""The universal perturbation on data whose best one is known, and the calls that universal attacks share."""

from typing import Any

import pytest
import torch
from torch import Tensor

from assay.attacks import Targeted, UniversalPerturbation, evaluate
from assay.attacks.balls import distance
from assay.core.errors import AssayError
from tests.attacks.models import Affine, near_grey


def one_sided(seed: int, n: int = 40) -> tuple[Affine, Tensor, Tensor]:
    """Two classes, all images on one side of the boundary: the direction to the other class is the same for all."""
    model, images = Affine(2, seed=seed), near_grey(200)
    images = images[model(images).argmax(1) == 0][:n]
    return model, images, torch.zeros(len(images), dtype=torch.int64)


def best(model: Affine, norm: str, eps: float) -> Tensor:
    """-eps sign(w) or -eps w / |w|, w the difference of the label's weights and the other's."""
    w = (model.weight[0] - model.weight[1]).detach().view(3, 5, 5)
    return -eps * (w.sign() if norm == "linf" else w / w.norm())


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_climbing_gives_the_closed_form(norm: str, seed: int) -> None:
    model, images, labels = one_sided(seed)
    eps = 0.02 if norm == "linf" else 0.2
    attack = UniversalPerturbation(norm=norm, eps=eps, steps=20, cap=1e3)  # type: ignore[arg-type]
    crafted = attack.craft(model, images, labels)
    torch.testing.assert_close(crafted, best(model, norm, eps), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("batch", [1, 10])
def test_pushes_give_the_closed_form_in_l2(batch: int) -> None:
    """Where every image is to be fooled, the pushes pile up to the radius in the one direction that there is."""
    model, images, labels = one_sided(3)
    eps = 0.9 * model.distance(images, labels, "l2").max().item()
    attack = UniversalPerturbation(method="deepfool", norm="l2", eps=eps, fooled=1.0, batch=batch)
    torch.testing.assert_close(attack.craft(model, images, labels), best(model, "l2", eps), rtol=1e-3, atol=1e-4)


def test_pushes_end_once_enough_are_fooled() -> None:
    model, images, labels = one_sided(4)
    distances = model.distance(images, labels, "l2")
    attack = UniversalPerturbation(method="deepfool", norm="l2", eps=10.0, fooled=0.5, batch=1, passes=1)
    crafted = attack.craft(model, images, labels)
    farthest = 1.02 * distances.max()  # DeepFool's overshoot
    assert distance(crafted[None], "l2") <= farthest * 1.001
    assert (model(attack.apply(images, crafted)).argmax(1) != labels).float().mean() >= 0.5


@pytest.mark.parametrize("method", ["gradient", "deepfool"])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_difference_within_the_budget_for_all_images(norm: str, method: str) -> None:
    model, images = Affine(10, seed=5), near_grey(30)
    labels = model(images).argmax(1)
    eps = 4 * model.distance(images, labels, norm).median().item()
    attack: Any = UniversalPerturbation(norm=norm, eps=eps, method=method, steps=20, batch=7)  # type: ignore[arg-type]
    outcome = evaluate(attack, model, images, labels)
    assert outcome.success.float().mean() >= 0.2
    assert (outcome.distances[norm] <= eps + 1e-6).all()
    difference = outcome.adversarial - images
    torch.testing.assert_close(difference, difference[:1].expand_as(difference), rtol=0, atol=1e-6)


def test_carries_over_to_images_it_has_not_seen() -> None:
    model, images = Affine(10, seed=6), near_grey(300)
    labels = model(images).argmax(1)
    eps = 4 * model.distance(images, labels, "linf").median().item()
    attack = UniversalPerturbation(eps=eps, steps=40)
    crafted = attack.craft(model, images[:200], labels[:200])
    unseen = attack.apply(images[200:], crafted)
    fooled = (model(unseen).argmax(1) != labels[200:]).float().mean()
    flipped = (model(attack.apply(images[200:], crafted.flip(0, 1, 2))).argmax(1) != labels[200:]).float().mean()
    assert fooled > flipped + 0.1


def test_a_wanted_class_for_all() -> None:
    model, images = Affine(10, seed=7), near_grey(50)
    goal = Targeted(torch.full((50,), 3))
    attack = UniversalPerturbation(norm="l2", eps=3.0, steps=40)
    assert (model(attack(model, images, goal)).argmax(1) == 3).float().mean() > 0.9


@pytest.mark.parametrize("method", ["gradient", "deepfool"])
def test_no_budget_returns_the_input_and_no_images_a_still_perturbation(method: str) -> None:
    model, images = Affine(3), near_grey(4)
    none = UniversalPerturbation(eps=0.0, method=method)  # type: ignore[arg-type]
    assert torch.equal(none(model, images, model(images).argmax(1)), images)
    some = UniversalPerturbation(method=method)  # type: ignore[arg-type]
    assert torch.equal(some.craft(model, images[:0], torch.zeros(0, dtype=torch.int64)), torch.zeros(3, 5, 5))


def test_gives_the_model_back_after_crafting() -> None:
    model, images = Affine(3).train(), near_grey(4)
    UniversalPerturbation(steps=2).craft(model, images, torch.zeros(4, dtype=torch.int64))
    assert model.training
    assert model.weight.requires_grad


def test_refuses_what_cannot_be() -> None:
    with pytest.raises(AssayError, match="between 0 and 1"):
        UniversalPerturbation(eps=10)
    with pytest.raises(AssayError, match="fooled=0"):
        UniversalPerturbation(fooled=0)
