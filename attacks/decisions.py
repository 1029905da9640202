"""Attacks that see the class alone: walks along the boundary, from an image that fools towards the clean one."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.balls import Ball, Norm, check_positive, distance, rows
from assay.attacks.base import Access, BlackBox, Trace
from assay.attacks.best import Nearest, all_indices
from assay.attacks.goals import Goal
from assay.core.draws import Draws

CHUNK = 2**20  # values of one image's questions that are held at once
SPARE = 1e-3  # of the distance: how far inside the boundary an image must be to be returned, beyond float noise
ROUND = 3  # questions at most in a round of the walk, and one to keep its result
RATE = 0.2  # how fast the lengths of the walk adapt


@dataclass(frozen=True, eq=False)
class _Judge:
    """The model's decisions, each counted for its image, none beyond ``limit``; and the nearest image so far."""

    model: nn.Module
    goal: Goal
    nearest: Nearest
    queries: Tensor  # (N,) int64
    limit: int

    @classmethod
    def of(cls, model: nn.Module, images: Tensor, goal: Goal, norm: str, limit: int) -> "_Judge":
        queries = torch.zeros(len(images), dtype=torch.int64, device=images.device)
        return cls(model, goal, Nearest.of(images, norm), queries, limit)

    def left(self, index: Tensor) -> Tensor:
        """The questions that the images at ``index`` may still ask, (n,)."""
        return self.limit - self.queries[index]

    def fools(self, index: Tensor, x: Tensor) -> Tensor:
        """Whether each of ``x`` (n, C, H, W) reaches the goal of its image, (n,) bool; ``index`` may repeat."""
        if len(index) == 0:
            return torch.zeros(0, dtype=torch.bool, device=index.device)
        self.queries.index_add_(0, index, torch.ones_like(index))
        return self.goal[index].reached(self.model(x))

    def start(self, tries: int, draws: Draws) -> tuple[Tensor, Tensor]:
        """Which images have a start that fools, and those starts: noise, fine and then ever coarser, in turn.

        Images that fool as they are need none and have none.
        """
        images, index = self.nearest.clean, all_indices(self.nearest.clean)
        self.nearest.update(index, images, self.fools(index, images))
        index, x = (~self.nearest.fooled).nonzero().flatten(), images.clone()
        sizes = max(*images.shape[2:]).bit_length()
        ready = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        for k in range(tries):
            index = index[self.left(index) > 0]
            if len(index) == 0:
                break
            noise = draws[index].uniform(images.shape[1:])
            cell = 2 ** (k % sizes)
            noise = F.interpolate(noise[:, :, ::cell, ::cell], scale_factor=cell)
            noise = noise[..., : images.shape[2], : images.shape[3]].contiguous()  # some models take views of it
            success = self.fools(index, noise)
            x[index], ready[index] = noise, success
            self.nearest.update(index, noise, success)
            index = index[~success]
        index = ready.nonzero().flatten()
        return index, x[index]

    def onto_boundary(self, index: Tensor, x: Tensor, precision: float) -> Tensor:
        """The fooling images next to the boundary on the way from ``x``, which fool, to the clean ones; keeps them."""
        clean = self.nearest.clean[index]
        low, high, boundary = torch.zeros_like(x[:, 0, 0, 0]), torch.ones_like(x[:, 0, 0, 0]), x.clone()
        reach = distance(x - clean, self.nearest.norm)
        for _ in range(math.ceil(-math.log2(precision))):
            may = (self.left(index) > 0).nonzero().flatten()
            middle = (low[may] + high[may]) / 2
            candidates = self._between(clean[may], x[may], middle * reach[may], middle)
            success = self.fools(index[may], candidates)
            high[may], low[may] = torch.where(success, middle, high[may]), torch.where(success, low[may], middle)
            boundary[may[success]] = candidates[success]
        self.keep(index, boundary)
        return boundary

    def keep(self, index: Tensor, x: Tensor) -> None:
        """Give ``nearest`` the fooling ``x``, moved a little away from the boundary: float noise does not turn it."""
        may = self.left(index) > 0
        index, clean = index[may], self.nearest.clean[index[may]]
        further = (clean + (1 + SPARE) * (x[may] - clean)).clamp(0, 1)
        self.nearest.update(index, further, self.fools(index, further))

    def _between(self, clean: Tensor, x: Tensor, radius: Tensor, share: Tensor) -> Tensor:
        """``x`` brought nearer: on the straight line in L2, into the smaller cube in Linf."""
        if self.nearest.norm == "linf":
            return clean + torch.minimum(torch.maximum(x - clean, rows(-radius, x)), rows(radius, x))
        return clean + rows(share, x) * (x - clean)

    def report(self) -> tuple[Tensor, Tensor]:
        return self.queries.clone(), self.nearest.size.clone()


@dataclass(frozen=True, kw_only=True, slots=True)
class HopSkipJump(BlackBox):
    """Onto the boundary, a gradient from decisions around it, a step (Chen et al. 2020, algorithm 2, arXiv:1904.02144).

    Returns the nearest fooling image; the clean one where no noise fools, as is usual for a wanted class. A bounded
    number of noises is asked, of ever coarser grain, which other classes answer to. Neighbours lie far enough, and the
    bisection is coarse enough, for float32: the paper's sizes vanish in its rounding at 224 pixels. The last estimate
    makes do with the questions that are left.
    """

    access: ClassVar[Access] = "decision"

    norm: Literal["linf", "l2"] = "l2"
    queries: int = 5000  # at most, per image
    samples: int = 100  # questions for the first gradient; the t-th takes sqrt(t) times as many
    tries: int = 100  # noises asked for a start, at most

    def __post_init__(self) -> None:
        check_positive(queries=self.queries, samples=self.samples, tries=self.tries)

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        judge = _Judge.of(model, images, goal, self.norm, self.queries)
        index, x = judge.start(self.tries, draws)
        size = max(images[:1].numel(), 1)
        precision = max(0.1 / size, 1e-6)
        reserve = math.ceil(-math.log2(precision)) + 5  # for a step and the way back onto the boundary
        x = judge.onto_boundary(index, x, precision)
        history, t = [judge.report()], 0
        while True:
            t += 1
            count = (judge.left(index) - reserve).clamp(max=int(self.samples * math.sqrt(t)))
            stay = count > 0
            index, x, count = index[stay], x[stay], count[stay]
            if len(index) == 0:
                break
            away = x - images[index]
            radius = (0.1 if t > 1 else 1) * distance(away, "l2") / math.sqrt(size)
            direction = self._estimate(judge, index, x, radius, count, draws[index])
            direction = Ball(self.norm, 1.0).steepest(direction)
            x = self._step(judge, index, x, direction, distance(away, self.norm) / math.sqrt(t))
            x = judge.onto_boundary(index, x, precision)
            history.append(judge.report())
        return Trace(judge.nearest.images, judge.queries, tuple(history))

    def _estimate(self, judge: _Judge, index: Tensor, x: Tensor, radius: Tensor, count: Tensor, draws: Draws) -> Tensor:
        """Eq. 16: the mean of directions, weighed by the decision there less the mean decision; (n, C, H, W)."""
        correlation, total, balance = torch.zeros_like(x), torch.zeros_like(x), torch.zeros_like(radius)
        most, chunk = int(count.max()), max(1, CHUNK // x[0].numel())
        for start in range(0, most, chunk):
            n = min(chunk, most - start)
            noise = draws.normal((n, *x.shape[1:])) if self.norm == "l2" else draws.uniform((n, *x.shape[1:]), -1, 1)
            noise = noise / noise.flatten(2).norm(dim=2).clamp(min=1e-30)[..., None, None, None]
            neighbours = (x[:, None] + radius.view(-1, 1, 1, 1, 1) * noise).clamp(0, 1)
            asks = torch.arange(start, start + n, device=x.device) < count[:, None]
            decision = torch.zeros_like(asks, dtype=x.dtype)
            decision[asks] = judge.fools(index[:, None].expand_as(asks)[asks], neighbours[asks]).to(x) * 2 - 1
            towards = (neighbours - x[:, None]) * asks[..., None, None, None]
            correlation += (decision[..., None, None, None] * towards).sum(1)
            total += towards.sum(1)
            balance += decision.sum(1)
        mean = balance / count
        return torch.where(rows(mean.abs() == 1, x), correlation, correlation - rows(mean, x) * total)

    def _step(self, judge: _Judge, index: Tensor, x: Tensor, direction: Tensor, length: Tensor) -> Tensor:
        """The step along ``direction``, halved until it fools; ``x`` where it never does."""
        result, waiting = x.clone(), all_indices(x)
        for _ in range(20):
            waiting = waiting[judge.left(index[waiting]) > 0]
            if len(waiting) == 0:
                break
            candidates = (x[waiting] + rows(length[waiting], x) * direction[waiting]).clamp(0, 1)
            success = judge.fools(index[waiting], candidates)
            result[waiting[success]] = candidates[success]
            length = length / 2
            waiting = waiting[~success]
        return result


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundaryAttack(BlackBox):
    """A random walk along the boundary, towards the clean image (Brendel et al. 2018, arXiv:1712.04248).

    Each proposal goes sideways at the same distance, then towards the clean image, and is kept where it still fools.
    Both lengths follow their share of successes, image by image: half for the way sideways alone, asked every fifth
    time, and a quarter for the whole. The walk begins on the boundary, found by bisection from noise of any grain.
    Returns the nearest fooling image; the clean one where no noise fools, as is usual for a wanted class.
    """

    access: ClassVar[Access] = "decision"
    norm: ClassVar[Norm] = "l2"

    queries: int = 5000  # at most, per image
    sideways: float = 0.1  # first length of the orthogonal step, relative to the distance
    towards: float = 0.01  # first length of the step to the clean image, likewise
    tries: int = 100  # noises asked for a start, at most

    def __post_init__(self) -> None:
        check_positive(queries=self.queries, sideways=self.sideways, towards=self.towards, tries=self.tries)

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        judge = _Judge.of(model, images, goal, self.norm, self.queries)
        index, x = judge.start(self.tries, draws)
        x = judge.onto_boundary(index, x, 1e-4)
        aside, ahead = (torch.full_like(x[:, 0, 0, 0], length) for length in (self.sideways, self.towards))
        history, k = [judge.report()], 0
        stay = judge.left(index) > ROUND
        while stay.any():
            index, x, aside, ahead, k = index[stay], x[stay], aside[stay], ahead[stay], k + 1
            clean = images[index]
            orbit = _turn(clean, x, aside, draws[index])
            candidates = (orbit + rows(ahead, x) * (clean - orbit)).clamp(0, 1)
            success = judge.fools(index, candidates)
            ahead = (ahead * ((success.float() - 0.25) * RATE).exp()).clamp(max=0.5)
            if k % 5 == 0:
                sides = judge.fools(index, orbit.clamp(0, 1)).float()
                aside = (aside * ((sides - 0.5) * 5 * RATE).exp()).clamp(max=1)
            x = torch.where(rows(success, x), candidates, x)
            stay = judge.left(index) > ROUND
            if k % 100 == 0:
                judge.keep(index, x)
                history.append(judge.report())
            else:
                judge.keep(index[~stay], x[~stay])
        return Trace(judge.nearest.images, judge.queries, (*history, judge.report()))


def _turn(clean: Tensor, x: Tensor, angle: Tensor, draws: Draws) -> Tensor:
    """``x`` turned around ``clean`` in a random direction by the tangent ``angle``; the distance stays."""
    away = x - clean
    unit = Ball("l2", 1.0).steepest(away)
    noise = draws.normal(x.shape[1:])
    noise = Ball("l2", 1.0).steepest(noise - rows((noise * unit).flatten(1).sum(1), x) * unit)
    diagonal = away + rows(angle * distance(away, "l2"), x) * noise
    return clean + diagonal / rows((1 + angle.square()).sqrt(), x)
