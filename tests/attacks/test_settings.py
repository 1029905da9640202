"""Settings that cannot be are refused in one line."""

import pytest
import torch

from assay.attacks import ATTACKS, FGSM, PGD, GradientFooling, RandomNoise, evaluate
from assay.core.errors import AssayError
from tests.attacks.models import Affine


@pytest.mark.parametrize("eps", [-0.1, 1.5, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["fgsm", "pgd", "random-noise"])
def test_eps_outside_0_to_1(name: str, eps: float) -> None:
    with pytest.raises(AssayError, match="between 0 and 1"):
        ATTACKS[name](eps=eps)


def test_an_l2_radius_may_exceed_1() -> None:
    assert PGD(norm="l2", eps=3).eps == 3
    with pytest.raises(AssayError, match="finite"):
        RandomNoise(norm="l2", eps=-1)


def test_counts_must_be_positive() -> None:
    for make in (
        lambda: PGD(steps=0),
        lambda: PGD(step=-1.0),
        lambda: PGD(restarts=0),
        lambda: GradientFooling(steps=0),
    ):
        with pytest.raises(AssayError, match="above 0"):
            make()


def test_text_gives_the_same_record() -> None:
    assert ATTACKS.parse("fgsm(eps=8/255)") == FGSM(eps=8 / 255)
    assert ATTACKS.parse("PGD(norm=l2, eps=1/2, steps=7, random_start=False)") == PGD(
        norm="l2", eps=0.5, steps=7, random_start=False
    )


def test_settings_of_a_wrong_type_are_refused_when_called() -> None:
    images = torch.rand(2, 3, 4, 4)
    for record, said in (
        (PGD(norm="L2"), "one of linf, l2, l1"),  # type: ignore[arg-type]
        (PGD(steps=2.5), "is not int"),  # type: ignore[arg-type]
    ):
        with pytest.raises(AssayError, match=said):
            record(Affine(2, (3, 4, 4)), images, torch.zeros(2, dtype=torch.int64))


def test_infinite_steps_are_refused() -> None:
    with pytest.raises(AssayError, match="finite"):
        PGD(step=float("inf"))


def test_classes_that_the_model_does_not_have_are_refused() -> None:
    with pytest.raises(AssayError, match="class 7 is not one of the model's 0 to 1"):
        evaluate(FGSM(), Affine(2, (3, 4, 4)), torch.rand(2, 3, 4, 4), torch.tensor([0, 7]))


def test_every_attack_has_a_version_of_its_results() -> None:
    assert all(isinstance(cls.version, int) and cls.version >= 1 for cls in ATTACKS.values())  # type: ignore[attr-defined]
