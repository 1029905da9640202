"""Attacks on published weights, against the published figures, where the weights are there."""

import gzip
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.attacks import APGD, DDN, FAB, FGSM, FMN, PGD, WorstCase
from assay.attacks.balls import distance
from assay.bench.models import load
from tests.bench.real import REAL, needed

pytestmark = pytest.mark.real
Case = tuple[nn.Module, Tensor, Tensor]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(needed(REAL / "subjects.py").parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


def digits(n: int) -> tuple[Tensor, Tensor]:
    """The first ``n`` images of MNIST's test set."""

    def raw(name: str, head: int) -> Any:
        packed = needed(REAL / "images" / "mnist" / f"t10k-{name}-ubyte.gz").read_bytes()
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=head).copy()

    images = torch.from_numpy(raw("images-idx3", 16).reshape(-1, 1, 28, 28)).float() / 255
    return images[:n], torch.from_numpy(raw("labels-idx1", 8)).long()[:n]


def right(model: nn.Module, images: Tensor, labels: Tensor) -> Case:
    """The model and the images that it has right, as the published figures count them."""
    with torch.no_grad():
        keep = torch.cat([model(part).argmax(1) for part in torch.split(images, 250)]) == labels
    return model, images[keep], labels[keep]


def under(attack: Any, case: Case) -> Tensor:
    model, images, labels = case
    return torch.cat(
        [attack(model, *pair) for pair in zip(torch.split(images, 250), torch.split(labels, 250), strict=True)]
    )


def success(attack: Any, case: Case) -> float:
    model, _, labels = case
    with torch.no_grad():
        wrong = torch.cat([model(part).argmax(1) for part in torch.split(under(attack, case), 250)]) != labels
    return wrong.float().mean().item()


def median(attack: Any, norm: str, case: Case) -> float:
    """Of the distances of fooled images; an image that is not fooled is infinitely far."""
    model, images, labels = case
    adversarial = under(attack, case)
    fooled = model(adversarial).argmax(1) != labels
    return distance(adversarial - images, norm).where(fooled, torch.inf).median().item()


def lenet(name: str, n: int) -> Case:
    return right(load(f"py:subjects:{name}"), *digits(n))


# median distances over the whole test set: standard, adversarially trained (advertorch's table)
PUBLISHED = [
    ("linf", FAB(norm="linf", steps=20), 0.112, 0.3509),
    ("l2", FAB(norm="l2", steps=20), 1.423, 3.04),
    ("l1", FAB(norm="l1", steps=20), 7.61, 112.8),
    ("l2", DDN(steps=100), 1.388, 1.872),
]


def test_distances_on_the_robust_net_are_the_published_ones_or_smaller() -> None:
    case = lenet("mnist_lenet5_robust", 50)
    assert median(DDN(steps=100), "l2", case) <= 1.03 * 1.872


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "attack", "standard", "robust"), PUBLISHED, ids=lambda value: str(value)[:14])
def test_median_distances_are_the_published_ones_or_smaller(
    norm: str, attack: Any, standard: float, robust: float
) -> None:
    assert median(attack, norm, lenet("mnist_lenet5", 500)) <= 1.03 * standard
    assert median(attack, norm, lenet("mnist_lenet5_robust", 500)) <= 1.03 * robust


@pytest.mark.slow
def test_pgd_succeeds_as_often_as_published() -> None:
    """The published share counts the digits that are wrong without an attack, 1.36 % of them on the robust net."""
    attack = PGD(eps=0.3, steps=40, step=0.01, random_start=False)
    assert success(attack, lenet("mnist_lenet5", 10_000)) == 1
    robust = lenet("mnist_lenet5_robust", 10_000)
    standing = len(robust[1]) / 10_000 * (1 - success(attack, robust))
    assert 1 - standing == pytest.approx(0.068, abs=0.001)


def test_the_more_an_attack_tries_the_less_stands() -> None:
    case = lenet("mnist_lenet5_robust", 12)
    attacks = [
        FGSM(eps=0.3),
        PGD(eps=0.3),
        PGD(eps=0.3, restarts=3),
        WorstCase(
            eps=0.3,
            attacks=(PGD(eps=0.3, restarts=3), APGD(eps=0.3, loss="dlr"), "fab(steps=20)", "square(queries=200)"),
        ),
    ]
    rates = [success(attack, case) for attack in attacks]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1]


@pytest.fixture(scope="module")
def cifar() -> Iterator[Case]:
    path = needed(REAL / "images" / "cifar10_test_300.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REAL))
        patch.setattr(sys, "dont_write_bytecode", True)
        with np.load(path) as held:
            images = torch.from_numpy(held["images"]).permute(0, 3, 1, 2).float() / 255
            labels = torch.from_numpy(held["labels"]).long()
        yield right(load("py:subjects:cifar10_resnet20"), images[:60], labels[:60])


def test_no_image_of_cifar_stands_the_worst_case(cifar: Case) -> None:
    assert success(WorstCase(eps=8 / 255), cifar) == 1


@pytest.mark.slow
def test_the_curve_of_one_minimal_attack_runs_through_pgd_at_six_radii(cifar: Case) -> None:
    """FMN's distances give robust accuracy at every radius; PGD at one radius may differ by a few images."""
    _, images, _ = cifar
    distances = distance(under(FMN(norm="linf", steps=100), cifar) - images, "linf")
    for eps in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0):
        curve = (distances > eps / 255).float().mean().item()
        assert 1 - success(PGD(eps=eps / 255), cifar) == pytest.approx(curve, abs=0.03)
