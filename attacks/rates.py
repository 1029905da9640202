"""Shares of images under attack, each under its own name.

All take class indices of shape (n,): the clean prediction, the prediction under attack, and the label or the wanted
class. Per image they are 1.0, 0.0 or NaN (not defined for that image); the mean of what is defined is the rate.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor


def robust_accuracy(clean: Tensor, adversarial: Tensor, label: Tensor) -> Tensor:
    """Right under attack. Over several attacks take the minimum per image first, then the mean."""
    return (adversarial == label).float()


def fooling_rate(clean: Tensor, adversarial: Tensor, label: Tensor) -> Tensor:
    """Right before and wrong now; NaN for images that were wrong before.

    Moosavi-Dezfooli et al. 2017 count every changed prediction instead: that is ``flip_rate``.
    """
    return (adversarial != label).float().where(clean == label, torch.nan)


def error_rate(clean: Tensor, adversarial: Tensor, label: Tensor) -> Tensor:
    """Wrong under attack, clean errors included."""
    return (adversarial != label).float()


def flip_rate(clean: Tensor, adversarial: Tensor, label: Tensor) -> Tensor:
    """The prediction changed; no ground truth needed."""
    return (adversarial != clean).float()


def targeted_rate(clean: Tensor, adversarial: Tensor, target: Tensor) -> Tensor:
    """Now the wanted class; NaN for images that were given that class before."""
    return (adversarial == target).float().where(clean != target, torch.nan)


RATES: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "robust_accuracy": robust_accuracy,
    "fooling_rate": fooling_rate,
    "error_rate": error_rate,
    "flip_rate": flip_rate,
    "targeted_rate": targeted_rate,
}


def ssim(images: Tensor, others: Tensor) -> Tensor:
    """Structural similarity of (N, C, H, W) pairs in [0, 1], (N,) (Wang et al. 2004, 10.1109/TIP.2003.819861).

    The paper's Gaussian window of 11 pixels on each channel, averaged; NaN for sides below 11.
    """
    if min(images.shape[-2:]) < 11:
        return images.new_full((len(images),), float("nan"))
    pairs = zip(images.cpu().numpy(), others.cpu().numpy(), strict=True)
    how = {"channel_axis": 0, "data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    values = [1.0 if np.array_equal(*pair) else structural_similarity(*pair, **how) for pair in pairs]
    return images.new_tensor(values)
