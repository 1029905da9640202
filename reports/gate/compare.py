"""Two runs compared: one verdict."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from assay.reports.gate import baseline, planned, values
from assay.reports.gate.art import SORTS, Array, Cell, Key, Picture, arrays_of
from assay.reports.gate.change import Change, Pair, Verdict, Words, ordered, plural
from assay.reports.gate.distil import Distilled, thin
from assay.reports.gate.likeness import Measures, changed, measure, mistaken, refused
from assay.reports.gate.tolerances import PictureRule, Tolerances, read

NOTHING = "no value was compared: the runs have no outcome in common"


def compare(
    old: Distilled, new: Distilled, tolerances: Tolerances | None = None, rules: str = "the shipped ones"
) -> Verdict:
    """What changed from ``old`` to ``new``. A run beside a baseline is thinned as the baseline is."""
    tolerances = tolerances or read()
    old, new = thin(old, new.side), thin(new, old.side)
    words = Words(old, new)
    both = values.pair(old.rows, new.rows)
    pictures = list(_pictures(old, new, tolerances))
    same = planned.same_weights(old.facts, new.facts)
    changes = [
        *([] if values.compared(both) else [Change("regression", "cell", NOTHING)]),
        *planned.planned(old.facts, new.facts, tolerances),
        *planned.cells(old, new, words),
        *planned.metrics(both, old, new, words),
        *values.images(both, words),
        *values.values(both, tolerances, old.facts["metrics"], same, words),
        *values.flags(both, tolerances, words),
        *_pictures_moved(pictures, words),
        *_on_one_side(old, new, words),
    ]
    common = both[both["side"] == "both"]
    cells = common[[*Cell._fields]].drop_duplicates().itertuples(index=False, name=None)
    groups = {(Cell(*cell), "values") for cell in cells} | {(each.key.cell, each.new.sort) for each in pictures}
    return Verdict(
        old=old,
        new=new,
        changes=ordered(changes),
        pictures=tuple(pictures),
        groups=tuple(sorted(groups)),
        values=len(common),
        rules=rules,
    )


def _pictures(old: Distilled, new: Distilled, tolerances: Tolerances) -> Iterator[Pair]:
    class_pictures: dict[tuple[Cell, str], list[Key]] = defaultdict(list)
    for key, picture in new.pictures.items():
        if picture.sort == "drawn":
            class_pictures[key.cell, key.array].append(key)
    for key, before in old.pictures.items():
        after = new.pictures.get(key)
        if after is None:
            continue
        rule = tolerances.picture(key.cell, before.sort)
        reason = refused(before, after)
        if reason:
            yield Pair(key, before, after, None, rule, (reason,), np.inf)
            continue
        others = [new.pictures[other].array for other in class_pictures[key.cell, key.array] if other != key]
        measures = measure(before.array, after.array)._replace(
            change=_attack(key, old.pictures, new.pictures),
            own=mistaken(before.array, after.array, [other for other in others if other.shape == after.array.shape]),
        )
        shares = dict(_shares(measures, rule))
        excess = tuple(name for name, share in shares.items() if share > 1)
        yield Pair(key, before, after, measures, rule, excess, max(shares.values(), default=0.0))


def _attack(key: Key, old: Mapping[Key, Picture], new: Mapping[Key, Picture]) -> float:
    """``changed`` of an attacked image whose cell keeps the image as well; NaN for other pictures."""
    arrays = arrays_of(key.kind, key.array)
    sides: list[tuple[Array, Array]] = []
    for side in (old, new) if arrays and arrays.before else ():
        image = side.get(key._replace(array=arrays.before)) if arrays else None
        if image is not None and image.array.shape == side[key].array.shape:
            sides.append((image.array, side[key].array))
    return changed(*sides) if len(sides) == 2 else np.nan


def _shares(measures: Measures, rule: PictureRule) -> Iterator[tuple[str, float]]:
    """Each measure that the rule limits, as a share of its limit."""
    for name in Measures._fields:
        limit, value = getattr(rule, name), getattr(measures, name)
        if limit is None or (np.isnan(value) and name != "rank"):
            continue
        off, most = (1 - value, 1 - limit) if name == "rank" else (value, limit)
        yield name, np.inf if np.isnan(off) else _over(off, most)


def _over(value: float, limit: float) -> float:
    return value / limit if limit else (np.inf if value > 1e-12 else 0.0)


def _pictures_moved(pictures: Sequence[Pair], words: Words) -> Iterator[Change]:
    """One line for the pictures of one sort and array of a cell, with the worst of them."""
    groups: dict[tuple[Cell, str, str], list[Pair]] = defaultdict(list)
    for each in pictures:
        groups[each.key.cell, each.key.array, each.new.sort].append(each)
    order = list(SORTS)
    for (cell, array, sort), members in sorted(groups.items(), key=lambda group: order.index(group[0][2])):
        beyond = [each for each in members if each.excess]
        if not beyond:
            continue
        worst = max(beyond, key=lambda each: each.near)
        count = f"{len(beyond)} of {plural(len(members), 'picture')} moved"
        entry = f", worst {words.entry(worst.key.entry)}" if worst.key.entry and len(members) > 1 else ""
        line = f"{words.cell(cell)}: {SORTS[sort]} ({array.replace('_', ' ')}): {count}{entry}: {_excess(worst)}"
        yield Change(
            "regression", "proof" if sort.startswith("proof") else "picture", line, cell, metric=sort,
            image=worst.key.entry, count=len(beyond), tolerance=_limits(worst.rule),
        )  # fmt: skip


def _excess(each: Pair) -> str:
    """What exceeds the rule, with its limit."""
    if each.measures is None:
        return each.excess[0]
    texts = {
        "relative": "relative error {:.2g}",
        "rank": "rank correlation {:.3f}",
        "block": "worst block {:.2g}",
        "mean": "mean of {:.2g} levels",
        "most": "up to {:.0f} levels",
        "change": "what the attack changed differs by {:.2g} of it",
        "own": "{:.2g} times as far from its class as from another",
    }
    return ", ".join(
        f"{texts[name].format(getattr(each.measures, name))} (limit {getattr(each.rule, name):g})"
        for name in each.excess
    )


def _limits(rule: PictureRule) -> str:
    limits = ((name, getattr(rule, name)) for name in Measures._fields)
    return ", ".join(f"{name} {value:g}" for name, value in limits if value is not None)


def _on_one_side(old: Distilled, new: Distilled, words: Words) -> Iterator[Change]:
    """Pictures of one run alone, where both have the cell; a baseline does not keep all sorts."""
    for key, reason in new.unreadable:
        line = f"{words.cell(key.cell)}: its pictures cannot be read: {reason}"
        yield Change("regression", "picture", line, key.cell)
    unread = {key.cell for side in (old, new) for key, _ in side.unreadable}
    both = (old.done & new.done) - unread
    sorts = set(SORTS) if old.side is None else set(baseline.SORTS)
    for side, other, is_old in ((old, new, True), (new, old, False)):
        alone: dict[Cell, list[Key]] = defaultdict(list)
        for key, picture in side.pictures.items():
            if key not in other.pictures and key.cell in both and picture.sort in sorts:
                alone[key.cell].append(key)
        for cell, keys in alone.items():
            what = "not there any more" if is_old else "new"
            such = ", ".join(filter(None, (keys[0].array.replace("_", " "), words.entry(keys[0].entry))))
            line = f"{words.cell(cell)}: {plural(len(keys), 'picture')} {what}, such as {such}"
            yield Change("regression" if is_old else "note", "picture", line, cell, count=len(keys))
