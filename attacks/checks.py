"""What must hold before a result under attack is believed (Carlini et al. 2019, arXiv:1902.06705; Pintor et al. 2022).

``inspect`` looks at the model alone, ``Watch`` at what an attack does to it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks.balls import distance, rows
from assay.attacks.goals import NOISE, Goal
from assay.core.calls import Calls
from assay.core.classifier import answered

LOOKED_AT = 2  # images whose gradient is compared with what the model does
TWICE = 2.5  # by which that may be more or less: a step crosses kinks
WINDOW = 10  # last gradient steps in which the loss should no longer move
MOVES = 0.05  # of its range
SLACK = 1e-6  # of range and budget, for the rounding of float32


def inspect(model: nn.Module, images: Tensor, logits: Tensor, gradient: bool = True) -> list[str]:
    """Names of the checks that a borrowed model fails, told from its ``logits`` (N, K) of ``images``.

    ``probabilities``: it gives probabilities, not logits. ``gradient-in-forward``: its forward pass turns gradients on.
    ``batch-dependent``: an image's logits change with the images beside it. ``wrong-gradient``, where a ``gradient`` is
    asked for: the lead of the first class over the second does not change as its gradient says.
    """
    if len(images) == 0:
        return []
    failures = []
    if logits.shape[1] > 1 and (logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-4).all():
        failures.append("probabilities")
    pair = torch.cat([images[:1], 1 - images[:1]])
    with torch.no_grad(), _Gradients() as gradients:
        beside, again = model(pair)[:1], model(pair)[:1]
    if gradients.active:
        failures.append("gradient-in-forward")
    limit = 10 * NOISE * logits[:1].abs().amax().clamp(min=1)
    if (beside - again).abs().amax() <= limit < (beside - logits[:1]).abs().amax():
        failures.append("batch-dependent")
    if gradient and _misleads(model, images[:LOOKED_AT]):
        failures.append("wrong-gradient")
    return failures


def _misleads(model: nn.Module, images: Tensor) -> bool:
    """Whether a small step up and down the gradient's signs changes every image by another amount than it promises.

    The step promises a hundred times the noise of the lead; where that takes more than 1/255, nothing is said.
    """
    x = images.detach().requires_grad_(True)
    logits = model(x)
    top = logits.detach().topk(2, 1).indices
    pair = logits.gather(1, top)
    (slope,) = torch.autograd.grad((pair[:, 0] - pair[:, 1]).sum(), x)
    total = slope.abs().flatten(1).sum(1)
    length = 100 * NOISE * pair.detach().abs().amax(1) / total.clamp(min=1e-30)
    told = (length <= 1 / 255) & answered(logits)
    if not told.any():
        return False
    agrees = torch.zeros_like(told)
    for part in (1.0, 0.25):
        step = rows(length.clamp(max=1 / 255) * part, images) * slope.sign()
        ends = [(images + way * step).clamp(0, 1) for way in (1, -1)]
        promised = ((ends[0] - ends[1]) * slope).flatten(1).sum(1)
        with torch.no_grad():
            leads = model(torch.cat(ends)).gather(1, top.repeat(2, 1))
        up, down = (leads[:, 0] - leads[:, 1]).chunk(2)
        share = (up - down) / promised
        agrees |= (share > 1 / TWICE) & (share < TWICE)
    return not bool((agrees | ~told).any())


class _Gradients(Calls):
    """Notices whether gradients are on in a block that turned them off."""

    active = False

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.active = self.active or torch.is_grad_enabled()
        return func(*args, **kwargs)


class Watch:
    """Watches an attack's passes through a model, image by image.

    A row of a pass belongs to the clean image that is nearest on a coarse grid of pixels, so attacks may batch as they
    like.
    """

    def __init__(self, images: Tensor, goal: Goal, norm: str, eps: float) -> None:
        self.images, self.goal, self.norm, self.eps = images, goal, norm, eps
        self.given = images
        self.reached = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self.slopes = torch.zeros(len(images), device=images.device)
        self.flat = torch.zeros(len(images), device=images.device)
        self.margins: list[tuple[Tensor, Tensor, Tensor]] = []  # indices, margins and their noise, a pass
        self.seconds = 0.0  # what watching took

    @contextmanager
    def on(self, model: nn.Module) -> Iterator["Watch"]:
        handles = [
            model.register_forward_pre_hook(self._keep, prepend=True),  # the model may write into what it is given
            model.register_forward_hook(self._time(self._forward)),
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def flags(self, universal: bool = False) -> dict[str, Tensor]:
        """Per image, (N,) bool, what counts where the attack fails.

        ``zero-gradient``: most gradients were zero or no numbers. ``silent-success``: the attack passed an image that
        fools within the budget. ``incomplete``: the loss still moved in the last steps; ``flat-loss``: it never did.
        Only a budget tells whose image a pass was, so attacks without one have no silent successes. What fools one
        image on the way of a ``universal`` attack is not what fools most in the end: of those ``zero-gradient`` alone.
        """
        flags = {"zero-gradient": self.flat * 2 > self.slopes}
        if not universal:
            moving, flat = self._course()
            flags["silent-success"] = self.reached & (self.eps < float("inf"))
            flags |= {"incomplete": moving, "flat-loss": flat}
        return flags

    def _time(self, work: Callable[..., None]) -> Callable[..., None]:
        def measure(*arguments: Any) -> None:
            start = time.perf_counter()
            work(*arguments)
            self.seconds += time.perf_counter() - start

        return measure

    def _keep(self, model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self.given = inputs[0]

    def _forward(self, model: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, logits = self.given.detach(), output.detach()
        if len(x) == 0 or len(self.images) == 0 or x.shape[1:] != self.images.shape[1:]:
            return
        index = torch.cdist(coarse(x), coarse(self.images)).argmin(1)
        goal = self.goal[index]
        margin = goal.margin(logits)
        clear = goal.reached(logits) & (margin < -goal.noise(logits).clamp(min=NOISE)) & ~self.reached[index]
        if clear.any():
            size = distance(x[clear] - self.images[index[clear]], self.norm)
            inside = (x[clear] >= -SLACK).flatten(1).all(1) & (x[clear] <= 1 + SLACK).flatten(1).all(1)
            self.reached[index[clear]] |= inside & (size <= self.eps * (1 + SLACK) + SLACK)
        if self.given.requires_grad:
            self.margins.append((index, margin, goal.noise(logits)))
            backward = self._time(self._backward)
            self.given.register_hook(lambda gradient: backward(index, gradient))  # type: ignore[no-untyped-call]

    def _backward(self, index: Tensor, gradient: Tensor) -> None:
        if len(gradient) == len(index):
            zero = (gradient == 0).flatten(1).all(1)
            self.slopes.index_add_(0, index, torch.ones_like(zero, dtype=self.slopes.dtype))
            self.flat.index_add_(0, index, zero.to(self.flat.dtype))

    def _course(self) -> tuple[Tensor, Tensor]:
        """Whether the margin of each image still fell at the end of its way, and whether it never moved.

        The first is a fall by more than ``MOVES`` of its range in the last ``WINDOW`` steps; the second is five passes
        or more within noise.
        """
        moving, flat = torch.zeros_like(self.reached), torch.zeros_like(self.reached)
        if not self.margins:
            return moving, flat
        index, margin, noise = (torch.cat(parts) for parts in zip(*self.margins, strict=True))
        for i in range(len(self.images)):
            own = index == i
            values = margin[own]
            lowest = values.cummin(0).values
            if len(lowest) > 2 * WINDOW:
                moving[i] = lowest[-1 - WINDOW] - lowest[-1] > MOVES * (lowest[0] - lowest[-1])
            if len(values) >= 5:
                flat[i] = values.amax() - values.amin() <= noise[own].amax()
        return moving, flat


def coarse(images: Tensor) -> Tensor:
    """The values of some pixels, (N, M): what tells one image's passes from another's."""
    stride = max(1, min(images.shape[-2:]) // 16)
    return images[..., ::stride, ::stride].flatten(1)
