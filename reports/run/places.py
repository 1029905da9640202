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


def places(outcomes: pd.DataFrame) -> dict[str, Place]:
    """Places by shares of images, from (images, models) of 0 and 1; NaN where a model was not tried.

    Two models differ where the exact test on the images that only one of them holds says so (McNemar 1947), at
    5 % over all pairs (Holm 1979). A model's best place is one more than the number of models that are ahead of it,
    its worst place leaves behind it only those that it is ahead of.
    """
    models = [str(model) for model in outcomes.columns]
    pairs = list(combinations(models, 2))
    ahead: dict[str, int] = dict.fromkeys(models, 0)
    behind: dict[str, int] = dict.fromkeys(models, 0)
    tests = [_lead(outcomes[first], outcomes[second]) for first, second in pairs]
    significant = multipletests([p for _, p in tests], LEVEL, method="holm")[0] if pairs else []
    for (first, second), (lead, _), differs in zip(pairs, tests, significant, strict=True):
        if differs:
            winner, loser = (first, second) if lead > 0 else (second, first)
            ahead[loser] += 1
            behind[winner] += 1
    return {model: Place(1 + ahead[model], len(models) - behind[model]) for model in models}


def _lead(first: "pd.Series[float]", second: "pd.Series[float]") -> tuple[int, float]:
    """By how many images the first is ahead, and the two-sided p value."""
    both = first.notna() & second.notna()
    ahead, behind = (int(((a == 1) & (b == 0) & both).sum()) for a, b in ((first, second), (second, first)))
    if ahead + behind == 0:
        return 0, 1.0
    return ahead - behind, float(stats.binomtest(ahead, ahead + behind).pvalue)
