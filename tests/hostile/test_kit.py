"""The kit tells what ends otherwise than its row says."""

import time

import pytest

from tests.hostile.kit import MODEL, RUN, Hang, Hostile, broken, pictures, within


def test_sound_input_ends_well() -> None:
    case = Hostile("sound", [*RUN, "--models", MODEL, "--data", "folder:pictures"], "report: ", pictures, status=0)
    assert case.check().last.startswith("report: ")


@pytest.mark.parametrize(
    "case",
    [
        Hostile("status", ["list", "modelz"], "did you mean models", status=0),
        Hostile("line", ["list", "modelz"], "did you mean metrics"),
    ],
    ids=str,
)
def test_another_ending_is_told(case: Hostile) -> None:
    with pytest.raises(AssertionError, match="status 2\nassay: unknown kind"):
        case.check()


def test_what_takes_too_long_is_stopped() -> None:
    with pytest.raises(Hang), within(0.05):
        time.sleep(5)


def test_damage_is_the_same_for_a_seed() -> None:
    content = bytes(range(200))
    copies = list(broken(content, 20, 3))
    assert copies == list(broken(content, 20, 3)) != list(broken(content, 20, 4))
    assert content not in copies
