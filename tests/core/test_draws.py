"""One stream of random numbers per image."""

from typing import Any

import numpy as np
import pytest
import torch

from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError

IDS = ["a", "b", "c"]


def test_a_draw_depends_on_the_image_and_the_work_alone() -> None:
    first = Draws.hashed("work", IDS).uniform((4,))
    assert torch.equal(Draws.hashed("work", IDS[::-1]).uniform((4,)), first.flip(0))
    assert torch.equal(Draws.hashed("work", ["b"]).uniform((4,)), first[1:2])
    assert not torch.equal(Draws.hashed("other", IDS).uniform((4,)), first)
    assert len(set(first.flatten().tolist())) == 12


def test_streams_follow_their_images() -> None:
    whole, parts = Draws.hashed("work", IDS), Draws.hashed("work", IDS)
    mask = torch.tensor([True, False, True])
    expected = whole.normal((2,))[mask]
    assert torch.equal(parts[mask].normal((2,)), expected)
    assert torch.equal(parts[torch.tensor([1])].normal((2,)), Draws.hashed("work", ["b"]).normal((2,)))


def test_ranges() -> None:
    draws = as_draws(0, torch.zeros(50, 1))
    uniform = draws.uniform((100,), -2.0, 3.0)
    assert uniform.dtype == torch.float32
    assert -2 <= uniform.min() < -1.9
    assert 2.9 < uniform.max() < 3
    assert set(draws.integers(3, (20,)).flatten().tolist()) == {0, 1, 2}
    assert draws.normal((1000,)).std().item() == pytest.approx(1, abs=0.02)


def test_one_stream_for_each_image() -> None:
    with pytest.raises(AssayError, match="3 streams for 2 images"):
        as_draws(Draws.hashed("work", IDS), torch.zeros(2, 1))


@pytest.mark.parametrize("wrong", [None, 1.5, "3"])
def test_a_seed_is_any_int_and_nothing_else(wrong: Any) -> None:
    seed: Any = np.int64(3)
    assert torch.equal(as_draws(seed, torch.zeros(2, 1)).normal((4,)), as_draws(3, torch.zeros(2, 1)).normal((4,)))
    with pytest.raises(AssayError, match="draws must be an int or Draws, not"):
        as_draws(wrong, torch.zeros(2, 1))
