"""What two runs were planned to measure: seeds, data, models, metrics, cells."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pandas as pd

from assay.reports.gate.art import Cell
from assay.reports.gate.baseline import METRIC
from assay.reports.gate.change import NAMELESS, Change, Kind, What, Words, plural
from assay.reports.gate.distil import NORMALISATION, Distilled
from assay.reports.gate.tolerances import Tolerances
from assay.reports.gate.values import split
from assay.reports.run.records import Method

Facts = Mapping[str, Any]


def planned(old: Facts, new: Facts, tolerances: Tolerances) -> Iterator[Change]:
    """Seeds, data, models and metrics that differ: the causes of what else does."""
    same = tolerances.same
    alike = old["schema"] == new["schema"]  # else digests of models are made otherwise, and metrics say more
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
            if not alike:
                line = f"{name}: weights not compared, since digests of schema {old['schema']} are made otherwise"
            yield Change(_kind(strict and alike), "model", line, Cell(model=name))
    for name, before, after in _both(old["metrics"], new["metrics"]):
        for fact in METRIC:
            if before[fact] != after[fact]:
                line = f"{name}: its {fact} is {after[fact] or 'none'}, was {before[fact] or 'none'}"
                yield Change(
                    _kind(same.metrics and alike), "metric", line, metric=name, old=before[fact], new=after[fact]
                )
    for what in ("code", "packages", "hardware"):
        for name, before, after in _both(old[what], new[what]):
            if before != after and name != "dirty":
                yield Change("note", "setting", f"{name}: {after}, was {before}", old=str(before), new=str(after))


def cells(old: Distilled, new: Distilled, words: Words) -> Iterator[Change]:
    """Cells that are gone, have failed or have no meaning any more; those that are new or work again."""
    before, after = old.cells, new.cells
    gone, fresh = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    yield from _on_one_side(gone, fresh, set(after), words)
    for cell in sorted(before.keys() & after.keys()):
        was, now = before[cell]["state"], after[cell]["state"]
        if was == now:
            continue
        worse = was == "done" or now in ("missing", "failed")
        reason = f": {after[cell]['reason']}" if after[cell].get("reason") else ""
        texts = {"missing": "not stored in the new run", "done": f"measured now, was {was}"}
        line = f"{words.cell(cell)}: {texts.get(now, f'{now} now{reason}')}"
        kind: Kind = "regression" if worse else "note" if was == "missing" else "improvement"
        yield Change(kind, "cell", line, cell, old=was, new=now)


def metrics(both: pd.DataFrame, old: Distilled, new: Distilled, words: Words) -> Iterator[Change]:
    """Metrics that cells do not give any more, and new ones; not those of cells that ``cells`` says are gone or new."""
    sides = both.groupby([*Cell._fields, "metric"])["side"].agg(
        lambda side: "both" if "both" in set(side) else min(side)
    )
    done = old.done, new.done
    alone: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for key, side in sides[sides != "both"].items():
        cell, metric = split(key)
        if not _with_its_cell(cell, *(done if side == "old" else done[::-1])):
            alone[metric, str(side)].append(cell)
    for (metric, side), group in alone.items():
        what = "not given any more" if side == "old" else "new"
        line = f"{metric} is {what} in {plural(len(group), 'cell')}, such as {words.cell(group[0])}"
        kind: Kind = "regression" if side == "old" else "note"
        yield Change(kind, "cell", line, group[0], metric=metric, count=len(group))


def same_weights(old: Facts, new: Facts) -> Callable[[Cell], bool]:
    """Whether a cell is of the same weights and data in both runs; a transfer's source counts as well."""
    digests = [
        {(what, name): facts["digest"] for what in ("models", "data") for name, facts in side[what].items()}
        for side in (old, new)
    ]
    other = {name for name in digests[0].keys() | digests[1].keys() if digests[0].get(name) != digests[1].get(name)}

    def same(cell: Cell) -> bool:
        return other.isdisjoint({("models", cell.model), ("models", cell.source or cell.model), ("data", cell.data)})

    return same


def published(model: str) -> bool:
    """Whether a spec promises its weights: the zoo's and timm's do; the user's own code and files do not."""
    own = ("py:" in model, "=" in model, ".safetensors" in model)
    return not any(own)


def _on_one_side(gone: list[Cell], fresh: list[Cell], after: set[Cell], words: Words) -> Iterator[Change]:
    """Cells of one run alone: by model or data where all of that is, by what of the method changed, else by method."""
    models, data = {cell.model for cell in after}, {cell.data for cell in after}
    rest: list[Cell] = []
    groups: dict[str, list[Cell]] = defaultdict(list)
    for cell in gone:
        whole = cell.model if cell.model not in models else cell.data if cell.data not in data else ""
        (groups[whole] if whole else rest).append(cell)
    for name, group in groups.items():
        line = f"{name}: not in the run any more ({plural(len(group), 'cell')})"
        yield Change("regression", "cell", line, count=len(group))
    alterations: set[tuple[str, str]] = set()
    for (kind, method), group in _by_method(rest).items():
        other, change = _alteration(method, {cell.method for cell in fresh if cell.kind == kind}, words.methods)
        alterations.add((kind, other))
        whose = words.cell(group[0] if len(group) == 1 else Cell(kind=kind, method=method))
        line = f"{whose}: {change or 'not measured any more'} ({plural(len(group), 'cell')})"
        what: What = "setting" if other else "cell"
        yield Change("regression", what, line, group[0], old=method, new=other, count=len(group))
    for (kind, method), group in _by_method(
        cell for cell in fresh if (cell.kind, cell.method) not in alterations
    ).items():
        line = f"{words.cell(Cell(kind=kind, method=method))}: new ({plural(len(group), 'cell')})"
        yield Change("note", "cell", line, group[0], count=len(group))


def _alteration(text: str, others: Iterable[str], methods: Mapping[str, Method]) -> tuple[str, str]:
    """The method that differs in one setting alone, and that setting in words; empty where there is none."""
    if text not in methods:
        return "", ""
    own = _settings(methods[text])
    for other in sorted(set(others) & methods.keys()):
        settings = _settings(methods[other])
        names = [name for name in own if own[name] != settings.get(name)]
        if own.keys() == settings.keys() and len(names) == 1 and names[0] != "class_name":
            (name,) = names
            return other, f"its {name} is {settings[name]}, was {own[name]}"
    return "", ""


def _settings(method: Method) -> dict[str, Any]:
    """All that makes a method what it is; a goal only where it has one."""
    return {"class_name": method.class_name, **method.settings, **({"goal": method.goal} if method.goal else {})}


def _with_its_cell(cell: Cell, own: set[Cell], other: set[Cell]) -> bool:
    """Whether rows are in one run alone because the cell that gave them is, or all of their model or data."""
    if cell.model not in {each.model for each in other} or cell.data not in {each.data for each in other}:
        return True
    return cell.owner in own - other


def _by_method(cells: Iterable[Cell]) -> dict[tuple[str, str], list[Cell]]:
    groups: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        groups[cell.kind, cell.method].append(cell)
    return groups


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
    names = [f"class {i} is {now}, was {was}" for i, (was, now) in pairs if was != now]
    return names[0] if names else "pixels or labels"


def _model(old: Facts, new: Facts) -> str:
    for name in ("input_size", *NORMALISATION):
        if name in old and old[name] != new.get(name):
            return f"its {name.replace('_', ' ')} is {new.get(name)}, was {old[name]}"
    return "other weights" if old["parameters"] == new["parameters"] else "another network"
