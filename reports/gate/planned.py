"""What two runs were planned to measure: seeds, data, models, metrics, cells."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from assay.reports.gate.art import Cell
from assay.reports.gate.change import NAMELESS, Change, Kind, What, Words, plural
from assay.reports.gate.distil import METRIC, NORMALISATION
from assay.reports.gate.tolerances import Tolerances
from assay.reports.gate.values import split

Facts = Mapping[str, Any]


def planned(old: Facts, new: Facts, tolerances: Tolerances) -> Iterator[Change]:
    """Seeds, data, models and metrics that differ: the causes of what else does."""
    same = tolerances.same
    if old["seed"] != new["seed"]:
        yield Change(_kind(same.seed), "seed", f"the seed is {new['seed']}, was {old['seed']}: random numbers differ")
    for name, before, after in _both(old["data"], new["data"]):
        if before != after:
            line = f"{name or NAMELESS}: the data changed, {_data(before, after)} (digest {_digests(before, after)})"
            yield Change(_kind(same.data), "data", line, Cell(data=name))
    for name, before, after in _both(old["models"], new["models"]):
        if before["digest"] != after["digest"]:
            strict = same.models == "all" or (same.models == "published" and published(name))
            line = f"{name}: {_model(before, after)} (digest {_digests(before, after)})"
            yield Change(_kind(strict), "model", line, Cell(model=name))
    for name, before, after in _both(old["metrics"], new["metrics"]):
        for fact in METRIC:
            if before[fact] != after[fact]:
                line = f"{name}: its {fact} is {after[fact] or 'none'}, was {before[fact] or 'none'}"
                yield Change(_kind(same.metrics), "metric", line, metric=name, old=before[fact], new=after[fact])
    for what in ("code", "packages", "hardware"):
        for name, before, after in _both(old[what], new[what]):
            if before != after and name != "dirty":
                yield Change("note", "setting", f"{name}: {after}, was {before}", old=str(before), new=str(after))


def cells(old: Facts, new: Facts, words: Words) -> Iterator[Change]:
    """Cells that are gone, have failed or have no meaning any more; those that are new or work again."""
    before, after = ({_cell(cell): cell for cell in facts["cells"]} for facts in (old, new))
    lost = sorted(before.keys() - after.keys())
    yield from _listed_once(lost, sorted(after.keys() - before.keys()), after, words)
    for cell in sorted(before.keys() & after.keys()):
        was, now = before[cell]["state"], after[cell]["state"]
        if was == now:
            continue
        worse = was == "done" or now in ("missing", "failed")
        reason = f": {after[cell]['reason']}" if after[cell].get("reason") else ""
        said = {"missing": "not stored in the new run", "done": f"measured now, was {was}"}
        line = f"{words.cell(cell)}: {said.get(now, f'{now} now{reason}')}"
        kind: Kind = "regression" if worse else "note" if was == "missing" else "improvement"
        yield Change(kind, "cell", line, cell, old=was, new=now)


def metrics(both: pd.DataFrame, old: Facts, new: Facts, words: Words) -> Iterator[Change]:
    """Metrics that cells do not give any more, and new ones; not those of cells that ``cells`` says are gone or new."""
    sides = both.groupby([*Cell._fields, "metric"])["side"].agg(
        lambda side: "both" if "both" in set(side) else min(side)
    )
    done = _done(old), _done(new)
    alone: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for key, side in sides[sides != "both"].items():
        cell, metric = split(key)
        if not _explained(cell, *(done if side == "old" else done[::-1])):
            alone[metric, str(side)].append(cell)
    for (metric, side), group in alone.items():
        what = "not given any more" if side == "old" else "new"
        line = f"{metric} is {what} in {plural(len(group), 'cell')}, such as {words.cell(group[0])}"
        kind: Kind = "regression" if side == "old" else "note"
        yield Change(kind, "cell", line, group[0], metric=metric, count=len(group))


def unchanged(old: Facts, new: Facts) -> Callable[[Cell], bool]:
    """Whether a cell is of the same weights and data in both runs; a transfer's source counts as well."""
    digests = [
        {(what, name): facts["digest"] for what in ("models", "data") for name, facts in side[what].items()}
        for side in (old, new)
    ]
    other = {name for name in digests[0].keys() | digests[1].keys() if digests[0].get(name) != digests[1].get(name)}

    def same(cell: Cell) -> bool:
        source = cell.method.rpartition(" from ")[2] if cell.kind == "transfer" else cell.model
        return other.isdisjoint({("models", cell.model), ("models", source), ("data", cell.data)})

    return same


def published(model: str) -> bool:
    """Whether a spec promises its weights: the zoo's and timm's do; the user's own code and files do not."""
    own = ("py:" in model, "=" in model, ".safetensors" in model)
    return not any(own)


def _listed_once(lost: list[Cell], fresh: list[Cell], after: Mapping[Cell, Any], words: Words) -> Iterator[Change]:
    """Cells of one run alone: by model or data where all of that is, by what of the method changed, else by method."""
    models, data = {cell.model for cell in after}, {cell.data for cell in after}
    rest: list[Cell] = []
    gone: dict[str, list[Cell]] = defaultdict(list)
    for cell in lost:
        whole = cell.model if cell.model not in models else cell.data if cell.data not in data else ""
        (gone[whole] if whole else rest).append(cell)
    for name, group in gone.items():
        line = f"{name}: not in the run any more ({plural(len(group), 'cell')})"
        yield Change("regression", "cell", line, count=len(group))
    settled: set[tuple[str, str]] = set()
    for (kind, method), group in _by_method(rest).items():
        other, said = _altered(method, {cell.method for cell in fresh if cell.kind == kind})
        settled.add((kind, other))
        whose = words.cell(group[0] if len(group) == 1 else Cell(kind=kind, method=method))
        line = f"{whose}: {said or 'not measured any more'} ({plural(len(group), 'cell')})"
        what: What = "setting" if other else "cell"
        yield Change("regression", what, line, group[0], old=method, new=other, count=len(group))
    for (kind, method), group in _by_method(cell for cell in fresh if (cell.kind, cell.method) not in settled).items():
        line = f"{words.cell(Cell(kind=kind, method=method))}: new ({plural(len(group), 'cell')})"
        yield Change("note", "cell", line, group[0], count=len(group))


def _altered(method: str, others: Iterable[str]) -> tuple[str, str]:
    """The method that differs in one setting alone, and that setting in words; empty where there is none."""
    split = re.compile(r"[(),]\s*")
    own = split.split(method)
    for other in sorted(others):
        parts = split.split(other)
        pairs = [pair for pair in zip(own, parts, strict=False) if pair[0] != pair[1]]
        if len(parts) == len(own) and len(pairs) == 1 and "=" in pairs[0][0]:
            (name, _, was), (_, _, now) = (text.partition("=") for text in pairs[0])
            return other, f"its {name} is {now}, was {was}"
    return "", ""


def _explained(cell: Cell, given: set[Cell], kept: set[Cell]) -> bool:
    """Whether rows are in one run alone because the cell that gave them is.

    Some rows do not bear their cell's name: a transfer's are its victims', an inversion's tell the layer.
    """
    if cell.model not in {had.model for had in kept} or cell.data not in {had.data for had in kept}:
        return True
    gone = given - kept
    if cell in given:
        return cell in gone
    record = cell.method.partition("(")[0]
    return any(
        had.method == cell.method if cell.kind == "transfer" else had[:3] == cell[:3] and had.method.startswith(record)
        for had in gone
        if had.kind == cell.kind
    )


def _done(facts: Facts) -> set[Cell]:
    return {_cell(listed) for listed in facts["cells"] if listed["state"] == "done"}


def _cell(facts: Facts) -> Cell:
    return Cell(*(facts[name] for name in Cell._fields))


def _by_method(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        found[cell.kind, cell.method].append(cell)
    return found


def _both(old: Facts, new: Facts) -> list[tuple[str, Any, Any]]:
    return [(name, old[name], new[name]) for name in old if name in new]


def _kind(strict: bool) -> Kind:
    return "regression" if strict else "note"


def _digests(old: Facts, new: Facts) -> str:
    return f"{str(new['digest'])[:8]}, was {str(old['digest'])[:8]}"


def _data(old: Facts, new: Facts) -> str:
    if old["n"] != new["n"]:
        return f"{new['n']} images, were {old['n']}"
    if len(old["classes"]) != len(new["classes"]):
        return f"{len(new['classes'])} classes, were {len(old['classes'])}"
    pairs = enumerate(zip(old["classes"], new["classes"], strict=True))
    renamed = [f"class {i} is {now}, was {was}" for i, (was, now) in pairs if was != now]
    return renamed[0] if renamed else "pixels or labels"


def _model(old: Facts, new: Facts) -> str:
    for name in ("input_size", *NORMALISATION):
        if name in old and old[name] != new.get(name):
            return f"its {name.replace('_', ' ')} is {new.get(name)}, was {old[name]}"
    return "other weights" if old["parameters"] == new["parameters"] else "another network"
