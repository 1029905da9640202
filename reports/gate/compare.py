"""Two runs compared: one verdict."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from assay.reports.gate import baseline, planned, values
from assay.reports.gate.art import SORTS, Array, Cell, Key, Picture
from assay.reports.gate.change import Change, Compared, Verdict, Words, ordered, plural
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
    looked = list(_pictures(old, new, tolerances))
    same = planned.unchanged(old.facts, new.facts)
    changes = [
        *([] if values.compared(both) else [Change("regression", "cell", NOTHING)]),
        *planned.planned(old.facts, new.facts, tolerances),
        *planned.cells(old.facts, new.facts, words),
        *planned.metrics(both, old.facts, new.facts, words),
        *values.images(both, words),
        *values.values(both, tolerances, old.facts["metrics"], same, words),
        *values.flags(both, tolerances, words),
        *_moved(looked, words),
        *_lost(old, new, words),
    ]
    here = both[both["side"] == "both"]
    cells = here[[*Cell._fields]].drop_duplicates().itertuples(index=False, name=None)
    groups = {(Cell(*cell), "values") for cell in cells} | {(one.key.cell, one.new.sort) for one in looked}
    return Verdict(
        old=old,
        new=new,
        changes=ordered(changes),
        pictures=tuple(looked),
        groups=tuple(sorted(groups)),
        values=len(here),
        rules=rules,
    )


def _pictures(old: Distilled, new: Distilled, tolerances: Tolerances) -> Iterator[Compared]:
    drawn: dict[tuple[Cell, str], list[Key]] = defaultdict(list)
    for key, picture in new.pictures.items():
        if picture.sort == "drawn":
            drawn[key.cell, key.array].append(key)
    for key, one in old.pictures.items():
        two = new.pictures.get(key)
        if two is None:
            continue
        rule = tolerances.picture(key.cell, one.sort)
        reason = refused(one, two)
        if reason:
            yield Compared(key, one, two, None, rule, (reason,), np.inf)
            continue
        others = [new.pictures[other].array for other in drawn[key.cell, key.array] if other != key]
        measures = measure(one.array, two.array)._replace(
            change=_attack(key, old.pictures, new.pictures),
            own=mistaken(one.array, two.array, [other for other in others if other.shape == two.array.shape]),
        )
        shares = dict(_shares(measures, rule))
        yield Compared(
            key, one, two, measures, rule, tuple(name for name, share in shares.items() if share > 1),
            max(shares.values(), default=0.0),
        )  # fmt: skip


def _attack(key: Key, old: Mapping[Key, Picture], new: Mapping[Key, Picture]) -> float:
    """``changed`` of an attacked image of a gallery, which keeps the images as well; NaN for other pictures."""
    sides: list[tuple[Array, Array]] = []
    for side in (old, new):
        image = side.get(key._replace(array="images"))
        if key.array == "adversarial" and image is not None and image.array.shape == side[key].array.shape:
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


def _moved(looked: Sequence[Compared], words: Words) -> Iterator[Change]:
    """One line for the pictures of one sort and array of a cell, with the worst of them."""
    groups: dict[tuple[Cell, str, str], list[Compared]] = defaultdict(list)
    for one in looked:
        groups[one.key.cell, one.key.array, one.new.sort].append(one)
    order = list(SORTS)
    for (cell, array, sort), members in sorted(groups.items(), key=lambda group: order.index(group[0][2])):
        moved = [one for one in members if one.moved]
        if not moved:
            continue
        worst = max(moved, key=lambda one: one.near)
        of = f"{len(moved)} of {plural(len(members), 'picture')} moved"
        entry = f", worst {words.entry(worst.key.entry)}" if worst.key.entry and len(members) > 1 else ""
        line = f"{words.cell(cell)}: {SORTS[sort]} ({array.replace('_', ' ')}): {of}{entry}: {_said(worst)}"
        yield Change(
            "regression", "proof" if sort.startswith("proof") else "picture", line, cell, metric=sort,
            image=worst.key.entry, count=len(moved), tolerance=_limits(worst.rule),
        )  # fmt: skip


def _said(one: Compared) -> str:
    """What exceeds the rule, with its limit."""
    if one.measures is None:
        return one.moved[0]
    texts = {
        "relative": ("relative error {:.2g}", "{:g}"),
        "rank": ("rank correlation {:.3f}", "{:g}"),
        "block": ("worst block {:.2g}", "{:g}"),
        "mean": ("mean of {:.2g} levels", "{:g}"),
        "most": ("up to {:.0f} levels", "{:g}"),
        "change": ("what the attack changed differs by {:.2g} of it", "{:g}"),
        "own": ("{:.2g} times as far from its class as from another", "{:g}"),
    }
    return ", ".join(
        f"{texts[name][0].format(getattr(one.measures, name))} (limit {texts[name][1].format(getattr(one.rule, name))})"
        for name in one.moved
    )


def _limits(rule: PictureRule) -> str:
    given = ((name, getattr(rule, name)) for name in Measures._fields)
    return ", ".join(f"{name} {value:g}" for name, value in given if value is not None)


def _lost(old: Distilled, new: Distilled, words: Words) -> Iterator[Change]:
    """Pictures of one run alone, where both have the cell; a baseline does not keep all sorts."""
    for key, reason in new.unreadable:
        line = f"{words.cell(key.cell)}: its pictures cannot be read: {reason}"
        yield Change("regression", "picture", line, key.cell)
    unread = {key.cell for side in (old, new) for key, _ in side.unreadable}
    done = [_done(side) - unread for side in (old, new)]
    sorts = set(SORTS) if old.side is None else set(baseline.KEPT)
    for one, two, gone in ((old, new, True), (new, old, False)):
        alone: dict[Cell, list[Key]] = defaultdict(list)
        for key, picture in one.pictures.items():
            if key not in two.pictures and key.cell in done[0] & done[1] and picture.sort in sorts:
                alone[key.cell].append(key)
        for cell, keys in alone.items():
            what = "not there any more" if gone else "new"
            such = ", ".join(filter(None, (keys[0].array.replace("_", " "), words.entry(keys[0].entry))))
            line = f"{words.cell(cell)}: {plural(len(keys), 'picture')} {what}, such as {such}"
            yield Change("regression" if gone else "note", "picture", line, cell, count=len(keys))


def _done(side: Distilled) -> set[Cell]:
    listed = (cell for cell in side.facts["cells"] if cell["state"] == "done")
    return {Cell(*(cell[name] for name in Cell._fields)) for cell in listed}
