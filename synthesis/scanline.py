"""More of a texture, pixel by pixel in scanline order, from where the sample looks like what is there already."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve1d
from scipy.spatial import cKDTree
from torch import Tensor

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.synthesis.base import Art, FromSample

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Sources = Callable[[Floats, tuple[int, int], Draws], Ints]  # see ``Scanline.sources``
SLACK = 1e-12  # of squared distances, so that equal neighbourhoods stay equal when they are rounded
BURT = np.array([1, 4, 6, 4, 1]) / 16  # Burt & Adelson 1983's filter, of a pyramid's next level


class Neighbours:
    """Which rows (M, D) are nearest, by a k-d tree.

    They are turned to their principal axes: this keeps distances, and a search gives up most rows after a few values.
    """

    def __init__(self, rows: Floats) -> None:
        self.axes: Floats = np.linalg.eigh(np.cov(rows.T, ddof=0).reshape(2 * [rows.shape[1]]))[1][:, ::-1]
        self.tree: cKDTree[None] = cKDTree(rows @ self.axes)

    def nearest(self, coordinates: Floats) -> int:
        """The row nearest to a query whose ``coordinates`` are query @ axes."""
        return int(self.tree.query(coordinates)[1])

    def near(self, query: Floats, eps: float) -> Ints:
        """Rows, in order, whose squared distance to ``query`` is at most 1 + ``eps`` times the least."""
        coordinates = query @ self.axes
        least = float(self.tree.query(coordinates)[0])
        rows = self.tree.query_ball_point(coordinates, ((1 + eps) * least**2 + SLACK) ** 0.5, return_sorted=True)
        return np.asarray(rows, dtype=np.int64)


@dataclass(frozen=True, kw_only=True, slots=True)
class Scanline(FromSample):
    """Every pixel of a texture is one of the sample's, chosen by its causal neighbourhood: the pixels that come before
    it in the window around it.
    """

    window: int = 11  # pixels, the side of the neighbourhood, odd

    def __post_init__(self) -> None:
        if self.window < 3 or self.window % 2 == 0:
            raise AssayError(f"{type(self).__name__}: window={self.window} must be odd and at least 3")

    def run(self, samples: Tensor, size: tuple[int, int], draws: Draws) -> Art:
        return gather_textures(samples, size, draws, self.sources)

    @abstractmethod
    def sources(self, sample: Floats, size: tuple[int, int], draws: Draws) -> Ints:
        """(H, W): which pixel of ``sample`` (h, w, C), flattened, each of the texture's is; ``draws`` is one stream."""

    def _causal(self) -> Ints:
        return self._square(self.window // 2)[: self.window**2 // 2]

    def _square(self, radius: int) -> Ints:
        return np.indices(2 * [2 * radius + 1]).reshape(2, -1).T - radius


@dataclass(frozen=True, kw_only=True, slots=True)
class EfrosLeung(Scanline):
    """Non-parametric sampling (Efros & Leung 1999), in the scanline order of Wei & Levoy 2000.

    A pixel is drawn from those of the sample whose neighbourhood differs by at most 1 + ``eps`` times the least
    possible: a sum of squares with Gaussian weights of standard deviation ``window`` / 6.4. At the top and the sides
    of the picture only the pixels that are there count, so the first pixel is any. A periodic sample is continued
    exactly if half the window holds its period, or by any window if all pixels of a period differ.
    """

    eps: float = 0.1  # of the least squared distance

    def __post_init__(self) -> None:
        Scanline.__post_init__(self)
        if self.eps < 0:
            raise AssayError(f"EfrosLeung: eps={self.eps} is negative")

    def sources(self, sample: Floats, size: tuple[int, int], draws: Draws) -> Ints:
        (height, width), (h, w, channels) = size, sample.shape
        if min(h, w) < self.window:
            raise AssayError(
                f"EfrosLeung: a sample of {h}x{w} is smaller than window={self.window}; "
                "write a smaller window or take a larger sample"
            )

        # neighbourhoods of the sample
        radius, offsets = self.window // 2, self._causal()
        weights = np.exp(-(offsets**2).sum(1) / (2 * (self.window / 6.4) ** 2))
        weights = np.sqrt(weights / weights.sum())[:, None]
        centres = np.arange(h * w).reshape(h, w)[radius:, radius : w - radius].ravel()
        pixels = sample.reshape(-1, channels)
        rows = (pixels[centres[:, None] + offsets @ (w, 1)] * weights).reshape(len(centres), -1)
        squares, neighbours = rows**2, Neighbours(rows)

        # texture with an empty rim
        wide = width + 2 * radius
        count = (height + radius) * wide
        texture, present = np.zeros((count, channels)), np.zeros(count, dtype=bool)
        chances = draws.uniform(size)[0].double().cpu().numpy()
        index = np.zeros(size, dtype=np.int64)

        # pixel by pixel
        for y, x in np.ndindex(size):
            at = (y + radius) * wide + x + radius
            around = at + offsets @ (wide, 1)
            query, valid = (texture[around] * weights).ravel(), present[around]
            if valid.all():
                matches = neighbours.near(query, self.eps)
            else:
                matches = near(rows, squares, query, np.repeat(valid, channels), self.eps)
            index[y, x] = centres[matches[int(chances[y, x] * len(matches))]]
            texture[at], present[at] = pixels[index[y, x]], True
        return index


@dataclass(frozen=True, kw_only=True, slots=True)
class WeiLevoy(Scanline):
    """Multi-resolution synthesis (Wei & Levoy 2000), with an exact search instead of a tree-structured codebook.

    Both pictures become Gaussian pyramids. From coarse to fine, a pixel is the sample's whose causal neighbourhood,
    together with all of the neighbourhood half as wide in the level above, is nearest. Neighbourhoods wrap around the
    texture, which starts as noise: pixels of the sample at random.
    """

    window: int = 9  # pixels, the side of the neighbourhood in each level, odd
    levels: int = 3  # of the pyramid; 1 is the sample alone

    def __post_init__(self) -> None:
        Scanline.__post_init__(self)
        if self.levels < 1:
            raise AssayError(f"WeiLevoy: levels={self.levels} must be at least 1")

    def sources(self, sample: Floats, size: tuple[int, int], draws: Draws) -> Ints:
        pyramid = [sample]
        for _ in range(1, self.levels):
            smooth = convolve1d(convolve1d(pyramid[-1], BURT, 0, mode="mirror"), BURT, 1, mode="mirror")
            pyramid.append(smooth[::2, ::2])
        if min(pyramid[-1].shape[:2]) < self.window:
            raise AssayError(
                f"WeiLevoy: {'x'.join(map(str, pyramid[-1].shape[:2]))} pixels of the sample are left in level "
                f"{self.levels}, less than window={self.window}; "
                "write a smaller window or fewer levels, or take a larger sample"
            )
        index, above = np.zeros(size, dtype=np.int64), None
        for level in reversed(range(self.levels)):
            level_size = (-(-size[0] // 2**level), -(-size[1] // 2**level))
            index = self._level(pyramid[level], above, level_size, draws)
            above = (pyramid[level], pyramid[level].reshape(-1, sample.shape[2])[index])
        return index

    def _level(self, sample: Floats, above: tuple[Floats, Floats] | None, size: tuple[int, int], draws: Draws) -> Ints:
        """Sources of a level; ``above`` holds the coarser level of the sample and of the texture."""
        (height, width), (h, w, channels) = size, sample.shape

        # neighbourhoods of the sample
        pixels = sample.reshape(-1, channels)
        offsets, radius = self._causal(), self.window // 2
        half = self._square(radius // 2)
        ys, xs = np.indices((h, w))[:, radius:, radius : w - radius].reshape(2, -1)
        if above is not None:
            fits = inside(ys // 2, radius // 2, above[0].shape[0]) & inside(xs // 2, radius // 2, above[0].shape[1])
            ys, xs = ys[fits], xs[fits]
        centres = ys * w + xs
        rows = pixels[centres[:, None] + offsets @ (w, 1)].reshape(len(centres), -1)
        if above is not None:
            rows = np.hstack([rows, wrap_around(above[0], ys // 2, xs // 2, half)])
        neighbours = Neighbours(rows)
        axes, axes_above = np.split(neighbours.axes, [len(offsets) * channels])

        # noise to start from
        index = (draws.uniform(size)[0].double().cpu().numpy() * len(pixels)).astype(np.int64)
        texture = pixels[index]

        # line by line
        columns = np.arange(width)
        sides = (columns[:, None] + offsets[:, 1]) % width
        for y in range(height):
            rest = np.zeros((width, rows.shape[1]))
            if above is not None:
                rest = wrap_around(above[1], np.full(width, y // 2), columns // 2, half) @ axes_above
            lines = (y + offsets[:, 0]) % height
            for x in range(width):
                match = neighbours.nearest(texture[lines, sides[x]].ravel() @ axes + rest[x])
                index[y, x] = centres[match]
                texture[y, x] = pixels[index[y, x]]
        return index


def near(rows: Floats, squares: Floats, query: Floats, counts: NDArray[np.bool_], eps: float) -> Ints:
    """What ``Neighbours.near`` finds if only some values count; ``squares`` is rows ** 2, ``query`` 0 elsewhere."""
    distances = squares @ counts.astype(np.float64) - 2 * (rows @ query) + query @ query
    return np.flatnonzero(distances <= (1 + eps) * max(distances.min(), 0.0) + SLACK)


def wrap_around(picture: Floats, ys: Ints, xs: Ints, offsets: Ints) -> Floats:
    """Neighbourhoods (M, D) of pixels of ``picture`` (H, W, C), which wraps around."""
    height, width = picture.shape[:2]
    around: Floats = picture[(ys[:, None] + offsets[:, 0]) % height, (xs[:, None] + offsets[:, 1]) % width]
    return around.reshape(len(ys), -1)


def inside(at: Ints, radius: int, length: int) -> NDArray[np.bool_]:
    return np.asarray((at >= radius) & (at < length - radius))


def gather_textures(samples: Tensor, size: tuple[int, int], draws: Draws, sources: Sources) -> Art:
    """Textures of the samples' own pixels, those that ``sources`` says for each sample; no history."""
    pictures = samples.permute(0, 2, 3, 1).double().cpu().numpy()
    rows = [sources(picture, size, draws[torch.tensor([i])]) for i, picture in enumerate(pictures)]
    index = torch.from_numpy(np.array(rows, dtype=np.int64).reshape(len(rows), 1, size[0] * size[1]))
    images = samples.flatten(2).gather(2, index.to(samples.device).expand(-1, samples.shape[1], -1))
    return Art(images.reshape(*samples.shape[:2], *size), samples.new_zeros((0, len(samples))))
