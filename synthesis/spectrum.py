"""Pictures as spatial frequencies."""

import math

import torch
from torch import Tensor


def tilt(images: Tensor, slope: float) -> Tensor:
    """(N, C, H, W) with each spatial frequency f divided by f^slope, the mean as the lowest frequency there is.

    Photographs have spectra like 1/f. Climbing along the gradient with ``slope`` 2 is climbing in the coordinates
    z = f F(x) of Olah, Mordvintsev & Schubert 2017 ("Feature visualization", decorrelated space).
    """
    if slope == 0:
        return images
    pictures: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * frequencies(images) ** -slope, s=images.shape[2:])
    return pictures


def frequencies(images: Tensor) -> Tensor:
    """Cycles per pixel (H, W // 2 + 1) of what ``rfft2`` gives of (N, C, H, W), the mean as the lowest there is."""
    height, width = images.shape[2:]
    y = torch.fft.fftfreq(height, device=images.device, dtype=images.dtype)
    x = torch.fft.rfftfreq(width, device=images.device, dtype=images.dtype)
    radius: Tensor = y[:, None].hypot(x).clamp_min(1 / max(height, width))
    return radius


def rms(values: Tensor) -> Tensor:
    """Root mean square of each row of (N, ...), shaped to divide it; at least the smallest normal number."""
    norm = torch.linalg.vector_norm(values, dim=tuple(range(1, values.ndim)), keepdim=True)
    mean: Tensor = norm / math.sqrt(values.shape[1:].numel())
    return mean.clamp_min(torch.finfo(values.dtype).tiny)
