"""Runs of versions before 0.5 (schema 1), whose methods were texts: the one place that takes such a text apart."""

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from assay.reports.run.records import Cell, Method

CONTROLS = ("RandomMap", "SobelMap", "CenterMap", "InputMagnitude")
NORMS = {"DeepFool": "l2"}  # of attacks without a budget in runs that describe none
KINDS = {"moved": "map_shift"}  # that have another name now
GALLERY = re.compile(r"gallery of (\d+): (.*)", re.DOTALL)


class Parts(NamedTuple):
    """``Name(setting=value, ...) goal=...`` taken apart; text that is no such call is all name."""

    name: str
    settings: dict[str, object]
    goal: str = ""


def parse(text: str) -> Parts:
    """Take a repr apart, without evaluating it. Values that are no literals stay text."""
    match = re.fullmatch(r"(\w+\(.*\))(?: goal=(.*))?", text, re.DOTALL)
    try:
        call = ast.parse(match[1], mode="eval").body if match else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        call = None
    if match is None or not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return Parts(text, {})
    settings = {keyword.arg or "**": _value(keyword.value) for keyword in call.keywords}
    settings |= {f"#{i}": _value(argument) for i, argument in enumerate(call.args)}
    return Parts(call.func.id, settings, match[2] or "")


def migrate(info: Mapping[str, Any]) -> dict[str, Any]:
    """``run.json`` of schema 1 as one of schema 2, but for its number."""
    names = ("id", "kind", "model", "data", "method")
    cells = [{**cell, **{name: str(cell.get(name) or "") for name in names}} for cell in info.get("cells") or []]
    for cell in cells:
        cell["method"] = _without_source(cell["method"], cell["kind"], [cell["model"]])[0]
        cell["kind"] = KINDS.get(cell["kind"], cell["kind"])
    attacks, about = info.get("attacks") or {}, info.get("methods") or {}
    plain: dict[str, Any] = {cell["method"]: {} for cell in cells if cell["kind"] in ("attack", "transfer")}
    inner: dict[str, Any] = {match[2]: {} for cell in cells if (match := GALLERY.fullmatch(cell["method"]))}
    facts = {**dict.fromkeys(cell["method"] for cell in cells), **inner, **plain, **attacks}
    return {**info, "cells": cells, "methods": {text: method(text, facts[text], about).as_json() for text in facts}}


def baseline(facts: Mapping[str, Any], rows: pd.DataFrame) -> tuple[dict[str, Any], pd.DataFrame]:
    """Facts and rows of a baseline of schema 1 as of one of schema 2."""
    info = migrate(facts)
    cells = [Cell.from_json(cell) for cell in info["cells"]]
    methods = {text: Method.from_json(each) for text, each in info["methods"].items()}
    pictures = [[*entry[:2], KINDS.get(entry[2], entry[2]), *entry[3:]] for entry in facts["pictures"]]
    return {**info, "pictures": pictures}, variants(rows, cells, methods)


def variants(rows: pd.DataFrame, cells: Iterable[Cell], methods: Mapping[str, Method]) -> pd.DataFrame:
    """Rows whose ``method`` is a text of schema 1, with ``method``, ``source`` and ``variant`` as in schema 2.

    What an attack did to other models is the attack's, with its source. Where rows filled in a layer or a number of
    steps, they are of the cell of that kind and class that differs in the fewest settings.
    """
    known: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        known.setdefault((cell.kind, cell.model), []).append(cell)
        known.setdefault((cell.kind, ""), []).append(cell)
    rows = rows.assign(kind=rows["kind"].replace(KINDS))
    columns: list[tuple[str, str, str]] = []
    cache: dict[tuple[str, str, str], tuple[str, str, str]] = {}
    for key in zip(rows["kind"], rows["model"], rows["method"], strict=True):
        if key not in cache:
            kind, model, text = key
            own = known.get((kind, "" if kind in ("transfer", "shortcut") else model)) or []
            cache[key] = _places(text, kind, own, methods)
        columns.append(cache[key])
    frame = pd.DataFrame(columns, columns=["method", "source", "variant"], index=rows.index, dtype="str")
    return rows.assign(method=frame["method"], source=frame["source"], variant=frame["variant"])


def _places(text: str, kind: str, cells: list[Cell], methods: Mapping[str, Method]) -> tuple[str, str, str]:
    method, source = _without_source(text, kind, [cell.model for cell in cells])
    texts = dict.fromkeys(cell.method for cell in cells)
    if method in texts or not texts:
        return method, source, ""
    parts = parse(method)
    changes = {
        other: [key for key, value in methods[other].settings.items() if _plain(parts.settings.get(key)) != value]
        for other in texts
        if other in methods and methods[other].class_name == parts.name
    }
    if not changes:
        return method, source, ""
    nearest = min(changes, key=lambda other: len(changes[other]))
    return nearest, source, ", ".join(variant(key, parts.settings.get(key)) for key in changes[nearest])


def variant(setting: str, value: object) -> str:
    """What a row fills in of its method, in words: a layer's name, a number of steps."""
    return str(value) if setting == "layer" else f"{value} {setting}"


def _without_source(text: str, kind: str, sources: Iterable[str]) -> tuple[str, str]:
    """The attack of a transfer, and the model that it was made on; other methods as they are."""
    if kind != "transfer":
        return text, ""
    for source in sorted(set(sources), key=len, reverse=True):
        if text.endswith(f" from {source}"):
            return text.removesuffix(f" from {source}"), source
    return text, ""


def method(text: str, attack: Mapping[str, Any] | None = None, about: Mapping[str, str] | None = None) -> Method:
    """The method of a text; of an ``attack`` with what ``run.json`` tells of it, and of each class.

    What a run does not tell of an attack is taken from its settings.
    """
    if inner := GALLERY.fullmatch(text):
        return Method(text=text, settings={"images": int(inner[1]), "attack": inner[2]})
    if count := re.fullmatch(r"landscape of (\d+) images|learned, on (\d+) images", text):
        return Method(text=text, settings={"images": int(count[1] or count[2])})
    parts = parse(text)
    settings = {key: _plain(value) for key, value in parts.settings.items()}
    eps = settings.get("eps")
    radius = float(eps) if isinstance(eps, int | float) and not isinstance(eps, bool) else None
    facts: dict[str, Any] = {"name": parts.name, "goal": parts.goal}
    if attack is not None:
        facts |= {
            "access": "none" if parts.name == "RandomNoise" else "gradient",
            "single": parts.name == "FGSM",
            "universal": parts.name == "UniversalPerturbation",
            "norm": str(settings.get("norm", NORMS.get(parts.name, "" if radius is None else "linf"))),
            "eps": radius,
        }
    if attack:
        goal = str(attack.get("goal") or "untargeted").replace("_", "-")
        facts |= {key: attack[key] for key in ("name", "access", "single", "universal") if attack.get(key) is not None}
        facts |= {
            "goal": "" if goal == "untargeted" else goal,
            "norm": attack.get("norm") or "",
            "eps": attack.get("eps"),
        }
    return Method.from_json(
        {
            **facts,
            "text": text,
            "class_name": parts.name if parts.name != text else "",
            "settings": settings,
            "control": parts.name in CONTROLS,
            "about": str((about or {}).get(parts.name) or "").replace("``", ""),
        }
    )


def _value(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        return ast.unparse(node)


def _plain(value: object) -> Any:
    """As JSON has it."""
    if isinstance(value, tuple | list):
        return [_plain(each) for each in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
