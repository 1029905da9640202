"""What stands beside the numbers: where the run comes from, and facts as text."""

import math

from assay.reports.run.reader import Run


def provenance(run: Run) -> list[tuple[str, str]]:
    """Where the run comes from, as names and texts."""
    info = run.info
    commit = str(info.code.get("commit") or "unknown") + (" with uncommitted changes" if info.code.get("dirty") else "")
    facts = [
        ("Command", " ".join(map(str, info.argv))),
        ("Preset", info.preset),
        ("Seed", info.seed),
        ("Created", info.created),
        ("Code", commit),
        ("Hardware", info.hardware),
        ("Packages", info.packages),
        *((f"Data {spec}", about.get("digest")) for spec, about in info.data.items()),
        *((f"Model {name}", about.get("digest")) for name, about in info.models.items()),
        ("Schema", info.schema),
    ]
    return [(name, pretty(value)) for name, value in facts if value not in (None, "", {})]


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
