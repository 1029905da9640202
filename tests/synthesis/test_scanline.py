"""Textures pixel by pixel: the choices of brute force, exact continuations, and what each sample alone decides."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.synthesis.scanline import EfrosLeung, Neighbours, Scanline, WeiLevoy, near

SMALL = [EfrosLeung(window=5, size=(9, 11)), WeiLevoy(window=3, levels=2, size=(9, 11))]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def lumpy(height: int, width: int, channels: int = 3) -> Tensor:
    """Smooth noise (1, C, H, W), where neighbourhoods differ little."""
    rough = gaussian_filter(noise(channels, height, width).double().numpy(), (0, 1, 1))
    return torch.from_numpy((rough - rough.min()) / np.ptp(rough)).float()[None]


def periodic(tile: Tensor, height: int, width: int, y: int = 0, x: int = 0) -> Tensor:
    """(C, H, W), the tile (C, p, q) again and again, from (y, x) on."""
    rows, columns = (torch.arange(height) + y) % tile.shape[1], (torch.arange(width) + x) % tile.shape[2]
    return tile[:, rows][:, :, columns]


def continues(picture: Tensor, tile: Tensor) -> bool:
    starts = itertools.product(range(tile.shape[1]), range(tile.shape[2]))
    height, width = picture.shape[1:]
    return any(torch.equal(picture, periodic(tile, height, width, y, x)) for y, x in starts)


def uniform(size: tuple[int, int], seed: int) -> Tensor:
    return as_draws(seed, noise(1, 1, 1, 1)).uniform(size)[0]


def brute_efros_leung(method: EfrosLeung, sample: Tensor, size: tuple[int, int], seed: int) -> tuple[Tensor, int]:
    """The picture (C, H, W), and how often there was a choice."""
    (_, h, w), radius = sample.shape, method.window // 2
    given, made, choices = sample.double(), torch.zeros(len(sample), *size, dtype=torch.float64), 0
    chances = uniform(size, seed)
    for y, x in itertools.product(*map(range, size)):
        offsets = [
            (dy, dx)
            for dy, dx in itertools.product(range(-radius, 1), range(-radius, radius + 1))
            if (dy, dx) < (0, 0) and y + dy >= 0 and 0 <= x + dx < size[1]
        ]
        costs = {}
        for v, u in itertools.product(range(radius, h), range(radius, w - radius)):
            costs[v, u] = 0.0
            for dy, dx in offsets:
                weight = np.exp(-(dy**2 + dx**2) / (2 * (method.window / 6.4) ** 2))
                costs[v, u] += weight * float(((given[:, v + dy, u + dx] - made[:, y + dy, x + dx]) ** 2).sum())
        least = (1 + method.eps) * min(costs.values()) + 1e-11
        found = [at for at, cost in costs.items() if cost <= least]
        choices += 1 < len(found) < len(costs)
        v, u = found[int(float(chances[y, x]) * len(found))]
        made[:, y, x] = given[:, v, u]
    return made.float(), choices


def test_efros_leung_chooses_as_brute_force_does() -> None:
    sample, choices = lumpy(10, 9, channels=2), 0
    for window, seed in [(3, 0), (5, 1)]:
        method = EfrosLeung(window=window, size=(6, 8), eps=0.5)
        picture, more = brute_efros_leung(method, sample[0], (6, 8), seed)
        assert torch.equal(method(sample, seed).images[0], picture)
        choices += more
    assert choices > 10


def brute_wei_levoy(method: WeiLevoy, sample: Tensor, size: tuple[int, int], seed: int) -> Tensor:
    given, draws, radius = [sample.double()], as_draws(seed, sample[None]), method.window // 2
    for _ in range(1, method.levels):
        filtered = torch.nn.functional.conv2d(
            torch.nn.functional.pad(given[-1][:, None], [2, 2, 2, 2], mode="reflect"),
            torch.outer(*2 * [torch.tensor([1, 4, 6, 4, 1.0]).double() / 16])[None, None],
        )
        given.append(filtered[:, 0, ::2, ::2])
    made: list[Tensor] = [torch.zeros(0)] * method.levels
    for level in reversed(range(method.levels)):
        (_, h, w), (height, width) = given[level].shape, (-(-size[0] // 2**level), -(-size[1] // 2**level))
        start = (draws.uniform((height, width))[0].double() * h * w).long()
        made[level] = given[level].flatten(1)[:, start]
        for y, x in itertools.product(range(height), range(width)):
            costs = {}
            for v, u in itertools.product(range(radius, h), range(radius, w - radius)):
                own = [at for at in square(radius) if at < (0, 0)]
                pairs = [
                    (given[level][:, v + dy, u + dx], made[level][:, (y + dy) % height, (x + dx) % width])
                    for dy, dx in own
                ]
                if level + 1 < method.levels:
                    above, half = made[level + 1], radius // 2
                    places = [(v // 2 + dy, u // 2 + dx) for dy, dx in square(half)]
                    fits = all(
                        0 <= a < given[level + 1].shape[1] and 0 <= b < given[level + 1].shape[2] for a, b in places
                    )
                    if not fits:
                        continue
                    pairs += [
                        (
                            given[level + 1][:, v // 2 + dy, u // 2 + dx],
                            above[:, (y // 2 + dy) % above.shape[1], (x // 2 + dx) % above.shape[2]],
                        )
                        for dy, dx in square(half)
                    ]
                costs[v, u] = sum(float(((a - b) ** 2).sum()) for a, b in pairs)
            v, u = min(costs, key=lambda at: costs[at])
            made[level][:, y, x] = given[level][:, v, u]
    return made[0].float()


def square(radius: int) -> list[tuple[int, int]]:
    return list(itertools.product(range(-radius, radius + 1), range(-radius, radius + 1)))


@pytest.mark.parametrize(("window", "levels", "shape"), [(3, 1, (6, 7)), (3, 2, (7, 8)), (5, 2, (9, 10))])
def test_wei_levoy_chooses_as_brute_force_does(window: int, levels: int, shape: tuple[int, int]) -> None:
    sample, method = lumpy(*shape, channels=2), WeiLevoy(window=window, levels=levels, size=(5, 6))
    picture = method(sample, 3).images[0]
    assert torch.equal(picture, brute_wei_levoy(method, sample[0], (5, 6), 3))


def test_neighbours_are_those_of_brute_force() -> None:
    random = np.random.default_rng(0)
    rows = random.random((300, 12)) * np.linspace(0, 1, 12)
    neighbours = Neighbours(rows)
    for query in [*random.random((20, 12)) * np.linspace(0, 1, 12), rows[7]]:
        squares = ((rows - query) ** 2).sum(1)
        wanted = np.flatnonzero(squares <= 1.3 * squares.min())
        assert (neighbours.near(query, 0.3) == wanted).all()
        assert neighbours.nearest(query @ neighbours.axes) == squares.argmin()
        assert (near(rows, rows**2, query, np.ones(12, dtype=bool), 0.3) == wanted).all()


def test_rows_that_are_equal_are_all_near() -> None:
    rows = np.repeat(np.random.default_rng(0).random((5, 30)), 7, axis=0)
    for query in rows[::7]:
        wanted = np.flatnonzero((rows == query).all(1))
        assert (Neighbours(rows).near(query, 0.1) == wanted).all()
        assert (near(rows, rows**2, query, np.ones(30, dtype=bool), 0.1) == wanted).all()


@pytest.mark.parametrize("seed", range(5))
def test_efros_leung_continues_a_period_that_half_the_window_holds(seed: int) -> None:
    tile = (noise(1, 4, 5, seed=seed) > 0.5).float()
    picture = EfrosLeung(window=11, size=(21, 26))(periodic(tile, 20, 20)[None], seed).images[0]
    assert continues(picture, tile)


@pytest.mark.parametrize("window", [5, 7])
def test_efros_leung_continues_a_window_of_pixels_that_all_differ(window: int) -> None:
    tile = noise(3, 5, 5)
    picture = EfrosLeung(window=window, size=(24, 27))(periodic(tile, 16, 17)[None]).images[0]
    assert continues(picture, tile)


def test_wei_levoy_wraps_around() -> None:
    sample = lumpy(32, 32)
    picture = WeiLevoy(window=7, levels=2, size=(48, 48))(sample).images[0]
    seam, anywhere = (
        (picture[:, :, 0] - picture[:, :, -1]).square().mean(),
        (picture - picture.roll(17, 2)).square().mean(),
    )
    assert seam < 0.7 * anywhere


@pytest.mark.parametrize("method", SMALL)
def test_every_pixel_is_one_of_the_samples(method: Scanline) -> None:
    samples = noise(2, 3, 12, 14)
    for sample, picture in zip(samples, method(samples).images, strict=True):
        given = set(map(tuple, sample.flatten(1).T.tolist()))
        assert set(map(tuple, picture.flatten(1).T.tolist())) <= given


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_sample_has_its_own_texture(method: Scanline, channels: int) -> None:
    samples = lumpy(12, 14, channels).repeat(3, 1, 1, 1)
    samples[1] = samples[1].flip(1, 2)
    before = samples.clone()
    images, history = method(samples, Draws.hashed("work", "abc"))
    assert images.shape == (3, channels, 9, 11)
    assert history.shape == (0, 3)
    assert images.dtype == history.dtype == torch.float32
    assert torch.equal(samples, before)
    assert not torch.equal(images[0], images[2])  # the same sample, another stream
    for i, name in enumerate("abc"):
        assert torch.equal(method(samples[i : i + 1], Draws.hashed("work", [name])).images[0], images[i])
    assert torch.equal(method(samples, 5).images, method(samples, 5).images)
    assert not torch.equal(method(samples, 5).images, method(samples, 6).images)
    assert method(samples[:0]).images.shape == (0, channels, 9, 11)


@pytest.mark.parametrize("method", SMALL)
def test_a_texture_is_twice_its_sample(method: Scanline) -> None:
    assert dataclasses.replace(method, size=None)(noise(1, 1, 8, 9)).images.shape == (1, 1, 16, 18)


@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (2, 2)])
def test_small_pictures(method: Scanline, size: tuple[int, int]) -> None:
    assert dataclasses.replace(method, size=size)(noise(1, 1, 8, 9)).images.shape == (1, 1, *size)


def test_a_flat_sample_gives_a_flat_texture() -> None:
    for method in SMALL:
        assert (method(torch.full((1, 3, 10, 10), 0.25)).images == 0.25).all()


def test_settings_and_samples_that_do_not_fit_are_refused() -> None:
    for window in (1, 4):
        with pytest.raises(AssayError, match="must be odd"):
            EfrosLeung(window=window)
    with pytest.raises(AssayError, match="eps=-1 is negative"):
        EfrosLeung(eps=-1)
    with pytest.raises(AssayError, match="levels=0 must be at least 1"):
        WeiLevoy(levels=0)
    with pytest.raises(
        AssayError, match="8x10 is smaller than window=11; write a smaller window or take a larger sample"
    ):
        EfrosLeung()(noise(1, 3, 8, 10))
    with pytest.raises(AssayError, match=r"5x6 pixels of the sample are left in level 3.*fewer levels"):
        WeiLevoy()(noise(1, 3, 20, 24))
