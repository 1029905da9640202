"""What an attack wants of the model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Goal:
    """A goal says when it is reached and what to climb; ``goal[mask]`` is the goal of the images that stay."""

    def settle(self, model: nn.Module, images: Tensor) -> "Goal":
        """The goal with its classes known; only ``LeastLikely`` has to ask the model."""
        return self

    def reached(self, logits: Tensor) -> Tensor:
        """Whether each row of ``logits`` (N, K) is what the attack wants, (N,) bool."""
        raise NotImplementedError

    def loss(self, logits: Tensor) -> Tensor:
        """The cross-entropy to climb, (N,)."""
        raise NotImplementedError

    def margin(self, logits: Tensor) -> Tensor:
        """How far the goal is behind, (N,): positive where it is not reached, in logits."""
        raise NotImplementedError

    def __getitem__(self, index: Tensor) -> "Goal":
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Untargeted(Goal):
    """Any class but the label."""

    labels: Tensor

    def reached(self, logits: Tensor) -> Tensor:
        return logits.argmax(1) != self.labels

    def loss(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, self.labels, reduction="none")

    def margin(self, logits: Tensor) -> Tensor:
        return _lead(logits, self.labels)

    def __getitem__(self, index: Tensor) -> "Untargeted":
        return Untargeted(self.labels[index])


@dataclass(frozen=True, eq=False)
class Targeted(Goal):
    """The given class."""

    classes: Tensor

    def reached(self, logits: Tensor) -> Tensor:
        return logits.argmax(1) == self.classes

    def loss(self, logits: Tensor) -> Tensor:
        return -F.cross_entropy(logits, self.classes, reduction="none")

    def margin(self, logits: Tensor) -> Tensor:
        return -_lead(logits, self.classes)

    def __getitem__(self, index: Tensor) -> "Targeted":
        return Targeted(self.classes[index])


@dataclass(frozen=True)
class LeastLikely(Goal):
    """The class with the smallest logit on the clean image (Kurakin et al. 2017, arXiv:1607.02533)."""

    def settle(self, model: nn.Module, images: Tensor) -> Targeted:
        with torch.no_grad():
            return Targeted(model(images).argmin(1))


def as_goal(goal: Goal | Tensor) -> Goal:
    """Plain labels mean ``Untargeted``."""
    return goal if isinstance(goal, Goal) else Untargeted(goal)


def _lead(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of ``classes`` minus the largest other."""
    own = logits.gather(1, classes[:, None])
    return (own - logits.scatter(1, classes[:, None], float("-inf")).amax(1, keepdim=True)).squeeze(1)
