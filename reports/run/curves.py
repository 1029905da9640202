"""Robust accuracy against the radius, and how close attacks come to the smallest change that is known."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from assay.reports.run.intervals import wilson
from assay.reports.run.outcomes import WORST
from assay.reports.run.records import Method

CURVES = ["model", "data", "norm", "eps", "method", "robust_accuracy", "low", "high", "n"]
OPTIMALITY = ["model", "data", "norm", "method", "optimality", "area", "best_area", "attacks", "n"]
Array = NDArray[np.float64]


def curves(
    outcomes: pd.DataFrame,
    methods: dict[str, Method],
    whole: Callable[[str, str, str], bool] = lambda model, data, norm: True,
) -> pd.DataFrame:
    """A step for each distance at which an image falls, for each attack without a budget and for their worst case.

    Robust accuracy at a radius is the share of all images that were right and whose distance is larger; at 0 it is the
    clean accuracy. The worst case takes each image's smallest distance; only models that are ``whole``, which met all
    attacks of the norm, have one.
    """
    records = []
    for (model, data, norm), distances in by_norm(outcomes, methods, minimal=True):
        distances = distances.fillna(0.0)
        worst = [(WORST, distances.min(axis=1))] if whole(model, data, norm) else []
        columns = [*((str(method), distances[method]) for method in distances), *worst]
        for method, column in columns:
            records += [
                (model, data, norm, radius, method, *share) for radius, *share in steps(column.to_numpy(np.float64))
            ]
    return pd.DataFrame(records, columns=CURVES)


def steps(distances: Array) -> list[tuple[float, float, float, float, int]]:
    """Radius, robust accuracy, its Wilson interval and the number of images, at 0 and wherever an image falls."""
    n, distances_ = len(distances), np.sort(distances)
    radii = np.unique(np.concatenate([[0.0], distances_[np.isfinite(distances_)]]))
    left = n - np.searchsorted(distances_, radii, side="right")
    return [(float(radius), *wilson(int(held), n)) for radius, held in zip(radii, left, strict=True) if n]


def robust_at(distances: Array, radius: float) -> int:
    """How many images hold at a radius; float noise at the edge of the ball counts as inside."""
    return int((distances > radius * (1 + 1e-5) + 1e-6).sum())


def optimality_table(outcomes: pd.DataFrame, methods: dict[str, Method]) -> pd.DataFrame:
    """The optimality of each attack without a budget, per model, data set and norm.

    The best known distance of an image is the smallest that any untargeted attack of the run in that norm found, with
    or without a budget, over images on which none of them failed. ``area`` and ``best_area`` are under the curve of
    the attack and of the best.
    """
    records = []
    for (model, data, norm), distances in by_norm(outcomes, methods, minimal=False):
        common = distances.dropna()
        best = common.min(axis=1).to_numpy(np.float64)
        for method in (method for method in common if methods[str(method)].minimal):
            distance = common[method].to_numpy(np.float64)
            limit = _limit(best)
            areas = [float(np.minimum(values, limit).mean()) if len(best) else np.nan for values in (distance, best)]
            records.append((model, data, norm, method, optimality(distance, best), *areas, common.shape[1], len(best)))
    return pd.DataFrame(records, columns=OPTIMALITY)


def optimality(distances: Array, best: Array) -> float:
    """Local optimality (Cina et al. 2024, AttackBench, arXiv:2404.19460): 1 - (A - A*) / (c r - A*).

    A is the area under the curve of robust accuracy against the radius, from 0 to r, the largest of the best known
    distances; A* is that of the ``best`` distances and c the clean accuracy, so c r is the area of an attack that finds
    nothing. 1 for an attack that is best on every image, 0 for one that finds nothing within r. Both are distances per
    image, (n,): 0 for images that were wrong before, infinite where nothing was found.

    The areas are those of the step curves, mean(min(distance, r)), as the paper writes them; AttackBench's own script
    takes trapezoids between the steps, which credits an attack that finds nothing. Images that no attack fools do not
    move r. NaN where the best curve leaves no area, as for a single image.
    """
    limit = _limit(best)
    least, most = float(np.minimum(best, limit).mean()), float((best > 0).mean() * limit)
    if not most - least > 1e-12 * limit:
        return float("nan")
    return 1 - (float(np.minimum(distances, limit).mean()) - least) / (most - least)


def by_norm(
    outcomes: pd.DataFrame, methods: dict[str, Method], minimal: bool
) -> Iterator[tuple[tuple[str, str, str], pd.DataFrame]]:
    """Distances, images by attacks, of each model, data set and norm that has attacks without a budget.

    With ``minimal`` only those, else every untargeted attack of that norm. NaN where an attack failed on an image.
    """
    norms = {text: method.norm for text, method in methods.items() if method.norm and not method.goal}
    free = {text for text, method in methods.items() if method.minimal}
    rows = outcomes[outcomes["method"].isin(free if minimal else set(norms))]
    rows = rows.assign(norm=rows["method"].map(norms))
    for (model, data, norm), group in rows.groupby(["model", "data", "norm"]):
        if set(group["method"]) & free:
            yield (str(model), str(data), str(norm)), group.pivot(index="image", columns="method", values="distance")


def _limit(best: Array) -> float:
    return float(best[np.isfinite(best)].max(initial=0.0))
