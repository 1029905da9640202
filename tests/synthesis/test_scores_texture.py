"""Scores of textures: closed forms, brute force, and the order that anyone would see."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.core.errors import AssayError
from assay.synthesis.scores_texture import PATCH, copy_length, copy_sides, seam_energy


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def waves(height: int, width: int, phase: float = 0.0) -> Tensor:
    """A smooth texture (1, 1, H, W)."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (0.5 + 0.25 * torch.sin(x + phase) + 0.25 * torch.sin(0.7 * y + 0.2 * x))[None, None]


def tiled(sample: Tensor, block: int, count: int) -> Tensor:
    """Blocks from random places side by side."""
    places = np.random.default_rng(0).integers(0, sample.shape[2] - block + 1, (count, count, 2))
    rows = [[sample[..., y : y + block, x : x + block] for y, x in row] for row in places]
    return torch.cat([torch.cat(row, 3) for row in rows], 2)


def brute_copied(picture: np.ndarray, sample: np.ndarray) -> np.ndarray:
    (_, height, width), (_, h, w) = picture.shape, sample.shape
    sides = np.zeros((height, width), dtype=np.int64)
    for side in range(1, min(height, width, h, w) + 1):
        held = {
            sample[:, y : y + side, x : x + side].tobytes()
            for y, x in itertools.product(range(h - side + 1), range(w - side + 1))
        }
        for y, x in itertools.product(range(height - side + 1), range(width - side + 1)):
            if picture[:, y : y + side, x : x + side].tobytes() in held:
                sides[y : y + side, x : x + side] = side
    return sides


@pytest.mark.parametrize("channels", [1, 3])
def test_copies_are_those_of_brute_force(channels: int) -> None:
    random = np.random.default_rng(channels)
    sample = random.integers(0, 2, (channels, 9, 8))
    picture = random.integers(0, 2, (channels, 11, 12))
    picture[:, 3:8, 4:10] = sample[:, 2:7, 1:7]
    wanted = brute_copied(picture, sample)
    assert wanted.max() == 5
    assert (copy_sides(picture, sample) == wanted).all()


def test_copy_length_is_the_side_of_tiles() -> None:
    sample = noise(1, 3, 24, 24)
    assert copy_length(tiled(sample, 6, 5), sample).item() == 6
    assert copy_length(sample, sample).item() == 24
    assert copy_length(sample[..., 3:13, 5:20], sample).item() > 9.9
    assert copy_length(noise(1, 3, 24, 24, seed=1), sample).item() < 0.01


def test_copies_are_equal_in_eight_bits() -> None:
    sample = torch.randint(0, 256, (1, 3, 16, 16), generator=torch.Generator().manual_seed(0)) / 255
    assert copy_length((sample + 0.4 / 255).clamp(max=1), sample).item() == 16
    assert copy_length((sample + 0.6 / 255).clamp(max=1), sample).item() < 1


def patches(picture: Tensor) -> list[np.ndarray]:
    """The differences inside every patch of (C, H, W), in scanline order."""
    array = picture.double().numpy()
    ends = (range(side - PATCH + 1) for side in array.shape[1:])
    cut = [array[:, y : y + PATCH, x : x + PATCH] for y, x in itertools.product(*ends)]
    return [np.concatenate([np.diff(each, axis=axis).ravel() for axis in (1, 2)]) for each in cut]


def test_seam_energy_is_that_of_brute_force() -> None:
    sample, picture = noise(1, 2, 9, 8), noise(1, 2, 8, 10, seed=1).round()
    given = patches(sample[0])
    places = list(itertools.product(range(9 - PATCH + 1), range(8 - PATCH + 1)))
    own = [
        min(
            ((a - b) ** 2).sum()
            for b, t in zip(given, places, strict=True)
            if max(abs(s[0] - t[0]), abs(s[1] - t[1])) >= PATCH
        )
        for a, s in zip(given, places, strict=True)
    ]
    nearest = np.array([min(((a - b) ** 2).sum() for b in given) for a in patches(picture[0])])
    wanted = np.maximum(nearest - np.quantile(own, 0.95), 0).mean() / np.mean([(a**2).sum() for a in given])
    assert wanted > 0.01
    assert seam_energy(picture, sample).item() == pytest.approx(wanted, rel=1e-5)


def test_seams_are_seen_and_copies_and_new_texture_are_not() -> None:
    sample = waves(32, 32)
    blocks = seam_energy(tiled(sample, 8, 4), sample).item()
    assert seam_energy(sample[..., 4:20, 3:30], sample).item() == 0
    assert seam_energy(waves(32, 32, phase=0.3), sample).item() < 0.05 * blocks
    assert 0.1 < blocks < seam_energy(noise(1, 1, 32, 32), sample).item()
    assert seam_energy(0.5 * sample + 0.4, 0.5 * sample).item() == 0  # brightness is not a seam


def test_larger_blocks_have_less_seam_and_longer_copies() -> None:
    sample = waves(48, 48) * 0.9 + 0.1 * noise(1, 1, 48, 48)
    made = [tiled(sample, block, 48 // block) for block in (4, 8, 16, 24)]
    seams, copies = ([score(each, sample).item() for each in made] for score in (seam_energy, copy_length))
    assert seams == sorted(seams, reverse=True)
    assert copies == sorted(copies)


@pytest.mark.parametrize("score", [copy_length, seam_energy])
def test_a_score_is_of_each_picture_alone(score: type) -> None:
    samples, pictures = noise(3, 3, 12, 12), noise(3, 3, 14, 10, seed=1)
    pictures[0, :, :6, :6] = samples[0, :, 2:8, 2:8]
    before = samples.clone(), pictures.clone()
    scores = score(pictures, samples)
    assert scores.shape == (3,)
    assert scores.dtype == torch.float32
    assert torch.equal(scores, torch.cat([score(pictures[i : i + 1], samples[i : i + 1]) for i in range(3)]))
    assert torch.equal(before[0], samples)
    assert torch.equal(before[1], pictures)
    assert score(pictures[:0], samples[:0]).shape == (0,)


def test_a_flat_sample_explains_no_energy() -> None:
    flat = torch.full((1, 1, 8, 8), 0.5)
    assert math.isnan(seam_energy(noise(1, 1, 8, 8), flat).item())
    assert copy_length(flat.expand(1, 1, 8, 8), flat).item() == 8


@pytest.mark.parametrize("score", [copy_length, seam_energy])
def test_what_cannot_be_scored_is_refused(score: type) -> None:
    with pytest.raises(AssayError, match="same channels"):
        score(noise(1, 3, 12, 12), noise(1, 1, 12, 12))
    with pytest.raises(AssayError, match="same channels"):
        score(noise(2, 3, 12, 12), noise(1, 3, 12, 12))
    with pytest.raises(AssayError, match=r"\[0, 1\]"):
        score(noise(1, 3, 12, 12) + 1, noise(1, 3, 12, 12))
    with pytest.raises(AssayError, match="at least 8x8"):
        seam_energy(noise(1, 3, 12, 12), noise(1, 3, 7, 12))
