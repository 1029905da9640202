"""Auto-PGD: a gradient attack that chooses its own step."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from assay.attacks.balls import Ball, BoundedNorm, check_eps, check_positive, distance, rows
from assay.attacks.base import Attack
from assay.attacks.best import Best, all_indices
from assay.attacks.checks import SLACK
from assay.attacks.goals import Goal, Loss, Scaled, Towards, Untargeted, likeliest
from assay.attacks.gradient import ascent, ask, slope
from assay.core.draws import Draws
from assay.core.errors import AssayError


@dataclass(frozen=True, kw_only=True, slots=True)
class APGD(Attack):
    """Auto-PGD (Croce and Hein 2020, alg. 1, arXiv:2003.01690; in L1: Croce and Hein 2021, alg. 1, arXiv:2103.01208).

    ``targets`` 9 and ``loss`` dlr is APGD-T: the nine likeliest other classes in turn, any wrong class counts as
    success. Returns the first fooling image on the path, else that of largest loss; an image that is fooled
    leaves the batch.

    Differs from the paper where ``rescale`` is on: logits are multiplied, for each image, so that the first lies 10
    above the third on the clean image. Small logits make cross-entropy pull towards all classes at once, which misses
    a tenth of the images on affine models of ten classes; large ones drown its gradient in rounding.
    """

    norm: BoundedNorm = "linf"
    eps: float = 4 / 255  # radius in that norm, images in [0, 1]
    steps: int = 100
    restarts: int = 1
    loss: Loss = "ce"
    targets: int = 0  # likeliest other classes to aim at in turn; 0 aims at none
    rho: float = 0.75  # share of the steps that must have raised the loss for the step to stay as it is
    rescale: bool = True  # the logits, so that cross-entropy does not depend on their scale
    samples: int = 1  # answers of a randomised model to average

    def __post_init__(self) -> None:
        check_eps(self.eps, self.norm)
        check_positive(steps=self.steps, restarts=self.restarts, samples=self.samples, rho=self.rho)
        if self.targets < 0 or self.rho > 1:
            raise AssayError("targets must not be below 0, and rho at most 1")

    def run(self, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> Tensor:
        best, index = Best.of(images), all_indices(images)
        clean = ask(model, images, self.samples)
        best.update(index, images, -goal.margin(clean), goal.reached(clean))
        for aim in self._aims(clean, goal):
            for _ in range(self.restarts):
                index = (~best.fooled).nonzero().flatten()
                if len(index) == 0:
                    return best.images
                self._climb(model, images[index], goal[index], aim[index], draws[index], best, index)
        return best.images

    def _aims(self, clean: Tensor, goal: Goal) -> list[Goal]:
        """The goal itself, or each of the likeliest other classes in turn, with the logits to their scale."""
        aims = [goal]
        if self.targets and isinstance(goal, Untargeted):
            aims = [Towards(goal.labels, classes) for classes in likeliest(clean, goal, self.targets).unbind(1)]
        return [Scaled.by(aim, clean) for aim in aims] if self.rescale else aims

    def _climb(
        self, model: nn.Module, images: Tensor, goal: Goal, aim: Goal, draws: Draws, best: Best, index: Tensor
    ) -> None:
        """One path that climbs the loss of ``aim``; what comes nearest to ``goal`` goes to ``best`` at ``index``."""
        ball, marks = Ball(self.norm, self.eps), _checkpoints(self.steps, self.norm)
        state = _State.start(self, ball, images, draws)
        for k in range(self.steps + 1):
            point = slope(model, state.x, lambda logits: aim.loss(logits, self.loss), self.samples)  # noqa: B023
            success = goal.reached(point.logits)
            state.learn(point.loss, point.gradient, -goal.margin(point.logits), k)
            if success.any():
                best.update(index[success], state.x[success], state.lead[success], success[success])
                stay = ~success
                index, goal, aim, images = index[stay], goal[stay], aim[stay], images[stay]
                state = state.stay(stay)
                if len(index) == 0:
                    return
            if k == self.steps:
                best.update(index, state.peak, state.peak_lead, torch.zeros_like(success[: len(index)]))
                return
            if k in marks:
                state.judge(marks[k], self, images)
            state.move(ball, images, first=k == 0)


@dataclass(eq=False)
class _State:
    """Where a path stands, per image."""

    x: Tensor
    last: Tensor  # the image before
    gradient: Tensor
    peak: Tensor  # the image of largest loss, with its gradient and loss
    peak_gradient: Tensor
    peak_loss: Tensor
    peak_lead: Tensor  # how far the goal is ahead there, in logits
    lead: Tensor  # and at x
    loss: Tensor
    step: Tensor  # length of the next step in the ball's norm
    rises: Tensor  # steps since the last checkpoint that raised the loss
    kept_step: Tensor  # whether the step stayed as it was at the last checkpoint
    old_peak: Tensor  # the largest loss at the last checkpoint
    sparsity: Tensor  # values that a step in L1 moves
    support: Tensor  # values that the peak has changed at the last checkpoint, in L1

    @classmethod
    def start(cls, attack: APGD, ball: Ball, images: Tensor, draws: Draws) -> "_State":
        """A random point of the ball's border, as in the authors' code; in L1 the nearest to Gaussian noise."""
        if ball.norm == "l1":
            shift = draws.normal(images.shape[1:])
        else:
            shift = ball.random(images, draws)
            shift = shift * rows(ball.eps / distance(shift, ball.norm).clamp(min=1e-30), shift)
        x, nothing = ball.inside(images, images + shift), images.new_zeros(len(images))
        return cls(
            x=x, last=x, gradient=x, peak=x, peak_gradient=x, peak_loss=nothing - torch.inf,
            peak_lead=nothing, lead=nothing, loss=nothing,
            step=nothing + (1.0 if ball.norm == "l1" else 2.0) * ball.eps, rises=nothing, kept_step=nothing > 0,
            old_peak=nothing - torch.inf, sparsity=nothing + _share(ball.norm) * x[0].numel(),
            support=nothing + x[0].numel(),
        )  # fmt: skip

    def stay(self, mask: Tensor) -> "_State":
        return replace(self, **{name: value[mask] for name, value in vars(self).items()})

    def learn(self, loss: Tensor, gradient: Tensor, lead: Tensor, k: int) -> None:
        """Take in the loss, its gradient and the lead at ``x``."""
        if k:
            self.rises = self.rises + (loss > self.loss)
        self.loss, self.gradient, self.lead = loss, gradient, lead
        higher = loss > self.peak_loss
        if k == 0:
            self.peak, self.peak_gradient = self.x.clone(), gradient.clone()
            self.peak_loss, self.peak_lead, self.old_peak = loss, lead, loss
        elif higher.any():
            self.peak[higher], self.peak_gradient[higher] = self.x[higher], gradient[higher]
            self.peak_loss = torch.where(higher, loss, self.peak_loss)
            self.peak_lead = torch.where(higher, lead, self.peak_lead)

    def judge(self, steps: int, attack: APGD, images: Tensor) -> None:
        """At a checkpoint, ``steps`` after the last: where the step no longer helps, halve it and go back to the peak.

        In L1 the number of values that a step moves follows the number that the peak has changed; while that falls, the
        step stays at its longest and starts from the peak.
        """
        if attack.norm == "l1":
            support = ((self.peak - images).abs() > SLACK).flatten(1).sum(1).to(images.dtype)
            back = support / self.support.clamp(min=1) < 0.95
            self.step = torch.where(back, torch.full_like(self.step, attack.eps), self.step / 1.5)
            self.step = self.step.clamp(attack.eps * 0.1, attack.eps)
            self.support, self.sparsity = support, support / 1.5
        else:
            back = self.rises <= attack.rho * steps  # a tie does not help either, as in the authors' code
            back |= self.kept_step & (self.peak_loss <= self.old_peak)
            self.step = torch.where(back, self.step / 2, self.step)
            self.kept_step = ~back
        self.old_peak, self.rises = self.peak_loss, torch.zeros_like(self.rises)
        if back.any():
            self.x = torch.where(rows(back, self.x), self.peak, self.x)
            self.gradient = torch.where(rows(back, self.x), self.peak_gradient, self.gradient)

    def move(self, ball: Ball, images: Tensor, first: bool) -> None:
        """A step with momentum .75 (eq. 2); without in L1 and at first."""
        climb = ascent(ball.norm, self.x, self.gradient, self.sparsity / self.x[0].numel())
        ahead = ball.inside(images, self.x + rows(self.step, self.x) * climb)
        if ball.norm != "l1" and not first:
            ahead = ball.inside(images, self.x + 0.75 * (ahead - self.x) + 0.25 * (self.x - self.last))
        self.last, self.x = self.x, ahead


def _share(norm: str) -> float:
    """The share of the values that a first step in L1 moves."""
    return 0.2 if norm == "l1" else 1.0


def _checkpoints(steps: int, norm: str) -> dict[int, int]:
    """The steps after which the step size is judged, with the steps since the one before (section 3.1)."""
    if norm == "l1":
        gap = max(1, round(0.04 * steps))
        return dict.fromkeys(range(gap, steps + 1, gap), gap)
    gap, least, shrink = max(1, int(0.22 * steps)), max(1, int(0.06 * steps)), max(1, int(0.03 * steps))
    marks, k = {}, 0
    while k + gap <= steps:
        k += gap
        marks[k] = gap
        gap = max(gap - shrink, least)
    return marks
