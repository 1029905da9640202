"""Each check has a broken model or attack that trips it; a sound one trips none."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import APGD, FGSM, MIFGSM, PGD, evaluate
from assay.attacks.base import Attack
from assay.attacks.goals import Goal
from assay.core.draws import Draws
from tests.attacks.models import Affine, near_grey


class Sound(nn.Module):
    """A smooth network with two layers; ``scale`` steepens its logits."""

    scale = 1.0

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.BatchNorm1d(75)
        self.first, self.second = nn.Linear(75, 32), nn.Linear(32, 4)

    def features(self, images: Tensor) -> Tensor:
        return torch.tanh(3 * self.first(self.norm(images.flatten(1) - 0.5)))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.second(self.features(images)) * self.scale
        return logits


class Rounded(Sound):
    """Quantises its input: no gradient comes back."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward((images * 16).round() / 16)


class Steep(Sound):
    """Logits times 1e4: the softmax saturates, and the gradient of the cross-entropy is exactly 0."""

    scale = 1e4


class Noisy(Sound):
    """Adds noise to every pass."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + 0.2 * torch.randn_like(images))


class Softmax(Sound):
    """Gives probabilities."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).softmax(1)


class BatchStatistics(Sound):
    """Normalises by the batch, whatever the mode."""

    def forward(self, images: Tensor) -> Tensor:
        flat = F.batch_norm(images.flatten(1), None, None, training=True) * 0.1 + 0.5
        return super().forward(flat.view_as(images))


class Purifying(Sound):
    """Climbs a gradient of its own before it answers."""

    def forward(self, images: Tensor) -> Tensor:
        with torch.enable_grad():
            x = images.detach().requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.features(x).square().sum(), x)
        return super().forward(images - 1e-6 * gradient)


@dataclass(frozen=True)
class Forgetful(Attack):
    """Finds fooling images and returns others."""

    eps: float = 0.05

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        PGD(eps=self.eps, early_stop=False).run(model, images, goal, draws)
        return (images + 0.001).clamp(0, 1)


@dataclass(frozen=True)
class Short(Attack):
    """Stops while the loss still falls."""

    eps: float = 0.5

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        return PGD(eps=self.eps, steps=30, step=1e-5, random_start=False).run(model, images, goal, draws)


@dataclass(frozen=True)
class Idle(Attack):
    """Returns what it is given."""

    eps: float = 0.1

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        return images


def flags(model: nn.Module, attack: Attack) -> list[tuple[str, ...]]:
    torch.manual_seed(1)
    images = near_grey(16)
    with torch.no_grad():
        labels = model.eval()(images).argmax(1)
    return evaluate(attack, model, images, labels).flags


@pytest.mark.parametrize(
    "attack",
    [FGSM(eps=0.01), PGD(eps=0.01), APGD(eps=0.01), MIFGSM(eps=0.01)],
    ids=lambda attack: type(attack).__name__,
)
def test_a_sound_model_and_attack_trip_nothing(attack: Attack) -> None:
    assert not {flag for row in flags(Sound(), attack) for flag in row} - {"lost-at-8-bit"}


@pytest.mark.parametrize(
    ("model", "flag"),
    [
        (Rounded, "zero-gradient"),
        (Steep, "zero-gradient"),
        (Noisy, "not-repeatable"),
        (Softmax, "probabilities"),
        (BatchStatistics, "batch-dependent"),
        (Purifying, "gradient-in-forward"),
    ],
)
def test_a_broken_model_is_flagged(model: Callable[[], nn.Module], flag: str) -> None:
    found = flags(model(), PGD(eps=0.005, steps=10))
    assert sum(flag in row for row in found) >= len(found) * 3 // 4


@pytest.mark.parametrize(
    ("attack", "flag"), [(Forgetful(), "silent-success"), (Short(), "incomplete"), (Idle(), "unchanged")]
)
def test_a_broken_attack_is_flagged(attack: Attack, flag: str) -> None:
    found = flags(Sound(), attack)
    assert sum(flag in row for row in found) >= len(found) * 3 // 4


def test_a_loss_that_settled_is_not_incomplete() -> None:
    model, images = Affine(2), near_grey(8)
    labels = model(images).argmax(1)
    eps = 0.5 * model.distance(images, labels, "linf").min().item()
    outcome = evaluate(PGD(eps=eps), model, images, labels)
    assert not outcome.success.any()
    assert outcome.flags == [()] * 8


def test_rows_are_told_apart_in_any_batching() -> None:
    """An attack that sends images one by one and in another order is watched as well as one that sends the batch."""

    @dataclass(frozen=True)
    class Shuffled(Attack):
        eps: float = 0.05

        def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
            for i in range(len(images) - 1, 3, -1):
                one = torch.tensor([i])
                PGD(eps=self.eps, early_stop=False).run(model, images[one], goal[one], draws[one])
            return (images + 0.001).clamp(0, 1)

    silent = ["silent-success" in row for row in flags(Sound(), Shuffled())]
    assert not any(silent[:4])
    assert sum(silent[4:]) >= 9


class _Altered(torch.autograd.Function):
    """The images as they are; their gradient times a factor."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return images.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class Damped(Sound):
    """Its gradient is a quarter of what it should be."""

    factor = 0.25

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(_Altered.apply(images, self.factor))


class Reversed(Damped):
    factor = -1.0


class Unnumbered(Damped):
    factor = float("nan")


class Memory(Sound):
    """Answers as for the stored image where one is near, with the gradient of the image itself."""

    def forward(self, images: Tensor) -> Tensor:
        stored = near_grey(16)
        distance, nearest = torch.cdist(images.detach().flatten(1), stored.flatten(1), p=float("inf")).min(1)
        known = torch.where((distance < 0.06).view(-1, 1, 1, 1), stored[nearest], images.detach())
        return super().forward(images + (known - images).detach())


class Straight(Sound):
    """Eight levels of grey, passed straight through on the way back; the images of the test lie on levels."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images + ((images * 8).round() / 8 - images).detach())


class Constant(nn.Module):
    """The same answer to everything."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([1.0, 0.0, -1.0]) + 0 * images.flatten(1)[:, :3]


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (Damped, {"wrong-gradient"}),
        (Reversed, {"wrong-gradient"}),
        (Unnumbered, {"zero-gradient", "flat-loss"}),
        (Memory, {"wrong-gradient", "flat-loss"}),
        (Straight, {"wrong-gradient", "flat-loss"}),
        (Constant, {"zero-gradient", "flat-loss"}),
    ],
)
def test_a_masked_model_is_flagged(model: Callable[[], nn.Module], expected: set[str]) -> None:
    images = (near_grey(16) * 8).round() / 8 if model is Straight else near_grey(16)
    net = model().eval()
    with torch.no_grad():
        labels = net(images).argmax(1)
    found = evaluate(PGD(eps=0.05, steps=10), net, images, labels).flags
    assert all(expected <= set(row) for row in found if "silent-success" not in row)
    assert len(found) == 16
