"""What every metric shares at its edge."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from core.borrow import borrowed, check_images
from core.draws import Draws, as_draws
from core.errors import AssayError
from core.targets import Target
from explain.base import as_target

Need = Literal["masks", "parts", "without"]


class Metric(ABC):
    """A frozen record of settings; calling it scores heatmaps. What its number means stands on the class."""

    __slots__ = ()

    needs: ClassVar[tuple[Need, ...]] = ()
    direction: ClassVar[Literal["higher", "lower", "none"]] = "higher"  # which values are better
    unit: ClassVar[str]
    statistic: ClassVar[Literal["mean", "median"]] = "mean"  # over images
    interval: ClassVar[Literal["wilson", "bootstrap"]] = "bootstrap"
    meaning: ClassVar[str]  # one sentence
    scale: ClassVar[Literal["logit", "probability"]] = "logit"  # what a harness hands over as the target

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        target: Target | Tensor,
        heat: Tensor,
        *,
        masks: Tensor | None = None,
        parts: Tensor | None = None,
        without: Tensor | None = None,
        draws: Draws | int = 0,
    ) -> Tensor:
        """One score per image, (N,) float32; NaN where it is undefined, as for a heatmap that is not finite.

        ``heat`` is (N, H, W), ``masks`` (N, H, W) bool, ``parts`` (N, H, W) uint8 with 0 for the background and i + 1
        for part i, ``without`` (N, P, C, H, W) in [0, 1]. The target is scored exactly as given; plain classes (N,)
        mean ``Logit``. Raises ``AssayError`` when something in ``needs`` is missing or has a wrong shape.
        """
        check_images(images)
        images, heat = images.detach(), heat.detach().to(images.device)
        if heat.shape != (len(images), *images.shape[-2:]) or not heat.is_floating_point():
            wanted = (len(images), *images.shape[-2:])
            raise AssayError(f"heat must be float {wanted} for these images, not {heat.dtype} {tuple(heat.shape)}")
        offered = {"masks": masks, "parts": parts, "without": without}
        given = {need: _checked(type(self).__name__, need, offered[need], images) for need in self.needs}
        with borrowed(model):
            whole = heat.isfinite().flatten(1).all(1)
            tame = torch.where(whole[:, None, None], heat, 0).float()
            values = self.run(model, images, as_target(target, images), tame, given, as_draws(draws, images))
        return values.detach().float().masked_fill(~whole, torch.nan)

    @abstractmethod
    def run(
        self, model: nn.Module, images: Tensor, target: Target, heat: Tensor, given: Mapping[Need, Tensor], draws: Draws
    ) -> Tensor:
        """The score itself, on a borrowed model, a finite heat and what the metric ``needs``: (N,)."""


def _checked(metric: str, need: Need, value: Tensor | None, images: Tensor) -> Tensor:
    if value is None:
        raise AssayError(f"{metric} needs {need}; this data has none")
    n, *picture = images.shape
    if need == "masks":
        right = value.dtype == torch.bool and value.shape == (n, *picture[1:])
    elif need == "parts":
        right = value.dtype == torch.uint8 and value.shape == (n, *picture[1:])
    else:
        right = value.is_floating_point() and value.ndim == 5 and (len(value), *value.shape[2:]) == (n, *picture)
    if not right:
        raise AssayError(f"{need} do not fit images {tuple(images.shape)}: {value.dtype} {tuple(value.shape)}")
    return value.detach().to(images.device)
