"""The report: RUN/report/*.html and their pictures, readable from disk without network, and without script."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from assay.core.errors import AssayError
from assay.reports.context import Context, gather
from assay.reports.drawing import album
from assay.reports.gate import proofs
from assay.reports.kinds import all_kinds
from assay.reports.kinds.base import Block, Part, Section, records
from assay.reports.run import glossary
from assay.reports.run.attack_findings import percent
from assay.reports.run.flags import counted, name_of
from assay.reports.run.reader import load
from assay.reports.run.result_tables import doubts
from assay.reports.site import data_pages, method_pages, model_pages, notes
from assay.reports.site.front import Overview, overview
from assay.reports.site.plots import draw, plots_of
from assay.reports.templating import TEMPLATES, environment

STATIC = ("report.css", "report.js")
HEAT = 84  # CSS pixels: the width of one heatmap of a gallery
PAGES = {  # that compare models
    "robustness": "Robustness",
    "transfer": "Transfer",
    "explanations": "Explanations",
    "learned": "What it has learned",
}


@dataclass(frozen=True)
class OnData:
    """A section on one data set."""

    label: str  # of the data set; empty for what was measured on none
    blocks: list[Block]


@dataclass(frozen=True)
class Layout:
    """A section with its blocks, data set by data set."""

    section: Section
    on: list[OnData]


@dataclass(frozen=True)
class Page:
    """A file of the report: a template and what it shows."""

    file: str
    title: str
    template: str
    content: dict[str, Any] = field(default_factory=dict)

    def blocks(self) -> Iterator[Block]:
        """Every block that it shows."""
        for value in self.content.values():
            yield from _blocks(value)


def _blocks(value: object) -> Iterator[Block]:
    match value:
        case Block():
            yield value
        case Layout(on=on):
            yield from (block for each in on for block in each.blocks)
        case Part() | Overview():
            yield from value.blocks
        case list() | tuple():
            for item in value:
                yield from _blocks(item)


def write(run: Path, jobs: int | None = None) -> Path:
    """Write RUN/tables/*.csv and RUN/report/; returns the path of index.html.

    ``jobs`` processes draw the figures, one per core unless given. An earlier report stays until the new one is whole.
    Raises ``AssayError`` without a run, and for a folder that cannot be written.
    """
    run = Path(run)
    stored = load(run)
    report, beside = run / "report", run / "report.part"
    try:
        shutil.rmtree(beside, ignore_errors=True)
        for folder in ("figures", "pictures"):
            (beside / folder).mkdir(parents=True)
        _write(gather(stored, beside / "pictures"), beside, jobs)
        if report.exists():
            shutil.rmtree(report)
        beside.replace(report)
    except OSError as error:
        raise AssayError(f"cannot write to {report}: {error.strerror or error}") from error
    return report / "index.html"


def _write(context: Context, report: Path, jobs: int | None) -> None:
    _write_tables(context.tables, context.run.path / "tables")
    for name in STATIC:
        shutil.copyfile(TEMPLATES / name, report / name)
    site = list(pages(context))
    drawings = draw(plots_of(block for page in site for block in page.blocks()), report / "figures", jobs)
    templates, common = _environment(), {**_common(context, site), "drawings": drawings}
    for page in site:
        text = templates.get_template(page.template).render(page=page, **common, **page.content)
        (report / page.file).write_text(text, encoding="utf-8", errors="replace")
    proofs.write(context.run, report / proofs.FOLDER.name)


def _write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        digits = "%.9g" if name == "images" else "%.6g"
        table.to_csv(folder / f"{name}.csv", index=False, float_format=digits, lineterminator="\n", encoding="utf-8")


def _environment() -> jinja2.Environment:
    templates = environment()
    filters = {"percent": percent, "pretty": notes.pretty, "plural": notes.plural, "breakable": _breakable}
    templates.filters.update(filters)
    return templates


def _breakable(name: str) -> str:
    """A name that may break before its capitals."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "\N{ZERO WIDTH SPACE}", name)


def _common(context: Context, site: list[Page]) -> dict[str, Any]:
    """What every page may use; the navigation leads to those that have no owner."""
    return {
        "nav": [(page.file, page.title) for page in site if "-" not in page.file],
        "marks": context.marks,
        "specs": context.specs,
        "files": context.files,
        "short": context.short,
        "statuses": glossary.STATUSES,
        "tile": album.TILE,
        "heat": HEAT,
        "strip": lambda count: round(HEAT * (count + (count - 1) * album.GAP / album.HEAT)),
    }


def pages(context: Context) -> Iterator[Page]:
    """Every page of the report; their figures are not drawn yet."""
    run = context.run
    for kind in all_kinds():
        context.art(kind.name)  # so that all that cannot be read is known
    sections = [layout for section in _sections() if (layout := _layout(context, section)).on]
    by_model, by_data, by_method = (list(each.pages(context)) for each in (model_pages, data_pages, method_pages))
    problems = _problems(context)
    yield Page("index.html", "Overview", "index.html", _front(context, sections) | problems)
    for key, title in PAGES.items():
        own = [layout for layout in sections if layout.section.page == key]
        if own:
            yield Page(f"{key}.html", title, "sections.html", {"sections": own})
    if by_method:
        yield Page("methods.html", "Methods", "methods.html", {"groups": method_pages.entries(context)})
    every = sorted(glossary.flags(run).items())
    yield Page("problems.html", "Failures and flags", "problems.html", problems | {"known_flags": every})
    yield Page("glossary.html", "Glossary", "glossary.html", {"glossary": glossary.glossary(run)})
    yield Page("provenance.html", "Provenance", "provenance.html", {"facts": notes.provenance(run)})
    for template, group in (("model", by_model), ("data", by_data), ("method", by_method)):
        for file, content in group:
            yield Page(file, content["label"], f"{template}.html", content)


def _sections() -> list[tuple[Section, ...]]:
    """The sections of all kinds in the order of their pages; those of one id together."""
    groups: dict[tuple[str, str], tuple[Section, ...]] = {}
    for section in (section for kind in all_kinds() for section in kind.sections):
        key = section.page, section.id
        groups[key] = (*groups.get(key, ()), section)
    return sorted(groups.values(), key=lambda group: group[0].place)


def _layout(context: Context, group: tuple[Section, ...]) -> Layout:
    """A section with its blocks of each data set that has any."""
    on = [
        OnData(context.specs.get(data, ""), blocks)
        for i, data in enumerate([*context.run.data, ""])
        if (blocks := [block for section in group for block in section.of(context, data, f"d{i}")])
    ]
    return Layout(group[0], on)


def _front(context: Context, sections: list[Layout]) -> dict[str, Any]:
    run = context.run
    front = [layout for layout in sections if layout.section.front]
    overviews = [
        overview(
            context, data, [b for layout in front for each in layout.on if each.label == label for b in each.blocks]
        )
        for data, label in context.specs.items()
    ]
    about = [(name, value) for name, value in notes.provenance(run) if name in ("Command", "Created", "Code")]
    return {
        "overviews": [each for each in overviews if each.table],
        "front": [layout.section for layout in front],
        "facts": about,
        "cells": len(run.info.cells),
        "done": sum(map(run.done, run.info.cells)),
        "tables": list(context.tables),
    }


def _problems(context: Context) -> dict[str, Any]:
    run = context.run
    words = glossary.flags(run)
    raised = [row | {"words": words.get(name_of(row["flag"]), "")} for row in records(counted(run.rows, doubts(run)))]
    return {
        "failures": records(context.tables["failures"]),
        "flags": raised,
        "unreadable": list(dict.fromkeys(context.album.unreadable)),
    }
