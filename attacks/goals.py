"""What an attack wants of the model."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.errors import AssayError


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


def as_goal(goal: Goal | Tensor, images: Tensor) -> Goal:
    """The goal with its classes on the images' device; plain labels mean ``Untargeted``.

    Raises ``AssayError`` for classes that are not one integer per image.
    """
    if isinstance(goal, Untargeted):
        return Untargeted(_per_image(goal.labels, images))
    if isinstance(goal, Targeted):
        return Targeted(_per_image(goal.classes, images))
    return goal if isinstance(goal, Goal) else Untargeted(_per_image(goal, images))


def _per_image(classes: Tensor, images: Tensor) -> Tensor:
    given = torch.as_tensor(classes)
    if given.is_floating_point() or given.dtype == torch.bool or given.shape not in ((), (len(images),)):
        found = f"{given.dtype} {tuple(given.shape)}"
        raise AssayError(f"a goal needs integer classes of shape ({len(images)},), one per image, not {found}")
    return given.to(images.device, torch.int64).expand(len(images))


def _lead(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of ``classes`` minus the largest other."""
    own = logits.gather(1, classes[:, None])
    return (own - logits.scatter(1, classes[:, None], float("-inf")).amax(1, keepdim=True)).squeeze(1)
