"""What an attack wants of the model."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.classifier import answered
from assay.core.errors import AssayError, NotApplicable

Loss = Literal["ce", "dlr", "margin"]
NOISE = 1e-4  # of a margin, relative to its larger logit: what another batch split can change


class Goal:
    """A goal says when it is reached and what to climb; ``goal[mask]`` is the goal of the images that stay."""

    def settle(self, model: nn.Module, images: Tensor) -> "Goal":
        """The goal with its classes known; only ``LeastLikely`` has to ask the model."""
        return self

    def reached(self, logits: Tensor) -> Tensor:
        """Whether each row of ``logits`` (N, K) is what the attack wants, (N,) bool.

        A row that names no class (``answered``) is not the label, and not a wanted class.
        """
        raise NotImplementedError

    def loss(self, logits: Tensor, name: Loss = "ce") -> Tensor:
        """What to climb, (N,): cross-entropy, the difference of logits ratio, or the margin with its sign turned.

        ``dlr`` (Croce and Hein 2020, arXiv:2003.01690, eq. 6 and 7) does not change when logits are shifted or scaled;
        it raises ``NotApplicable`` below 3 classes, with a wanted class below 4.
        """
        if name == "ce":
            return self.cross_entropy(logits)
        if name == "margin":
            return -self.margin(logits)
        return -self.margin(logits) / self.spread(logits).clamp(min=1e-12)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        """The cross-entropy to climb, (N,)."""
        raise NotImplementedError

    def spread(self, logits: Tensor) -> Tensor:
        """What the difference of logits ratio divides by, (N,)."""
        raise NotImplementedError

    def margin(self, logits: Tensor) -> Tensor:
        """How far the goal is behind, (N,): positive where it is not reached, in logits."""
        raise NotImplementedError

    def noise(self, logits: Tensor) -> Tensor:
        """What another split into batches can change of the margin, (N,): a share of the larger of its two logits."""
        raise NotImplementedError

    def __getitem__(self, index: Tensor) -> "Goal":
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Untargeted(Goal):
    """Any class but the label."""

    labels: Tensor

    def reached(self, logits: Tensor) -> Tensor:
        return (logits.argmax(1) != self.labels) | ~answered(logits)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return F.cross_entropy(logits, self.labels, reduction="none")

    def margin(self, logits: Tensor) -> Tensor:
        return _lead(logits, self.labels)

    def noise(self, logits: Tensor) -> Tensor:
        return _noise(*_pair(logits, self.labels))

    def spread(self, logits: Tensor) -> Tensor:
        top = _top(logits, 3)
        return top[:, 0] - top[:, 2]

    def __getitem__(self, index: Tensor) -> "Untargeted":
        return Untargeted(self.labels[index])


@dataclass(frozen=True, eq=False)
class Targeted(Goal):
    """The given class."""

    classes: Tensor

    def reached(self, logits: Tensor) -> Tensor:
        return (logits.argmax(1) == self.classes) & answered(logits)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return -F.cross_entropy(logits, self.classes, reduction="none")

    def margin(self, logits: Tensor) -> Tensor:
        return -_lead(logits, self.classes)

    def noise(self, logits: Tensor) -> Tensor:
        return _noise(*_pair(logits, self.classes))

    def spread(self, logits: Tensor) -> Tensor:
        top = _top(logits, 4)
        return top[:, 0] - top[:, 2:].mean(1)

    def __getitem__(self, index: Tensor) -> "Targeted":
        return Targeted(self.classes[index])


@dataclass(frozen=True, eq=False)
class Towards(Untargeted):
    """Any class but the label, by the way of another class: what targeted attacks try in turn (APGD-T, FAB-T)."""

    classes: Tensor

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return -F.cross_entropy(logits, self.classes, reduction="none")

    def margin(self, logits: Tensor) -> Tensor:
        label, other = self._pair(logits)
        return label - other

    def noise(self, logits: Tensor) -> Tensor:
        return _noise(*self._pair(logits))

    def _pair(self, logits: Tensor) -> tuple[Tensor, ...]:
        return logits.gather(1, torch.stack([self.labels, self.classes], 1)).unbind(1)

    def spread(self, logits: Tensor) -> Tensor:
        top = _top(logits, 4)
        return top[:, 0] - top[:, 2:].mean(1)

    def __getitem__(self, index: Tensor) -> "Towards":
        return Towards(self.labels[index], self.classes[index])


@dataclass(frozen=True, eq=False)
class Scaled(Goal):
    """Another goal whose cross-entropy is that of logits times a factor for each image."""

    goal: Goal
    factor: Tensor

    @classmethod
    def by(cls, goal: Goal, logits: Tensor, spread: float = 10.0) -> "Scaled":
        """Factors that put the first of ``logits`` (N, K) ``spread`` above the third, or the second of two."""
        top = logits.topk(min(3, logits.shape[1]), 1).values
        return cls(goal, spread / (top[:, 0] - top[:, -1]).clamp(min=1e-12))

    def reached(self, logits: Tensor) -> Tensor:
        return self.goal.reached(logits)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return self.goal.cross_entropy(logits * self.factor[:, None])

    def margin(self, logits: Tensor) -> Tensor:
        return self.goal.margin(logits)

    def noise(self, logits: Tensor) -> Tensor:
        return self.goal.noise(logits)

    def spread(self, logits: Tensor) -> Tensor:
        return self.goal.spread(logits)

    def __getitem__(self, index: Tensor) -> "Scaled":
        return Scaled(self.goal[index], self.factor[index])


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
    if type(goal) is Untargeted:
        return Untargeted(_per_image(goal.labels, images))
    if type(goal) is Targeted:
        return Targeted(_per_image(goal.classes, images))
    return goal if isinstance(goal, Goal) else Untargeted(_per_image(goal, images))


def _per_image(classes: Tensor, images: Tensor) -> Tensor:
    indices = torch.as_tensor(classes)
    if indices.is_floating_point() or indices.dtype == torch.bool or indices.shape not in ((), (len(images),)):
        form = f"{indices.dtype} {tuple(indices.shape)}"
        raise AssayError(f"a goal needs integer classes of shape ({len(images)},), one per image, not {form}")
    indices = indices.clone() if indices.is_inference() else indices
    return indices.to(images.device, torch.int64).expand(len(images))


def check_classes(goal: Goal, logits: Tensor) -> None:
    """Raise ``AssayError`` for a goal with a class that the model does not have."""
    count = logits.shape[1]
    for classes in (getattr(goal, "labels", None), getattr(goal, "classes", None)):
        if classes is not None and len(classes) and not (classes.min() >= 0 and classes.max() < count):
            wrong = classes[(classes < 0) | (classes >= count)][0].item()
            raise AssayError(f"class {wrong} is not one of the model's 0 to {count - 1}")


def likeliest(logits: Tensor, goal: Goal, count: int) -> Tensor:
    """The other classes that an untargeted goal may reach, likeliest first, (N, at most ``count``); else the goal's."""
    if isinstance(goal, Targeted):
        return goal.classes[:, None]
    labels = goal.labels if isinstance(goal, Untargeted) else logits.argmax(1)
    others = logits.scatter(1, labels[:, None], float("-inf"))
    return others.topk(min(count, logits.shape[1] - 1), 1).indices


def _top(logits: Tensor, count: int) -> Tensor:
    if logits.shape[1] < count:
        need = f"{count} classes" + (" with a wanted class" if count == 4 else "")
        raise NotApplicable(f"loss=dlr needs {need}, the model has {logits.shape[1]}; use loss=margin or loss=ce")
    return logits.topk(count, 1).values


def _pair(logits: Tensor, classes: Tensor) -> tuple[Tensor, Tensor]:
    """The logit of ``classes`` and the largest other, (N,) each."""
    others = logits.scatter(1, classes[:, None], float("-inf"))
    return logits.gather(1, classes[:, None]).squeeze(1), others.amax(1)


def _lead(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of ``classes`` minus the largest other."""
    logit, other = _pair(logits, classes)
    return logit - other


def _noise(first: Tensor, second: Tensor) -> Tensor:
    return NOISE * torch.maximum(first.abs(), second.abs())
