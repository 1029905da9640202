"""The outcomes of two runs, image by image."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from assay.reports.gate.art import Cell
from assay.reports.gate.change import NAMELESS, Change, Kind, Words, apart, plural
from assay.reports.gate.tolerances import MetricRule, Tolerances
from assay.reports.kinds import kind_of

CELL = [*Cell._fields]
METRIC = [*CELL, "metric"]
RESAMPLES = 1999
LEVEL = 0.99  # of the interval that is told where no rule asks for one
BOUNDARY = "boundary"  # the flag of an outcome that float noise decides
WEAKER = ": a weaker attack, since weights, data and settings are the same"
Floats = NDArray[np.float64]


class Shift(NamedTuple):
    """The values of one metric of a cell, on the images that have one in both runs."""

    cell: Cell
    metric: str
    old: Floats
    new: Floats
    rule: MetricRule
    statistic: str

    def both(self) -> tuple[float, float]:
        """The mean or median, old and new."""
        of: Any = np.median if self.statistic == "median" else np.mean
        return float(of(self.old)), float(of(self.new))

    def exceeds(self) -> bool:
        """Whether the change is more than all that the rule allows, but for the statistical part."""
        old, new = self.both()
        if not (np.isfinite(old) and np.isfinite(new)):
            return old != new
        rule, limits = self.rule, [0.0]
        limits += [] if rule.absolute is None else [rule.absolute]
        limits += [] if rule.relative is None else [rule.relative * abs(old)]
        limits += [] if rule.images is None else [(rule.images + 1e-6) / len(self.old)]
        return abs(new - old) > max(limits)

    def scattered(self) -> NDArray[np.bool_]:
        """The images whose own change exceeds ``each``."""
        if self.rule.each is None:
            return np.zeros(len(self.old), bool)
        most = np.maximum(self.rule.each, (self.rule.relative or 0) * np.abs(self.old))
        found: NDArray[np.bool_] = np.abs(self.new - self.old) > most
        return found


def pair(old: pd.DataFrame, new: pd.DataFrame) -> pd.DataFrame:
    """The rows of two runs side by side, by cell, metric and image; ``side`` is both, old or new."""
    sides = [rows.assign(again=rows.groupby([*METRIC, "image"]).cumcount()) for rows in (old, new)]
    both = sides[0].merge(sides[1], "outer", [*METRIC, "image", "again"], suffixes=("_old", "_new"), indicator="side")
    return both.assign(side=both["side"].map({"both": "both", "left_only": "old", "right_only": "new"}).astype("str"))


def values(
    both: pd.DataFrame, tolerances: Tolerances, facts: Mapping[str, Mapping[str, str]],
    same: Callable[[Cell], bool], words: Words,
) -> Iterator[Change]:  # fmt: skip
    """Metrics that moved beyond tolerance, and those that have no value any more.

    A yes or no that both runs flag as on the boundary counts as unmoved: float noise decides it.
    """
    rows = _with_values(both)
    old, new = (rows[f"value_{side}"].to_numpy(np.float64) for side in ("old", "new"))
    noise = np.isin(old, (0, 1)) & np.isin(new, (0, 1))
    for side in ("flags_old", "flags_new"):
        noise &= rows[side].str.contains(BOUNDARY, regex=False).to_numpy(bool)
    new = np.where(noise, old, new)
    moved = (old != new) & ~(np.isnan(old) & np.isnan(new))
    numbers = rows.groupby(METRIC, sort=False).ngroup().to_numpy()
    affects = np.isin(numbers, np.unique(numbers[moved]))
    shifts, scattered = [], {}
    for key, places in rows[affects].assign(place=np.flatnonzero(affects)).groupby(METRIC)["place"]:
        cell, metric = split(key)
        rule, fact = tolerances.metric(cell, metric), facts.get(metric, {})
        before, after = old[places], new[places]
        missing = int(np.isnan(after).sum() - np.isnan(before).sum())
        none = missing > 0 and bool(np.isnan(after).all())
        if none or missing > rule.undefined:
            what = "any more" if none else f"for {missing} more of {plural(len(before), 'image')}"
            line = f"{words.cell(cell)}: {metric} has no value {what}"
            yield Change("regression", "value", line, cell, metric=metric, count=missing, tolerance=str(rule))
        both_have = ~(np.isnan(before) | np.isnan(after))
        shift = Shift(cell, metric, before[both_have], after[both_have], rule, fact.get("statistic", "mean"))
        if both_have.any() and shift.exceeds():
            shifts.append((shift, fact.get("direction", "none")))
        elif both_have.any() and same(cell) and shift.scattered().sum() > max(1, int(rule.share * both_have.sum())):
            scattered[shift.cell, metric] = shift, rows["image"].to_numpy()[places][both_have]
    metrics: set[tuple[str, ...]] = set()
    for (shift, direction), interval in zip(shifts, _intervals([shift for shift, _ in shifts]), strict=True):
        if shift.rule.statistical is None or not interval[0] <= 0 <= interval[1]:
            metrics.add((*shift.cell[:3], shift.metric))
            yield _shift(shift, interval, direction, words, tolerances.same.attacks and same(shift.cell))
    for shift, ids in scattered.values():
        yield _outliers(shift, ids, words)
    yield from _together(rows.assign(change=new - old), metrics, tolerances, facts, same)


def compared(both: pd.DataFrame) -> int:
    """How many outcomes both runs have."""
    rows = _with_values(both)
    return int((rows["value_old"].notna() & rows["value_new"].notna()).sum())


def images(both: pd.DataFrame, words: Words) -> Iterator[Change]:
    """Images that are not there any more, have another label, or have failed."""
    present = both[both["image"] != ""]
    common = (present["side"] == "both").groupby([present[name] for name in METRIC]).transform("any")
    absent = present[common & (present["side"] == "old")]
    absences = absent.groupby(CELL)["image"].agg(lambda ids: "\n".join(sorted(set(ids))))
    groups: dict[tuple[str, str], list[Cell]] = {}
    for key, ids in absences.items():
        (cell,) = split(key)
        groups.setdefault((cell.data, str(ids)), []).append(cell)
    for (name, ids), cells in groups.items():
        names = ids.split("\n")
        place = words.cell(cells[0]) if len(cells) == 1 else f"{name or NAMELESS}, in {len(cells)} cells"
        line = f"{place}: {plural(len(names), 'image')} not measured any more, such as {names[0]}"
        yield Change("regression", "image", line, cells[0] if len(cells) == 1 else Cell(data=name), count=len(names))
    other = present[(present["side"] == "both") & (present["label_old"] != present["label_new"])]
    for data, rows in other.drop_duplicates(["data", "image"]).groupby("data"):
        first = rows.iloc[0]
        such = f"{first['image']} (was {first['label_old']:.0f}, is {first['label_new']:.0f})"
        line = f"{str(data) or NAMELESS}: {plural(len(rows), 'image')} with another label, such as {such}"
        yield Change("regression", "data", line, Cell(data=str(data)), count=len(rows))
    yield from _failures(both[both["side"] == "both"], words)


def flags(both: pd.DataFrame, tolerances: Tolerances, words: Words) -> Iterator[Change]:
    """Flags on more images than before, and on fewer."""
    rows = _with_values(both)
    totals = rows.groupby(CELL)["image"].nunique()
    counts = pd.concat([_flags(rows, side) for side in ("old", "new")], axis=1, keys=["old", "new"])
    for key, before, after in counts.fillna(0).astype(int).sort_index().itertuples():
        cell, flag = split(key)
        most = tolerances.flags.allowed(flag, int(totals[tuple(cell)]))
        if abs(after - before) <= most:
            continue
        line = f"{words.cell(cell)}: {flag} is flagged on {plural(after, 'image')}, was on {before}"
        yield Change(
            "regression" if after > before else "improvement", "flag", line, cell,
            metric=flag, old=float(before), new=float(after), tolerance=f"images {most:g}", count=abs(after - before),
        )  # fmt: skip


def intervals(pairs: Sequence[tuple[Floats, Floats]], statistic: str, level: float) -> list[tuple[float, float]]:
    """Percentile intervals of the change of the mean or median over resampled images; pairs of one length."""
    n = len(pairs[0][0])
    seed = int.from_bytes(hashlib.sha256(f"{n}".encode()).digest()[:8])
    draws = np.random.default_rng(seed).integers(0, n, (RESAMPLES, n))
    if statistic == "median":
        changes = np.stack([np.median(new[draws], 1) - np.median(old[draws], 1) for old, new in pairs], 1)
    else:
        weights = np.zeros((RESAMPLES, n))
        np.add.at(weights, (np.arange(RESAMPLES)[:, None], draws), 1 / n)
        changes = weights @ np.stack([new - old for old, new in pairs], 1)
    low, high = np.quantile(changes, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return list(zip(low.tolist(), high.tolist(), strict=True))


def _intervals(shifts: Sequence[Shift]) -> list[tuple[float, float]]:
    """The interval of each; one matrix of resampled images serves all of a length. One image has none."""
    groups: dict[tuple[int, str, float], list[int]] = {}
    for i, shift in enumerate(shifts):
        groups.setdefault((len(shift.old), shift.statistic, shift.rule.statistical or LEVEL), []).append(i)
    results = [(np.nan, np.nan)] * len(shifts)
    for (n, statistic, level), places in groups.items():
        if n > 1:
            pairs = [(shifts[i].old, shifts[i].new) for i in places]
            for i, interval in zip(places, intervals(pairs, statistic, level), strict=True):
                results[i] = interval
    return results


def _shift(shift: Shift, interval: tuple[float, float], direction: str, words: Words, same: bool) -> Change:
    old, new = shift.both()
    better = {"higher": new > old, "lower": new < old}.get(direction, False)
    weaker = better and same and kind_of(shift.cell.kind).adversarial
    before, after = apart(old, new)
    basis = plural(len(shift.old), "image")
    if np.isfinite(interval).all():
        level = 100 * (shift.rule.statistical or LEVEL)
        basis += f", paired {level:g} % interval of the change [{interval[0]:+.2g}, {interval[1]:+.2g}]"
    verb = "rose" if new > old else "fell" if new < old else "moved"
    line = f"{words.cell(shift.cell)}: {shift.metric} {verb} from {before} to {after} ({basis})"
    line += WEAKER if weaker else ""
    return Change(
        "improvement" if better and not weaker else "regression", "value", line, shift.cell,
        metric=shift.metric, old=old, new=new, tolerance=str(shift.rule), count=len(shift.old),
    )  # fmt: skip


def _outliers(shift: Shift, ids: NDArray[np.object_], words: Words) -> Change:
    """Images that moved while their mean did not."""
    off = shift.scattered()
    first = int(np.argmax(np.abs(shift.new - shift.old)))
    before, after = apart(float(shift.old[first]), float(shift.new[first]))
    count = f"{off.sum()} of {plural(len(off), 'image')}"
    such = f"such as {ids[first]} from {before} to {after}"
    line = f"{words.cell(shift.cell)}: {shift.metric} moved by more than {shift.rule.each:g} on {count}, {such}"
    return Change(
        "regression", "value", line, shift.cell, metric=shift.metric, image=str(ids[first]),
        tolerance=f"each {shift.rule.each:g}, share {shift.rule.share:g}", count=int(off.sum()),
    )  # fmt: skip


def _together(
    rows: pd.DataFrame, metrics: set[tuple[str, ...]], tolerances: Tolerances, facts: Mapping[str, Mapping[str, str]],
    same: Callable[[Cell], bool],
) -> Iterator[Change]:  # fmt: skip
    """Metrics that moved a little in every cell of a model: within the tolerance of each, beyond that of all."""
    for key, group in rows.dropna(subset="change").groupby(["model", "data", "kind", "metric"]):
        model, data, kind, metric = map(str, key)
        cells = [Cell(*row) for row in group[CELL].drop_duplicates().itertuples(index=False, name=None)]
        rule, change = tolerances.metric(cells[0], metric), float(group["change"].mean())
        if rule.pooled is None or len(cells) < 2 or tuple(key) in metrics or abs(change) <= rule.pooled:
            continue
        better = {"higher": change > 0, "lower": change < 0}.get(facts.get(metric, {}).get("direction", ""), False)
        alike = all(map(same, cells))
        weaker = better and tolerances.same.attacks and alike and kind_of(kind).adversarial
        place = " on ".join(filter(None, (model, data)))
        verb = "rose" if change > 0 else "fell"
        line = f"{place}: {metric} of {kind} {verb} by {abs(change):.2g} over {len(cells)} cells together"
        yield Change(
            "improvement" if better and not weaker else "regression", "value", line + (WEAKER if weaker else ""),
            Cell(model, data, kind), metric=metric, tolerance=f"pooled {rule.pooled:g}", count=len(group),
        )  # fmt: skip


def split(key: Any) -> tuple[Any, ...]:
    """What rows were grouped by: the cell, and what follows it."""
    count = len(CELL)
    return (Cell(*map(str, key[:count])), *map(str, key[count:]))


def _with_values(both: pd.DataFrame) -> pd.DataFrame:
    return both[(both["side"] == "both") & (both["status_old"] == "ok") & (both["status_new"] == "ok")]


def _failures(rows: pd.DataFrame, words: Words) -> Iterator[Change]:
    changed = rows[(rows["status_old"] == "ok") != (rows["status_new"] == "ok")]
    for key, group in changed.groupby([*CELL, "status_old", "status_new"]):
        cell, was, now = split(key)
        count, first = group["image"].nunique(), group.iloc[0]
        what = plural(count, "image") if first["image"] else ", ".join(sorted(group["metric"].unique()))
        change = f"{now} now: {first['flags_new']}" if was == "ok" else f"measured now, {was} before"
        kind: Kind = "regression" if was == "ok" else "improvement"
        yield Change(kind, "image", f"{words.cell(cell)}: {what} {change}", cell, old=was, new=now, count=count)


def _flags(rows: pd.DataFrame, side: str) -> "pd.Series[int]":
    """Images by cell and flag; what stands after = in a flag is its number."""
    flags = rows.loc[rows[f"flags_{side}"] != "", [*CELL, "image", f"flags_{side}"]].drop_duplicates()
    flags = flags.assign(flag=flags[f"flags_{side}"].str.split(";")).explode("flag")
    flags["flag"] = flags["flag"].astype("str").str.strip().str.replace("=.*", "", regex=True)
    return flags[flags["flag"] != ""].drop_duplicates([*CELL, "flag", "image"]).groupby([*CELL, "flag"]).size()
