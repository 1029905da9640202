"""What a check finds, and the words for it."""

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

import numpy as np

from assay.reports.gate.art import Cell, Key, Picture
from assay.reports.gate.distil import Distilled
from assay.reports.gate.likeness import Measures
from assay.reports.gate.tolerances import PictureRule
from assay.reports.kinds import kind_of
from assay.reports.run import labels
from assay.reports.run.records import Method

Kind = Literal["regression", "improvement", "note"]
What = Literal[
    "seed", "data", "model", "metric", "setting", "cell", "image", "value", "flag", "picture", "proof"
]  # causes before effects
ORDER: tuple[What, ...] = get_args(What)

NOWHERE = Cell()
NAMELESS = "data without a name"
_CONTROLS = re.compile(
    "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # turns a line around, or is no text


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was; ``line`` says it in one sentence. Causes come before effects (``ORDER``)."""

    kind: Kind
    what: What
    line: str
    cell: Cell = NOWHERE
    _: KW_ONLY
    metric: str = ""
    image: str = ""
    old: float | str | None = None
    new: float | str | None = None
    tolerance: str = ""
    count: int = 1  # of images, pictures or cells that it is about

    def __post_init__(self) -> None:
        object.__setattr__(self, "line", visible(self.line))


@dataclass(frozen=True, slots=True)
class Pair:
    """Two pictures of one name; ``excess`` names what exceeds the rule, ``near`` is the largest share of a limit."""

    key: Key
    old: Picture
    new: Picture
    measures: Measures | None  # None where they cannot be compared
    rule: PictureRule
    excess: tuple[str, ...]
    near: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of a check: green without regressions."""

    old: Distilled
    new: Distilled
    changes: tuple[Change, ...]
    pictures: tuple[Pair, ...]
    groups: tuple[tuple[Cell, str], ...]  # all that was compared: cells, each with "values" or a sort of picture
    values: int  # outcomes compared
    rules: str  # where the tolerances came from

    @property
    def passed(self) -> bool:
        return not self.regressions

    @property
    def cells(self) -> set[Cell]:
        """The cells that were compared."""
        return {cell for cell, _ in self.groups}

    @property
    def regressions(self) -> tuple[Change, ...]:
        return self.of("regression")

    def of(self, kind: Kind) -> tuple[Change, ...]:
        """The changes of one kind."""
        return tuple(change for change in self.changes if change.kind == kind)


class Words:
    """Short names for the cells and methods of two runs."""

    def __init__(self, old: Distilled, new: Distilled) -> None:
        self.methods = {**old.methods, **new.methods}
        self._brief = labels.short(self.methods.values(), always=("norm", "eps"))

    def method(self, text: str) -> str:
        """A method in few words."""
        return self._brief.get(text, text)

    def entry(self, text: str) -> str:
        """An entry of an array, whose first part may be a method: ``GradCAM, test-00002``."""
        first = max((method for method in self._brief if f"{text}, ".startswith(f"{method}, ")), key=len, default="")
        return visible(self.method(first) + text.removeprefix(first))

    def cell(self, cell: Cell) -> str:
        """``zoo:resnet on scenes, PGD L\u221e 4/255``."""
        parts = (" on ".join(filter(None, (cell.model, cell.data))), self._what(cell), cell.variant)
        return visible(", ".join(filter(None, parts)))

    def _what(self, cell: Cell) -> str:
        if not cell.kind and not cell.method:
            return ""
        method = self.methods.get(cell.method) or Method(text=cell.method)
        settings = {
            key: self.method(value) if isinstance(value, str) else value for key, value in method.settings.items()
        }
        brief = self.method(cell.method)
        try:
            words = kind_of(cell.kind).label.format(**{**settings, "kind": cell.kind, "method": brief})
        except KeyError:
            words = f"{cell.kind} {brief}"
        return words.strip() + (f" from {cell.source}" if cell.source else "")


def visible(text: str) -> str:
    """Text with its controls of direction and lone surrogates as escapes."""
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def ordered(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Causes before effects, regressions before improvements before notes; what is equal keeps its place."""
    kinds = ("regression", "improvement", "note")
    return tuple(sorted(changes, key=lambda change: (kinds.index(change.kind), ORDER.index(change.what))))


def apart(old: float, new: float) -> tuple[str, str]:
    """Two numbers with as few digits as tell them apart, three at least."""
    if not (np.isfinite(old) and np.isfinite(new)):
        return f"{old:.3g}", f"{new:.3g}"
    for digits in range(2, 10):
        pair = f"{old:#.{digits}g}".rstrip("."), f"{new:#.{digits}g}".rstrip(".")
        if abs(float(pair[0]) - float(pair[1])) >= 0.5 * abs(new - old) and pair[0] != pair[1]:
            return pair
    return f"{old!r}", f"{new!r}"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
