"""What syntheses share: a parametrisation of the pictures is moved uphill, step by step.

``optimise`` puts together a parametrisation, an objective, transforms of what the model sees, penalties on the
picture, and filters that are applied to the picture itself now and then. Each part works on every picture of a
batch by itself, with that picture's own randomness, so a picture does not depend on the ones beside it.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, minimize
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import derivative
from assay.synthesis.base import Art, Callback
from assay.synthesis.parametrisations import Parametrisation
from assay.synthesis.regularisers import Filter, Penalty
from assay.synthesis.spectrum import rms, tilt
from assay.synthesis.transforms import Transform

Objective = Callable[[Tensor], Tensor]


class Rule(Protocol):
    """How values follow their gradients uphill."""

    def on(self, values: Tensor) -> Callable[[Tensor, float], None]:
        """What moves ``values`` in place, given a gradient of their shape and the share of steps done."""


@dataclass(frozen=True)
class Momentum:
    """Steps along a running mean of gradients, each divided by its own root mean square over a picture.

    A step is ``step_size`` in root mean square over a picture's values; it shrinks linearly to nothing, so the last
    steps settle. ``slope`` divides each spatial frequency of a gradient by its power (``tilt``), which leaves an
    optimum inside [0, 1] where it is.
    """

    step_size: float
    momentum: float = 0.9
    slope: float = 0.0

    def on(self, values: Tensor) -> Callable[[Tensor, float], None]:
        velocity = torch.zeros_like(values)

        def move(gradient: Tensor, progress: float) -> None:
            gradient = tilt(gradient, self.slope)
            velocity.mul_(self.momentum).addcdiv_(gradient, rms(gradient), value=1 - self.momentum)
            values.add_(velocity, alpha=self.step_size * (1 - progress))

        return move


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), its step shrinking linearly to a tenth."""

    step_size: float

    def on(self, values: Tensor) -> Callable[[Tensor, float], None]:
        optimizer = torch.optim.Adam([values], lr=self.step_size, maximize=True)

        def move(gradient: Tensor, progress: float) -> None:
            optimizer.param_groups[0]["lr"] = self.step_size * (1 - 0.9 * progress)
            values.grad = gradient
            optimizer.step()
            values.grad = None

        return move


def optimise(
    parametrisation: Parametrisation,
    objective: Objective,
    draws: Draws,
    *,
    steps: int,
    rule: Rule,
    transforms: Sequence[Transform] = (),
    penalties: Sequence[Penalty] = (),
    filters: Sequence[tuple[int, Filter]] = (),
    best: bool = False,
    wake: bool = False,
    callback: Callback | None = None,
) -> Art:
    """Climb ``objective`` minus ``penalties``, each (N, C, H, W) -> (N,), for ``steps`` steps of ``rule``.

    The objective sees the pictures through ``transforms``; a penalty sees them as they are. ``filters`` are pairs
    (every, filter); none runs after the last step. ``history`` is the objective as seen in each step, before it is
    taken. With ``best`` a picture ends where it was best, not after its last step. With ``wake`` a picture whose
    objective has no slope, such as a unit behind a ReLU that is off, takes a random step.
    """
    values = parametrisation.values
    move = rule.on(values)
    best_total, best_values = values.new_full((len(values),), -torch.inf), values.detach().clone()
    history = []
    for step in range(steps):
        # objective and penalties
        images = parametrisation.images()
        view = images
        for transform in transforms:
            view = transform(view, draws)
        value = objective(view)
        cost = torch.stack([penalty(images) for penalty in penalties]).sum(0) if penalties else None

        # best so far
        if best:
            total = value.detach() if cost is None else (value - cost).detach()
            better = total > best_total
            best_total = total.where(better, best_total)
            best_values = values.detach().where(better.view(-1, *[1] * (values.ndim - 1)), best_values)

        # step, then filters
        due = [change for every, change in filters if (step + 1) % every == 0 and step + 1 < steps]
        inputs = [values, images] if due else [values]
        again = cost is not None and images is not values  # both go back through the parametrisation
        by_values, *by_images = _slopes(value, cost, inputs, again, draws if wake else None)
        with torch.no_grad():
            move(by_values, step / steps)
            parametrisation.settle()
            for change in due:
                parametrisation.become(change(parametrisation.images(), by_images[0]))
        history.append(value.detach())
        if callback is not None:
            callback(step + 1, steps, history[-1])
    if best:
        values.data.copy_(best_values)
    images = parametrisation.images().detach().clone()
    return Art(images, torch.stack(history) if history else images.new_zeros(0, len(images)))


def _slopes(
    value: Tensor, cost: Tensor | None, inputs: Sequence[Tensor], again: bool, wake: Draws | None
) -> list[Tensor]:
    """Of ``value`` minus ``cost`` by each of ``inputs``, random by the first where ``value`` has none and ``wake`` is.

    ``again``: both share a graph.
    """
    slopes = list(torch.autograd.grad(value.sum(), inputs, retain_graph=again))
    asleep = slopes[0].abs().flatten(1).amax(1) == 0
    if cost is not None:
        slopes_of_cost = torch.autograd.grad(cost.sum(), inputs, allow_unused=True)
        pairs = zip(slopes, slopes_of_cost, strict=True)
        slopes = [slope if minus is None else slope - minus for slope, minus in pairs]
    if wake is not None and asleep.any():
        slopes[0][asleep] = wake[asleep].normal(inputs[0].shape[1:]).to(inputs[0])
    return slopes


def quasi_newton(
    start: Tensor,
    objective: Callable[[Tensor, Tensor], Tensor],
    *,
    steps: int,
    memory: int = 10,
    callback: Callback | None = None,
) -> Art:
    """Climb ``objective(images, index)`` over pixels in [0, 1] by L-BFGS-B (Byrd et al. 1995), picture by picture.

    ``index`` (1,) tells which picture of ``start`` (N, C, H, W) the only one of ``images`` is. ``steps`` bounds the
    evaluations, each a forward and a backward pass; ``history`` has the best value up to each of them, the last one
    repeated where a picture is done before. ``memory`` pairs of steps and gradients are kept.
    """
    pictures, histories = [], []
    for i in range(len(start)):
        search = _Search(start[i : i + 1], torch.tensor([i], device=start.device), objective, steps, callback)
        options: Any = {"maxiter": steps, "maxfun": steps, "maxcor": memory, "ftol": 0.0, "gtol": 0.0}
        first: NDArray[np.float64] = start[i].flatten().double().cpu().numpy()
        with suppress(_OutOfSteps):
            minimize(search, first, method="L-BFGS-B", jac=True, bounds=Bounds(0.0, 1.0), options=options)
        values = search.values
        pictures.append(search.best)
        histories.append(torch.stack(values + values[-1:] * (steps - len(values))).cummax(0).values)
    return Art(torch.cat(pictures), torch.stack(histories, 1))


class _Search:
    """What L-BFGS-B asks: minus the objective and its derivative at a picture; the best picture is kept."""

    def __init__(
        self, start: Tensor, index: Tensor, objective: Callable[[Tensor, Tensor], Tensor], steps: int,
        callback: Callback | None,
    ) -> None:  # fmt: skip
        self.best, self._index, self._objective, self._steps = start, index, objective, steps
        self._callback, self.values = callback, list[Tensor]()

    def __call__(self, flat: Any, *_: Any) -> tuple[float, NDArray[np.float64]]:
        if len(self.values) == self._steps:
            raise _OutOfSteps
        image = torch.tensor(flat).to(self.best).view_as(self.best).requires_grad_(True)
        value = self._objective(image, self._index)
        if not value.isfinite().all():
            raise AssayError("the objective is not finite on this picture")
        slope = derivative(value, image)
        if not self.values or value.item() > max(self.values):
            self.best = image.detach()
        self.values.append(value.detach()[0])
        if self._callback is not None:
            self._callback(len(self.values), self._steps, value.detach())
        return -value.item(), -slope.flatten().double().cpu().numpy()


class _OutOfSteps(Exception):
    """Ends a search whose evaluations are used up."""
