"""Whether the attacks of a run contradict each other (Carlini et al. 2019, arXiv:1902.06705, section 5).

Each check looks at the outcomes of one model on one data set. What it finds becomes a row of tables/checks.csv and,
where it failed, a flag of the attacks that should have been stronger.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

import pandas as pd

from assay.reports.run import labels
from assay.reports.run.curves import robust_at
from assay.reports.run.flags import raised
from assay.reports.run.intervals import overlap, wilson
from assay.reports.run.outcomes import outcomes
from assay.reports.run.reader import Run, where
from assay.reports.run.records import Method

PASSED, FAILED, NOT_TESTED = "passed", "failed", "not tested"
SLACK = 0.01  # of the images: one that two attacks happen to disagree on is no contradiction
LITTLE = 0.05  # of the images: a longer run may change them, an attack may go astray on them
ASTRAY = ("zero-gradient", "silent-success", "incomplete")  # of MODEL_CHECKS, those that concern single attacks
COLUMNS = ["model", "data", "check", "state", "images", "detail"]
Flags = dict[tuple[str, str, str, str], dict[str, int]]  # of a cell (model, data, kind, method): images against it


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


class Pool(NamedTuple):
    """The attacks on one model and data set: methods, short names, and images by attacks."""

    methods: dict[str, Method]
    brief: dict[str, str]
    fooled: pd.DataFrame  # 1.0, 0.0, NaN where the attack failed or had nothing to do
    distance: pd.DataFrame

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

    def missed(self, stronger: Iterable[str], weaker: Iterable[str]) -> tuple[int, int]:
        """Images that one of ``weaker`` fooled and none of ``stronger`` did, and how many all of them met."""
        both = self.fooled[[*stronger, *weaker]].dropna()
        images = both[list(weaker)].any(axis=1) & ~both[list(stronger)].any(axis=1)
        return int(images.sum()), len(both)


class Check(NamedTuple):
    """A question to all attacks of a run; ``flag`` marks the attacks that should have been stronger."""

    name: str
    flag: str
    words: str  # of the flag
    compare: Callable[[Pool], Evidence]


@lru_cache(maxsize=1)
def contradictions(run: Run) -> tuple[pd.DataFrame, Flags]:
    """The table of checks, and for each attack's cell the flags with the images against it."""
    records: list[tuple[object, ...]] = []
    flags: Flags = {}
    on_images = raised(run.select("attack"), ["model", "data", "method", "image"])
    for model, data in ((model, data) for data in run.data for model in run.models):
        rows = where(outcomes(run), model=model, data=data)
        if not len(rows):
            continue
        attacks = pool(rows, run.methods(rows["method"]))
        for check in CHECKS:
            evidence = check.compare(attacks)
            records.append((model, data, check.name, evidence.state, evidence.images, evidence.detail))
            for method, count in evidence.flags.items():
                flags.setdefault((model, data, "attack", method), {})[check.flag] = count
        on_model = where(on_images, model=model, data=data)
        measured = rows[rows["method"].isin([text for text, method in attacks.methods.items() if method.norm])]
        for flag, question in MODEL_CHECKS.items():
            described = any(method.about or method.name != method.class_name for method in attacks.methods.values())
            evidence = flagged(on_model, flag, measured, attacks.brief, described)
            records.append((model, data, question, evidence.state, evidence.images, evidence.detail))
    return pd.DataFrame(records, columns=COLUMNS), flags


def pool(rows: pd.DataFrame, methods: dict[str, Method]) -> Pool:
    """The outcomes of one model on one data set as a pool."""
    fooled = rows["fooled"].astype("float64").where(rows["started"])
    wide = rows.assign(fooled=fooled, distance=rows["distance"].where(rows["started"]))
    tables = (wide.pivot(index="image", columns="method", values=column) for column in ("fooled", "distance"))
    return Pool(methods, labels.short(methods.values(), always=("norm", "eps")), *tables)


def single_step(attacks: Pool) -> Evidence:
    """Many steps fool what one step fools, image by image, in the same ball with the same goal."""
    evidence = Evidence()
    for methods in attacks.within():
        gradient = attacks.gradient(methods)
        single = [method for method in gradient if attacks.methods[method].single]
        for method in (method for method in gradient if method not in single):
            for rival in single:
                count, total = attacks.missed([method], [rival])
                evidence.against(count, total, [method], _words(attacks, method, count, total, rival))
    return evidence


def black_box(attacks: Pool) -> Evidence:
    """Some attack with gradients fools what an attack without them fools, or finds a change as small."""
    evidence = Evidence()
    for methods in attacks.within():
        white = attacks.gradient(methods)
        for rival in attacks.black_box(methods) if white else ():
            count, total = attacks.missed(white, [rival])
            weak = [method for method in white if not attacks.methods[method].single] or white
            evidence.against(count, total, weak, _words(attacks, "every gradient attack", count, total, rival))
    for norm in labels.NORMS:
        white = attacks.gradient(attacks.minimal(norm))
        for rival in attacks.black_box(attacks.minimal(norm)) if white else ():
            both = attacks.distance[[*white, rival]].dropna()
            count = int((both[rival] < (1 - LITTLE) * both[white].min(axis=1)).sum())
            text = f"{attacks.brief[rival]} found a smaller {labels.NORMS[norm]} change than every gradient attack"
            evidence.against(count, len(both), white, f"{text} on {count} of {len(both)} images")
    return evidence


def noise(attacks: Pool) -> Evidence:
    """Random noise of the same size fools fewer images."""
    evidence = Evidence()
    for methods in attacks.within():
        quiet = [method for method in methods if attacks.methods[method].access == "none"]
        for method in (method for method in methods if method not in quiet):
            for rival in quiet:
                both = attacks.fooled[[method, rival]].dropna()
                ahead = int(both[rival].sum() - both[method].sum())
                brief = attacks.brief
                text = f"{brief[rival]} fooled {ahead} more of {len(both)} images than {brief[method]}"
                evidence.against(max(0, ahead), len(both), [method], text)
    return evidence


def larger(attacks: Pool) -> Evidence:
    """An attack that may change more fools what it fooled before; one step may overshoot and is not asked."""
    evidence = Evidence()
    for methods in _families(attacks, bounded=True):
        for less, more in pairwise(sorted(methods, key=lambda method: attacks.methods[method].eps or 0)):
            if not attacks.methods[more].single and attacks.methods[more].access != "none":
                count, total = attacks.missed([more], [less])
                evidence.against(count, total, [more], _words(attacks, more, count, total, less))
    return evidence


def effort(attacks: Pool) -> Evidence:
    """More steps or restarts change little."""
    evidence = Evidence(slack=LITTLE)
    for methods in _families(attacks, bounded=False):
        for couple in combinations(methods, 2):
            less, more = sorted(couple, key=lambda method: _effort(attacks.methods[method]))
            efforts = zip(_effort(attacks.methods[less]), _effort(attacks.methods[more]), strict=True)
            if all(fewer <= many for fewer, many in efforts):
                both = attacks.distance[[less, more]].dropna()
                change = both[more] < 0.9 * both[less]
                if attacks.methods[less].bounded:
                    both = attacks.fooled[[less, more]].dropna()
                    change = both[more] > both[less]
                count = int(change.sum())
                brief = attacks.brief
                text = f"{brief[more]} did better than {brief[less]} on {count} of {len(both)} images"
                evidence.against(count, len(both), [less], text)
    return evidence


def curve(attacks: Pool) -> Evidence:
    """At each radius, smallest distances and attacks in the ball leave robust accuracies whose intervals overlap."""
    evidence = Evidence(slack=0)
    for norm in labels.NORMS:
        free = attacks.minimal(norm)
        for methods in attacks.within(aimed=False):
            first = attacks.methods[methods[0]]
            real = [m for m in methods if not attacks.methods[m].single and attacks.methods[m].access != "none"]
            if not free or not real or first.norm != norm:
                continue
            both = attacks.distance[free].min(axis=1, skipna=False).to_frame("curve")
            both["point"] = attacks.fooled[real].max(axis=1, skipna=False)
            both = both.dropna()
            radius, n = float(first.eps or 0), len(both)
            on_curve, at_point = robust_at(both["curve"].to_numpy(), radius), int((both["point"] == 0).sum())
            apart = 0 if overlap(wilson(on_curve, n), wilson(at_point, n)) else abs(on_curve - at_point)
            text = f"within {labels.ball(norm, radius)} the smallest distances leave {on_curve} of {n} images, "
            weak = free if on_curve > at_point else real
            evidence.against(apart, n, weak, f"{text}the attacks with that budget {at_point}")
    return evidence


def gradient_free(attacks: Pool) -> Evidence:
    """Whether an attack without gradients is among them."""
    return _present(attacks, ("score", "decision"))


def decision_based(attacks: Pool) -> Evidence:
    """Whether an attack that sees only the class is among them."""
    return _present(attacks, ("decision",))


def flagged(
    on_images: pd.DataFrame, flag: str, outcomes: pd.DataFrame, brief: dict[str, str], described: bool
) -> Evidence:
    """Whether a flag was raised on too many images of one model; runs that describe no attack looked for fewer."""
    evidence = Evidence(slack=LITTLE if flag in ASTRAY else SLACK)
    totals = outcomes.groupby("method")["image"].nunique()
    counts = where(on_images, flag=flag).groupby("method")["image"].nunique()
    for method, total in totals.items() if described or len(counts) else ():
        count = int(counts.get(method, 0))
        evidence.against(count, int(total), (), f"{brief[str(method)]}: {count} of {total} images")
    return evidence


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


def _families(attacks: Pool, bounded: bool) -> list[list[str]]:
    """Attacks equal but for the radius, else but for steps and restarts."""
    groups: dict[object, list[str]] = {}
    for text, method in attacks.methods.items():
        if method.universal or (bounded and not method.bounded) or not (method.bounded or method.minimal):
            continue
        free = ("eps",) if bounded else ("steps", "restarts", "eps")
        settings = {key: value for key, value in method.settings.items() if key not in free}
        family = (method.name, method.norm, method.goal, repr(sorted(settings.items())))
        groups.setdefault((*family, None if bounded else method.eps), []).append(text)
    return [methods for methods in groups.values() if len(methods) > 1]


def _effort(method: Method) -> tuple[float, float]:
    steps, restarts = (method.settings.get(key) for key in ("steps", "restarts"))
    return float(steps or 1), float(restarts or 1)


def _present(attacks: Pool, access: tuple[str, ...]) -> Evidence:
    methods = [text for text, method in attacks.methods.items() if method.access in access]
    return Evidence(total=len(methods), detail=attacks.brief[methods[0]] if methods else "")


def _words(attacks: Pool, method: str, count: int, total: int, rival: str) -> str:
    return f"{attacks.brief.get(method, method)} missed {count} of {total} images that {attacks.brief[rival]} fooled"
