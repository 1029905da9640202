"""Attacks that change few values, each by as much as it takes."""

from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.balls import Norm, check_positive
from assay.attacks.base import Attack, BlackBox, Trace
from assay.attacks.best import Pick, all_indices, best_candidate
from assay.attacks.goals import Goal, likeliest
from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable

RATIOS = 8  # of the two parts of a saliency that candidates are ranked by
SIGNS = {"both": (1, -1), "up": (1,), "down": (-1,)}


class Pair(NamedTuple):
    """The two values of largest saliency, per image; 0 where no pair helps."""

    saliency: Tensor  # (N,)
    places: Tensor  # (N, 2), of flattened images


@dataclass(frozen=True, kw_only=True, slots=True)
class JSMA(Attack):
    """Jacobian-based saliency map attack (Papernot et al. 2016, arXiv:1511.07528, algorithms 2 and 3), on logits.

    Each step moves by ``theta`` the pair of values that raises the wanted logit and lowers the sum of the others, by
    the largest product of the two; a value at the end of the box is out of the search. Returns the first image that
    fools, else the clean one. ``direction="both"`` picks the better of raising and lowering at each step (Wiyatno and
    Xu 2018, arXiv:1808.07945); "up" and "down" are the paper's. An untargeted goal aims at the clean runner-up.
    The paper compares all pairs of D values; here those of ``candidates`` that lead in some ratio of raise to fall,
    which holds the best pair but for rare near-ties, and all pairs where D is no more than that.
    """

    norm: ClassVar[Norm] = "l0"

    theta: float = 1.0  # change of a value at each step, images in [0, 1]
    gamma: float = 0.05  # share of an image's C*H*W values that may change
    direction: Literal["both", "up", "down"] = "both"
    candidates: int = 64  # values whose pairs are compared

    def __post_init__(self) -> None:
        check_positive(theta=self.theta, gamma=self.gamma)
        if self.gamma > 1 or self.theta > 1:
            raise AssayError(f"theta={self.theta} and gamma={self.gamma} must be at most 1")
        if self.candidates < 2:
            raise AssayError(f"candidates={self.candidates} must be at least 2, to make a pair")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        result, x, index = images.clone(), images.clone(), all_indices(images)
        targets = index
        steps = int(self.gamma * images.shape[1:].numel()) // 2
        if steps == 0:
            raise NotApplicable(f"gamma={self.gamma} of {images.shape[1:].numel()} values is not a pair; raise gamma")
        for k in range(steps + 1):
            current = x.detach().requires_grad_(k < steps)
            logits = model(current)
            targets = likeliest(logits.detach(), goal, 1).flatten() if k == 0 else targets
            success = goal[index].reached(logits.detach())
            result[index[success]] = x[success]
            if k == steps or success.all():
                break
            target_logits = logits.gather(1, targets[:, None])[~success].sum()
            (rise,) = torch.autograd.grad(target_logits, current, retain_graph=True)
            (rest,) = torch.autograd.grad(logits[~success].sum() - target_logits, current)
            x, index, targets = x[~success], index[~success], targets[~success]
            x, helps = self._move(x, rise[~success].flatten(1), -rest[~success].flatten(1))
            x, index, targets = x[helps], index[helps], targets[helps]
            if len(index) == 0:
                break
        return result

    def _move(self, x: Tensor, rise: Tensor, fall: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` one step on, and which images had a pair that helps."""
        flat, signs = x.flatten(1), SIGNS[self.direction]
        free = {1: flat < 1, -1: flat > 0}
        pairs = [best_pair(sign * rise, sign * fall, free[sign], self.candidates) for sign in signs]
        saliency, way = torch.stack([pair.saliency for pair in pairs]).max(0)
        places = torch.stack([pair.places for pair in pairs])[way, all_indices(x)]
        change = self.theta * torch.tensor(signs, device=x.device)[way]
        flat = flat.scatter_add(1, places, change[:, None].expand_as(places)).clamp(0, 1)
        return flat.view_as(x), saliency > 0


def best_pair(rise: Tensor, fall: Tensor, free: Tensor, candidates: int) -> Pair:
    """The pair of ``free`` values with the largest product of summed ``rise`` and summed ``fall``, both above 0.

    All (N, D). At the best pair the product's gradient ranks values by rise + ratio * fall, so the values that lead in
    some ratio are the candidates.
    """
    count = min(candidates, rise.shape[1])
    if count < rise.shape[1]:
        size = [part.abs().amax(1, keepdim=True).clamp(min=1e-30) for part in (rise, fall)]
        angles = torch.linspace(0, torch.pi / 2, RATIOS, device=rise.device)
        leads = [
            (torch.cos(a) * rise / size[0] + torch.sin(a) * fall / size[1])
            .masked_fill(~free, float("-inf"))
            .topk(-(-count // RATIOS), 1)
            .indices
            for a in angles
        ]
        leaders = torch.cat(leads, 1)
        rise, fall, free = (part.gather(1, leaders) for part in (rise, fall, free))
    else:
        leaders = torch.arange(count, device=rise.device).expand(len(rise), -1)
    up, down = (part[:, :, None] + part[:, None, :] for part in (rise, fall))
    useful = free[:, :, None] & free[:, None, :] & (leaders[:, :, None] < leaders[:, None, :]) & (up > 0) & (down > 0)
    saliency, place = (up * down * useful).flatten(1).max(1)
    pair = torch.stack([place // leaders.shape[1], place % leaders.shape[1]], 1)
    return Pair(saliency, leaders.gather(1, pair))


@dataclass(frozen=True, kw_only=True, slots=True)
class OnePixel(BlackBox):
    """Differential evolution of a few pixels' places and colours (Su et al. 2019, arXiv:1710.08864, eq. 3).

    A member of the population is (row, column, colour) for each pixel; a child is one member plus ``weight`` times the
    difference of two others, and takes its parent's place where its margin is smaller (the paper compares
    probabilities). What leaves the image is drawn anew, colours are clamped. Returns the best child of the first
    generation that has one that fools, else the clean image. A generation's queries are its whole population; Su et
    al. take 400 members for 100 generations.
    """

    norm: ClassVar[Norm] = "l0"

    pixels: int = 1  # that change, all channels of each
    population: int = 50
    generations: int = 20  # after the first, random one
    weight: float = 0.5  # of the difference of two members

    def __post_init__(self) -> None:
        check_positive(pixels=self.pixels, generations=self.generations, weight=self.weight)
        if self.population < 4:
            raise AssayError(f"population={self.population} must be at least 4: a child is made of three")

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        result, queries = images.clone(), torch.ones(len(images), dtype=torch.int64, device=images.device)
        index = (~goal.reached(model(images))).nonzero().flatten()
        members = self._first(draws[index], images.shape[1])
        losses = images.new_full(members.shape[:2], float("-inf"))
        for generation in range(self.generations + 1):
            if len(index) == 0:
                break
            children = self._children(members, draws[index]) if generation else members
            pick = self._judge(model, goal[index], images[index], children)
            queries[index] += self.population
            result[index[pick.fooled]] = pick.images[pick.fooled]
            wins, stay = pick.loss > losses, ~pick.fooled
            members = torch.where(wins[:, :, None, None], children, members)[stay]
            losses, index = torch.maximum(pick.loss, losses)[stay], index[stay]
        return Trace(result, queries)

    def _judge(self, model: nn.Module, goal: Goal, images: Tensor, members: Tensor) -> Pick:
        def make(part: Tensor) -> Tensor:
            return paint(images[part].repeat_interleave(self.population, 0), members[part].flatten(0, 1))

        return best_candidate(model, goal, make, images, self.population)

    def _first(self, draws: Draws, channels: int) -> Tensor:
        """Uniform places, normal colours around mid-grey: (n, population, pixels, 2 + C); places are shares."""
        shape = (self.population, self.pixels)
        colours = draws.normal((*shape, channels)) * 0.5 + 0.5
        return torch.cat([draws.uniform((*shape, 2)), colours.clamp(0, 1)], 3)

    def _children(self, members: Tensor, draws: Draws) -> Tensor:
        """Eq. 3: one + weight * (another - a third), all of the same image."""
        every = all_indices(members)[:, None]
        base, plus, minus = (members[every, other] for other in _others(draws, self.population))
        child = base + self.weight * (plus - minus)
        places, anew = child[..., :2], draws.uniform((self.population, self.pixels, 2))
        places = torch.where((places >= 0) & (places < 1), places, anew)
        return torch.cat([places, child[..., 2:].clamp(0, 1)], 3)


def paint(images: Tensor, members: Tensor) -> Tensor:
    """``images`` (N, C, H, W) with the pixels of ``members`` (N, pixels, 2 + C), in place."""
    sides = torch.tensor(images.shape[2:], device=images.device)
    row, column = torch.minimum((members[..., :2] * sides).long(), sides - 1).unbind(2)
    for pixel in range(members.shape[1]):  # the last wins where two meet
        images[all_indices(images), :, row[:, pixel], column[:, pixel]] = members[:, pixel, 2:]
    return images


def _others(draws: Draws, population: int) -> tuple[Tensor, Tensor, Tensor]:
    """For each member three different ones of the same population, (n, population) each."""
    first = draws.integers(population, (population,))
    second = (first + 1 + draws.integers(population - 1, (population,))) % population
    third = draws.integers(population - 2, (population,))
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    third = third + (third >= low)
    return first, second, third + (third >= high)
