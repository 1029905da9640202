"""Which explainer is better, and how sure that is: paired by image, tested against the controls first.

A method is ranked only where it beats every control map: Wilcoxon's signed-rank test, one-sided, against each of them,
the largest p-value kept and corrected after Holm over the methods. Methods are told apart where Friedman's test says
that they differ at all, by two-sided Wilcoxon tests corrected after Holm over the pairs (Demsar 2006, JMLR 7:1-30).
"""

import gc
import hashlib
import warnings
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from assay.reports.run.intervals import LEVEL, RESAMPLES, estimate
from assay.reports.run.reader import Run

ALPHA = 1 - LEVEL
FEW = 13  # images of which all signs are tried
FEWEST = 6  # images: of fewer no two-sided signed-rank test falls below the level
METHODS = [
    *("data", "metric", "method", "control", "models", "images", "value", "low", "high"),
    *("rank", "rank_low", "rank_high", "p_controls", "p_friedman"),
]
PAIRS = ["data", "metric", "method", "other", "images", "better", "worse", "p", "p_holm", "differs"]
AGREEMENT = ["data", "metric", "other", "methods", "tau", "p"]

Matrix = NDArray[np.float64]


class Scores(NamedTuple):
    """One metric of one data set: each image's mean over the models that have it right."""

    data: str
    metric: str
    table: pd.DataFrame  # images x methods, complete
    models: int
    sign: int  # 1 where higher is better, -1 where lower is
    statistic: str  # over images
    gate: bool  # whether only what beats the controls is ranked: by some metrics a map that ignores the model is best
    incomplete: bool  # a control has no score, so that nothing can be said to beat it
    control: NDArray[np.bool_]  # of each method

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.table]


def scores(run: Run) -> list[Scores]:
    """What can be compared: images that the model has right and that every method has a finite score on.

    Where a model is wrong, a heatmap of the label need not lie on the object. A method that has a score on no more than
    half of the pairs of model and image (it does not apply to the model, or is undefined) would cost the others theirs;
    it is not compared, and where it is a control nothing is ranked.
    """
    keys = ["model", "data", "image"]
    clean = run.select("clean", "accuracy")
    wrong = pd.MultiIndex.from_frame(clean.loc[clean["value"] == 0, keys])
    rows = run.select("explain")
    rows = rows[(rows["metric"] != "") & np.isfinite(rows["value"])]
    rows = rows[~pd.MultiIndex.from_frame(rows[keys]).isin(wrong)]
    all_scores = []
    for (data, metric), group in rows.groupby(["data", "metric"]):
        facts = run.metric(str(metric))
        if facts.direction not in ("higher", "lower"):
            continue
        wide = group.pivot_table(index=["model", "image"], columns="method", values="value")
        often = wide.notna().mean() > 0.5
        incomplete = any(run.method(str(name)).control for name in wide.columns[~often])
        wide = wide.loc[:, often].dropna()
        if wide.shape[1] >= 2 and len(wide):
            all_scores.append(
                Scores(
                    data=str(data),
                    metric=str(metric),
                    table=wide.groupby("image").mean(),
                    models=wide.index.get_level_values("model").nunique(),
                    sign=1 if facts.direction == "higher" else -1,
                    statistic=facts.statistic,
                    gate=facts.gate == "controls",
                    incomplete=incomplete,
                    control=np.array([run.method(str(name)).control for name in wide]),
                )
            )
    return all_scores


def methods(all_scores: list[Scores]) -> pd.DataFrame:
    """One row a data set, metric and method: its value, its rank among those that beat the controls, and how sure.

    ``rank`` is 1 for the best; NaN without controls to beat, or where one of them is not beaten. By a metric that knows
    no such gate all methods are ranked, and ``p_controls`` is NaN; else it is corrected. ``rank_low`` and ``rank_high``
    hold the middle 95 % of the ranks over resampled images.
    """
    records = []
    for each in all_scores:
        ahead, p_controls = _against_controls(each)
        values, ranks = _resample(each, ahead)
        value = _statistic(each.table.to_numpy(), each.statistic)
        rank = _ranks(each.sign * value[None], ahead)[0]
        low, high = _middle(values)
        rank_low, rank_high = _middle(ranks)
        friedman = _friedman(each.table.to_numpy()[:, ~each.control])
        for i, (name, control) in enumerate(zip(each.names, each.control.tolist(), strict=True)):
            level = (each.data, each.metric, name, control, each.models, len(each.table), value[i], low[i], high[i])
            standing = (rank[i], rank_low[i], rank_high[i], p_controls[i], np.nan if control else friedman)
            records.append((*level, *standing))
    return pd.DataFrame(records, columns=METHODS)


def pairs(all_scores: list[Scores]) -> pd.DataFrame:
    """One row a data set, metric and pair of methods, controls left out: on how many images each is better, and p.

    ``p`` is NaN where Friedman's test over all methods finds no difference: then no pair is looked at.
    """
    records = []
    for each in all_scores:
        names = [name for name, control in zip(each.names, each.control, strict=True) if not control]
        couples = list(combinations(names, 2))
        table = each.sign * each.table
        gaps = [(table[first] - table[second]).to_numpy() for first, second in couples]
        differ = len(names) < 3 or _friedman(table[names].to_numpy()) < ALPHA
        p = np.array([_wilcoxon(gap) if differ else np.nan for gap in gaps])
        for couple, gap, raw, p_holm in zip(couples, gaps, p, _holm(p), strict=True):
            counts = int((gap > 0).sum()), int((gap < 0).sum())
            records.append((each.data, each.metric, *couple, len(gap), *counts, raw, p_holm, bool(p_holm < ALPHA)))
    return pd.DataFrame(records, columns=PAIRS)


def agreement(all_scores: list[Scores]) -> pd.DataFrame:
    """Kendall's tau between two metrics over the methods that both score, controls included; high is agreement.

    Each metric counts in its own direction, so that 1 means that they prefer the same methods.
    """
    records = []
    for first, second in combinations(all_scores, 2):
        both = [name for name in first.table if name in second.table]
        if first.data == second.data and len(both) >= 3:
            values = (each.sign * _statistic(each.table[both].to_numpy(), each.statistic) for each in (first, second))
            tau = stats.kendalltau(*values)
            records.append((first.data, first.metric, second.metric, len(both), tau.statistic, tau.pvalue))
    return pd.DataFrame(records, columns=AGREEMENT)


def _against_controls(each: Scores) -> tuple[NDArray[np.bool_], Matrix]:
    """Which methods beat every control, and their corrected p-values; NaN for the controls."""
    control = each.control
    table = each.sign * each.table.to_numpy()
    p = np.full(len(control), np.nan)
    if not each.gate:
        return ~control, p
    if control.any() and not each.incomplete:
        for i in np.flatnonzero(~control):
            p[i] = max(_wilcoxon(table[:, i] - table[:, j], "greater") for j in np.flatnonzero(control))
    p = _holm(p)
    return p < ALPHA, p


def _wilcoxon(gaps: Matrix, alternative: Literal["two-sided", "greater"] = "two-sided") -> float:
    """The p-value of the signed-rank test that paired differences lie around 0; equal pairs count for both sides."""
    if len(gaps) < FEWEST or not gaps.any():
        return 1.0
    if len(gaps) <= FEW:
        return _exact(gaps, alternative)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties the normal approximation takes care
        return float(stats.wilcoxon(gaps, zero_method="zsplit", alternative=alternative).pvalue)


def _exact(gaps: Matrix, alternative: str) -> float:
    """The same over all signs that the gaps could have: what scipy's permutation test finds, without its loop."""
    ranks = stats.rankdata(np.abs(gaps))[gaps != 0]
    signs = np.arange(2 ** len(ranks))[:, None] >> np.arange(len(ranks)) & 1
    null, value = signs @ ranks, ranks[gaps[gaps != 0] > 0].sum()
    above, below = float((null >= value).mean()), float((null <= value).mean())
    return above if alternative == "greater" else min(1.0, 2 * min(above, below))


def _holm(p: Matrix) -> Matrix:
    """Corrected after Holm 1979; NaN stays."""
    p_holm, has_p = p.copy(), ~np.isnan(p)
    if has_p.any():
        gc.freeze()  # multipletests collects garbage at every call, which takes a thousand times as long as its work
        p_holm[has_p] = multipletests(p[has_p], method="holm")[1]
        gc.unfreeze()
    return p_holm


def _friedman(table: Matrix) -> float:
    """The p-value that the columns differ (Friedman 1937); NaN with fewer than three, 1 where all are equal."""
    if table.shape[1] < 3 or len(table) < 2:
        return np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        p = float(stats.friedmanchisquare(*table.T).pvalue)
    return 1.0 if np.isnan(p) else p


def _resample(each: Scores, ranked: NDArray[np.bool_]) -> tuple[Matrix, Matrix]:
    """Values and ranks (resamples, methods) over images drawn again with replacement, all methods on the same ones."""
    table = each.table.to_numpy()
    seed = hashlib.sha256(f"{each.data}\x1f{each.metric}".encode()).digest()[:8]
    rng = np.random.default_rng(int.from_bytes(seed))
    draws = rng.integers(len(table), size=(RESAMPLES, len(table)))
    values = np.stack([_statistic(table[rows], each.statistic) for rows in draws])
    return values, _ranks(each.sign * values, ranked)


def _statistic(table: Matrix, statistic: str) -> Matrix:
    values: Matrix = np.median(table, 0) if statistic == "median" else table.mean(0)
    return values


def _ranks(values: Matrix, ranked: NDArray[np.bool_]) -> Matrix:
    """1 for the largest of each row among the ``ranked`` columns, equal ones sharing their mean; NaN elsewhere."""
    ranks = np.full(values.shape, np.nan)
    if ranked.any():
        ranks[:, ranked] = stats.rankdata(-values[:, ranked].round(12), axis=1)
    return ranks


def _middle(values: Matrix) -> tuple[Matrix, Matrix]:
    """The interval that holds the middle 95 % of each column."""
    low, high = np.quantile(values, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return low, high


def pooled(run: Run, data: str, common: bool = False) -> pd.DataFrame:
    """``method, metric, models, value, low, high, n``: each image's mean over models, then the statistic over images.

    With ``common``, only the models that every method applies to count, so that methods compare. The interval is a
    bootstrap over images: it holds for these models, not for models in general.
    """
    rows = run.select("explain", data=data)
    rows = rows[rows["metric"] != ""].dropna(subset="value")
    if common and len(rows):
        rows = rows[rows["model"].isin(set.intersection(*(set(g["model"]) for _, g in rows.groupby("method"))))]
    records = []
    for (method, metric), group in rows.groupby(["method", "metric"]):
        per_image = group.groupby("image")["value"].mean().to_numpy()
        key = f"{data}\x1f{method}\x1f{metric}"
        mean = estimate(per_image, run.metric(str(metric)).statistic, "bootstrap", key)
        records.append((method, metric, group["model"].nunique(), *mean))
    return pd.DataFrame(records, columns=["method", "metric", "models", "value", "low", "high", "n"])
