"""A heatmap as the seed of a segmentation: which pixels belong to the object that it points at."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.tables import check
from assay.core.targets import Target
from assay.explain import EXPLAINERS
from assay.explain.base import Explainer


@dataclass(frozen=True, kw_only=True, slots=True)
class GrabCut(Explainer):
    """1 on the object that ``segment`` cuts out around another method's heat, 0 elsewhere.

    After Simonyan et al. 2014, sec. 3.2 (arXiv:1312.6034), whose heat is ``Saliency``. Negative heat counts as none;
    around heat that is not finite all is NaN.
    """

    by: str = "grad-cam"  # an explainer as text, such as "saliency" or "occlusion(window=32)"
    foreground: float = 0.05  # share of the pixels, the hottest
    background: float = 0.3  # share of the pixels, the coldest
    iterations: int = 5

    def __post_init__(self) -> None:
        check(self)
        EXPLAINERS.parse(self.by)
        _check(self.foreground, self.background, self.iterations)

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        heat = self._inner()(model, images, target, draws)
        settings = {"foreground": self.foreground, "background": self.background}
        cut = segment(images, heat.clamp(min=0), **settings, iterations=self.iterations).float()
        return cut.where(heat.isfinite().all(2).all(1)[:, None, None], torch.nan)

    def flags(self, model: nn.Module, images: Tensor) -> str:
        return self._inner().flags(model, images)

    def _inner(self) -> Explainer:
        explainer: Explainer = EXPLAINERS.parse(self.by)
        return explainer


def segment(
    images: Tensor, heat: Tensor, *, foreground: float = 0.05, background: float = 0.3, iterations: int = 5
) -> Tensor:
    """The object that the heat (N, H, W) points at in each image (N, C, H, W): (N, H, W) bool.

    The hottest share of the pixels belongs to it, the coldest pixel does not. The colours of that share and those of
    the coldest share decide on the others by a graph cut (Simonyan et al. 2014, sec. 3.2, who keep its largest part),
    then cut and colours improve each other (GrabCut, Rother et al. 2004). Of equal heat, what lies nearer to the other
    heat is hotter. Empty where the heat is constant or not finite. OpenCV's random numbers go on from another state,
    one that depends on the state before only. Raises ``NotApplicable`` for images of other than 1 or 3 channels.
    """
    _check(foreground, background, iterations)
    if images.shape[1] not in (1, 3):
        raise NotApplicable(f"GrabCut reads colours: needs images of 1 or 3 channels, not {images.shape[1]}")
    rows = zip(images.detach().cpu(), heat.detach().cpu().double(), strict=True)
    seed = cv2.randu(np.zeros((1, 1), np.int32), 0, 2**31 - 1).item()
    try:
        masks = [_cut(_pixels(image), row.numpy(), foreground, background, iterations) for image, row in rows]
    finally:
        cv2.setRNGSeed(seed)
    return torch.from_numpy(np.stack(masks)).to(images.device) if masks else heat.bool()


def _check(foreground: float, background: float, iterations: int) -> None:
    if not (foreground > 0 and background > 0 and foreground + background <= 1 and iterations >= 1):
        raise AssayError(
            "a cut needs shares foreground and background above 0, together at most 1, and iterations >= 1"
        )


def _pixels(image: Tensor) -> np.ndarray:
    """(H, W, 3) uint8."""
    colours = image.expand(3, -1, -1).permute(1, 2, 0)
    return (colours * 255).round().to(torch.uint8).contiguous().numpy()


def _cut(pixels: np.ndarray, heat: np.ndarray, foreground: float, background: float, iterations: int) -> np.ndarray:
    if not np.isfinite(heat).all() or heat.min() == heat.max():
        return np.zeros(heat.shape, bool)
    order = np.lexsort((cv2.GaussianBlur(heat, (0, 0), max(heat.shape) / 8).ravel(), heat.ravel()))
    rank = order.argsort().reshape(heat.shape) / heat.size
    hot, cold = (rank >= min(1 - foreground, rank.max())) & (heat > heat.min()), rank < max(background, 1 / heat.size)
    cv2.setRNGSeed(0)
    back, fore = np.zeros((1, 65)), np.zeros((1, 65))  # colours of both, in the form that cv2 keeps
    seeds = hot | cold
    labels = np.where(hot, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    cv2.grabCut(pixels[seeds][None], labels[seeds][None], None, back, fore, 0, cv2.GC_INIT_WITH_MASK)
    labels[~hot & (rank > 0)] = cv2.GC_PR_BGD
    cv2.grabCut(pixels, labels, None, back, fore, 1, cv2.GC_EVAL_FREEZE_MODEL)
    if iterations > 1:
        cv2.grabCut(pixels, labels, None, back, fore, iterations - 1, cv2.GC_EVAL)
    return np.isin(labels, [cv2.GC_FGD, cv2.GC_PR_FGD])
