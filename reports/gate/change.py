"""What a check finds, and the words for it."""

import re
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Literal, get_args

import numpy as np

from assay.reports.run import labels as names
from assay.reports.gate.art import Cell, Key, Picture
from assay.reports.gate.distil import Distilled
from assay.reports.gate.likeness import Measures
from assay.reports.gate.tolerances import PictureRule

Kind = Literal["regression", "improvement", "note"]
What = Literal[
    "seed", "data", "model", "metric", "setting", "cell", "image", "value", "flag", "picture", "proof"
]  # causes before effects
ORDER: tuple[What, ...] = get_args(What)

NOWHERE = Cell()
NAMELESS = "data without a name"
_HIDDEN = re.compile(
    "[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # turns a line around, or is no text
_AROUND = re.compile(r"^(gallery of \d+: )?(.*?)( from [^()]*)?$", re.DOTALL)


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
class Compared:
    """Two pictures of one name; ``moved`` names what exceeds the rule, and ``near`` is the largest share of a limit."""

    key: Key
    old: Picture
    new: Picture
    measures: Measures | None  # None where they cannot be compared
    rule: PictureRule
    moved: tuple[str, ...]
    near: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What became of a check: green without regressions."""

    old: Distilled
    new: Distilled
    changes: tuple[Change, ...]
    pictures: tuple[Compared, ...]
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
    """Short names for the methods of two runs."""

    def __init__(self, old: Distilled, new: Distilled) -> None:
        methods = [cell["method"] for side in (old, new) for cell in side.facts["cells"]]
        rows = [text for side in (old, new) for text in side.rows["method"].unique()]
        self._methods = names.short([_AROUND.sub(r"\2", text) for text in (*methods, *rows)], always=("norm", "eps"))

    def method(self, text: str) -> str:
        """A method in few words, with what stands around its record: ``gallery of 3: ...``, ``... from zoo:vit``."""
        return _AROUND.sub(self._short, text)

    def entry(self, text: str) -> str:
        """An entry of an array, whose first part may be a method: ``GradCAM, test-00002``."""
        method, close, rest = text.rpartition("), ")
        return visible(f"{self.method(method + ')')}, {rest}" if close else self.method(text))

    def _short(self, found: re.Match[str]) -> str:
        before, method, after = found.groups(default="")
        return f"{before}{self._methods.get(method, method)}{after}"

    def cell(self, cell: Cell) -> str:
        """``zoo:resnet on scenes, PGD L\u221e 4/255``."""
        model, data, kind, method = cell
        place = " on ".join(filter(None, (model, data)))
        what = {"none": "clean images", "decode": "decoding"}.get(method) or self.method(method)
        what = what if kind in ("attack", "clean", "data", "gallery", "learned", "landscape") else f"{kind} {what}"
        return visible(", ".join(filter(None, (place, what))))


def visible(text: str) -> str:
    """Text with its controls of direction and lone surrogates as escapes."""
    return _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


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
