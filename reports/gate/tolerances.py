"""How far a metric or a picture may move: rules from TOML. The last rule that matches decides."""

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from assay.core.errors import AssayError, unknown
from assay.core.tables import build
from assay.core.text import parse_toml, read_text
from assay.reports.gate.art import SORTS, Cell
from assay.reports.kinds import all_kinds

DEFAULT = Path(__file__).parent / "default.toml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """Wildcards of what a rule is about; of several, one has to match."""

    model: str | tuple[str, ...] = "*"
    data: str | tuple[str, ...] = "*"
    kind: str | tuple[str, ...] = "*"
    method: str | tuple[str, ...] = "*"

    def covers(self, cell: Cell) -> bool:
        wildcards = (self.model, self.data, self.kind, self.method)
        return all(matches(name, wild) for name, wild in zip(cell, wildcards, strict=False))


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRule(Scope):
    """A change counts once it exceeds all that are given; without any, every change counts."""

    metric: str | tuple[str, ...] = "*"
    absolute: float | None = None  # in the metric's unit
    relative: float | None = None  # of the old value
    images: float | None = None  # so many images' worth: the change times the number of images
    statistical: float | None = None  # level of the paired bootstrap interval of the change, which leaves zero
    each: float | None = None  # the change of a single image, in the metric's unit, or ``relative`` if that is more
    share: float = 0  # of the images, which may exceed ``each``; one in any case
    pooled: float | None = None  # the change over all cells of a model and kind together
    undefined: float = 0  # images more than before that may have no value

    def __post_init__(self) -> None:
        for name in ("absolute", "relative", "images", "each", "share", "pooled", "undefined"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise AssayError(f"{name} = {value} must be at least 0")
        if self.statistical is not None and not 0 < self.statistical < 1:
            raise AssayError(f"statistical = {self.statistical} is a level between 0 and 1, such as 0.99")

    def __str__(self) -> str:
        limits = ((name, getattr(self, name)) for name in ("absolute", "relative", "images", "statistical"))
        return ", ".join(f"{name} {value:g}" for name, value in limits if value is not None) or "exact"


@dataclass(frozen=True, kw_only=True, slots=True)
class PictureRule(Scope):
    """A picture counts as moved once it exceeds one that is given. ``mean`` and ``most`` are levels of 255."""

    picture: str | tuple[str, ...] = "*"
    relative: float | None = None
    rank: float | None = None
    block: float | None = None
    mean: float | None = None
    most: float | None = None
    change: float | None = None  # attacked images: what the attack changed, like ``relative``
    own: float | None = None  # class pictures: distance to the new one of the class, of that to the nearest other

    def __post_init__(self) -> None:
        for wild in (self.picture,) if isinstance(self.picture, str) else self.picture:
            if not fnmatch.filter(SORTS, wild):
                raise unknown("sort of picture", wild, SORTS)


OPTIMISED = MetricRule(  # pictures: hundreds of steps enlarge float noise until it is seen
    absolute=0.05, relative=0.25, statistical=0.99
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Same:
    """What must be the same in both runs; a difference elsewhere is a note."""

    seed: bool = True
    data: bool = True
    models: Literal["all", "published", "none"] = "published"
    metrics: bool = True
    attacks: bool = True  # attacks that find less where weights, data and settings are the same are weaker


@dataclass(frozen=True, kw_only=True, slots=True)
class Flags:
    """On how many more images than before a flag may be raised."""

    ignore: tuple[str, ...] = ()  # flags that say nothing of a regression
    images: int = 0
    noisy: tuple[str, ...] = ()  # flags that float noise raises
    share: float = 0  # of a cell's images, for those; one image in any case

    def allowed(self, flag: str, n: int) -> float:
        """So many of n images."""
        return np.inf if flag in self.ignore else max(1, int(self.share * n)) if flag in self.noisy else self.images


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerances:
    """All rules, in their order."""

    same: Same = field(default_factory=Same)
    flags: Flags = field(default_factory=Flags)
    metrics: tuple[MetricRule, ...] = ()
    pictures: tuple[PictureRule, ...] = ()

    def metric(self, cell: Cell, name: str) -> MetricRule:
        """The rule for a metric of a cell."""
        matching = (rule for rule in reversed(self.metrics) if matches(name, rule.metric))
        return next((rule for rule in matching if rule.covers(cell)), MetricRule())

    def picture(self, cell: Cell, sort: str) -> PictureRule:
        """The rule for pictures of one sort of a cell."""
        matching = (rule for rule in reversed(self.pictures) if matches(sort, rule.picture))
        return next((rule for rule in matching if rule.covers(cell)), PictureRule())


def matches(name: str, wild: str | tuple[str, ...]) -> bool:
    """Whether a name matches a wildcard, or one of several."""
    if isinstance(wild, str):
        return wild == "*" or fnmatch.fnmatchcase(name, wild)
    return any(fnmatch.fnmatchcase(name, each) for each in wild)


def read(path: Path | None = None) -> Tolerances:
    """The shipped tolerances, with the rules of a file after them. Raises ``AssayError`` with the near names."""
    shipped = _with_kinds(parse(DEFAULT.read_text(encoding="utf-8"), str(DEFAULT)))
    if path is None:
        return shipped
    return parse(read_text(path), str(path), shipped)


def _with_kinds(general: Tolerances) -> Tolerances:
    """The rules of the kinds after the general ones."""
    rules = [replace(rule, kind=kind.name) for kind in all_kinds() for rule in kind.tolerances]
    return replace(
        general,
        metrics=(*general.metrics, *(rule for rule in rules if isinstance(rule, MetricRule))),
        pictures=(*general.pictures, *(rule for rule in rules if isinstance(rule, PictureRule))),
    )


def parse(text: str, where: str = "tolerances", base: Tolerances | None = None) -> Tolerances:
    """TOML with ``[same]``, ``[flags]``, ``[[metric]]`` and ``[[picture]]``; what it gives comes after ``base``."""
    base = base or Tolerances()
    tables = parse_toml(text, where)
    names = ("same", "flags", "metric", "picture")
    for name in tables:
        if name not in names:
            raise _at(where, unknown("table", name, names))
    same, flags = tables.get("same", {}), tables.get("flags", {})
    return Tolerances(
        same=_record(Same, {**_plain(base.same), **_mapping(same, where, "[same]")}, where, "[same]"),
        flags=_record(Flags, {**_plain(base.flags), **_mapping(flags, where, "[flags]")}, where, "[flags]"),
        metrics=base.metrics + _rules(MetricRule, tables.get("metric", []), where, "metric"),
        pictures=base.pictures + _rules(PictureRule, tables.get("picture", []), where, "picture"),
    )


def _rules(cls: type, tables: object, where: str, name: str) -> tuple[Any, ...]:
    if not isinstance(tables, list):
        raise AssayError(f"{where}: write [[{name}]] in two brackets: there may be several")
    places = [f"[[{name}]] {i}" for i in range(1, len(tables) + 1)]
    return tuple(
        _record(cls, _mapping(table, where, place), where, place) for table, place in zip(tables, places, strict=True)
    )


def _record(cls: type, table: Mapping[str, Any], where: str, what: str) -> Any:
    settings = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    try:
        return build(cls, settings, kind="key")
    except AssayError as error:
        raise _at(f"{where}, {what}", error) from error


def _mapping(table: object, where: str, what: str) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise AssayError(f"{where}: {what} is a table")
    return table


def _plain(record: Same | Flags) -> dict[str, Any]:
    return {name: getattr(record, name) for name in type(record).__dataclass_fields__}


def _at(where: str, error: AssayError) -> AssayError:
    return AssayError(f"{where}: {error}")
