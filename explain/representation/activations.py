"""What a layer answers: its maps for an image, and which channels never answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import evaluating
from assay.core.layers import many_activations

FLAT = 1e-6  # share of the layer's largest range below which a channel counts as constant


class Strongest(NamedTuple):
    """The channels of one image with the largest values, falling: ``channels`` (k,), ``maps`` (k, h, w)."""

    channels: Tensor
    maps: Tensor


@dataclass(frozen=True, slots=True)
class Life:
    """What each of a layer's channels did over a data set, (C,) each.

    ``low`` and ``high`` are its smallest and largest value, ``positive`` the share of units and images above zero.
    """

    low: Tensor
    high: Tensor
    positive: Tensor

    @property
    def dead(self) -> Tensor:
        """Channels (C,) bool that are constant: their range is under a millionth of the largest of the layer."""
        spread = self.high - self.low
        return spread <= FLAT * spread.amax()


def strongest_channels(model: nn.Module, image: Tensor, name: str, k: int) -> Strongest:
    """The ``k`` channels of a layer whose largest value on image (1, C, H, W) is largest; fewer where it has fewer."""
    with evaluating(model), torch.no_grad():
        (maps,) = many_activations(model, image, [name])
    peaks = maps[0].flatten(1).amax(1)
    order = peaks.sort(descending=True, stable=True).indices[:k]
    return Strongest(order, maps[0][order])


def lives(model: nn.Module, batches: Iterable[Tensor], names: Sequence[str]) -> dict[str, Life]:
    """The ``Life`` of the named layers in one pass over batches (N, C, H, W); memory does not grow with them."""
    totals: dict[str, Life] = {}
    counts = dict.fromkeys(names, 0)
    with evaluating(model), torch.no_grad():
        for batch in batches:
            for name, grid in zip(names, many_activations(model, batch, names), strict=True):
                values = grid.movedim(1, 0).flatten(1)
                now = Life(values.amin(1), values.amax(1), (values > 0).double().mean(1))
                old, old_count, new_count = totals.get(name), counts[name], values.shape[1]
                counts[name] = old_count + new_count
                totals[name] = (
                    now
                    if old is None
                    else Life(
                        torch.minimum(old.low, now.low),
                        torch.maximum(old.high, now.high),
                        (old.positive * old_count + now.positive * new_count) / (old_count + new_count),
                    )
                )
    return totals
