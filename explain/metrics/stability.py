"""Does the heatmap stay when the image hardly changes?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.calls import Calls
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Target, logits_of
from assay.explain.base import Explainer
from assay.explain.metrics.base import Extra, Metric, Need


@dataclass(frozen=True, kw_only=True, slots=True)
class SensitivityMax(Metric):
    """The largest norm(a(x + d) - a(x)) / norm(a(x)) that is found for |d| <= radius (Yeh et al. 2019, def. 3).

    arXiv:1901.09392. ``search="random"`` tries uniform d, as captum does. ``"adversarial"`` looks for the worst d that
    leaves the predicted class as it is: from the best of ``samples`` random ones, ``steps`` signed gradient steps that
    drive the map away (Ghorbani et al. 2019, arXiv:1710.10547), and as many random d more for a map without a
    derivative (``map_gradient`` says which: maps made without gradient mode, such as ``Occlusion``, and random ones).
    A method that draws random numbers draws new ones each time, so its own noise counts. NaN for a map of zeros.
    """

    needs: ClassVar[tuple[Need, ...]] = ("explainer",)
    direction: ClassVar[Literal["higher", "lower", "none"]] = "lower"
    unit: ClassVar[str] = "relative change"
    meaning: ClassVar[str] = "How much the heatmap changes, relative to itself, when the image changes a little."
    gate: ClassVar[Literal["controls", "none"]] = "none"

    radius: float = 0.02  # Linf radius, images in [0, 1]
    samples: int = 10  # random d
    search: Literal["random", "adversarial"] = "random"
    steps: int = 10  # of the adversarial search, each a quarter of the radius

    def __post_init__(self) -> None:
        if not self.radius > 0 or self.samples < 1 or self.steps < 1:
            raise AssayError(f"{self}: needs radius > 0, samples >= 1 and steps >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        adversarial = self.search == "adversarial"
        search = _Search(extra["explainer"], model, images, target, heat, draws, keep_class=adversarial)
        for _ in range(self.samples):
            search.look(self._random(images, draws))
        if adversarial:
            self._climb(search, draws)
        size = _norm(heat)
        return torch.where(size > 0, search.most / size, torch.nan)

    def _random(self, images: Tensor, draws: Draws) -> Tensor:
        return (images + draws.uniform(images.shape[1:], -self.radius, self.radius)).clamp(0, 1)

    def _climb(self, search: "_Search", draws: Draws) -> None:
        images, at = search.images, search.best
        slope: Tensor | None = images  # known once the first step has asked
        for _ in range(self.steps):
            near = self._random(images, draws)
            if slope is not None:
                slope = map_gradient(search.explainer, search.model, at, search.target, search.heat, draws)
            if slope is not None:
                step = at + self.radius / 4 * slope.sign()
                inside = torch.minimum(torch.maximum(step, images - self.radius), images + self.radius).clamp(0, 1)
                steep = slope.isfinite().flatten(1).all(1) & slope.flatten(1).any(1)
                near = torch.where(steep[:, None, None, None], inside, near)
            counts = search.look(near)
            at = torch.where(counts[:, None, None, None], near, search.best)


class _Search:
    """The perturbed images that moved each map most so far; one that changes the class does not count if asked."""

    def __init__(
        self,
        explainer: Explainer,
        model: nn.Module,
        images: Tensor,
        target: Target,
        heat: Tensor,
        draws: Draws,
        keep_class: bool,
    ) -> None:
        self.explainer, self.model, self.target, self.draws = explainer, model, target, draws
        self.images, self.heat, self.best = images, heat, images
        self.most = _norm(torch.zeros_like(heat))
        self._classes = self._class_of(images) if keep_class else None

    def look(self, near: Tensor) -> Tensor:
        """Try one perturbed image each; says which ones count."""
        change = _norm(self.explainer(self.model, near, self.target, self.draws) - self.heat)
        counts = torch.ones_like(change, dtype=torch.bool)
        if self._classes is not None:
            counts = self._class_of(near) == self._classes
        better = counts & ~self.most.isnan() & ~(change <= self.most)  # NaN is found, and stays
        self.best = torch.where(better[:, None, None, None], near, self.best)
        self.most = torch.where(better, change, self.most)
        return counts

    @torch.no_grad()
    def _class_of(self, images: Tensor) -> Tensor:
        return logits_of(self.model, images).argmax(1)


def map_gradient(
    explainer: Explainer, model: nn.Module, images: Tensor, target: Target, heat: Tensor, draws: Draws
) -> Tensor | None:
    """The derivative of norm(a(x) - heat)^2 by the images x (N, C, H, W), or None where the map has none.

    On a borrowed model. ReLU counts as softplus here, since the gradient of a ReLU network is piecewise constant and
    would tell of no direction (Dombrowski et al. 2019, arXiv:1906.07983, sec. 4).
    """
    pixels = images.detach().requires_grad_(True)
    try:
        with _Differentiable():
            current = explainer.run(model, pixels, target, draws)
        if not current.requires_grad:
            return None
        (slope,) = torch.autograd.grad((current - heat).square().sum(), pixels, allow_unused=True)
    except RuntimeError as error:
        if not any(reason in str(error) for reason in _NO_SECOND_DERIVATIVE):
            raise
        return None
    return None if slope is None else slope.detach()


class _Differentiable(Calls):
    """What an explainer computes inside stays connected to its images, derivatives included."""

    def answer(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if func in (Tensor.detach, Tensor.requires_grad_) and args[0].requires_grad:
            return args[0]
        if func is torch.autograd.grad:
            kwargs |= {"create_graph": True, "retain_graph": True}
        if func in (Tensor.numpy, Tensor.__array__):  # what leaves torch counts as constant
            args = (args[0].detach(), *args[1:])
        if func in _RELU:
            return F.softplus(args[0], beta=SHARPNESS)
        return func(*args, **kwargs)


_NO_SECOND_DERIVATIVE = ("is not implemented", "once_differentiable")  # what torch says of such operations
SHARPNESS = 20.0  # of the softplus: the mean of the relu over a logistic noise of scale 1/20
_RELU = frozenset({F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_})


def _norm(heat: Tensor) -> Tensor:
    """Frobenius norm of each map."""
    return heat.double().square().sum((1, 2)).sqrt()
