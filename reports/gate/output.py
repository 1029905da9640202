"""A verdict as files: ``check.json``, JUnit XML for CI systems, a Markdown summary for pull requests."""

import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from assay.core.errors import AssayError
from assay.reports.gate.art import SORTS, Cell
from assay.reports.gate.change import Change, Verdict, Words, plural
from assay.reports.gate.page import write_page

SCHEMA = 1
CHECK = "check.json"
MOST = 50  # regressions in the Markdown table; GitHub cuts summaries off at 1 MiB
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0


def write(verdict: Verdict, folder: Path, junit: Path | None = None, markdown: Path | None = None) -> Path:
    """Write all files into a folder, two of them elsewhere as well; returns the page.

    Raises ``AssayError`` where that fails, and for a folder that holds anything but an earlier check.
    """
    try:
        _claim(folder, verdict.new.path)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(as_json(verdict), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (folder / CHECK).write_text(text, encoding="utf-8", errors="backslashreplace")
        for path in (folder / "junit.xml", *([junit] if junit else [])):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_junit(verdict))
        for path in (folder / "summary.md", *([markdown] if markdown else [])):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_markdown(verdict), encoding="utf-8", errors="backslashreplace")
        return write_page(verdict, folder)
    except OSError as error:
        raise AssayError(f"cannot write to {error.filename or folder}: {error.strerror or error}") from error


def _claim(folder: Path, run: Path) -> None:
    busy = folder.resolve() in (run.resolve(), (run / "report").resolve()) or (folder / "run.json").exists()
    if busy or (folder.is_dir() and any(folder.iterdir()) and not _earlier(folder / CHECK)):
        raise AssayError(f"{folder} holds something else than a check; name an empty folder with --out")


def _earlier(path: Path) -> bool:
    """Whether the file was written by an earlier check."""
    try:
        check = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(check, dict) and {"schema", "passed", "tolerances", "changes"} <= check.keys()


def as_json(verdict: Verdict) -> dict[str, Any]:
    """The verdict with all changes, as plain values."""
    return {
        "schema": SCHEMA,
        "passed": verdict.passed,
        "run": _about(verdict.new.path, verdict.new.facts),
        "baseline": _about(verdict.old.path, verdict.old.facts),
        "tolerances": verdict.rules,
        "compared": {"cells": len(verdict.cells), "values": verdict.values, "pictures": len(verdict.pictures)},
        "counts": {kind: len(verdict.of(kind)) for kind in ("regression", "improvement", "note")},
        "changes": [_change(change) for change in verdict.changes],
    }


def as_junit(verdict: Verdict) -> bytes:
    """One test case for each cell and sort of picture that was compared, and for what has no cell; failures inside."""
    words = Words(verdict.old, verdict.new)
    cases: dict[tuple[str, str], list[Change]] = {
        (_suite(cell), f"{words.cell(cell)}: {SORTS.get(what, what)}"): [] for cell, what in verdict.groups
    }
    for change in verdict.regressions:
        what = SORTS.get(change.metric, "values") if change.what in ("picture", "proof") else "values"
        name = f"{words.cell(change.cell)}: {what}"
        key = (_suite(change.cell), name)
        cases.setdefault(key if key in cases else ("run", change.what), []).append(change)
    suites: dict[str, list[tuple[str, list[Change]]]] = defaultdict(list)
    for (suite, name), changes in cases.items():
        suites[suite].append((name, changes))
    root = ElementTree.Element("testsuites", _counts("assay check", cases.values()))
    for suite, members in sorted(suites.items(), key=lambda pair: (pair[0] != "run", pair[0])):
        element = ElementTree.SubElement(root, "testsuite", _counts(suite, [changes for _, changes in members]))
        for name, changes in sorted(members, key=lambda member: member[0]):
            case = ElementTree.SubElement(element, "testcase", classname=_text(suite), name=_text(name), time="0")
            if changes:
                failure = ElementTree.SubElement(case, "failure", message=_text(changes[0].line), type=changes[0].what)
                failure.text = _text("\n".join(change.line for change in changes))
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def as_markdown(verdict: Verdict) -> str:
    """A summary for a pull request: the outcome, then regressions (the first 50) and improvements as tables."""
    worse, better, notes = (verdict.of(kind) for kind in ("regression", "improvement", "note"))
    compared = (verdict.values, "value"), (len(verdict.pictures), "picture"), (len(verdict.cells), "cell")
    kinds = (len(worse), "regression"), (len(better), "improvement"), (len(notes), "note")
    counts = (", ".join(plural(*count) for count in part) for part in (compared, kinds))
    title = "no regressions" if verdict.passed else plural(len(worse), "regression")
    lines = [f"## Assay: {title}", "", "{} compared with the baseline: {}.".format(*counts)]
    for title, changes in (("Regressions", worse), ("Improvements", better), ("Notes", notes)):
        if changes:
            rows = [f"| {change.what} | {_escape(change.line)} |" for change in changes[:MOST]]
            rest = [f"| | and {len(changes) - MOST} more |"] if len(changes) > MOST else []
            table = ["| | |", "|---|---|", *rows, *rest, ""]
            details = ["<details>", f"<summary>{title}: {len(changes)}</summary>", "", *table, "</details>"]
            lines += ["", *([f"### {title}", "", *table] if changes is worse else details)]
    return "\n".join(lines).rstrip() + "\n"


def _change(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind, "what": change.what, "line": change.line,
        "model": change.cell.model, "data": change.cell.data, "cell": change.cell.kind,
        "method": change.cell.method, "source": change.cell.source, "variant": change.cell.variant,
        "metric": change.metric, "image": change.image,
        "old": _finite(change.old), "new": _finite(change.new), "tolerance": change.tolerance, "count": change.count,
    }  # fmt: skip


def _about(path: Path, facts: dict[str, Any]) -> dict[str, Any]:
    return {"path": str(path), **{name: facts.get(name) for name in ("created", "preset", "seed", "code")}}


def _finite(value: float | str | None) -> float | str | None:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _suite(cell: Cell) -> str:
    return " on ".join(filter(None, (cell.model, cell.data))) or "run"


def _counts(name: str, cases: Iterable[list[Change]]) -> dict[str, str]:
    all_cases = list(cases)
    failures = sum(bool(changes) for changes in all_cases)
    counts = {"tests": len(all_cases), "failures": failures, "errors": 0, "skipped": 0, "time": 0}
    return {"name": _text(name), **{key: str(count) for key, count in counts.items()}}


def _text(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)


def _escape(text: str) -> str:
    """On one line, without what Markdown or HTML would read."""
    flat = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_\[\]|~#@$])", r"\\\1", flat)
