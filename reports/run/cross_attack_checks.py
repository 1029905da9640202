"""Whether the attacks of a run contradict each other (Carlini et al. 2019, arXiv:1902.06705, section 5).

Each check looks at the outcomes of one model on one data set. What it finds becomes a row of tables/checks.csv and,
where it failed, a flag of the attacks that should have been stronger.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import NamedTuple

import pandas as pd

from assay.reports.run import labels as names
from assay.reports.run.curves import robust_at
from assay.reports.run.outcomes import Facts, all_facts, outcomes
from assay.reports.run.intervals import overlap, wilson
from assay.reports.run.reader import Run

PASSED, FAILED, NOT_TESTED = "passed", "failed", "not tested"
SLACK = 0.01  # of the images: one that two attacks happen to disagree on is no contradiction
LITTLE = 0.05  # of the images: a longer run may change them, an attack may go astray on them
ASTRAY = ("zero-gradient", "silent-success", "incomplete")  # of MODEL_CHECKS, those that concern single attacks
COLUMNS = ["model", "data", "check", "state", "images", "detail"]
Flags = dict[tuple[str, str, str], dict[str, int]]  # of a model, data set and attack: images against it


@dataclass(slots=True)
class Found:
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


class Pool(NamedTuple):
    """The attacks on one model and data set: facts, short names, and images by attacks."""

    known: dict[str, Facts]
    brief: dict[str, str]
    fooled: pd.DataFrame  # 1.0, 0.0, NaN where the attack failed or had nothing to do
    distance: pd.DataFrame

    def within(self, *, aimed: bool = True) -> list[list[str]]:
        """Attacks in one ball with one goal."""
        groups: dict[tuple[object, ...], list[str]] = {}
        for method, found in self.known.items():
            if found.bounded and not found.universal and (aimed or not found.goal):
                groups.setdefault((found.norm, found.eps, found.goal), []).append(method)
        return list(groups.values())

    def missed(self, stronger: Iterable[str], weaker: Iterable[str]) -> tuple[int, int]:
        """Images that one of ``weaker`` fooled and none of ``stronger`` did, and how many all of them met."""
        both = self.fooled[[*stronger, *weaker]].dropna()
        lost = both[list(weaker)].any(axis=1) & ~both[list(stronger)].any(axis=1)
        return int(lost.sum()), len(both)


class Check(NamedTuple):
    """A question to all attacks of a run; ``flag`` marks the attacks that should have been stronger."""

    name: str
    flag: str
    words: str  # of the flag
    look: Callable[[Pool], Found]


def run(run: Run) -> tuple[pd.DataFrame, Flags]:
    """The table of checks, and for each model, data set and attack the flags with the images against it."""
    every = outcomes(run)
    records: list[tuple[object, ...]] = []
    flags: Flags = {}
    raised = _raised(run)
    for model, data in ((model, data) for data in run.data for model in run.models):
        rows = every[(every["model"] == model) & (every["data"] == data)]
        if not len(rows):
            continue
        pool = gather(rows, all_facts(run, rows["method"]))
        for check in CHECKS:
            found = check.look(pool)
            records.append((model, data, check.name, found.state, found.images, found.detail))
            for method, count in found.flags.items():
                flags.setdefault((model, data, method), {})[check.flag] = count
        for flag, question in MODEL_CHECKS.items():
            measured = rows[rows["method"].isin([method for method, facts in pool.known.items() if facts.norm])]
            found = flagged(raised, flag, model, data, measured, pool.brief, bool(run.info.get("attacks")))
            records.append((model, data, question, found.state, found.images, found.detail))
    return pd.DataFrame(records, columns=COLUMNS), flags


def gather(rows: pd.DataFrame, known: dict[str, Facts]) -> Pool:
    """The outcomes of one model on one data set as a pool."""
    fooled = rows["fooled"].astype("float64").where(rows["started"])
    wide = rows.assign(fooled=fooled, distance=rows["distance"].where(rows["started"]))
    tables = (wide.pivot(index="image", columns="method", values=column) for column in ("fooled", "distance"))
    return Pool(known, names.short(known, always=("norm", "eps")), *tables)


def single_step(pool: Pool) -> Found:
    """Many steps fool what one step fools, image by image, in the same ball with the same goal."""
    found = Found()
    for methods in pool.within():
        gradient = [method for method in methods if pool.known[method].access == "gradient"]
        single = [method for method in gradient if pool.known[method].single]
        for method in (method for method in gradient if method not in single):
            for rival in single:
                count, total = pool.missed([method], [rival])
                found.against(count, total, [method], _words(pool, method, count, total, rival))
    return found


def black_box(pool: Pool) -> Found:
    """Some attack with gradients fools what an attack without them fools, or finds a change as small."""
    found = Found()
    for methods in pool.within():
        white = [method for method in methods if pool.known[method].access == "gradient"]
        black = [method for method in methods if pool.known[method].access in ("score", "decision")]
        for rival in black if white else ():
            count, total = pool.missed(white, [rival])
            blamed = [method for method in white if not pool.known[method].single] or white
            found.against(count, total, blamed, _words(pool, "every gradient attack", count, total, rival))
    for norm in names.NORMS:
        free = [method for method, facts in pool.known.items() if facts.minimal and facts.norm == norm]
        white = [method for method in free if pool.known[method].access == "gradient"]
        for rival in (method for method in free if pool.known[method].access in ("score", "decision") and white):
            both = pool.distance[[*white, rival]].dropna()
            count = int((both[rival] < (1 - LITTLE) * both[white].min(axis=1)).sum())
            text = f"{pool.brief[rival]} found a smaller {names.NORMS[norm]} change than every gradient attack"
            found.against(count, len(both), white, f"{text} on {count} of {len(both)} images")
    return found


def noise(pool: Pool) -> Found:
    """Random noise of the same size fools fewer images."""
    found = Found()
    for methods in pool.within():
        quiet = [method for method in methods if pool.known[method].access == "none"]
        for method in (method for method in methods if method not in quiet):
            for rival in quiet:
                both = pool.fooled[[method, rival]].dropna()
                ahead = int(both[rival].sum() - both[method].sum())
                text = f"{pool.brief[rival]} fooled {ahead} more of {len(both)} images than {pool.brief[method]}"
                found.against(max(0, ahead), len(both), [method], text)
    return found


def larger(pool: Pool) -> Found:
    """An attack that may change more fools what it fooled before; one step may overshoot and is not asked."""
    found = Found()
    for methods in _families(pool, bounded=True):
        for less, more in pairwise(sorted(methods, key=lambda method: pool.known[method].eps or 0)):
            if not pool.known[more].single and pool.known[more].access != "none":
                count, total = pool.missed([more], [less])
                found.against(count, total, [more], _words(pool, more, count, total, less))
    return found


def effort(pool: Pool) -> Found:
    """More steps or restarts change little."""
    found = Found(slack=LITTLE)
    for methods in _families(pool, bounded=False):
        for one, two in combinations(methods, 2):
            less, more = sorted((one, two), key=lambda method: _effort(pool.known[method]))
            if all(a <= b for a, b in zip(_effort(pool.known[less]), _effort(pool.known[more]), strict=True)):
                both = pool.distance[[less, more]].dropna()
                change = both[more] < 0.9 * both[less]
                if pool.known[less].bounded:
                    both = pool.fooled[[less, more]].dropna()
                    change = both[more] > both[less]
                count = int(change.sum())
                text = f"{pool.brief[more]} did better than {pool.brief[less]} on {count} of {len(both)} images"
                found.against(count, len(both), [less], text)
    return found


def curve(pool: Pool) -> Found:
    """At each radius, smallest distances and attacks in the ball leave robust accuracies whose intervals overlap."""
    found = Found(slack=0)
    for norm in names.NORMS:
        free = [method for method, facts in pool.known.items() if facts.minimal and facts.norm == norm]
        for methods in pool.within(aimed=False):
            facts = pool.known[methods[0]]
            real = [m for m in methods if not pool.known[m].single and pool.known[m].access != "none"]
            if not free or not real or facts.norm != norm:
                continue
            both = pool.distance[free].min(axis=1, skipna=False).to_frame("curve")
            both["point"] = pool.fooled[real].max(axis=1, skipna=False)
            both = both.dropna()
            radius, n = float(facts.eps or 0), len(both)
            on_curve, at_point = robust_at(both["curve"].to_numpy(), radius), int((both["point"] == 0).sum())
            apart = 0 if overlap(wilson(on_curve, n), wilson(at_point, n)) else abs(on_curve - at_point)
            text = f"within {names.ball(norm, radius)} the smallest distances leave {on_curve} of {n} images, "
            blamed = free if on_curve > at_point else real
            found.against(apart, n, blamed, f"{text}the attacks with that budget {at_point}")
    return found


def gradient_free(pool: Pool) -> Found:
    """Whether an attack without gradients is among them."""
    return _present(pool, ("score", "decision"))


def decision_based(pool: Pool) -> Found:
    """Whether an attack that sees only the class is among them."""
    return _present(pool, ("decision",))


def flagged(
    raised: pd.DataFrame, flag: str, model: str, data: str, rows: pd.DataFrame, brief: dict[str, str], asked: bool
) -> Found:
    """Whether a flag on images was raised for too many of them; runs that describe no attack asked less."""
    found = Found(slack=LITTLE if flag in ASTRAY else SLACK)
    mine = raised[(raised["model"] == model) & (raised["data"] == data)]
    totals = rows.groupby("method")["image"].nunique()
    counts = mine[mine["flag"] == flag].groupby("method")["image"].nunique()
    for method, total in totals.items() if asked or len(counts) else ():
        count = int(counts.get(method, 0))
        found.against(count, int(total), (), f"{brief[str(method)]}: {count} of {total} images")
    return found


CHECKS = (
    Check(
        "many steps beat one",
        "weaker-than-single-step",
        "Attacks of one step fooled this many images that this attack of many steps did not: it is badly set.",
        single_step,
    ),
    Check(
        "gradients beat black boxes",
        "weaker-than-black-box",
        "An attack without gradients fooled this many images that no attack with gradients did: the model's gradients "
        "mislead.",
        black_box,
    ),
    Check(
        "attacks beat noise",
        "weaker-than-noise",
        "Random noise of the same size fooled this many images more: the attack does not work here.",
        noise,
    ),
    Check(
        "a larger radius is stronger",
        "weaker-at-larger-eps",
        "The same attack with a smaller radius fooled this many images that this one did not: it wastes its room.",
        larger,
    ),
    Check(
        "more steps change little",
        "unsettled",
        "More steps or restarts did clearly better on this many images: the attack had not come to rest.",
        effort,
    ),
    Check(
        "curves and points agree",
        "curve-apart",
        "Smallest distances and attacks with a budget disagree at a radius, beyond their intervals, and this attack is "
        "on the weaker side.",
        curve,
    ),
    Check("a gradient-free attack was run", "", "", gradient_free),
    Check("a decision-based attack was run", "", "", decision_based),
)
MODEL_CHECKS = {
    "not-repeatable": "the same answer twice",
    "probabilities": "logits, not probabilities",
    "gradient-in-forward": "no gradients inside the forward pass",
    "batch-dependent": "images do not depend on their neighbours",
    "zero-gradient": "gradients are not zero",
    "silent-success": "attacks return what they found",
    "incomplete": "attacks came to rest",
    "non-finite": "attacks return numbers",
    "over-budget": "attacks keep their budget",
}


def _raised(run: Run) -> pd.DataFrame:
    rows = run.rows[(run.rows["kind"] == "attack") & (run.rows["flags"] != "")]
    rows = rows[["model", "data", "method", "image", "flags"]].drop_duplicates()
    rows = rows.assign(flag=rows["flags"].str.split(";")).explode("flag")
    return rows.assign(flag=rows["flag"].str.strip())


def _families(pool: Pool, bounded: bool) -> list[list[str]]:
    """Attacks equal but for the radius, else but for steps and restarts."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for method, facts in pool.known.items():
        if facts.universal or (bounded and not facts.bounded) or not (facts.bounded or facts.minimal):
            continue
        settings = json.loads(facts.settings)
        if not bounded:
            settings = {key: value for key, value in settings.items() if key not in ("steps", "restarts")}
        rest = json.dumps(settings, sort_keys=True)
        groups.setdefault((facts.name, facts.norm, facts.goal, rest, None if bounded else facts.eps), []).append(method)
    return [methods for methods in groups.values() if len(methods) > 1]


def _effort(facts: Facts) -> tuple[float, float]:
    settings = json.loads(facts.settings)
    steps, restarts = (settings.get(key) for key in ("steps", "restarts"))
    return float(steps or 1), float(restarts or 1)


def _present(pool: Pool, access: tuple[str, ...]) -> Found:
    there = [method for method, facts in pool.known.items() if facts.access in access]
    return Found(total=len(there), detail=pool.brief[there[0]] if there else "")


def _words(pool: Pool, method: str, count: int, total: int, rival: str) -> str:
    return f"{pool.brief.get(method, method)} missed {count} of {total} images that {pool.brief[rival]} fooled"
