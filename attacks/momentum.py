"""Iterated gradient attacks with momentum, made to transfer to other models.

The members differ in the defaults of one engine, so that they combine by their settings: SI-NI-TI-DIM is
``NIFGSM(scales=5, kernel=7, diversity=0.5)``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.balls import ORDERS, Ball, BoundedNorm, check_eps, check_positive, rows
from assay.attacks.base import Attack
from assay.attacks.best import Best, all_indices
from assay.attacks.goals import Goal, Loss
from assay.attacks.gradient import Slope, ascent, ask, slope
from assay.core.draws import Draws
from assay.core.errors import AssayError


@dataclass(frozen=True, kw_only=True, slots=True)
class MIFGSM(Attack):
    """The momentum iterative method (Dong et al. 2018, alg. 1, arXiv:1710.06081).

    Every image takes all steps, since what fools this model barely rarely fools another. Returns the fooling image of
    largest loss among those that the model was asked about, which with ``lookahead`` and ``diversity`` is the last one.
    """

    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    steps: int = 10
    step: float | None = None  # length of a step in that norm; None means eps / steps
    decay: float = 1.0  # of the momentum; 0 is the basic iterative method
    lookahead: bool = False  # take the gradient where the momentum leads (Nesterov)
    diversity: float = 0.0  # probability that an image is shrunk by up to 15 % and padded before a pass
    kernel: int = 1  # side in pixels of the Gaussian that smooths the gradient, odd; its sigma is side / 6
    scales: int = 1  # copies of the image, divided by 1, 2, 4, ..., whose gradients are averaged
    neighbours: int = 0  # random points nearby whose gradients tune the variance
    spread: float = 1.5  # how far each value goes at most, in eps; in L2 and L1 eps is shared among all values
    loss: Loss = "ce"
    samples: int = 1  # answers of a randomised model to average

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(steps=self.steps, scales=self.scales, samples=self.samples, spread=self.spread)
        check_positive(step=1 if self.step is None else self.step)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise AssayError(f"kernel={self.kernel} must be odd and above 0")
        if not 0 <= self.diversity <= 1 or not self.decay >= 0 or self.neighbours < 0:
            raise AssayError("diversity must lie in [0, 1], decay and neighbours must not be below 0")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        ball, index = Ball(self.norm, self.eps), all_indices(images)
        step = self.eps / self.steps if self.step is None else self.step
        best, x = Best.of(images), images
        momentum = variance = torch.zeros_like(images)
        for k in range(self.steps):
            at = x + step * self.decay * momentum if self.lookahead else x
            point = self._slope(model, at, goal, draws)
            if not self.lookahead and not self.diversity:
                best.update(index, x, point.loss, goal.reached(point.logits))
            momentum = self.decay * momentum + _unit_mean(_smooth(point.gradient + variance, self.kernel))
            if self.neighbours:
                variance = self._around(model, at, goal, draws) - point.gradient
            x = ball.inside(images, x + step * ascent(self.norm, x, momentum, 0.01 * (1 - k / self.steps)))
        logits = ask(model, x, self.samples)
        best.update(index, x, goal.loss(logits, self.loss), goal.reached(logits))
        return best.images

    def _slope(self, model: nn.Module, x: Tensor, goal: Goal, draws: Draws) -> Slope:
        """Logits and loss of the first copy, and the mean gradient over the scaled copies (Lin et al. 2020, eq. 8)."""
        copies = []
        for k in range(self.scales):
            shrink = _shrinking(x, draws, self.diversity) if self.diversity else nn.Identity()
            net = lambda at: model(shrink(at / 2**k))  # noqa: B023, E731
            copies.append(slope(net, x, lambda logits: goal.loss(logits, self.loss), self.samples))  # type: ignore[arg-type]
        return copies[0]._replace(gradient=torch.stack([copy.gradient for copy in copies]).mean(0))

    def _around(self, model: nn.Module, x: Tensor, goal: Goal, draws: Draws) -> Tensor:
        """The mean gradient at random points around ``x`` (Wang and He 2021, eq. 7)."""
        reach = self.spread * self.eps / x[0].numel() ** (1 / ORDERS[self.norm])
        points = (x + draws.uniform(x.shape[1:], -reach, reach) for _ in range(self.neighbours))
        return torch.stack([self._slope(model, point, goal, draws).gradient for point in points]).mean(0)


@dataclass(frozen=True, kw_only=True, slots=True)
class NIFGSM(MIFGSM):
    """Nesterov's accelerated gradient in place of plain momentum (Lin et al. 2020, arXiv:1908.06281)."""

    lookahead: bool = True  # take the gradient where the momentum leads


@dataclass(frozen=True, kw_only=True, slots=True)
class DIFGSM(MIFGSM):
    """Diverse inputs: images are shrunk and padded at random before a pass (Xie et al. 2019, arXiv:1803.06978).

    Images shrink inside their size, so that models of one size take them; the paper enlarges 299 to 330 pixels.
    """

    diversity: float = 0.5  # probability that an image is shrunk by up to 15 % and padded before a pass


@dataclass(frozen=True, kw_only=True, slots=True)
class TIFGSM(MIFGSM):
    """Translation invariance: the gradient is smoothed by a Gaussian (Dong et al. 2019, arXiv:1904.02884).

    The paper's kernel has 15 pixels for images of 299.
    """

    kernel: int = 7  # side in pixels of the Gaussian that smooths the gradient, odd; its sigma is side / 6


@dataclass(frozen=True, kw_only=True, slots=True)
class SIFGSM(MIFGSM):
    """Scale invariance: the gradient is averaged over darker copies (Lin et al. 2020, arXiv:1908.06281)."""

    scales: int = 5  # copies of the image, divided by 1, 2, 4, ..., whose gradients are averaged


@dataclass(frozen=True, kw_only=True, slots=True)
class VMIFGSM(MIFGSM):
    """Variance tuning: the gradient is corrected by its mean nearby (Wang and He 2021, arXiv:2103.15571)."""

    neighbours: int = 20  # random points nearby whose gradients tune the variance


def _unit_mean(gradient: Tensor) -> Tensor:
    return gradient / rows(gradient.flatten(1).abs().mean(1).clamp(min=1e-30), gradient)


def _smooth(gradient: Tensor, side: int) -> Tensor:
    """Every channel filtered by a Gaussian of ``side`` pixels."""
    if side == 1:
        return gradient
    along = torch.arange(side, device=gradient.device) - side // 2
    weight = torch.exp(-0.5 * (along / (side / 6)) ** 2)
    weight = weight / weight.sum()
    channels = gradient.shape[1]
    across = F.conv2d(gradient, weight.expand(channels, 1, 1, side), padding=(0, side // 2), groups=channels)
    return F.conv2d(across, weight.view(side, 1).expand(channels, 1, side, 1), padding=(side // 2, 0), groups=channels)


def _shrinking(images: Tensor, draws: Draws, probability: float) -> nn.Module:
    """A transform that shrinks some images to 85 to 100 % and pads them with black, each at its own place."""
    chance, size, down, right = draws.uniform((4,)).unbind(1)
    size = torch.where(chance < probability, 0.85 + 0.15 * size, torch.ones_like(size))
    grid = torch.zeros(len(images), 2, 3, device=images.device)
    grid[:, 0, 0] = grid[:, 1, 1] = 1 / size
    for row, place in enumerate((right, down)):
        grid[:, row, 2] = (2 * place - 1) * (1 - size) / size
    return _Resample(F.affine_grid(grid, list(images.shape), align_corners=False))


class _Resample(nn.Module):
    def __init__(self, grid: Tensor) -> None:
        super().__init__()
        self.grid = grid

    def forward(self, images: Tensor) -> Tensor:
        return F.grid_sample(images, self.grid, align_corners=False)
