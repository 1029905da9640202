"""How a texture differs from its sample: by what it copies, and by what it breaks."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from torch import Tensor
from torch.nn.functional import unfold

from assay.core.borrow import check_images
from assay.core.errors import AssayError

Ints = NDArray[np.int64]
PATCH = 3  # pixels, the side of the patches whose gradients are compared
CHUNK = 256  # patches at a time


def copy_length(pictures: Tensor, samples: Tensor) -> Tensor:
    """(N,) side in pixels of the verbatim copies in ``pictures`` (N, C, H, W), of ``samples`` (N, C, h, w).

    The mean over pixels of the largest square that holds the pixel and that the sample holds too, value for value in
    8 bits. From 0, where no pixel is one of the sample's, to the shortest side; flat parts count as copied, too.
    """
    _check(pictures, samples, 1)
    levels = ((255 * images).round().to(torch.int64).cpu().numpy() for images in (pictures, samples))
    lengths = [copy_sides(*pair).mean() for pair in zip(*levels, strict=True)]
    return pictures.new_tensor(lengths, dtype=torch.float32)


def copy_sides(picture: Ints, sample: Ints) -> Ints:
    """(H, W), the side of the largest square of ``picture`` (C, H, W) at each pixel that ``sample`` (C, h, w) holds.

    Squares have equal names where they are equal; the names of the four in its corners name the next larger one (Karp,
    Miller & Rosenberg 1972).
    """
    _, height, width = picture.shape
    sides = np.zeros((height, width), dtype=np.int64)
    first, second = assign_names([*picture], [*sample])
    for side in range(1, min(height, width, *sample.shape[1:]) + 1):
        if side > 1:
            first, second = assign_names(corners(first), corners(second))
        common = np.isin(first, second)
        if not common.any():
            break
        around = maximum_filter(np.pad(common, side - 1), side)[side // 2 :, side // 2 :]
        sides[around[:height, :width]] = side
    return sides


def corners(names: Ints) -> list[Ints]:
    return [names[:-1, :-1], names[:-1, 1:], names[1:, :-1], names[1:, 1:]]


def assign_names(first: list[Ints], second: list[Ints]) -> tuple[Ints, Ints]:
    """One array of names for each list of arrays; equal names say that all the arrays' values are equal there."""
    columns = [np.concatenate([a.ravel(), b.ravel()]) for a, b in zip(first, second, strict=True)]
    names = columns[0]
    for column in columns[1:]:
        names = np.unique(names * (column.max() + 1) + column, return_inverse=True)[1]
    return names[: first[0].size].reshape(first[0].shape), names[first[0].size :].reshape(second[0].shape)


def seam_energy(pictures: Tensor, samples: Tensor) -> Tensor:
    """(N,) energy of the gradients in ``pictures`` (N, C, H, W) that ``samples`` (N, C, h, w) do not explain.

    The mean over 3 x 3 patches of the squared distance from their differences between neighbours to those of the most
    similar patch of the sample, as far as it exceeds that of 95 % of the sample's own patches to the most similar one
    that they do not overlap; in units of a patch's mean energy in the sample. 0 where all could be the sample's, be it
    copied or new; a picture that is too smooth has no seams; NaN where the sample has no gradients.
    """
    _check(pictures, samples, 3 * PATCH - 1)
    energies = [excess_energy(*pair) for pair in zip(pictures.double(), samples.double(), strict=True)]
    return pictures.new_tensor(energies, dtype=torch.float32)


def excess_energy(picture: Tensor, sample: Tensor) -> float:
    """``seam_energy`` of one picture (C, H, W)."""
    patches, references = differences(picture), differences(sample)
    places = torch.cartesian_prod(*(torch.arange(side - PATCH + 1) for side in sample.shape[1:])).to(references)
    nearest = [
        distances(some, references).masked_fill(torch.cdist(at, places, torch.inf) < PATCH, torch.inf).amin(1)
        for some, at in zip(torch.split(references, CHUNK), torch.split(places, CHUNK), strict=True)
    ]
    usual = torch.cat(nearest).quantile(0.95)
    excess = [(distances(some, references).amin(1) - usual).clamp(min=0) for some in torch.split(patches, CHUNK)]
    energy = references.square().sum(1).mean()
    return float(torch.cat(excess).mean() / energy) if energy > 0 else float("nan")


def differences(picture: Tensor) -> Tensor:
    """(patches, D), the differences of neighbours inside each patch of ``picture`` (C, H, W)."""
    along, down = picture.diff(dim=2), picture.diff(dim=1)
    return torch.cat([unfold(along[None], (PATCH, PATCH - 1))[0], unfold(down[None], (PATCH - 1, PATCH))[0]]).T


def distances(first: Tensor, second: Tensor) -> Tensor:
    """(A, B) squared distances of rows."""
    return (first.square().sum(1)[:, None] + second.square().sum(1) - 2 * first @ second.T).clamp(min=0)


def _check(pictures: Tensor, samples: Tensor, least: int) -> None:
    check_images(pictures)
    check_images(samples)
    if pictures.shape[:2] != samples.shape[:2]:
        raise AssayError(f"one sample of the same channels a picture: {tuple(pictures.shape)}, {tuple(samples.shape)}")
    if min(*pictures.shape[2:], *samples.shape[2:]) < least:
        raise AssayError(f"pictures and samples must be at least {least}x{least} for this score")
