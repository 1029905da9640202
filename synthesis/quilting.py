"""More of a texture, block by block, cut where neighbouring blocks agree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.synthesis.base import Art, FromSample
from assay.synthesis.scanline import SLACK, Floats, Ints, gather_textures


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageQuilting(FromSample):
    """Blocks of the sample, in scanline order, joined along the path of least error (Efros & Freeman 2001).

    A block is drawn from those whose overlap with what is there differs by at most 1 + ``tolerance`` times the least
    possible sum of squares. Blocks are cut, not blended, so every pixel is one of the sample's.
    """

    block: int = 24  # pixels, side
    overlap: int | None = None  # pixels of a block that lie over its neighbour; None: a sixth of the block
    tolerance: float = 0.1  # of the least squared distance

    def __post_init__(self) -> None:
        if not 1 <= self._overlap <= self.block / 2:
            raise AssayError(
                f"ImageQuilting: overlap={self._overlap} must be at least 1 and at most half of block={self.block}"
            )
        if self.tolerance < 0:
            raise AssayError(f"ImageQuilting: tolerance={self.tolerance} is negative")

    @property
    def _overlap(self) -> int:
        return max(1, round(self.block / 6)) if self.overlap is None else self.overlap

    def run(self, samples: Tensor, size: tuple[int, int], draws: Draws) -> Art:
        if min(samples.shape[2:]) < self.block:
            raise AssayError(
                f"ImageQuilting: a sample of {samples.shape[2]}x{samples.shape[3]} is smaller than block={self.block}; "
                "write a smaller block or take a larger sample"
            )
        return gather_textures(samples, size, draws, self.sources)

    def sources(self, sample: Floats, size: tuple[int, int], draws: Draws) -> Ints:
        """(H, W): which pixel of ``sample`` (h, w, C), flattened, each of the texture's is; ``draws`` is one stream."""
        block, overlap, (h, w) = self.block, self._overlap, sample.shape[:2]

        # all places of a block
        step, pixels = block - overlap, sample.reshape(h * w, -1)
        count = [max(1, -(-(length - overlap) // step)) for length in size]
        corners = np.arange(h * w).reshape(h, w)[: h - block + 1, : w - block + 1]
        inner = np.arange(h * w).reshape(h, w)[:block, :block]

        # block by block
        chances = draws.uniform(count)[0].double().cpu().numpy()
        index = np.zeros([n * step + overlap for n in count], dtype=np.int64)
        for i, j in np.ndindex(*count):
            place = np.s_[i * step : i * step + block, j * step : j * step + block]
            base = pixels[index[place]]
            mask = np.zeros((block, block), dtype=bool)
            mask[: overlap * (i > 0)] = mask[:, : overlap * (j > 0)] = True

            # blocks that fit
            distances = np.zeros(corners.shape)
            for y, x in np.argwhere(mask):
                values = sample[y : y + corners.shape[0], x : x + corners.shape[1]]
                distances += ((values - base[y, x]) ** 2).sum(2)
            near = corners[distances <= (1 + self.tolerance) * distances.min() + SLACK]
            new = near[int(chances[i, j] * len(near))] + inner

            # cut along seams
            error, replace = ((pixels[new] - base) ** 2).sum(2), np.ones((block, block), dtype=bool)
            if j > 0:
                replace[:, :overlap] &= beyond(cut(error[:, :overlap]), overlap)
            if i > 0:
                replace[:overlap] &= beyond(cut(error[:overlap].T), overlap).T
            index[place] = np.where(replace, new, index[place])
        return index[: size[0], : size[1]]


def cut(error: Floats) -> Ints:
    """The column (L,) in each row of ``error`` (L, K) of the path of least sum from top to bottom.

    A path moves by one column at most from row to row. Dynamic programming (Efros & Freeman 2001, eq. 1).
    """
    total = [error[0]]
    for row in error[1:]:
        padded = np.pad(total[-1], 1, constant_values=np.inf)
        total.append(row + np.minimum(np.minimum(padded[:-2], padded[1:-1]), padded[2:]))
    path = [int(total[-1].argmin())]
    for sums in reversed(total[:-1]):
        low = max(0, path[-1] - 1)
        path.append(low + int(sums[low : path[-1] + 2].argmin()))
    return np.array(path[::-1])


def beyond(path: Ints, width: int) -> NDArray[np.bool_]:
    """(L, width), True on the path and right of it."""
    return np.asarray(np.arange(width) >= path[:, None])
