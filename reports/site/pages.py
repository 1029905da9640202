"""The report: RUN/report/*.html and their pictures, readable from disk without network, and without script."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import pandas as pd

from assay.core.errors import AssayError
from assay.reports.run import cross_attack_checks as checks
from assay.reports.run import flags
from assay.reports.kinds import learned as learned_models
from assay.reports.run import labels as names
from assay.reports.drawing import album as pictures
from assay.reports.drawing import reconstruction as remade
from assay.reports.run.attack_findings import percent
from assay.reports.run.findings import Finding, findings
from assay.reports.gate import proofs
from assay.reports.run.intervals import Estimate
from assay.reports.drawing.theme import Identity
from assay.reports.run.places import Place
from assay.reports.site import datasets, methods, models, notes
from assay.reports.site.gathered import Gathered, gather
from assay.reports.site.notes import records
from assay.reports.site.plots import Shown, all_plots, compared, draw
from assay.reports.run.reader import Run, load
from assay.reports.templating import TEMPLATES, environment
from assay.reports.run.glossary import FLAGS, STATUSES

STATIC = ("report.css", "report.js")
HEAT = 84  # CSS pixels: the width of one heatmap of a gallery
PARTS = {
    "robustness": ("attacks", "queries", "around", "strength"),
    "transfer": ("transfer",),
    "explanations": ("explanations", "moved", "shortcut", "together"),
    "learned": ("learned", "remade"),
}


class Checked(NamedTuple):
    """What the cross-attack checks said of one data set: models, states by check and model, and what failed."""

    models: list[str]
    rows: list[tuple[str, list[dict[str, Any]]]]
    failed: list[dict[str, Any]]


class Section(NamedTuple):
    """All that compares models on one data set; figures by what they are about."""

    label: str
    spec: str
    n: object
    findings: list[Finding]
    table: list[dict[str, Any]]
    limit: str
    metric: str
    figures: dict[str, list[Shown]]
    insides: list[dict[str, Any]]
    transfer: list[dict[str, Any]]
    checks: Checked


class Page(NamedTuple):
    """A file of the report."""

    file: str
    title: str
    template: str
    context: dict[str, Any]


def write(run: Path, jobs: int | None = None) -> Path:
    """Write RUN/tables/*.csv and RUN/report/; returns the path of index.html.

    ``jobs`` processes draw the figures, one per core unless given. An earlier report stays until the new one is whole.
    Raises ``AssayError`` without a run, and for a folder that cannot be written.
    """
    run = Path(run)
    run = load(run)
    report, beside = run / "report", run / "report.part"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        for folder in ("figures", "pictures"):
            (beside / folder).mkdir(parents=True)
        _write(run, beside, jobs)
        if report.exists():
            shutil.rmtree(report)
        beside.replace(report)
    except OSError as error:
        raise AssayError(f"cannot write to {report}: {error.strerror or error}") from error
    return report / "index.html"


def _write(run: Run, report: Path, jobs: int | None) -> None:
    found = gather(run, report / "pictures")
    _write_tables(found.tables, run.path / "tables")
    shown = draw(all_plots(found), report / "figures", jobs)
    for name in STATIC:
        shutil.copyfile(TEMPLATES / name, report / name)
    templates = _environment()
    pages = list(_pages(found, shown))
    common = _common(found, pages)
    for page in pages:
        text = templates.get_template(page.template).render(page=page, **common, **page.context)
        (report / page.file).write_text(text, encoding="utf-8", errors="replace")
    proofs.write(run, report / proofs.FOLDER.name)


def _write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        digits = "%.9g" if name == "images" else "%.6g"
        table.to_csv(folder / f"{name}.csv", index=False, float_format=digits, lineterminator="\n", encoding="utf-8")


def _environment() -> jinja2.Environment:
    made = environment()
    made.filters.update(percent=percent, pretty=notes.pretty, plural=notes.plural, breakable=_breakable)
    return made


def _breakable(name: str) -> str:
    """A name that may break before its capitals."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "\N{ZERO WIDTH SPACE}", name)


def _common(found: Gathered, pages: list[Page]) -> dict[str, Any]:
    """What every page may use; the navigation leads to those that have no owner."""
    return {
        "nav": [(page.file, page.title) for page in pages if "-" not in page.file],
        "info": found.run.info,
        "marks": found.marks,
        "specs": found.specs,
        "files": found.files,
        "short": found.short,
        "statuses": STATUSES,
        "tile": pictures.TILE,
        "heat": HEAT,
        "strip": lambda count: round(HEAT * (count + (count - 1) * pictures.GAP / pictures.HEAT)),
    }


def _pages(found: Gathered, shown: dict[str, Shown]) -> Iterator[Page]:
    tables, info = found.tables, found.run.info
    sections = [_section(found, data, f"d{i}", shown) for i, data in enumerate(found.run.data)]
    told = [section for section in sections if section.table or any(section.figures.values())]
    failures = tables["failures"].to_dict("records")
    raised = flags.counted(found.run, tables["summary"])
    by_model = list(models.pages(found, shown))
    by_data, by_method = list(datasets.pages(found)), list(methods.pages(found))
    done = sum((found.run.path / "cells" / f"{cell['id']}.parquet").is_file() for cell in info["cells"])
    counts = {"cells": len(info["cells"]), "done": done, "failures": failures, "flags": raised}
    yield Page("index.html", "Overview", "index.html", {"sections": told, "facts": _brief(found), **counts})
    titles = {"robustness": "Robustness", "transfer": "Transfer", "explanations": "Explanations"}
    for key, title in titles.items():
        if any(section.figures[part] for section in told for part in PARTS[key]) or (
            key == "robustness" and any(section.checks.rows for section in told)
        ):
            yield Page(f"{key}.html", title, f"{key}.html", {"sections": told})
    textures = [shown[plot.name] for plot in remade.textures(found.remade)]
    if textures or any(section.insides or section.figures["remade"] for section in told):
        yield Page("learned.html", "What it has learned", "learned.html", {"sections": told, "textures": textures})
    if by_method:
        listed = {"groups": methods.entries(found)}
        yield Page("methods.html", "Methods", "methods.html", listed)
    yield Page(
        "problems.html",
        "Failures and flags",
        "problems.html",
        {
            "failures": failures,
            "flags": raised,
            "unreadable": list(dict.fromkeys(found.album.unreadable)),
            "known_flags": sorted({**FLAGS, **(info.get("flags") or {})}.items()),
        },
    )
    yield Page("glossary.html", "Glossary", "glossary.html", {"glossary": notes.glossary(found.run)})
    yield Page("provenance.html", "Provenance", "provenance.html", {"facts": notes.provenance(found.run)})
    for file, context in by_model:
        yield Page(file, found.marks[context["name"]].label, "model.html", context)
    for file, context in by_data:
        yield Page(file, context["label"], "data.html", context)
    for file, context in by_method:
        yield Page(file, context["label"], "method.html", context)


def _brief(found: Gathered) -> list[tuple[str, str]]:
    wanted = ("Command", "Created", "Code")
    return [(name, value) for name, value in notes.provenance(found.run) if name in wanted]


def _section(found: Gathered, data: str, key: str, shown: dict[str, Shown]) -> Section:
    run, tables, marks = found.run, found.tables, found.marks
    rows = tables["ranking"][tables["ranking"]["data"] == data]
    facts = (run.info.get("data") or {}).get(data, {})
    budget = rows.dropna(subset="eps")
    plots = compared(found, data, key)
    pairs = tables["transfer"][tables["transfer"]["data"] == data]
    return Section(
        label=found.specs[data],
        spec=data,
        n=facts.get("n"),
        findings=findings(run, tables["ranking"], data, marks, tables),
        table=_ranked(found, rows),
        limit=names.ball(str(budget["norm"].iloc[0]), float(budget["eps"].iloc[0])) if len(budget) else "",
        metric=next((metric for metric in rows["quality_metric"] if metric), ""),
        figures={part: [shown[plot.name] for plot in group] for part, group in plots.items()},
        insides=learned_models.lines(tables, data),
        transfer=records(pairs),
        checks=_checked(tables["checks"], data, marks),
    )


def _checked(found: pd.DataFrame, data: str, marks: dict[str, Identity]) -> Checked:
    here = found[found["data"] == data]
    there = [model for model in marks if model in set(here["model"])]
    rows = []
    for check in here["check"].unique():
        cells = {cell["model"]: cell for cell in records(here[here["check"] == check])}
        rows.append((str(check), [cells[model] for model in there]))
    return Checked(there, rows, records(here[here["state"] == checks.FAILED]))


def _ranked(found: Gathered, rows: pd.DataFrame) -> list[dict[str, Any]]:
    run, checked = found.run, found.tables["checks"]
    doubted = checked[checked["state"] == checks.FAILED].groupby(["data", "model"]).size().to_dict()
    brief = names.short(pd.concat([rows["best_explainer"], rows["best_control"]]))
    facts = run.info.get("models") or {}
    return [
        {
            "mark": found.marks[row["model"]],
            "name": row["model"],
            "place": "" if pd.isna(row["place_best"]) else Place(row["place_best"], row["place_worst"]),
            "doubted": doubted.get((row["data"], row["model"]), 0),
            "parameters": facts.get(row["model"], {}).get("parameters"),
            "clean": _estimate(row, "clean_accuracy", "clean"),
            "robust": _estimate(row, "robust_accuracy", "robust"),
            "quality": _estimate(row, "quality", "quality"),
            "explainer": brief[row["best_explainer"]],
            "control": brief[row["best_control"]],
            "control_quality": row["control_quality"],
            "share": run.metric(row["quality_metric"])["unit"] == "share",
        }
        for row in rows.to_dict("records")
    ]


def _estimate(row: dict[Any, Any], column: str, prefix: str) -> Estimate:
    return Estimate(row[column], row[f"{prefix}_low"], row[f"{prefix}_high"], 0)
