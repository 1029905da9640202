"""Tables as a paper shows them: short names, a value with its interval in one cell; as LaTeX and Markdown."""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd
from pandas.api.types import is_bool_dtype, is_integer_dtype, is_numeric_dtype

from assay.reports.run import labels
from assay.reports.run.records import Method
from assay.reports.run.result_tables import METHOD

MODELS = ("model", "source", "victim", "suspect_model", "sound_model")
METHODS = ("method", "other", "attack", "best_explainer", "best_control")
DETAILS = ("digest", "card")  # for programs
ALWAYS = ("norm", "eps")  # settings that a method's short name always tells
NOTHING = "–"
TEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "|": r"\textbar{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "∞": r"$\infty$",
    "→": r"$\rightarrow$",
    "×": r"$\times$",
    "…": r"\ldots{}",
    "–": "--",
}
LIGATURES = {"--", "-–", "–-", "––", "``", "''", ",,", "?`", "!`"}  # two signs that TeX sets as one


class Brief(NamedTuple):
    """A table as text: cells by heading, which of these are numbers, and what is the same in all rows."""

    cells: pd.DataFrame
    numbers: frozenset[str]
    same: dict[str, str]


def latex(table: pd.DataFrame, methods: Mapping[str, Method] | None = None) -> str:
    """A ``tabular`` a data set, with the rules of booktabs, after comments of what is the same in all rows.

    ``methods``, by their texts, are those of the run: they have short names, others stand as they are.
    """
    lines = ["% \\usepackage{booktabs}\n"]
    for part in _parts(table, methods or {}):
        brief = shortened(part)
        cells = brief.cells.map(in_latex).rename(columns=in_latex)
        columns = "".join("r" if name in brief.numbers else "l" for name in brief.cells)
        lines += [f"% {name}: {' '.join(value.split())}\n" for name, value in brief.same.items()]
        lines.append(cells.style.hide(axis="index").to_latex(hrules=True, column_format=columns))
    return "".join(lines)


def markdown(table: pd.DataFrame, methods: Mapping[str, Method] | None = None) -> str:
    """A table a data set as GitHub's Markdown, each after a line of what is the same in all rows; as ``latex``."""
    parts = []
    for part in _parts(table, methods or {}):
        brief = shortened(part)
        heads = [str(name) for name in brief.cells]
        rule = ["--:" if name in brief.numbers else ":--" for name in heads]
        columns = [
            brief.cells[name] if name in brief.numbers else map(in_markdown, brief.cells[name]) for name in heads
        ]
        rows = [map(in_markdown, heads), rule, *zip(*columns, strict=True)]
        if brief.same:
            parts.append("; ".join(f"{in_markdown(name)}: {in_markdown(text)}" for name, text in brief.same.items()))
        parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(parts) + "\n"


def in_latex(text: str) -> str:
    """Text in a cell; a bracket or star at its start would belong to the line break before it."""
    plain = " ".join(text.split())
    pairs = zip(plain, f"{plain[1:]} ", strict=False)
    tex = "".join(TEX.get(sign, sign) + ("{}" if sign + after in LIGATURES else "") for sign, after in pairs)
    return f"{{{tex[0]}}}{tex[1:]}" if tex.startswith(("[", "*")) else tex


def in_markdown(text: str) -> str:
    """Text in a cell, without anything that Markdown or HTML would read in it."""
    return re.sub(r"([\\`*_\[\]<>|~#&$])", r"\\\1", " ".join(text.split()))


def shortened(table: pd.DataFrame) -> Brief:
    """Intervals beside their values, and no column that is empty or the same in all of several rows."""
    table = table.reset_index(drop=True)
    columns = [*map(str, table)]
    numbers = {name for name in columns if is_numeric_dtype(table[name]) and not is_bool_dtype(table[name])}
    cells = {name: _texts(table[name]) for name in columns}
    values = set()
    for low in [name for name in columns if name.endswith("low")]:
        value, high = columns[columns.index(low) - 1], f"{low.removesuffix('low')}high"
        both, digits = table[low].notna() & table[high].notna(), _digits(table[value])
        ends = [f" [{a:.{digits}f}, {b:.{digits}f}]" for a, b in zip(table[low], table[high], strict=True)]
        cells[value] += pd.Series(ends, table.index).where(both, "")
        values.add(value)
        del cells[low], cells[high]
    for best in [name for name in columns if name.endswith("_best")]:
        worst = cells.pop(f"{best.removesuffix('_best')}_worst")
        cells[best] = cells[best].where(cells[best] == worst, cells[best] + NOTHING + worst)
    full = {name: column for name, column in cells.items() if (column != NOTHING).any()}
    same = {n: c.iloc[0] for n, c in full.items() if n not in values and len(table) > 1 and c.nunique() == 1}
    different = pd.DataFrame({_heading(name): column for name, column in full.items() if name not in same})
    return Brief(different, frozenset(map(_heading, numbers)), {_heading(name): text for name, text in same.items()})


def _parts(table: pd.DataFrame, methods: Mapping[str, Method]) -> list[pd.DataFrame]:
    """The rows of each data set, in their order, with short names."""
    table = _with_labels(table, methods)
    return [part for _, part in table.groupby("data", sort=False)] if "data" in table and len(table) else [table]


def _with_labels(table: pd.DataFrame, methods: Mapping[str, Method]) -> pd.DataFrame:
    """Models, data and methods by their short names, a ball's norm and radius in one column."""

    def short(texts: Iterable[str]) -> dict[str, str]:
        return labels.short([methods.get(text) or Method(text=text) for text in texts], always=ALWAYS)

    columns = list(table)
    beside = columns[columns.index("method") :] if "method" in table else []
    own = table.drop(columns=[name for name in columns if name in DETAILS or (name in METHOD and name in beside)])
    for group, label in ((MODELS, labels.models), (("data",), labels.data), (METHODS, short)):
        present = [name for name in group if name in own]
        brief = label(value for name in present for value in own[name])
        own = own.assign(**{name: own[name].map(brief) for name in present})
    if {"norm", "eps"} <= set(own):
        balls = [labels.ball(n, e) if n and e == e else "" for n, e in zip(own["norm"], own["eps"], strict=True)]
        own = own.assign(norm=balls).rename(columns={"norm": "budget"}).drop(columns="eps")
    return own


def _texts(column: "pd.Series[float]") -> "pd.Series[str]":
    if is_bool_dtype(column):
        return column.map({True: "yes", False: "no"})
    if is_integer_dtype(column) or not is_numeric_dtype(column):
        return column.map(str, na_action="ignore").astype("object").fillna(NOTHING).replace("", NOTHING)
    digits = _digits(column)
    return column.map(lambda value: NOTHING if value != value else _number(value, digits))


def _digits(column: "pd.Series[float]") -> int:
    """Decimals that tell the column's largest value to three or four digits."""
    largest = column.abs().max()
    return 3 if largest <= 1 else 2 if largest <= 100 else 1


def _number(value: float, digits: int) -> str:
    return f"{value:.2g}" if 0 < abs(value) < 0.5 * 10**-digits else f"{value:.{digits}f}"


def _heading(name: str) -> str:
    words = name.removesuffix("_best").replace("_", " ")
    return words[:1].upper() + words[1:]
