"""What every explainer shares at its edge."""

import numbers
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating, matched
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.core.tables import check
from assay.core.targets import INTEGERS, Label, Target
from assay.explain.variants import NOISE, baseline_of, grid_scores

TargetLike = Target | Tensor | int | Sequence[int] | NDArray[np.integer[Any]]
GAP = 0.05  # share of f(x) - f(x') by which the sum of a complete method's map may miss it


class Explainer(ABC):
    """A frozen record of settings; calling it gives heatmaps."""

    __slots__ = ()

    version: ClassVar[int] = 1  # raised when the results of a class change; a cell's id holds it
    signed: ClassVar[bool] = False  # negative values speak against the target: scores of the object read the others
    control: ClassVar[bool] = False  # knows nothing of the model: what a method must beat
    complete: ClassVar[bool] = False  # a map sums to f(x) - f(x'), x' being what the field ``baseline`` says

    def __call__(self, model: nn.Module, images: Tensor, target: TargetLike, draws: Draws | int = 0) -> Tensor:
        """Heatmaps (N, H, W) float32, in the target's own units: not normalised, and NaN where the method gives NaN.

        ``model`` maps ``images`` (N, C, H, W) in [0, 1] to logits (N, K); plain classes, (N,), a list or one int, mean
        ``Label``. An int as ``draws`` seeds one random stream per position. Raises ``AssayError`` for settings, images
        and targets that are none, and ``NotApplicable`` where the method has no meaning on the model.
        """
        check(self)
        check_images(images)
        images = images.detach()
        target, streams = as_target(target, images), as_draws(draws, images)
        if len(images) == 0:
            return images.new_zeros(0, *images.shape[2:], dtype=torch.float32)
        with evaluating(model) as borrowed, matched(borrowed, images):
            return self.run(borrowed, images, target, streams).detach().float()

    def flags(self, model: nn.Module, images: Tensor) -> str:
        """What a reader of these heatmaps should know about the method on this model, as in the rows; mostly empty."""
        return ""

    def doubts(self, model: nn.Module, images: Tensor, target: TargetLike, heat: Tensor) -> list[str]:
        """What speaks against each heatmap (N, H, W) of this method: ``non-finite``, ``completeness-gap``, or nothing.

        A gap is a sum that misses by more than a twentieth what the method promises; two forward passes find it.
        """
        gap = completeness_gap(self, model, images, as_target(target, images), heat)
        holes = ~heat.isfinite().flatten(1).all(1)
        return [
            "non-finite" if bad else "completeness-gap" if beyond else ""
            for bad, beyond in zip(holes.tolist(), (gap > GAP).tolist(), strict=True)
        ]

    @abstractmethod
    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        """The method itself, on a borrowed model: (N, H, W)."""


def completeness_gap(
    explainer: Explainer, model: nn.Module, images: Tensor, target: Target, heat: Tensor, batch: int = 64
) -> Tensor:
    """|sum of the heat - (f(x) - f(x'))| / |f(x) - f(x')| per image, (N,) float64, x' the explainer's baseline.

    NaN for a method that does not claim to be complete, and where the two values are equal up to rounding. At most
    ``batch`` samples in one forward pass.
    """
    if not explainer.complete or len(images) == 0:
        return heat.new_full((len(heat),), torch.nan, dtype=torch.float64)
    check(explainer)
    record: Any = explainer
    pairs = torch.stack([images, baseline_of(images, record.baseline)], 1)
    with evaluating(model):
        values = grid_scores(model, target, images, 2, lambda owner, which: pairs[owner, which], batch).double()
    rise = values[:, 0] - values[:, 1]
    gap = (heat.double().sum((1, 2)) - rise).abs() / rise.abs()
    return torch.where(rise.abs() > NOISE * values.abs().amax(1), gap, torch.nan)


def as_target(target: TargetLike, images: Tensor) -> Target:
    """Plain classes, one integer per image or one int for all, mean ``Label``.

    Raises ``AssayError`` for anything else, and for a target that holds data of another number of images.
    """
    n = len(images)
    if isinstance(target, list | tuple | np.ndarray):
        classes = np.asarray(target)
        target = torch.as_tensor(classes) if classes.dtype.kind in "iufb" else target
    if isinstance(target, Tensor):
        if target.dtype not in INTEGERS or target.shape != (n,):
            kind = f"{target.dtype} {tuple(target.shape)}"
            raise AssayError(f"classes must be integers of shape ({n},), one per image, not {kind}")
        target = target.clone() if target.is_inference() else target
        return Label(target.to(images.device, torch.int64))
    if isinstance(target, numbers.Integral):
        return Label(int(target))
    if not isinstance(target, Target):
        raise AssayError(f"the target must be a Target, a class or a tensor of classes, not {type(target).__name__}")
    if target.count not in (1, n):
        raise AssayError(f"the target holds data for {target.count} images, not for {n}")
    return target
