"""What must hold before a result under attack is believed (Carlini et al. 2019, arXiv:1902.06705; Pintor et al. 2022).

``inspect`` looks at the model alone, ``Watch`` at what an attack does to it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.attacks.balls import distance
from assay.attacks.goals import Goal
from assay.core.calls import Calls

NOISE = 1e-4  # of a margin, relative to the largest logit: what another batch split can change
WINDOW = 10  # last gradient steps in which the loss should no longer move
MOVES = 0.05  # of its range
SLACK = 1e-6  # of range and budget, for the rounding of float32


def inspect(model: nn.Module, images: Tensor, logits: Tensor) -> list[str]:
    """Names of the checks that a borrowed model fails, told from its ``logits`` (N, K) of ``images``.

    ``probabilities``: it gives probabilities, not logits. ``gradient-in-forward``: its forward pass turns gradients on.
    ``batch-dependent``: an image's logits change with the images beside it.
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
    return failures


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
        self.reached = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        self.slopes = torch.zeros(len(images), device=images.device)
        self.flat = torch.zeros(len(images), device=images.device)
        self.margins: list[tuple[Tensor, Tensor]] = []
        self.stride = max(1, min(images.shape[-2:]) // 16)
        self.seconds = 0.0  # what watching took

    @contextmanager
    def on(self, model: nn.Module) -> Iterator["Watch"]:
        handle = model.register_forward_hook(self._time(self._forward))
        try:
            yield self
        finally:
            handle.remove()

    def flags(self, success: Tensor, universal: bool = False) -> dict[str, Tensor]:
        """Per image: ``zero-gradient``, ``silent-success``, ``incomplete``, of those without ``success`` (N,) bool.

        They say that most gradients were exactly zero, that the attack passed an image that fools within the budget and
        returned another, and that the loss still moved in the last steps. Only a budget tells whose image a pass was,
        so attacks without one have no silent successes. What fools one image on the way of a ``universal`` attack is
        not what fools most in the end: of those ``zero-gradient`` alone.
        """
        failure = ~success
        flags = {"zero-gradient": failure & (self.flat * 2 > self.slopes)}
        if not universal:
            flags["silent-success"] = failure & self.reached & (self.eps < float("inf"))
            flags["incomplete"] = failure & self._moving()
        return flags

    def _time(self, work: Callable[..., None]) -> Callable[..., None]:
        def measure(*arguments: Any) -> None:
            start = time.perf_counter()
            work(*arguments)
            self.seconds += time.perf_counter() - start

        return measure

    def _forward(self, model: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x, logits = inputs[0].detach(), output.detach()
        if len(x) == 0 or len(self.images) == 0 or x.shape[1:] != self.images.shape[1:]:
            return
        index = torch.cdist(self._coarse(x), self._coarse(self.images)).argmin(1)
        goal = self.goal[index]
        margin = goal.margin(logits)
        clear = goal.reached(logits) & (margin < -NOISE * logits.abs().amax(1).clamp(min=1)) & ~self.reached[index]
        if clear.any():
            size = distance(x[clear] - self.images[index[clear]], self.norm)
            inside = (x[clear] >= -SLACK).flatten(1).all(1) & (x[clear] <= 1 + SLACK).flatten(1).all(1)
            self.reached[index[clear]] |= inside & (size <= self.eps * (1 + SLACK) + SLACK)
        if inputs[0].requires_grad:
            self.margins.append((index, margin))
            backward = self._time(self._backward)
            inputs[0].register_hook(lambda gradient: backward(index, gradient))  # type: ignore[no-untyped-call]

    def _backward(self, index: Tensor, gradient: Tensor) -> None:
        if len(gradient) == len(index):
            zero = (gradient == 0).flatten(1).all(1)
            self.slopes.index_add_(0, index, torch.ones_like(zero, dtype=self.slopes.dtype))
            self.flat.index_add_(0, index, zero.to(self.flat.dtype))

    def _moving(self) -> Tensor:
        """Whether the smallest margin so far fell by more than ``MOVES`` of its range in the last ``WINDOW`` steps."""
        moving = torch.zeros_like(self.reached)
        if not self.margins:
            return moving
        index, margin = (torch.cat(parts) for parts in zip(*self.margins, strict=True))
        for i in range(len(self.images)):
            lowest = margin[index == i].cummin(0).values
            if len(lowest) > 2 * WINDOW:
                moving[i] = lowest[-1 - WINDOW] - lowest[-1] > MOVES * (lowest[0] - lowest[-1])
        return moving

    def _coarse(self, images: Tensor) -> Tensor:
        return images[..., :: self.stride, :: self.stride].flatten(1)
