"""Randomness as an argument: one stream of random numbers per image.

A stream is derived by hashing the coordinates of the work (seed, model, method, image id), so neither the order of
the images nor their split into batches changes a draw.
"""

import hashlib
import numbers
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from assay.core.errors import AssayError


class Draws:
    """Streams for N images. ``draws[mask]`` keeps the streams of the images that stay."""

    def __init__(self, streams: Sequence[np.random.Generator], device: torch.device | str = "cpu") -> None:
        self._streams = list(streams)
        self._device = torch.device(device)

    @classmethod
    def hashed(cls, coordinates: str, ids: Iterable[str]) -> "Draws":
        """Streams for the images ``ids`` of the work that ``coordinates`` names."""
        digests = (hashlib.sha256(f"{coordinates}\0{image}".encode()).digest() for image in ids)
        return cls([np.random.Generator(np.random.Philox(key=int.from_bytes(d[:16], "big"))) for d in digests])

    def __len__(self) -> int:
        return len(self._streams)

    def __getitem__(self, index: Tensor) -> "Draws":
        """The streams at a boolean mask or at indices, shared with this object: drawing advances both."""
        positions = index.nonzero().flatten() if index.dtype == torch.bool else index
        return Draws([self._streams[i] for i in positions.tolist()], self._device)

    def to(self, device: torch.device) -> "Draws":
        return Draws(self._streams, device)

    def uniform(self, shape: Sequence[int], low: float = 0.0, high: float = 1.0) -> Tensor:
        """(N, *shape) float32, uniform in [low, high)."""
        unit = self._stack([s.random(tuple(shape), dtype=np.float32) for s in self._streams], shape)
        return unit * (high - low) + low

    def normal(self, shape: Sequence[int]) -> Tensor:
        """(N, *shape) float32, standard normal."""
        return self._stack([s.standard_normal(tuple(shape), dtype=np.float32) for s in self._streams], shape)

    def integers(self, high: int, shape: Sequence[int] = ()) -> Tensor:
        """(N, *shape) int64, uniform in [0, high)."""
        return self._stack([np.asarray(s.integers(high, size=tuple(shape))) for s in self._streams], shape)

    def _stack(self, rows: list[np.ndarray], shape: Sequence[int]) -> Tensor:
        if not rows:
            return torch.zeros((0, *shape), device=self._device)
        return torch.from_numpy(np.stack(rows)).to(self._device)


def as_draws(draws: Draws | int, images: Tensor) -> Draws:
    """``draws`` on the images' device; an int seeds one stream per position.

    Raises ``AssayError`` for anything else, and unless there is one stream for each image.
    """
    if isinstance(draws, numbers.Integral):
        draws = Draws.hashed(f"seed {int(draws)}", map(str, range(len(images))))
    if not isinstance(draws, Draws):
        raise AssayError(f"draws must be an int or Draws, not {type(draws).__name__}")
    if len(draws) != len(images):
        raise AssayError(f"{len(draws)} streams for {len(images)} images")
    return draws.to(images.device)
