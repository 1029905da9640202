"""Textures block by block: the least cut, the choices of brute force, and exact continuations."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.synthesis.quilting import ImageQuilting, beyond, cut
from assay.synthesis.scores_texture import copy_length, seam_energy
from tests.synthesis.test_scanline import continues, lumpy, noise, periodic

SMALL = ImageQuilting(block=6, overlap=2, size=(13, 15))


def paths(length: int, width: int) -> list[tuple[int, ...]]:
    every = itertools.product(range(width), repeat=length)
    return [path for path in every if all(abs(a - b) <= 1 for a, b in itertools.pairwise(path))]


@pytest.mark.parametrize(("length", "width"), [(1, 1), (1, 4), (6, 1), (5, 2), (6, 3), (5, 4)])
def test_the_cut_is_the_best_of_all(length: int, width: int) -> None:
    rows = np.arange(length)
    for seed in range(10):
        error = np.random.default_rng(seed).random((length, width))
        path = cut(error)
        cost = error[rows, path].sum()
        assert tuple(path) in paths(length, width)
        assert cost == pytest.approx(min(error[rows, list(each)].sum() for each in paths(length, width)), rel=1e-12)
        assert cost <= error.sum(0).min() + 1e-12  # the straight cuts


def test_what_is_beyond_a_cut_is_new() -> None:
    assert beyond(np.array([0, 1, 2]), 3).tolist() == [[True] * 3, [False, True, True], [False, False, True]]


def brute_quilting(method: ImageQuilting, sample: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    """Whole overlaps compared in loops, cuts by trying every path."""
    block, overlap = method.block, method.overlap or 1
    step, given = block - overlap, sample.double().numpy()
    count = [-(-(side - overlap) // step) for side in size]
    chances = as_draws(seed, sample[None]).uniform(count)[0].tolist()
    made = np.full((len(given), *(n * step + overlap for n in count)), np.nan)
    every = paths(block, overlap)
    for i, j in itertools.product(*map(range, count)):
        there = made[:, i * step : i * step + block, j * step : j * step + block]
        corners = itertools.product(*(range(side - block + 1) for side in given.shape[1:]))
        blocks = [given[:, y : y + block, x : x + block] for y, x in corners]
        costs = np.array([np.nansum((each - there) ** 2) for each in blocks])
        near = np.flatnonzero(costs <= (1 + method.tolerance) * costs.min() + 1e-12)
        new = blocks[near[int(chances[i][j] * len(near))]]
        error, old = ((new - there) ** 2).sum(0), np.zeros((block, block), dtype=bool)
        if j:
            best = min(every, key=lambda path: sum(error[k, c] for k, c in enumerate(path)))
            for k, c in enumerate(best):
                old[k, :c] = True
        if i:
            best = min(every, key=lambda path: sum(error[c, k] for k, c in enumerate(path)))
            for k, c in enumerate(best):
                old[:c, k] = True
        there[:] = np.where(old, there, new)
    return torch.from_numpy(made[:, : size[0], : size[1]]).float()


@pytest.mark.parametrize("overlap", [1, 2, 3])
def test_quilting_chooses_as_brute_force_does(overlap: int) -> None:
    sample, method = lumpy(11, 10, channels=2), ImageQuilting(block=6, overlap=overlap, tolerance=0.5, size=(13, 16))
    for seed in range(3):
        assert torch.equal(method(sample, seed).images[0], brute_quilting(method, sample[0], (13, 16), seed))


@pytest.mark.parametrize("seed", range(5))
def test_a_period_that_the_overlap_holds_is_continued(seed: int) -> None:
    tile = noise(1, 4, 5, seed=seed)
    picture = ImageQuilting(block=12, overlap=5, size=(40, 47))(periodic(tile, 24, 24)[None], seed).images[0]
    assert continues(picture, tile)


def test_every_pixel_is_one_of_the_samples() -> None:
    samples = noise(2, 3, 12, 14)
    for sample, picture in zip(samples, SMALL(samples).images, strict=True):
        given = set(map(tuple, sample.flatten(1).T.tolist()))
        assert set(map(tuple, picture.flatten(1).T.tolist())) <= given


@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_has_its_own_texture(channels: int) -> None:
    samples = lumpy(12, 14, channels).repeat(3, 1, 1, 1)
    before = samples.clone()
    images, history = SMALL(samples, Draws.hashed("work", "abc"))
    assert images.shape == (3, channels, 13, 15)
    assert history.shape == (0, 3)
    assert torch.equal(samples, before)
    assert not torch.equal(images[0], images[2])  # the same sample, another stream
    for i, name in enumerate("abc"):
        assert torch.equal(SMALL(samples[i : i + 1], Draws.hashed("work", [name])).images[0], images[i])
    assert torch.equal(SMALL(samples, 5).images, SMALL(samples, 5).images)
    assert not torch.equal(SMALL(samples, 5).images, SMALL(samples, 6).images)
    assert SMALL(samples[:0]).images.shape == (0, channels, 13, 15)


@pytest.mark.parametrize("size", [(1, 1), (2, 20), (6, 6), (7, 6), None])
def test_sizes(size: tuple[int, int] | None) -> None:
    picture = dataclasses.replace(SMALL, size=size)(noise(1, 1, 8, 9)).images
    assert picture.shape == (1, 1, *(size or (16, 18)))


def test_quilts_have_less_seam_than_blocks_at_random() -> None:
    sample = lumpy(48, 48)
    quilt = ImageQuilting(block=16, size=(96, 96))(sample).images
    places = np.random.default_rng(0).integers(0, 32, (6, 6, 2))
    rows = [[sample[..., y : y + 16, x : x + 16] for y, x in row] for row in places]
    blocks = torch.cat([torch.cat(row, 3) for row in rows], 2)
    assert seam_energy(quilt, sample) < 0.5 * seam_energy(blocks, sample)
    assert copy_length(quilt, sample) > 10


def test_settings_and_samples_that_do_not_fit_are_refused() -> None:
    for block, overlap in [(24, 0), (24, 13), (1, None)]:
        with pytest.raises(AssayError, match="must be at least 1 and at most half of block"):
            ImageQuilting(block=block, overlap=overlap)
    with pytest.raises(AssayError, match="tolerance=-1 is negative"):
        ImageQuilting(tolerance=-1)
    with pytest.raises(
        AssayError, match="20x30 is smaller than block=24; write a smaller block or take a larger sample"
    ):
        ImageQuilting()(noise(1, 3, 20, 30))
