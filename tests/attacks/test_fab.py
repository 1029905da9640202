"""FAB against closed forms, its projection against linear programmes, and what it costs."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from assay.attacks import FAB, DeepFool, Targeted, evaluate
from assay.attacks.balls import distance
from assay.attacks.hyperplanes import drop
from assay.core.borrow import counting
from assay.core.draws import as_draws
from assay.core.errors import AssayError
from tests.attacks.boxes import cornered, most, network
from tests.attacks.models import Affine, near_grey

NORMS = ("linf", "l2", "l1")


def fab(**settings: Any) -> FAB:
    return FAB(**settings)


def planes(n: int = 40, size: int = 7) -> tuple[Tensor, Tensor, Tensor]:
    """Images, some values at a face, normals, some entries 0 or equal, and drops, of which some are out of reach."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 1, 1, size, generator=generator)
    images[::2] = (2 * images[::2] - 0.5).clamp(0, 1)
    normal = torch.randn(n, 1, 1, size, generator=generator)
    normal[::3, ..., :2] = 0
    normal[1::3, ..., :3] = 0.7
    return images, normal, torch.randn(n, generator=generator)


def smallest(image: np.ndarray, normal: np.ndarray, by: float, norm: str) -> float:
    """The size in Linf or L1 of the least change in the box that lowers <normal, image> by ``by``, by programming."""
    d = len(image)
    if norm == "linf":  # the last variable bounds every change
        cost = np.r_[np.zeros(d), 1.0]
        sides = np.block([[np.eye(d), -np.ones((d, 1))], [-np.eye(d), -np.ones((d, 1))]])
        bounds = [*zip(-image, 1 - image, strict=True), (0, None)]
        found = linprog(cost, sides, np.zeros(2 * d), np.r_[normal, 0][None], [-by], bounds)
    else:  # ups and downs
        bounds = [*zip(np.zeros(d), 1 - image, strict=True), *zip(np.zeros(d), image, strict=True)]
        found = linprog(np.ones(2 * d), A_eq=np.r_[normal, -normal][None], b_eq=[-by], bounds=bounds)
    return float(found.fun or 0) if found.success else float("inf")


@pytest.mark.parametrize("norm", NORMS)
def test_the_projection_is_exact(norm: Any) -> None:
    images, normal, by = planes()
    change = drop(images, normal, by, norm)
    moved = images + change
    assert moved.min() >= -1e-6
    assert moved.max() <= 1 + 1e-6
    size, downward = distance(change, norm), -normal * by.sign().view(-1, 1, 1, 1)
    farthest = most(torch.full_like(size, 100.0), images, downward, norm)
    within = farthest >= by.abs()
    assert 5 < within.sum() < len(by)
    dropped = -(normal * change).flatten(1).sum(1)
    torch.testing.assert_close(dropped, torch.where(within, by, by.sign() * farthest), rtol=1e-5, atol=1e-6)
    reach = most(0.999 * size.double(), images.double(), downward.double(), norm)
    assert (reach < by.abs()).all()
    if norm != "l2":
        arrays = zip(images.flatten(1).double().numpy(), normal.flatten(1).double().numpy(), by.tolist(), strict=True)
        least = torch.tensor([smallest(image, w, amount, norm) for image, w, amount in arrays])
        assert torch.equal(least.isfinite(), within)
        torch.testing.assert_close(size[within], least[within], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_the_projection_takes_any_scale_of_gradient_and_none(norm: Any) -> None:
    images, normal, by = planes()
    expected = drop(images, normal, by, norm)
    for scale in (1e-25, 1e20):
        torch.testing.assert_close(drop(images, normal * scale, by * scale, norm), expected, rtol=1e-4, atol=1e-5)
    assert not drop(images, torch.zeros_like(normal), by, norm).any()
    assert not drop(images, normal, torch.zeros_like(by), norm).any()


@pytest.mark.parametrize("targets", [0, 9])
@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("norm", NORMS)
def test_the_distance_is_the_optimum(norm: str, classes: int, targets: int) -> None:
    for seed in range(3):
        model, images = Affine(classes, seed=seed), near_grey(60)
        labels = model(images).argmax(1)
        adversarial = fab(norm=norm, steps=10, targets=targets)(model, images, labels)
        assert (model(adversarial).argmax(1) != labels).all()
        ratio = distance(adversarial - images, norm) / model.distance(images, labels, norm)
        assert ratio.min() >= 0.9999
        assert ratio.median() <= 1.002


@pytest.mark.parametrize("norm", NORMS)
def test_the_distance_is_the_optimum_inside_the_box(norm: str) -> None:
    model, images, lead, weight = cornered()
    adversarial = fab(norm=norm, steps=10)(model, images, torch.zeros(50, dtype=torch.int64))
    assert (model(adversarial).argmax(1) == 1).all()
    size = distance(adversarial - images, norm).double()
    best = most(0.998 * size, images.double(), weight.double().expand_as(images), norm)
    assert (best < lead).float().mean() > 0.5


@pytest.mark.parametrize("norm", NORMS)
def test_any_wanted_class_is_reached_nearer_than_by_deepfool(norm: Any) -> None:
    model, images = Affine(10, seed=5), near_grey(40)
    for rank in (0, 5, 8):
        goal = Targeted(model(images).argsort(1)[:, rank])
        adversarial, other = fab(norm=norm, steps=20)(model, images, goal), DeepFool(norm=norm)(model, images, goal)
        assert (model(adversarial).argmax(1) == goal.classes).all()
        ratio = distance(adversarial - images, norm) / distance(other - images, norm)
        assert (ratio < 1).float().mean() > 0.7
        assert ratio.median() < 0.99


@pytest.mark.parametrize("norm", NORMS)
def test_it_comes_nearer_than_deepfool_on_a_network_one_by_one_as_in_a_batch(norm: Any) -> None:
    model, images = network(), near_grey(4)
    labels = model(images).argmax(1)
    adversarial = fab(norm=norm, steps=8, restarts=2, classes=5)(model, images, labels, as_draws(0, images))
    assert (model(adversarial).argmax(1) != labels).all()
    draws = as_draws(0, images)
    alone = [
        fab(norm=norm, steps=8, restarts=2, classes=5)(model, images[i], labels[i], draws[i])
        for i in torch.eye(4).bool()
    ]
    torch.testing.assert_close(adversarial, torch.cat(alone), rtol=1e-4, atol=1e-4)
    other = DeepFool(norm=norm, classes=5)(model, images, labels)
    size = distance(adversarial - images, norm)
    assert (size <= distance(other - images, norm) * 1.001).all()


@pytest.mark.parametrize(("name", "steps"), [("restarts", 1), ("targets", 2)])
def test_more_walks_are_never_farther(name: str, steps: int) -> None:
    model, images = network(), (near_grey(40) - 0.4) * 5
    labels = model(images).argmax(1)
    sizes = []
    for walks in (1, 4):
        moved = fab(steps=steps, **{name: walks})(model, images, labels) - images
        sizes.append(distance(moved, "linf").where(moved.flatten(1).any(1), torch.inf))
    assert (sizes[1] <= sizes[0]).all()
    assert (sizes[1] < sizes[0]).any()


@pytest.mark.parametrize("norm", NORMS)
def test_success_is_not_a_matter_of_float_noise(norm: str) -> None:
    model, images = network(), near_grey(40)
    outcome = evaluate(fab(norm=norm, steps=10), model, images, model(images).argmax(1))
    assert outcome.success.all()
    assert not any("boundary" in flags for flags in outcome.flags)


def test_what_is_fooled_already_comes_back_unchanged() -> None:
    model, images = Affine(10, seed=6), near_grey(20)
    labels = model(images).argmax(1)
    labels[::2] = (labels[::2] + 1) % 10
    adversarial = fab(steps=5)(model, images, labels)
    assert torch.equal(adversarial[::2], images[::2])
    assert (adversarial[1::2] != images[1::2]).flatten(1).any(1).all()


@pytest.mark.parametrize("restarts", [1, 2])
def test_an_image_that_cannot_be_fooled_comes_back_unchanged(restarts: int) -> None:
    model, images = Affine(3), near_grey(5)
    with torch.no_grad():
        model.weight.zero_()
        model.bias.copy_(torch.tensor([1.0, 0.0, 0.0]))
    labels = torch.zeros(5, dtype=torch.int64)
    for norm in NORMS:
        assert torch.equal(fab(norm=norm, steps=3, restarts=restarts)(model, images, labels), images)


@pytest.mark.parametrize(("settings", "backwards"), [({}, 9), ({"classes": 4}, 3), ({"targets": 1}, 1)])
def test_a_step_costs_two_forwards_and_a_backward_for_each_class(settings: dict[str, int], backwards: int) -> None:
    model, images = Affine(10, seed=7), near_grey(8)
    labels = model(images).argmax(1)
    with counting(model) as passes:
        fab(steps=6, **settings)(model, images, labels)
    assert passes.backwards == 8 * 6 * backwards
    assert passes.forwards == 8 * (1 + 2 * 6 + 4)  # the clean images, the steps, the final search


@pytest.mark.parametrize(
    "settings",
    [{"steps": 0}, {"restarts": 0}, {"targets": -1}, {"classes": 1}, {"alpha_max": 2}, {"beta": -1}, {"radius": 0}],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(AssayError, match=next(iter(settings))):
        fab(**settings)
