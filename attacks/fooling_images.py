"""Images that a model takes for a class with confidence, and that people do not."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from assay.attacks.balls import Ball, check_positive
from assay.attacks.base import Attack, BlackBox, Trace
from assay.attacks.best import Best, all_indices, best_candidate
from assay.attacks.cppn import Genomes
from assay.attacks.goals import Goal, Targeted, likeliest
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Logit

TIE = 1e-4  # of log-probabilities: what another batch split can change must not decide between equals


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientFooling(Attack):
    """Climb one chosen class with L2-normalised steps until it wins (CS231n, fooling images), or is certain.

    From the image, or with ``start`` from uniform noise or mid-grey (Nguyen et al. 2015, arXiv:1412.1897): then only
    the image's shape counts. It climbs the class's logit; with ``confidence`` its log-probability, until that is
    reached and the class wins. Returns where it stopped, else the image of the path that fools best. No bound on the
    distance. The class is the goal's; ``Untargeted`` chooses the runner-up on the clean image.
    """

    step: float = 0.25  # L2 length of a step, images in [0, 1]
    steps: int = 100
    start: Literal["image", "noise", "grey"] = "image"
    confidence: float | None = None  # probability of the class to stop at; None: stop once it wins
    decay: float = 0.0  # share of the distance from mid-grey that is lost at each step (the paper's L2 decay)

    def __post_init__(self) -> None:
        check_positive(step=self.step, steps=self.steps)
        _check_confidence(0.5 if self.confidence is None else self.confidence)
        if not 0 <= self.decay < 1:
            raise AssayError(f"decay={self.decay} must be at least 0 and below 1")

    @property
    def from_nothing(self) -> bool:
        return self.start != "image"

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        classes = _goal_classes(model, images, goal)
        ball = Ball("l2", self.step)
        x, index = self._start(images, draws), all_indices(images)
        best = Best.of(x)
        for k in range(self.steps + 1):
            current = x.detach().requires_grad_(k < self.steps)
            logits = model(current)
            value = Logit.of(logits if self.confidence is None else logits.log_softmax(1), classes[index])
            success = goal[index].reached(logits.detach())
            best.update(index, x, value.detach(), success)
            stay = ~success if self.confidence is None else ~(success & (value.detach() >= math.log(self.confidence)))
            if k == self.steps or not stay.any():
                break
            (slope,) = torch.autograd.grad(value[stay].sum(), current)
            x, index = x[stay] + self.step * ball.steepest(slope[stay]), index[stay]
            x = (0.5 + (1 - self.decay) * (x - 0.5)).clamp(0, 1)
        return best.images

    def _start(self, images: Tensor, draws: Draws) -> Tensor:
        if self.start == "noise":
            return draws.uniform(images.shape[1:])
        return images if self.start == "image" else torch.full_like(images, 0.5)


@dataclass(frozen=True, kw_only=True, slots=True)
class CPPNFooling(BlackBox):
    """Pictures of small pattern networks that evolve until the model is certain (Nguyen et al. 2015, arXiv:1412.1897).

    Only the shape of an image counts: each has a population of its own of networks (``assay.attacks.cppn``). In a
    generation every member's place is challenged by a mutation of a random member, and goes to it where its
    log-probability is higher. Returns the first picture of ``confidence`` whose class wins, else the best one. The
    class is the goal's; ``Untargeted`` chooses the runner-up on the clean image, for one query more.

    The paper's MAP-Elites keeps one champion a class, and children of one may conquer others (5000 generations). Here
    nothing passes between images, so that a result depends on its image's draws alone.
    """

    confidence: float = 0.99  # probability of the class to stop at
    population: int = 20
    generations: int = 200  # after the first, random one
    nodes: int = 16  # hidden ones of a network, at most

    def __post_init__(self) -> None:
        check_positive(population=self.population, generations=self.generations, nodes=self.nodes)
        _check_confidence(self.confidence)

    @property
    def from_nothing(self) -> bool:
        return True

    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        classes, best, index, shape = (
            _goal_classes(model, images, goal),
            Best.of(images),
            all_indices(images),
            images.shape[1:],
        )
        queries = torch.full_like(index, 0 if isinstance(goal, Targeted) else 1)
        members = Genomes.random(draws, self.population, shape[0], self.nodes)
        losses = images.new_full((len(images), self.population), float("-inf"))
        for generation in range(self.generations + 1):
            if len(index) == 0:
                break
            children = members.children(draws[index], shape[0]) if generation else members
            aim = Targeted(classes[index])
            pick = best_candidate(model, aim, _drawing(children, shape), images[index], self.population, "ce")
            best.update(index, pick.images, pick.best, pick.fooled)
            queries[index] += self.population
            wins = pick.loss > losses + TIE
            stay = ~(best.fooled[index] & (best.loss[index] >= math.log(self.confidence)))
            members, losses = children.where(wins, members).at(stay), pick.loss.where(wins, losses)[stay]
            index = index[stay]
        return Trace(best.images, queries)


def _drawing(genomes: Genomes, shape: torch.Size) -> Callable[[Tensor], Tensor]:
    return lambda part: genomes.at(part).draw(shape)


def _goal_classes(model: nn.Module, images: Tensor, goal: Goal) -> Tensor:
    """The class to climb, (N,)."""
    if isinstance(goal, Targeted):
        return goal.classes
    with torch.no_grad():
        return likeliest(model(images), goal, 1).flatten()


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise AssayError(f"confidence={confidence} is a probability, above 0 and below 1")
