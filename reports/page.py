"""The page: RUN/report/index.html and its pictures, readable from disk without network or script."""

import math
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jinja2
import pandas as pd

from reports import figures, frames, names, pictures, quality
from reports.findings import Finding, findings, percent
from reports.intervals import Estimate
from reports.look import Identity, Plot, identities, save
from reports.stored import Results, load

T = TypeVar("T", pictures.Gallery, pictures.ClassPictures)
TEMPLATES = Path(__file__).parent / "templates"
FLAGS = {
    "boundary": "The outcome lies within float noise of the decision boundary and may differ on another machine.",
    "gates": "Guided gradients need ReLUs; the number is the share of the model's activations that are.",
    "lost-at-8-bit": "The attacked image fools the model, but no longer once it is rounded to 8 bits, as in a file.",
    "non-finite": "The method returned values that are not numbers.",
    "non-finite-logits": "The model answered with values that are not numbers.",
    "not-repeatable": "The model answers differently when asked again, so one answer says little.",
    "out-of-range": "The attack left the range of images; the result was clipped before it was judged.",
    "over-budget": "The attack changed more than it may; it does not count as a success.",
    "wrong-shape": "The method returned something of another shape than the images.",
}
HEAT = 84  # CSS pixels: the width of one heatmap of a gallery
STATUSES = {
    "failed": "Went wrong, and is not in the numbers it concerns. A whole cell is tried again by the next run, "
    "an image once its file has changed.",
    "skipped": "Has no meaning for this model or data, so it is left out.",
    "missing": "Planned but not run yet.",
}


class Shown(NamedTuple):
    """A figure on disk."""

    plot: Plot
    light: str
    dark: str
    width: int


class Section(NamedTuple):
    """All about one data set."""

    key: str
    label: str
    spec: str
    n: object
    findings: list[Finding]
    table: list[dict[str, Any]]
    limit: str
    metric: str
    attacks: list[Shown]
    explanations: list[Shown]
    together: list[Shown]


def write(run: Path) -> Path:
    """Write RUN/tables/*.csv and RUN/report/; returns the path of index.html. Raises ``AssayError`` without a run."""
    run = Path(run)
    results = load(run)
    tables = frames.tables(results)
    _write_tables(tables, run / "tables")
    report = run / "report"
    for folder in ("figures", "pictures"):
        shutil.rmtree(report / folder, ignore_errors=True)
        (report / folder).mkdir(parents=True)
    page = _render(results, tables, report)
    index = report / "index.html"
    index.write_text(page, encoding="utf-8")
    return index


def _write_tables(tables: dict[str, pd.DataFrame], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        digits = "%.9g" if name == "images" else "%.6g"
        table.to_csv(folder / f"{name}.csv", index=False, float_format=digits, lineterminator="\n", encoding="utf-8")


def _render(results: Results, tables: dict[str, pd.DataFrame], report: Path) -> str:
    marks = identities(names.models(results.models))
    specs = names.data(results.data)
    album = pictures.Album(report / "pictures")
    sections = [
        _section(results, tables, spec, f"d{i}", marks, report / "figures") for i, spec in enumerate(results.data)
    ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, pretty=_pretty, plural=_plural, breakable=_breakable)
    return environment.get_template("report.html").render(
        info=results.info,
        marks=marks,
        specs=specs,
        sections=[section for section in sections if section.table or section.attacks or section.explanations],
        galleries=_by_model(pictures.galleries(results, album), marks),
        classes=_by_model(pictures.class_pictures(results, album), marks),
        unreadable=album.unreadable,
        tile=pictures.TILE,
        strip=lambda count: round(HEAT * (count + (count - 1) * pictures.GAP / pictures.HEAT)),
        heat=HEAT,
        short=_namer(results),
        failures=tables["failures"].to_dict("records"),
        statuses=STATUSES,
        flags=_flags(results),
        costs=_costs(tables["costs"]),
        glossary=_glossary(results),
        cells=len(results.info["cells"]),
        done=sum((results.path / "cells" / f"{cell['id']}.parquet").is_file() for cell in results.info["cells"]),
        models=tables["models"].to_dict("records"),
        facts=_provenance(results),
    )


def _section(
    results: Results, tables: dict[str, pd.DataFrame], spec: str, key: str, marks: dict[str, Identity], folder: Path
) -> Section:
    summary, ranked = tables["summary"], tables["ranking"]
    rows = ranked[ranked["data"] == spec]
    attacks = figures.figures(results, summary, spec, marks, key)
    heat = quality.figures(results, summary, ranked, spec, marks, key)
    pairs = [plot for plot in heat if plot.name.endswith("robust-quality")]

    def shown(plots: Iterable[Plot]) -> list[Shown]:
        return [Shown(plot, *save(plot, folder)) for plot in plots]

    facts = (results.info.get("data") or {}).get(spec, {})
    budget = rows.dropna(subset="eps")
    return Section(
        key=key,
        label=names.data(results.data)[spec],
        spec=spec,
        n=facts.get("n"),
        findings=findings(results, ranked, spec, marks),
        table=_ranked(results, rows, marks),
        limit=names.ball(str(budget["norm"].iloc[0]), float(budget["eps"].iloc[0])) if len(budget) else "",
        metric=next((metric for metric in rows["quality_metric"] if metric), ""),
        attacks=shown(attacks),
        explanations=shown(plot for plot in heat if plot not in pairs),
        together=shown(pairs),
    )


def _ranked(results: Results, rows: pd.DataFrame, marks: dict[str, Identity]) -> list[dict[str, Any]]:
    brief = names.short(pd.concat([rows["best_explainer"], rows["best_control"]]))
    facts = results.info.get("models") or {}
    return [
        {
            "mark": marks[row["model"]],
            "spec": row["model"],
            "parameters": facts.get(row["model"], {}).get("parameters"),
            "clean": _estimate(row, "clean_accuracy", "clean"),
            "robust": _estimate(row, "robust_accuracy", "robust"),
            "quality": _estimate(row, "quality", "quality"),
            "explainer": brief[row["best_explainer"]],
            "control": brief[row["best_control"]],
            "control_quality": row["control_quality"],
            "share": results.metric(row["quality_metric"])["unit"] == "share",
        }
        for row in rows.to_dict("records")
    ]


def _estimate(row: dict[Any, Any], column: str, prefix: str) -> Estimate:
    return Estimate(row[column], row[f"{prefix}_low"], row[f"{prefix}_high"], 0)


def _namer(results: Results) -> Callable[[str], str]:
    brief = names.short((cell["method"] for cell in results.info["cells"]), always=("norm", "eps"))
    return lambda method: brief.get(method) or names.short([method], always=("norm", "eps"))[method]


def _by_model(found: Iterable[T], marks: dict[str, Identity]) -> list[tuple[Identity, list[T]]]:
    groups: dict[str, list[T]] = {}
    for item in found:
        groups.setdefault(item.model, []).append(item)
    return [(mark, groups[model]) for model, mark in marks.items() if model in groups]


def _breakable(name: str) -> str:
    """A name that may break before its capitals."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "\N{ZERO WIDTH SPACE}", name)


def _flags(results: Results) -> list[dict[str, object]]:
    words = {**FLAGS, **(results.info.get("flags") or {})}
    raised = results.rows.loc[
        results.rows["flags"] != "", ["model", "data", "method", "image", "flags"]
    ].drop_duplicates()
    raised = raised.assign(flags=raised["flags"].str.split(";")).explode("flags")
    raised["flags"] = raised["flags"].str.strip()
    return [
        {
            "flag": flag,
            "count": len(group),
            "models": group["model"].nunique(),
            "methods": group["method"].nunique(),
            "words": words.get(str(flag).partition("=")[0], ""),
        }
        for flag, group in raised[raised["flags"] != ""].drop_duplicates().groupby("flags")
    ]


def _costs(costs: pd.DataFrame) -> list[dict[Any, Any]]:
    costs = costs[costs["kind"].isin(["clean", "attack", "explain", "synthesis"])]
    table = costs.groupby(["kind", "method"])[["forwards", "backwards", "seconds"]].mean().reset_index()
    return table.to_dict("records")


def _glossary(results: Results) -> list[dict[str, str]]:
    used = (
        set(results.rows["metric"].unique())
        | set(results.failures["metric"].unique())
        | set(results.info.get("metrics") or {})
    )
    facts = ((name, results.metric(name)) for name in sorted(used - {""}, key=str.lower))
    return [{"name": name, **found, "meaning": _sentence(found["meaning"])} for name, found in facts]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") or not text else ".")


def _provenance(results: Results) -> list[tuple[str, str]]:
    info = results.info
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
    return [(name, _pretty(value)) for name, value in facts if value not in (None, "", {})]


def _pretty(value: object) -> str:
    """A fact as text: thousands apart, no more digits than matter, small records as ``key value``."""
    match value:
        case None:
            return "–"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}".replace(",", "\N{NO-BREAK SPACE}") if abs(value) >= 10_000 else str(value)
        case float():
            return "–" if math.isnan(value) else (_pretty(round(value)) if abs(value) >= 1000 else f"{value:.3g}")
        case dict():
            return ", ".join(f"{key} {_pretty(item)}" for key, item in value.items())
        case list() | tuple():
            return " × ".join(map(_pretty, value))
    return str(value)


def _plural(count: int, word: str) -> str:
    return f"{_pretty(count)} {word}" + ("" if count == 1 else "s")
