"""What stands beside the numbers: glossary, provenance, costs."""

import math
from typing import Any

import pandas as pd

from assay.reports.run.outcomes import all_facts
from assay.reports.run.reader import Run
from assay.reports.run.glossary import OWN


def glossary(run: Run) -> list[dict[str, str]]:
    """Every metric that the run knows: name, direction, unit, statistic, interval and meaning."""
    used = (
        set(run.rows["metric"].unique())
        | set(run.failures["metric"].unique())
        | set(run.info.get("metrics") or {})
    )
    own = OWN if any(found.minimal for found in all_facts(run, run.rows["method"]).values()) else {}
    facts = ((name, own.get(name) or run.metric(name)) for name in sorted((used | set(own)) - {""}, key=str.lower))
    return [{"name": name, **found, "meaning": sentence(found["meaning"])} for name, found in facts]


def provenance(run: Run) -> list[tuple[str, str]]:
    """Where the run comes from, as names and texts."""
    info = run.info
    code = info.get("code") or {}
    commit = str(code.get("commit") or "unknown") + (" with uncommitted changes" if code.get("dirty") else "")
    facts = [
        ("Command", " ".join(map(str, info.get("argv") or []))),
        ("Preset", info.get("preset")),
        ("Seed", info.get("seed")),
        ("Created", info.get("created")),
        ("Code", commit),
        ("Hardware", info.get("hardware")),
        ("Packages", info.get("packages")),
        *((f"Data {spec}", facts.get("digest")) for spec, facts in (info.get("data") or {}).items()),
        *((f"Model {name}", facts.get("digest")) for name, facts in (info.get("models") or {}).items()),
        ("Schema", info.get("schema")),
    ]
    return [(name, pretty(value)) for name, value in facts if value not in (None, "", {})]


def costs(found: pd.DataFrame) -> pd.DataFrame:
    """Mean cost of an image over models, by kind and method."""
    found = found[~found["kind"].isin(["data", "gallery"])]
    return found.groupby(["kind", "method"])[["forwards", "backwards", "seconds"]].mean().reset_index()


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table, by column."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")


def pretty(value: object) -> str:
    """A fact as text: thousands apart, no more digits than matter, small records as ``key value``."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}") if abs(value) >= 10_000 else str(value)
        case float():
            return "–" if math.isnan(value) else (pretty(round(value)) if abs(value) >= 1000 else f"{value:.3g}")
        case dict():
            return ", ".join(f"{key} {pretty(item)}" for key, item in value.items())
        case list() | tuple():
            return " × ".join(map(pretty, value))
    return str(value)


def plural(count: int, word: str) -> str:
    """``1 model``, ``2 models``."""
    return f"{pretty(count)} {word}" + ("" if count == 1 else "s")
