"""Which way up a grid lies over the image, by looking at what depends on what."""

from collections.abc import Callable

import torch
from torch import Tensor


def corners_read(grid: Callable[[Tensor], Tensor], images: Tensor) -> list[int]:
    """For the cells in the corners of ``grid(images)`` (N, C, h, w) the corner of the images that each reads most.

    Corners are counted 0 to 3: upper left, upper right, lower left, lower right, each a quarter of height and width.
    How much a cell reads of a corner is the derivative's mass there, against what all cells read of that corner and
    what that cell reads of all: strided layers see the upper left more, whatever the cell.
    """
    generator = torch.Generator().manual_seed(2)
    height, width = images.shape[-2] // 4, images.shape[-1] // 4
    images = images.detach().requires_grad_(True)
    values = grid(images)
    reads = []
    for row in (0, -1):
        for column in (0, -1):
            cell = values[:, :, row, column]
            unit = (cell * torch.randn(cell.shape, generator=generator)).sum()
            (found,) = torch.autograd.grad(unit, images, retain_graph=True)
            mass = found.abs().sum((0, 1))
            reads.append([
                mass[rows, columns].sum()
                for rows in (slice(None, height), slice(-height, None))
                for columns in (slice(None, width), slice(-width, None))
            ])  # fmt: skip
    logs = torch.tensor(reads).clamp(min=1e-30).log()
    own = logs - logs.mean(0, keepdim=True) - logs.mean(1, keepdim=True)
    return own.argmax(1).tolist()
