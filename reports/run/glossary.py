"""What metrics, flags and statuses mean."""

from typing import Any

from assay.reports.kinds import all_kinds, kind_of
from assay.reports.run.reader import Run

GENERAL = {  # flags that no kind has for its own
    "non-finite": "The method returned values that are not numbers.",
    "measured-alone": "Explainers that share passes could not, so each made its own; the numbers are the same.",
    "wrong-shape": "The method returned something of another shape than the images.",
}
STATUSES = {
    "failed": "Went wrong, and is not in the numbers it concerns; what a model does not answer counts as wrong, and as "
    "fooled. A whole cell is tried again by the next run, "
    "an image once its file has changed.",
    "skipped": "Has no meaning for this model or data, so it is left out.",
    "missing": "Planned but not run yet.",
}


def flags(run: Run | None = None) -> dict[str, str]:
    """What each flag says: those of all kinds, and the user's own in a run."""
    words = {flag: text for kind in all_kinds() for flag, text in kind.flags.items()}
    return words | GENERAL | (run.info.flags if run else {})


def glossary(run: Run) -> list[dict[str, Any]]:
    """Every metric that the run knows: name, direction, unit, statistic, interval and meaning."""
    kinds = {cell.kind for cell in run.info.cells} | set(run.rows["kind"].unique())
    terms = {name: term for kind in kinds for name, term in kind_of(kind).terms.items()}
    names = {*run.rows["metric"].unique(), *run.failures["metric"].unique(), *run.info.metrics, *terms} - {""}
    metrics = {name: terms.get(name) or run.metric(name) for name in sorted(names, key=str.lower)}
    return [{"name": name, **metric.as_json(), "meaning": sentence(metric.meaning)} for name, metric in metrics.items()]


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")
