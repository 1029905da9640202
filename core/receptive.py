"""Receptive fields: which pixels a unit of a layer depends on.

``measured`` looks at derivatives, so it holds for any network. The dependence counts in full: behind a
squeeze-and-excitation or an attention over the whole grid a unit sees the whole image.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.borrow import borrowed
from core.layers import awake, find_layout, random_images, record, to_grid


class Field(NamedTuple):
    """A box of pixels: ``height`` rows from ``top``, ``width`` columns from ``left``, clipped by the image."""

    top: int
    left: int
    height: int
    width: int


def measured(model: nn.Module, images: Tensor, names: Sequence[str]) -> Iterator[tuple[str, Field | None]]:
    """For each named layer the box of pixels that reach the middle unit (h // 2, w // 2) of its grid.

    The support of the derivative of a random mixture of the unit's channels, united over two images of noise of the
    size of ``images``. It is a lower bound: a pixel that only an inactive ReLU or a losing position of a max-pool
    would pass on in both is missed, which rarely moves the box. Weights that are all zero count as random ones.
    ``None`` where nothing reaches the unit. One forward pass for all layers, one backward pass for each. Raises
    ``NotApplicable`` for a layer without a grid.
    """
    noise = random_images(images)
    generator = torch.Generator().manual_seed(0)
    with borrowed(model):
        pixels = noise.requires_grad_(True)
        with record(model, *names) as outputs:
            awake(model, pixels)
        for name in names:
            grid = to_grid(outputs[name], find_layout(model, name, outputs[name], noise))
            middle = grid[:, :, grid.shape[2] // 2, grid.shape[3] // 2]
            unit = (middle * torch.randn(middle.shape, generator=generator).to(middle)).sum()
            (reach,) = torch.autograd.grad(unit, pixels, retain_graph=True)
            yield name, box((reach != 0).any(1).any(0))


def box(support: Tensor) -> Field | None:
    """The smallest box around what is true in ``support`` (H, W)."""
    rows, columns = (support.any(1 - axis).nonzero().flatten().tolist() for axis in (0, 1))
    if not rows:
        return None
    return Field(rows[0], columns[0], rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
