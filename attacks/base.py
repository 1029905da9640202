"""What every attack shares at its edge."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from assay.attacks.goals import Goal, as_goal, check_classes
from assay.core.borrow import check_images
from assay.core.classifier import classifier
from assay.core.draws import Draws, as_draws
from assay.core.tables import check

Access = Literal["gradient", "score", "decision", "none"]


class Attack(ABC):
    """A frozen record of settings; calling it gives adversarial images.

    ``access`` is what it needs of the model: gradients, scores (logits), decisions (the class alone), or nothing.
    ``single`` attacks take one step. ``universal`` ones make one perturbation for all images they are given.
    """

    __slots__ = ()

    access: ClassVar[Access] = "gradient"
    single: ClassVar[bool] = False
    universal: ClassVar[bool] = False
    version: ClassVar[int] = 1  # raised when the results of a class change; a cell's id holds it

    @property
    def from_nothing(self) -> bool:
        """Whether only the shape of its images counts: it draws what the model takes for a class."""
        return False

    def __call__(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor:
        """Adversarial images, (N, C, H, W) in [0, 1].

        ``model`` maps ``images`` (N, C, H, W) in [0, 1] to logits (N, K); plain labels (N,) mean ``Untargeted``.
        An int as ``draws`` seeds one random stream per position. Raises ``AssayError`` for images outside [0, 1].
        """
        with prepared(self, model, images, goal) as (borrowed, pictures, aim):
            if len(images) == 0:
                return images.clone()
            return self.run(borrowed, pictures, aim, as_draws(draws, images)).detach().to(images.dtype)

    @abstractmethod
    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        """The attack itself, on a borrowed model, at least one image and a goal that names its classes."""


@contextmanager
def prepared(
    attack: Attack, model: nn.Module, images: Tensor, goal: Goal | Tensor
) -> Iterator[tuple[nn.Module, Tensor, Goal]]:
    """What an attack starts from: the borrowed classifier, float32 images, and a goal of classes that it has.

    The first pass tells how many there are; ``AssayError`` for one beyond.
    """
    check(attack)
    check_images(images)
    with classifier(model, images) as borrowed:
        pictures = images.detach().float()
        aim = as_goal(goal, pictures)
        if len(images):
            aim = aim.settle(borrowed, pictures)
        handle = borrowed.register_forward_hook(lambda module, inputs, logits: first_pass(logits))

        def first_pass(logits: Tensor) -> None:
            handle.remove()
            check_classes(aim, logits)

        try:
            yield borrowed, pictures, aim
        finally:
            handle.remove()


@dataclass(frozen=True, eq=False)
class Trace:
    """What a black box attack found, and what it asked for that.

    ``images`` (N, C, H, W). ``queries`` (N,) int64: evaluations of the model for each image until it was done: a
    bounded attack stops at its first success. ``history``: the queries so far (N,) and the smallest distance so far in
    the attack's norm (N,), from time to time, of attacks that make the distance small; infinite before a success.
    """

    images: Tensor
    queries: Tensor
    history: tuple[tuple[Tensor, Tensor], ...] = ()


class BlackBox(Attack):
    """An attack that only asks the model, whose questions are counted image by image."""

    __slots__ = ()

    access: ClassVar[Access] = "score"

    def trace(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Trace:
        """As a call, with the queries that each image took."""
        with prepared(self, model, images, goal) as (borrowed, pictures, aim), torch.no_grad():
            if len(images) == 0:
                return Trace(images.clone(), torch.zeros(0, dtype=torch.int64, device=images.device))
            trace = self.search(borrowed, pictures, aim, as_draws(draws, images))
            return replace(trace, images=trace.images.to(images.dtype))

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        with torch.no_grad():
            return self.search(model, images, goal, draws).images

    @abstractmethod
    def search(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Trace:
        """The attack itself, without gradients; the model is borrowed, and the goal names its classes."""
