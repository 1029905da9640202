"""The worst of several attacks, image by image."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from torch import Tensor, nn

from assay.attacks import ATTACKS
from assay.attacks.apgd import APGD
from assay.attacks.balls import BoundedNorm, check_eps, check_positive, distance
from assay.attacks.base import Attack
from assay.attacks.best import Best
from assay.attacks.fab import FAB
from assay.attacks.goals import Goal
from assay.attacks.gradient import ask
from assay.attacks.score_based import Square
from assay.core.draws import Draws
from assay.core.errors import AssayError

ROUNDING = 1e-6  # of a distance that float32 gives


@dataclass(frozen=True, kw_only=True, slots=True)
class WorstCase(Attack):
    """Several attacks in turn, each on the images that none before has fooled within the budget.

    Robust accuracy under it is the mean over images of the minimum over attacks. Where none fools, the image of largest
    cross-entropy is returned. Attacks given as text take the norm and the radius from here, unless they say their own;
    what attacks without a budget find beyond the radius does not count.
    """

    attacks: tuple[Attack | str, ...] = ("pgd", "apgd(loss=margin)", "fab", "square(queries=1000)")
    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        if not self.attacks:
            raise AssayError("worst-case needs at least one attack, as in worst-case(attacks=[pgd, fab])")
        for member in self.members():
            norm = getattr(member, "norm", "linf" if hasattr(member, "eps") else "none")
            if norm != self.norm or getattr(member, "eps", 0) > self.eps or member.universal:
                limit = f"{self.norm} {self.eps:.4g}"
                raise AssayError(f"worst-case: {member} does not attack single images within {limit}")

    def members(self) -> list[Attack]:
        """The attacks as records."""
        bounds = {"norm": self.norm, "eps": self.eps}
        return [ATTACKS.parse(attack, **bounds) if isinstance(attack, str) else attack for attack in self.attacks]

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        return in_turn(self.members(), model, images, goal, draws, self.norm, self.eps)


@dataclass(frozen=True, kw_only=True, slots=True)
class AutoAttack(Attack):
    """APGD-CE, APGD-T, FAB-T and Square in turn (Croce and Hein 2020, arXiv:2003.01690, the standard version).

    Below 4 classes, where the targeted difference of logits ratio has no meaning, APGD-T climbs the margin. In L1 APGD
    starts at eps; the authors' code comes down from 3 eps in three stages.
    """

    version: ClassVar[int] = 2

    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    steps: int = 100  # of APGD and FAB
    targets: int = 9  # likeliest other classes that APGD-T and FAB-T aim at
    queries: int = 5000  # of Square

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(steps=self.steps, targets=self.targets, queries=self.queries)

    def members(self, classes: int) -> list[Attack]:
        """The four for a model of so many classes."""
        first = APGD(norm=self.norm, eps=self.eps, steps=self.steps)
        return [
            first,
            replace(first, targets=self.targets, loss="dlr" if classes > 3 else "margin"),
            FAB(norm=self.norm, steps=self.steps, targets=self.targets),
            Square(norm=self.norm, eps=self.eps, queries=self.queries),
        ]

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        members = self.members(ask(model, images[:1]).shape[1])
        return in_turn(members, model, images, goal, draws, self.norm, self.eps)


def in_turn(
    members: Iterable[Attack], model: nn.Module, images: Tensor, goal: Goal, draws: Draws, norm: str, eps: float
) -> Tensor:
    """Each image under the first member that fools it within ``eps``, else the one of largest cross-entropy."""
    best = Best.of(images)
    for member in members:
        index = (~best.fooled).nonzero().flatten()
        if len(index) == 0:
            break
        candidates = member.run(model, images[index], goal[index], draws[index]).detach()
        near = distance(candidates - images[index], norm) <= eps * (1 + ROUNDING) + ROUNDING
        index, candidates = index[near], candidates[near]
        if len(index) == 0:
            continue
        logits = ask(model, candidates)
        best.update(index, candidates, goal[index].loss(logits), goal[index].reached(logits))
    return best.images
