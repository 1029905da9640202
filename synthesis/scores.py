"""Scores of pictures that were made: natural spectrum, robustness, diversity, likeness to a wanted picture."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.layers import activations
from assay.core.targets import Classes, Probability
from assay.synthesis.transforms import Jitter, Wobble

TINY = 1e-10  # of a band's power
BANDS = 16  # of spatial frequency, from one cycle a picture to half a cycle a pixel, evenly on a log scale


def radial_spectrum(images: Tensor) -> Tensor:
    """Mean power (N, ``BANDS``) of the grey pictures (N, C, H, W) in rings of spatial frequency, their mean left out.

    A band in which the picture has no frequency is NaN.
    """
    grey = images.mean(1)
    height, width = grey.shape[1:]
    power = torch.fft.fft2(grey - grey.mean((1, 2), keepdim=True), norm="ortho").abs().square().flatten(1)
    y, x = torch.fft.fftfreq(height, device=images.device), torch.fft.fftfreq(width, device=images.device)
    frequency = y[:, None].hypot(x).flatten()
    edges = torch.logspace(np.log10(1 / max(height, width)), np.log10(0.5), BANDS + 1, device=images.device)
    ring = torch.bucketize(frequency, edges[1:-1])
    in_band = (frequency >= edges[0] * (1 - 1e-6)) & (frequency <= 0.5)
    sums, counts = power.new_zeros(len(power), BANDS), power.new_zeros(BANDS)
    sums.index_add_(1, ring[in_band], power[:, in_band])
    counts.index_add_(0, ring[in_band], torch.ones_like(frequency[in_band]))
    mean: Tensor = sums / torch.where(counts > 0, counts, torch.nan)
    return mean


def spectrum_distance(images: Tensor, natural: Tensor | Iterable[Tensor]) -> Tensor:
    """How far spectra (N,) are from natural ones: root mean square over frequency bands, in decibels.

    Compared is the power in each band with its geometric mean over the ``natural`` images (M, C, H, W), which may come
    in batches; 10 dB is ten times too much or too little in every band.
    """
    total, count = images.new_zeros(BANDS, dtype=torch.float64), 0
    for batch in [natural] if isinstance(natural, Tensor) else natural:
        if images.shape[2:] != batch.shape[2:]:
            raise AssayError(f"pictures {tuple(images.shape[2:])} and images {tuple(batch.shape[2:])} differ in size")
        total, count = total + _decibels(batch).sum(0, dtype=torch.float64), count + len(batch)
    if not count:
        raise AssayError("there is no natural image to compare spectra with")
    gap: Tensor = (_decibels(images) - (total / count).to(images)).square().nanmean(1).sqrt()
    return gap


def _decibels(images: Tensor) -> Tensor:
    return 10 * (radial_spectrum(images) + TINY).log10()


@torch.no_grad()
def robust_probability(model: nn.Module, images: Tensor, classes: Classes, count: int = 8) -> Tensor:
    """Mean probability (N,) of ``classes`` over ``count`` fixed rolls, turns and scalings of each picture.

    The same for every picture and model: rolls up to a tenth of the shorter side, turns up to 10 degrees, scalings up
    to a tenth.
    """
    transforms = (Jitter(round(min(images.shape[2:]) / 10)), Wobble(10.0, 0.1))
    total = images.new_zeros(len(images))
    for i in range(count):
        view = images
        for transform in transforms:
            view = transform(view, Draws.hashed(f"view {i}", [""] * len(images)).to(images.device))
        total += Probability(classes)(model, view)
    return total / count


@torch.no_grad()
def diversity(model: nn.Module, images: Tensor, layer: str) -> float:
    """One minus the mean cosine similarity of the pictures' mean activations at ``layer``, over all pairs: 0 to 2.

    Meant for pictures of one target from several seeds, seen by a model that they were not made for.
    """
    if len(images) < 2:
        raise AssayError("diversity is among two pictures or more")
    unit = F.normalize(activations(model, images, layer).mean((2, 3)), dim=1)
    likeness = unit @ unit.T
    pairs = len(images) * (len(images) - 1)
    return 1 - ((likeness.sum() - likeness.trace()) / pairs).item()


def psnr(images: Tensor, reference: Tensor) -> Tensor:
    """Peak signal to noise ratio (N,) in decibels for values in [0, 1], infinite where equal."""
    return -10 * (images - reference).square().flatten(1).mean(1).log10()
