"""Whether the attacks of a run contradict each other (Carlini et al. 2019, arXiv:1902.06705, section 5).

Each check looks at the outcomes of one model on one data set. What it finds becomes a row of tables/checks.csv and,
where it failed, a flag of the attacks that should have been stronger.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import lru_cache
from itertools import combinations, pairwise
from typing import NamedTuple

import pandas as pd

from assay.reports.run import attack_coverage, glossary, labels
from assay.reports.run.attack_coverage import MISSING, coverage
from assay.reports.run.attack_pool import FAILED, LITTLE, NOT_TESTED, PASSED, SLACK, Evidence, Pool, pool_of
from assay.reports.run.curves import robust_at
from assay.reports.run.flags import name_of, raised
from assay.reports.run.intervals import overlap, wilson
from assay.reports.run.reader import Run, where
from assay.reports.run.records import Method

ASTRAY = ("zero-gradient", "silent-success", "incomplete", "flat-loss")  # that concern single attacks
STILL = 1e-6  # of a probability: what another batch split can change
WIDE = 0.5  # the Linf radius within which every image can become plain grey
NEAR = 0.75  # of a radius: what lies within needs no more than an attack of that radius has
ALL_RAN = "every attack ran"
COLUMNS = ["model", "data", "check", "flag", "state", "images", "detail"]
__all__ = ["CHECKS", "FAILED", "NOT_TESTED", "PASSED", "contradictions"]
Flags = dict[tuple[str, str, str, str], dict[str, int]]  # of a cell (model, data, kind, method): images against it


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
    on_images = on_images.assign(flag=on_images["flag"].map(name_of))
    tried = where(coverage(run), kind="attack")
    tried = tried[tried["state"] != MISSING]
    for model, data in ((model, data) for data in run.data for model in run.models):
        if not len(where(tried, model=model, data=data)):
            continue
        attacks = pool_of(run, model, data)
        counts = where(on_images, model=model, data=data).groupby(["flag", "method"])["image"].nunique().to_dict()
        for check in CHECKS:
            evidence = check.compare(attacks)
            records.append((model, data, check.name, check.flag, *evidence.verdict))
            for method, count in evidence.flags.items():
                flags.setdefault((model, data, "attack", method), {})[check.flag] = count
        records.append((model, data, ALL_RAN, "attack-failed", *failures(run, model, data).verdict))
        for flag, question in questions(run, set(on_images["flag"])).items():
            records.append((model, data, question, flag, *flagged(counts, flag, attacks).verdict))
    return pd.DataFrame(records, columns=COLUMNS), flags


def questions(run: Run, flags: set[str]) -> dict[str, str]:
    """What each flag of an image asks of a model; one that nothing describes is asked as well."""
    unknown = sorted(flags - set(glossary.flags(run)))
    return MODEL_CHECKS | {flag: f"nothing is flagged {flag}" for flag in unknown}


def failures(run: Run, model: str, data: str) -> Evidence:
    """Whether an attack failed on the model, which then met fewer than others: on all images."""
    rows = where(coverage(run), model=model, data=data, kind="attack")
    failed = where(rows, state=attack_coverage.FAILED)
    n = int(run.info.data.get(data, {}).get("n") or 1)
    evidence = Evidence(total=n)
    if len(failed):
        brief = run.short(rows["method"], always=("norm", "eps"))
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        detail = f"{brief[failed['method'].iloc[0]]}{more} failed: {failed['reason'].iloc[0]}"
        evidence.against(n, n, (), detail)
    return evidence


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
    """Some attack with gradients fools what an attack without them fools, or finds a change as small.

    Where none has the black box's radius, those of the next larger one should do as well.
    """
    evidence = Evidence()
    for rival in attacks.black_box(method for methods in attacks.within() for method in methods):
        white = _as_wide(attacks, attacks.methods[rival])
        if white:
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
    for rival, white in _near_rivals(attacks):
        radius = attacks.methods[white[0]].eps or 0
        both = attacks.fooled[white].join(attacks.distance[rival], how="inner").dropna()
        count = int(((both[rival] <= NEAR * radius) & ~both[white].any(axis=1)).sum())
        text = f"{attacks.brief[rival]} fooled {count} of {len(both)} images well within {attacks.brief[white[0]]}"
        evidence.against(count if count > LITTLE * len(both) else 0, len(both), white, f"{text}, which missed them")
    return evidence


def transfer(attacks: Pool) -> Evidence:
    """Some attack with gradients fools what images made on another model fool, in the same ball."""
    evidence = Evidence()
    for column, method in attacks.strangers.items():
        white = [rival for rival in _as_wide(attacks, method) if not attacks.methods[rival].single]
        if white:
            both = attacks.fooled[white].join(attacks.transferred[column], how="inner").dropna()
            count = int(((both[column] == 1) & ~both[white].any(axis=1)).sum())
            text = f"every gradient attack missed {count} of {len(both)} images that {column} fooled"
            evidence.against(count, len(both), white, text)
    return evidence


def answers(attacks: Pool) -> Evidence:
    """An attack that follows gradients and does not fool moves the model's confidence, unless that is saturated."""
    evidence = Evidence(slack=LITTLE)
    for method in attacks.gradient(method for methods in attacks.within() for method in methods):
        if method in attacks.shift and attacks.methods[method].eps:
            started = attacks.fooled[method].dropna()
            shift = attacks.shift[method].reindex(started.index).dropna()
            count = int(((shift <= STILL) & (started[shift.index] == 0)).sum())
            text = f"{attacks.brief[method]} left the model's confidence as it was on {count} of {len(started)} images"
            evidence.against(count, len(started) if len(shift) else 0, [method], text)
    return evidence


def unlimited(attacks: Pool) -> Evidence:
    """Some attack that may change an image as much as it needs fools it."""
    evidence = Evidence(slack=LITTLE)
    free = [method for norm in ("linf", "l2", "l1") for method in attacks.minimal(norm)]
    wide = [method for methods in attacks.within(aimed=False) for method in attacks.gradient(methods)]
    free += [m for m in wide if attacks.methods[m].norm == "linf" and (attacks.methods[m].eps or 0) >= WIDE]
    if free:
        both = attacks.fooled[free].dropna(how="all")
        count = int((~(both == 1).any(axis=1)).sum())
        evidence.against(count, len(both), free, f"no attack fooled {count} of {len(both)} images by any change")
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
            _far_apart(attacks, evidence, attacks.gradient(free), attacks.gradient(real), radius)
    return evidence


def _far_apart(attacks: Pool, evidence: Evidence, free: list[str], real: list[str], radius: float) -> None:
    """Take in the images whose smallest change is over twice the radius that fools, or under half of one that fails."""
    if not free or not real:
        return
    both = attacks.distance[free].min(axis=1, skipna=False).to_frame("curve")
    both["point"] = attacks.fooled[real].max(axis=1, skipna=False)
    both = both.dropna()
    far = int(((both["point"] == 1) & (both["curve"] > 2 * radius)).sum())
    near = int(((both["point"] == 0) & (both["curve"] < radius / 2)).sum())
    for count, weak, text in (
        (far, free, "over twice the radius at which attacks with a budget fool"),
        (near, real, "under half the radius at which attacks with a budget fail"),
    ):
        detail = f"the smallest distance is {text} on {count} of {len(both)} images"
        evidence.against(count if count > LITTLE * len(both) else 0, len(both), weak, detail)


def gradient_free(attacks: Pool) -> Evidence:
    """Whether an attack without gradients is among them."""
    return attacks.present("score", "decision")


def decision_based(attacks: Pool) -> Evidence:
    """Whether an attack that sees only the class is among them."""
    return attacks.present("decision")


def flagged(counts: Mapping[Hashable, int], flag: str, attacks: Pool) -> Evidence:
    """Whether a flag was raised on too many images of one model, from counts by flag and method.

    Runs that describe no attack looked for fewer flags.
    """
    evidence = Evidence(slack=SLACK if flag in MODEL_CHECKS and flag not in ASTRAY else LITTLE)
    described = any(method.about or method.name != method.class_name for method in attacks.methods.values())
    own = {method: int(counts.get((flag, method), 0)) for method in attacks.total}
    for method, total in attacks.total.items() if described or any(own.values()) else ():
        count = own[method]
        if attacks.methods[method].norm:
            evidence.against(count, total, (), f"{attacks.brief[method]}: {count} of {total} images")
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
        "gradients beat strangers",
        "weaker-than-transfer",
        "Images made on another model fooled this many images that no attack with gradients did: the model's gradients "
        "mislead.",
        transfer,
    ),
    Check(
        "answers move with the image",
        "answers-equal",
        "The model was exactly as sure of this many images after the attack as before: it answers for images that it "
        "knows, or the attack did nothing.",
        answers,
    ),
    Check(
        "enough change fools",
        "never-fooled",
        "No attack fooled this many images however much it might change them, which nothing withstands: the attacks "
        "do not work here.",
        unlimited,
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
    "wrong-gradient": "gradients tell how answers change",
    "flat-loss": "the loss moves",
    "silent-success": "attacks return what they found",
    "incomplete": "attacks came to rest",
    "non-finite": "attacks return numbers",
    "over-budget": "attacks keep their budget",
    "non-finite-logits": "every image has an answer",
}


def _as_wide(attacks: Pool, rival: Method) -> list[str]:
    """Attacks with gradients in the rival's ball; else those of many steps in the next larger one."""
    white = attacks.gradient(
        text
        for text, method in attacks.methods.items()
        if method.bounded and not method.universal and (method.norm, method.goal) == (rival.norm, rival.goal)
    )
    sizes = {method: attacks.methods[method].eps or 0 for method in white}
    if rival.eps in sizes.values():
        return [method for method in white if sizes[method] == rival.eps]
    larger = [m for m in white if sizes[m] > (rival.eps or 0) and not attacks.methods[m].single]
    return [method for method in larger if sizes[method] == min(map(sizes.__getitem__, larger))]


def _near_rivals(attacks: Pool) -> Iterator[tuple[str, list[str]]]:
    """Each black box that looks for the smallest change, with the attacks with gradients in a ball of its norm."""
    for methods in attacks.within(aimed=False):
        white = [method for method in attacks.gradient(methods) if not attacks.methods[method].single]
        for rival in attacks.black_box(attacks.minimal(attacks.methods[methods[0]].norm)) if white else ():
            yield rival, white


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


def _words(attacks: Pool, method: str, count: int, total: int, rival: str) -> str:
    return f"{attacks.brief.get(method, method)} missed {count} of {total} images that {attacks.brief[rival]} fooled"
