"""Who is ahead of whom: places with ties, from images that all models were shown."""

from itertools import combinations
from typing import NamedTuple

import pandas as pd
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEVEL = 0.05


class Place(NamedTuple):
    """The best and the worst place that a model may have; one number where no tie is left."""

    best: int
    worst: int

    def __str__(self) -> str:
        return str(self.best) if self.best == self.worst else f"{self.best}\N{EN DASH}{self.worst}"


def places(held: pd.DataFrame) -> dict[str, Place]:
    """Places by shares of images, from (images, models) of 0 and 1; NaN where a model was not tried.

    Two models differ where the exact test on the images that only one of them holds says so (McNemar 1947), at
    5 % over all pairs (Holm 1979). A model's best place is one more than the number of models that are ahead of it,
    its worst place leaves behind it only those that it is ahead of.
    """
    models = [str(model) for model in held.columns]
    pairs = list(combinations(models, 2))
    ahead: dict[str, int] = dict.fromkeys(models, 0)
    behind: dict[str, int] = dict.fromkeys(models, 0)
    found = [_against(held[one], held[other]) for one, other in pairs]
    clear = multipletests([p for _, p in found], LEVEL, method="holm")[0] if pairs else []
    for (one, other), (lead, _), differs in zip(pairs, found, clear, strict=True):
        if differs:
            winner, loser = (one, other) if lead > 0 else (other, one)
            ahead[loser] += 1
            behind[winner] += 1
    return {model: Place(1 + ahead[model], len(models) - behind[model]) for model in models}


def _against(one: "pd.Series[float]", other: "pd.Series[float]") -> tuple[int, float]:
    """By how many images one is ahead of the other, and the two-sided p value."""
    both = one.notna() & other.notna()
    first, second = (int(((a == 1) & (b == 0) & both).sum()) for a, b in ((one, other), (other, one)))
    if first + second == 0:
        return 0, 1.0
    return first - second, float(stats.binomtest(first, first + second).pvalue)
