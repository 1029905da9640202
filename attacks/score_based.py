"""Attacks that see the logits and no gradient: random search and estimated gradients."""

import math
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.balls import Ball, BoundedNorm, Norm, check_eps, check_positive, distance, rows
from assay.attacks.base import BlackBox, Trace
from assay.attacks.best import Best, all_indices
from assay.attacks.goals import Goal, Loss, Targeted
from assay.core.draws import Draws
from assay.core.errors import AssayError

HALVINGS = (10, 50, 200, 1000, 2000, 4000, 6000, 8000)  # of the share of pixels, in 10,000 queries
CHUNK = 2**20  # values of one image's questions that are held at once


@dataclass(frozen=True, kw_only=True, slots=True)
class Square(BlackBox):
    """Random search with squares (Andriushchenko et al. 2020, algorithms 1 to 3, arXiv:1912.00049).

    Each query moves one square of the best image so far to a corner of the Linf ball, or in L2 carries the size that
    lies in a second square into the first; L1 is the same with sums of sizes (Croce and Hein 2021, arXiv:2103.01208).
    It climbs the margin, towards a wanted class the cross-entropy. Returns the first fooling image, else the best.

    Other than in the authors' code a square may touch the last row and column, and one that would change nothing is
    turned over. In L2 each channel of the new window is given what all channels held, as in AutoAttack's code; the
    paper's gives it what it held itself, which moves colour images less.
    """

    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    queries: int = 5000  # at most, per image
    p_init: float = 0.8  # share of the pixels in the first squares

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(queries=self.queries, p_init=self.p_init)
        if self.p_init > 1:
            raise AssayError(f"p_init={self.p_init} is a share of the pixels and cannot exceed 1")

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        best, index, queries = Best.of(images), all_indices(images), _zeros(images)
        loss: Loss = "ce" if isinstance(goal, Targeted) else "margin"
        for k in range(self.queries if self.eps else 1):
            if len(index) == 0:
                break
            clean = images[index]
            x = clean if k == 0 else self._propose(k, clean, best.images[index], draws[index])
            logits, aim = model(x), goal[index]
            value = aim.loss(logits, loss) if k else logits.new_full((len(index),), float("-inf"))
            best.update(index, x, value, aim.reached(logits))
            queries[index] += 1
            index = index[~best.fooled[index]]
        return Trace(best.images, queries)

    def _propose(self, k: int, clean: Tensor, best: Tensor, draws: Draws) -> Tensor:
        side = self._side(k, clean)
        if self.norm == "linf":
            return self._stripes(clean, draws) if k == 1 else self._corner(side, clean, best, draws)
        ball = Ball(self.norm, self.eps)
        power = 2 if self.norm == "l2" else 1
        change = self._tiles(clean, draws) if k == 1 else self._carry(side, power, best - clean, draws)
        return ball.inside(
            clean, clean + self.eps * change / rows(distance(change, self.norm).clamp(min=1e-30), change)
        )

    def _side(self, k: int, images: Tensor) -> int:
        """The side of the squares at query ``k``."""
        height, width = images.shape[2:]
        share = self.p_init / 2 ** sum(k * 10_000 >= at * self.queries for at in HALVINGS)
        return min(max(round(math.sqrt(share * height * width)), 1), height, width)

    def _stripes(self, clean: Tensor, draws: Draws) -> Tensor:
        return (clean + self.eps * _signs(draws.uniform((clean.shape[1], 1, clean.shape[3])))).clamp(0, 1)

    def _corner(self, side: int, clean: Tensor, best: Tensor, draws: Draws) -> Tensor:
        chance = draws.uniform((2 + clean.shape[1],))
        inside = _Window.at(chance[:, :2], side, clean).mask
        offset = self.eps * _signs(chance[:, 2:])[:, :, None, None]
        x = torch.where(inside, (clean + offset).clamp(0, 1), best)
        same = rows((x == best).flatten(1).all(1), x)
        return torch.where(same & inside, (clean - offset).clamp(0, 1), x)

    def _tiles(self, clean: Tensor, draws: Draws) -> Tensor:
        """The start in L2 and L1: about five by five bumps, each with its own signs and way up."""
        channels, height, width = clean.shape[1:]
        side = max(min(height, width) // 5, 1)
        down, across = height // side, width // side
        chance = draws.uniform((channels + 1, down, across)).repeat_interleave(side, 2).repeat_interleave(side, 3)
        bump = _bump(side).to(clean).repeat(down, across)
        tiles = torch.where(chance[:, -1:] < 0.5, bump, _bump(side).T.to(clean).repeat(down, across))
        above, left = (height - down * side) // 2, (width - across * side) // 2
        below, right = height - down * side - above, width - across * side - left
        return F.pad(tiles * _signs(chance[:, :-1]), (left, right, above, below))

    def _carry(self, side: int, power: int, change: Tensor, draws: Draws) -> Tensor:
        """Algorithm 3: what one window holds, and what is left of the budget, goes into a bump in another window."""
        channels, height, width = change.shape[1:]
        side = min(max(side, 3 if self.norm == "l2" else 1) // 2 * 2 + 1, height, width)
        chance = draws.uniform((5 + channels,))
        to, source = _Window.at(chance[:, :2], side, change), _Window.at(chance[:, 2:4], side, change)
        bump = to.place(torch.stack([_bump(side), _bump(side).T]).to(change), (chance[:, 4] < 0.5).long())

        def mass(values: Tensor) -> Tensor:
            return values.abs().pow(power).sum((2, 3), keepdim=True)

        spare = (self.eps**power - mass(change).sum(1, keepdim=True)).clamp(min=0) / channels
        available = spare + mass(change * (to.mask | source.mask)).sum(1, keepdim=True)
        old = change * to.mask
        new = bump * _signs(chance[:, 5:])[:, :, None, None] + old / mass(old).clamp(min=1e-30).pow(1 / power)
        new = new * (available / mass(new).clamp(min=1e-30)).pow(1 / power)
        return torch.where(to.mask, new, change * ~source.mask)


class _Window(NamedTuple):
    """A square in each image."""

    down: Tensor  # (N, H), rows counted from its top
    across: Tensor  # (N, W), columns counted from its left
    side: int

    @classmethod
    def at(cls, chance: Tensor, side: int, images: Tensor) -> "_Window":
        """Squares with uniform corners from ``chance`` (N, 2) in [0, 1)."""
        height, width = images.shape[2:]
        top = (chance[:, :1] * (height - side + 1)).floor().long().clamp(max=height - side)
        left = (chance[:, 1:] * (width - side + 1)).floor().long().clamp(max=width - side)
        places = [torch.arange(length, device=images.device) for length in (height, width)]
        return cls(places[0] - top, places[1] - left, side)

    @property
    def mask(self) -> Tensor:
        """(N, 1, H, W) bool."""
        down, across = ((place >= 0) & (place < self.side) for place in self[:2])
        return (down[:, :, None] & across[:, None, :])[:, None]

    def place(self, patterns: Tensor, which: Tensor) -> Tensor:
        """``patterns`` (P, side, side), one of them in each window and 0 around it, (N, 1, H, W)."""
        down, across = (place.clamp(0, self.side - 1) for place in self[:2])
        return patterns[which[:, None, None], down[:, :, None], across[:, None, :]][:, None] * self.mask


@cache
def _bump(side: int) -> Tensor:
    """The update of the L2 attack (eq. 2), (side, side): a pyramid up and one down, of L2 size 1."""
    if side == 1:
        return torch.ones(1, 1)
    halves = [_pyramid(side // 2, side), -_pyramid(side - side // 2, side)]
    bump = torch.cat(halves)
    return bump / bump.square().sum().sqrt()


def _pyramid(height: int, width: int) -> Tensor:
    """Rectangles around a middle that add 1 / k^2 each, (height, width), of L2 size 1."""
    heights, widths = torch.arange(height), torch.arange(width)
    away = torch.maximum((heights - height // 2).abs()[:, None], (widths - width // 2).abs()[None, :])
    steps = 1 / torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float32) ** 2
    pyramid = steps.flip(0).cumsum(0).flip(0)[away]
    return pyramid / pyramid.square().sum().sqrt()


@dataclass(frozen=True, kw_only=True, slots=True)
class NES(BlackBox):
    """Projected steps up a gradient estimated from pairs of Gaussian neighbours (Ilyas et al. 2018, arXiv:1804.08598).

    Neighbours are clipped to [0, 1], as whoever answers takes images; the estimates are averaged with momentum, as in
    the authors' code. The paper climbs the cross-entropy, which needs about twice the questions on ten affine classes.
    Every step asks about its own point too: the first fooling image is returned, else the one of largest loss.
    """

    norm: Literal["linf", "l2"] = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    queries: int = 5000  # at most, per image
    samples: int = 50  # questions for one gradient, even
    sigma: float = 0.001  # how far the neighbours lie: standard deviation of a pixel
    step: float | None = None  # length of a step in that norm; None: eps / 5
    momentum: float = 0.9
    loss: Loss = "margin"

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(queries=self.queries, samples=self.samples, sigma=self.sigma)
        check_positive(step=1 if self.step is None else self.step)
        if self.samples % 2:
            raise AssayError(f"samples={self.samples} must be even: neighbours come in pairs")
        if not 0 <= self.momentum < 1:
            raise AssayError(f"momentum={self.momentum} must be at least 0 and below 1")

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        best, index, queries, ball = Best.of(images), all_indices(images), _zeros(images), Ball(self.norm, self.eps)
        x, first, second = images.clone(), torch.zeros_like(images), torch.zeros_like(images)
        for k in range(1 + (self.queries - 1) // (self.samples + 1) if self.eps else 1):
            if len(index) == 0:
                break
            aim = goal[index]
            if k:
                gradient = self._estimate(model, x[index], aim, draws[index])
                first[index] = self.momentum * first[index] + (1 - self.momentum) * gradient
                second[index] = 0.999 * second[index] + 0.001 * gradient.square()
                x[index] = ball.inside(images[index], x[index] + self._move(k, first[index], second[index]))
                queries[index] += self.samples
            logits = model(x[index])
            queries[index] += 1
            best.update(index, x[index], aim.loss(logits, self.loss), aim.reached(logits))
            index = index[~best.fooled[index]]
        return Trace(best.images, queries)

    def _estimate(self, model: nn.Module, x: Tensor, goal: Goal, draws: Draws) -> Tensor:
        """The gradient of the loss from differences along random directions, a few pairs at a time."""
        gradient, pairs = torch.zeros_like(x), self.samples // 2
        chunk = max(1, CHUNK // x[0].numel())
        for start in range(0, pairs, chunk):
            count = min(chunk, pairs - start)
            towards = self._directions(draws, (count, *x.shape[1:]))
            neighbours = torch.stack([x[:, None] + self.sigma * towards, x[:, None] - self.sigma * towards], 1).clamp(
                0, 1
            )
            owner = all_indices(x).repeat_interleave(2 * count)
            value = goal[owner].loss(model(neighbours.flatten(0, 2)), self.loss).view(-1, 2, count)
            gradient += ((value[:, 0] - value[:, 1])[..., None, None, None] * towards).sum(1)
        return gradient / (2 * self.sigma * pairs)

    def _directions(self, draws: Draws, shape: tuple[int, ...]) -> Tensor:
        return draws.normal(shape)

    def _move(self, k: int, first: Tensor, second: Tensor) -> Tensor:
        """Step ``k`` from the running means of the gradient and of its square."""
        return self._length * Ball(self.norm, 1.0).steepest(first)

    @property
    def _length(self) -> float:
        return self.eps / 5 if self.step is None else self.step


@dataclass(frozen=True, kw_only=True, slots=True)
class SPSA(NES):
    """Adam up a gradient estimated from pairs of neighbours (Uesato et al. 2018, arXiv:1802.05666).

    Simultaneous perturbation: every value goes up or down by ``sigma``. What it asks and returns is as for ``NES``.
    """

    samples: int = 128  # questions for one gradient, even
    sigma: float = 0.01  # how far the neighbours lie in Linf
    step: float | None = None  # learning rate of Adam; None: eps / 5

    def _directions(self, draws: Draws, shape: tuple[int, ...]) -> Tensor:
        return _signs(draws.uniform(shape))

    def _move(self, k: int, first: Tensor, second: Tensor) -> Tensor:
        scale = (second / (1 - 0.999**k)).sqrt() + 1e-8
        return self._length * first / (1 - self.momentum**k) / scale


@dataclass(frozen=True, kw_only=True, slots=True)
class SimBA(BlackBox):
    """One basis vector after another, up or else down, kept where it helps (Guo et al. 2019, arXiv:1905.07121).

    ``pixel`` takes the values in random order; ``dct`` the waves, the lowest first. The image that fools first is
    returned, unchanged where none does. T vectors, each taken once, change an image by at most sqrt(T) ``step`` in L2;
    when all are used up, a second round begins. The logarithm of the probability orders images as the paper's
    probability does and does not saturate.
    """

    norm: ClassVar[Norm] = "l2"

    basis: Literal["pixel", "dct"] = "pixel"
    step: float = 0.2  # L2 length of a change
    queries: int = 5000  # at most, per image
    low: float = 0.125  # share of the waves of each side that go first in the basis dct

    def __post_init__(self) -> None:
        check_positive(step=self.step, queries=self.queries, low=self.low)
        if self.basis not in ("pixel", "dct"):
            raise AssayError(f"basis={self.basis} must be pixel or dct")
        if self.low > 1:
            raise AssayError(f"low={self.low} is a share of the waves and cannot exceed 1")

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        best, queries, order = Best.of(images), _zeros(images), self._order(images, draws)
        index, change, sign = all_indices(images), torch.zeros_like(images), images.new_zeros(len(images))
        place, peak = _zeros(images), torch.full_like(sign, float("-inf"))
        waves = [_waves(length, self.basis).to(images) for length in images.shape[2:]]
        for _ in range(self.queries):
            if len(index) == 0:
                break
            at = order[index, place[index] % order.shape[1]]
            candidate = change[index] + rows(self.step * sign[index], images) * _vector(at, images, *waves)
            x, aim = (images[index] + candidate).clamp(0, 1), goal[index]
            logits = model(x)
            queries[index] += 1
            value, success = aim.loss(logits, "ce"), aim.reached(logits)
            best.update(index[success], x[success], value[success], success[success])
            better = value > peak[index]
            gains = index[better]
            change[gains], peak[gains] = candidate[better], value[better]
            place[index] += (better & (sign[index] != 0)) | (sign[index] < 0)
            sign[index] = torch.where(better | (sign[index] < 0), 1.0, -1.0)
            index = index[~best.fooled[index]]
        return Trace(best.images, queries)

    def _order(self, images: Tensor, draws: Draws) -> Tensor:
        """The places of the basis vectors in the order in which each image takes them, (N, C H W)."""
        late = torch.zeros(images.shape[1:], device=images.device)
        if self.basis == "dct":
            late += 1
            height, width = (math.ceil(self.low * length) for length in images.shape[2:])
            late[:, :height, :width] = 0
        return (draws.uniform((late.numel(),)) + late.flatten()).argsort(1)


def _vector(place: Tensor, images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The basis vector at each ``place`` in (C, H, W), (N, C, H, W)."""
    channels, height, width = images.shape[1:]
    channel = F.one_hot(place // (height * width), channels).to(images)
    wave = down[place // width % height][:, :, None] * across[place % width][:, None, :]
    return channel[:, :, None, None] * wave[:, None]


def _waves(length: int, basis: str) -> Tensor:
    """Orthonormal rows, (length, length): the cosines of the DCT-II, or single places."""
    if basis == "pixel":
        return torch.eye(length)
    place = torch.arange(length, dtype=torch.float64)
    waves = (math.pi / length * place[:, None] * (place[None, :] + 0.5)).cos() * math.sqrt(2 / length)
    waves[0] /= math.sqrt(2)
    return waves.float()


def _signs(chance: Tensor) -> Tensor:
    return torch.where(chance < 0.5, -1.0, 1.0)


def _zeros(images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.int64, device=images.device)
