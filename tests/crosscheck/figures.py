"""Figures of ours and of the other libraries, all from our judge."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from assay.attacks import evaluate
from assay.attacks.judge import AttackLike, budget
from tests.crosscheck.subjects import Sample


class Figure(NamedTuple):
    """What one attack does to a sample."""

    who: str
    success: Tensor  # (N,) bool: fooled within the budget
    distances: Tensor  # (N,), infinite where an image is not fooled
    passes: float  # samples forward and backward, for an image
    seconds: float  # for all images

    @property
    def robust(self) -> float:
        """Share of the images that are not fooled."""
        return 1 - self.success.double().mean().item()

    @property
    def median(self) -> float:
        return self.distances.sort().values[(len(self.distances) - 1) // 2].item()

    def nearer(self, other: "Figure") -> float:
        """Share of the images that this fools nearer than ``other`` does."""
        return (self.distances < other.distances).double().mean().item()


class Comparison(NamedTuple):
    attack: str
    model: str
    bounded: bool
    ours: Figure
    peers: tuple[Figure, ...]


FIGURES: list[Comparison] = []


def figure(who: str, attack: AttackLike, sample: Sample, seeds: int = 1) -> Figure:
    """The figure of ``attack`` over all images with each of the ``seeds``."""
    outcomes = [evaluate(attack, sample.model, sample.images, sample.labels, draws=seed) for seed in range(seeds)]
    success = torch.cat([outcome.success for outcome in outcomes])
    distances = torch.cat([outcome.distances[budget(attack)[0]] for outcome in outcomes])
    passes = sum(outcome.forwards + outcome.backwards for outcome in outcomes) / seeds
    seconds = sum(outcome.seconds for outcome in outcomes) / seeds * len(sample.images)
    return Figure(who, success, distances.where(success, torch.inf), passes, seconds)


def lines(comparisons: Iterable[Comparison]) -> Iterable[str]:
    """Markdown, one row a comparison: the figure and the passes, and how often ours is nearer and farther."""
    yield "| attack | model | n | ours | others |"
    yield "|---|---|---|---|---|"
    for attack, model, bounded, ours, peers in comparisons:
        others = "; ".join(
            f"{peer.who} {_cell(peer, bounded)}"
            + ("" if bounded else f" {ours.nearer(peer):.0%}/{peer.nearer(ours):.0%}")
            for peer in peers
        )
        yield f"| {attack} | {model} | {len(ours.success)} | {_cell(ours, bounded)} | {others} |"


def _cell(found: Figure, bounded: bool) -> str:
    return f"{found.robust:.1%} ({found.passes:.0f})" if bounded else f"{found.median:.4g} ({found.passes:.0f})"
