"""The outcomes of all attacks on one model, as checks compare them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from assay.reports.run import labels
from assay.reports.run.outcomes import in_balls, outcomes
from assay.reports.run.reader import Run, where
from assay.reports.run.records import Method

PASSED, FAILED, NOT_TESTED = "passed", "failed", "not tested"
SLACK = 0.01  # of the images: one that two attacks happen to disagree on is no contradiction
LITTLE = 0.05  # of the images: a longer run may change them, an attack may go astray on them
SATURATED = 0.999  # a probability above this may stay what it is in float32 while the logits move
NOTHING = pd.DataFrame()
NO_ONE = "", ""  # neither model nor data


@dataclass(slots=True)
class Evidence:
    """What one check says: images against it, and how many of them against each attack."""

    images: int = 0
    total: int = 0  # images looked at; none means that nothing could be compared
    slack: float = SLACK
    detail: str = ""
    flags: dict[str, int] = field(default_factory=dict)

    def against(self, count: int, total: int, methods: Iterable[str], detail: str) -> None:
        """Take in one comparison of ``total`` images, ``count`` of which contradict the ``methods``."""
        self.total = max(self.total, total)
        if count > self.slack * total:
            self.flags |= {method: max(count, self.flags.get(method, 0)) for method in methods}
            if count > self.images:
                self.images, self.detail = count, detail

    @property
    def state(self) -> str:
        if not self.total:
            return NOT_TESTED
        return FAILED if self.images else PASSED

    @property
    def verdict(self) -> tuple[str, int, str]:
        """State, images against it, and what says so."""
        return self.state, self.images, self.detail


class Pool(NamedTuple):
    """The attacks on one model and data set: methods, short names, and images by attacks."""

    methods: dict[str, Method]
    brief: dict[str, str]
    fooled: pd.DataFrame  # 1.0, 0.0, NaN where the attack failed or had nothing to do
    distance: pd.DataFrame
    shift: pd.DataFrame = NOTHING  # by how much the confidence moved; NaN where it is saturated
    transferred: pd.DataFrame = NOTHING  # as ``fooled``, by images made on other models; attack and source by column
    strangers: Mapping[str, Method] = {}  # the methods of ``transferred`` by column
    total: Mapping[str, int] = {}  # images by attack

    def within(self, *, aimed: bool = True) -> list[list[str]]:
        """Attacks in one ball with one goal."""
        groups: dict[tuple[object, ...], list[str]] = {}
        for text, method in self.methods.items():
            if method.bounded and not method.universal and (aimed or not method.goal):
                groups.setdefault((method.norm, method.eps, method.goal), []).append(text)
        return list(groups.values())

    def minimal(self, norm: str) -> list[str]:
        """Attacks that look for the smallest change in a norm."""
        return [text for text, method in self.methods.items() if method.minimal and method.norm == norm]

    def gradient(self, methods: Iterable[str]) -> list[str]:
        """Those that follow gradients."""
        return [method for method in methods if self.methods[method].access == "gradient"]

    def black_box(self, methods: Iterable[str]) -> list[str]:
        """Those that ask for scores or decisions alone."""
        return [method for method in methods if self.methods[method].access in ("score", "decision")]

    def present(self, *access: str) -> Evidence:
        """Whether there are attacks of one of these kinds of access."""
        methods = [text for text, method in self.methods.items() if method.access in access]
        return Evidence(total=len(methods), detail=self.brief[methods[0]] if methods else "")

    def missed(self, stronger: Iterable[str], weaker: Iterable[str]) -> tuple[int, int]:
        """Images that one of ``weaker`` fooled and none of ``stronger`` did, and how many all of them met."""
        both = self.fooled[[*stronger, *weaker]].dropna()
        images = both[list(weaker)].any(axis=1) & ~both[list(stronger)].any(axis=1)
        return int(images.sum()), len(both)


def pool(rows: pd.DataFrame, methods: dict[str, Method]) -> Pool:
    """The ``outcomes`` of one model on one data set as a pool."""
    fooled = rows["fooled"].astype("float64").where(rows["started"])
    wide = rows.assign(fooled=fooled, distance=rows["distance"].where(rows["started"]))
    table, distance = (wide.pivot(index="image", columns="method", values=name) for name in ("fooled", "distance"))
    return Pool(methods, labels.short(methods.values(), always=("norm", "eps")), table, distance)


def pool_of(run: Run, model: str, data: str) -> Pool:
    """What a run says of one model on one data set."""
    rows, shares = (groups.get((model, data), groups[NO_ONE]) for groups in _by_model(run))
    attacks = pool(rows, run.methods(rows["method"]))
    before = where(shares, kind="clean", metric="confidence").drop_duplicates("image")
    clean = before.set_index("image")["value"]
    after = _wide(where(shares, kind="attack", metric="confidence"), "method")
    shift = after.sub(clean.where(clean < SATURATED), axis=0).abs()
    shown = where(shares, kind="transfer", metric="fooling_rate")
    balls = in_balls(run.methods(shown["method"]))
    strange = [model not in source.split("+") for source in shown["source"]]
    shown = shown[np.array(strange, dtype=bool) & shown["method"].isin(list(balls))]
    brief = run.short(shown["method"], always=("norm", "eps"))
    shown = shown.assign(column=shown["method"].map(brief) + " on " + shown["source"])
    strangers = {column: run.method(text) for column, text in zip(shown["column"], shown["method"], strict=True)}
    total = {str(method): int(count) for method, count in rows.groupby("method")["image"].nunique().items()}
    return attacks._replace(total=total, shift=shift, transferred=_wide(shown, "column"), strangers=strangers)


@lru_cache(maxsize=1)
def _by_model(run: Run) -> tuple[dict[tuple[str, str], pd.DataFrame], ...]:
    """``outcomes``, and the rows of other shares that ``pool_of`` reads, by model and data set; none at ``NO_ONE``."""
    rows = run.rows
    rows = rows[rows["metric"].isin(["confidence", "fooling_rate"])]
    return tuple(
        {NO_ONE: table.iloc[:0]} | {(str(m), str(d)): group for (m, d), group in table.groupby(["model", "data"])}
        for table in (outcomes(run), rows)
    )


def _wide(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Values, images by ``by``."""
    return rows.drop_duplicates(["image", by]).pivot(index="image", columns=by, values="value")
