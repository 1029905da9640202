"""What every metric shares at its edge."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, TypedDict, cast

import torch
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating, matched
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.core.tables import check
from assay.core.targets import Target
from assay.explain.base import Explainer, TargetLike, as_target

Need = Literal["masks", "parts", "without", "shortcut", "redrawn", "explainer"]


class Extra(TypedDict, total=False):
    """What a metric asked for in its ``needs``, checked and on the images' device."""

    masks: Tensor  # (N, H, W) bool, the object
    parts: Tensor  # (N, H, W) uint8, 0 for the background and i + 1 for part i
    without: Tensor  # (N, P, C, H, W) in [0, 1], drawn without part i; the image itself where there is no part i
    shortcut: Tensor  # (N, H, W) bool, where a shortcut is or could be planted
    redrawn: Tensor  # (N, R, C, H, W) in [0, 1], the images with R other contents of these pixels
    explainer: Explainer  # what made the heatmaps, to be asked again


class Metric(ABC):
    """A frozen record of settings; calling it scores heatmaps. What its number means stands on the class."""

    __slots__ = ()

    version: ClassVar[int] = 1  # raised when the results of a class change; a cell's id holds it
    needs: ClassVar[tuple[Need, ...]] = ()
    direction: ClassVar[Literal["higher", "lower", "none"]] = "higher"  # which values are better
    unit: ClassVar[str]
    statistic: ClassVar[Literal["mean", "median"]] = "mean"  # over images
    interval: ClassVar[Literal["wilson", "bootstrap"]] = "bootstrap"
    meaning: ClassVar[str]  # one sentence
    gate: ClassVar[Literal["controls", "none"]] = "controls"  # to be beaten for a rank; none where blind maps win
    scale: ClassVar[Literal["logit", "probability"]] = "logit"  # what a harness hands over as the target

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        target: TargetLike,
        heat: Tensor,
        *,
        masks: Tensor | None = None,
        parts: Tensor | None = None,
        without: Tensor | None = None,
        shortcut: Tensor | None = None,
        redrawn: Tensor | None = None,
        explainer: Explainer | None = None,
        draws: Draws | int = 0,
    ) -> Tensor:
        """One score per image, (N,) float32; NaN where it is undefined, as for a heatmap that is not finite.

        ``heat`` is (N, H, W); the shapes of what else a metric ``needs`` stand in ``Extra``. The target is scored
        exactly as given; plain classes, (N,) or one int, mean ``Label``. Raises ``AssayError`` for settings and
        arguments that are none, and when something in ``needs`` is missing or has a wrong shape.
        """
        check(self)
        check_images(images)
        if not isinstance(heat, Tensor):
            raise AssayError(f"heat must be a tensor, not {type(heat).__name__}")
        images, heat = images.detach(), heat.detach().to(images.device)
        if heat.shape != (len(images), *images.shape[-2:]) or not heat.is_floating_point():
            shape = (len(images), *images.shape[-2:])
            raise AssayError(f"heat must be float {shape} for these images, not {heat.dtype} {tuple(heat.shape)}")
        data = {"masks": masks, "parts": parts, "without": without, "shortcut": shortcut, "redrawn": redrawn}
        extra = {need: _check(type(self).__name__, need, data[need], images) for need in self.data_needs()}
        if "explainer" in self.needs and not isinstance(explainer, Explainer):
            raise AssayError(f"{type(self).__name__} needs explainer, the record that made the heatmaps")
        target, streams = as_target(target, images), as_draws(draws, images)
        if len(images) == 0:
            return heat.new_zeros(0, dtype=torch.float32)
        with evaluating(model) as borrowed, matched(borrowed, images):
            whole = heat.isfinite().flatten(1).all(1)
            tame = torch.where(whole[:, None, None], heat, 0).float()
            ready = cast(Extra, {**extra, "explainer": explainer})
            values = self.run(borrowed, images, target, tame, ready, streams)
        return values.detach().float().masked_fill(~whole, torch.nan)

    @classmethod
    def data_needs(cls) -> tuple[Need, ...]:
        """What of ``needs`` a data set must offer: all but the explainer."""
        return tuple(need for need in cls.needs if need != "explainer")

    @abstractmethod
    def run(self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, extra: Extra, draws: Draws) -> Tensor:
        """The score itself, on a borrowed model, a finite heat and what the metric ``needs``: (N,)."""


def _check(metric: str, need: Need, value: Tensor | None, images: Tensor) -> Tensor:
    if value is None:
        raise AssayError(f"{metric} needs {need}; this data has none")
    if not isinstance(value, Tensor):
        raise AssayError(f"{need} must be a tensor, not {type(value).__name__}")
    n, *picture = images.shape
    if need in ("masks", "shortcut"):
        right = value.dtype == torch.bool and value.shape == (n, *picture[1:])
    elif need == "parts":
        right = value.dtype == torch.uint8 and value.shape == (n, *picture[1:])
    else:
        right = value.is_floating_point() and value.ndim == 5 and (len(value), *value.shape[2:]) == (n, *picture)
    if not right:
        raise AssayError(f"{need} do not fit images {tuple(images.shape)}: {value.dtype} {tuple(value.shape)}")
    return value.detach().to(images.device)
