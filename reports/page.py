"""The page: RUN/report/index.html and its pictures, readable from disk without network or script."""

import math
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jinja2
import pandas as pd

from reports import (
    checks,
    figures,
    flags,
    frames,
    landscape,
    learned_models,
    moved,
    names,
    pictures,
    quality,
    queries,
    radii,
    remade,
    shortcut,
    standing,
    transfer,
)  # fmt: skip
from reports.attacked import percent
from reports.facts import all_facts
from reports.findings import Finding, findings
from reports.intervals import Estimate
from reports.look import Identity, Plot, identities, save
from reports.stored import Results, load
from reports.words import FLAGS, OWN, STATUSES

T = TypeVar("T", pictures.Gallery, pictures.ClassPictures, "Inside")
TEMPLATES = Path(__file__).parent / "templates"
FIGURES = (
    "attacks",
    "transfer",
    "queries",
    "around",
    "strength",
    "explanations",
    "moved",
    "shortcut",
    "together",
    "insides",
    "remade",
)
HEAT = 84  # CSS pixels: the width of one heatmap of a gallery


class Shown(NamedTuple):
    """A figure on disk."""

    plot: Plot
    light: str
    dark: str
    width: int


class Checked(NamedTuple):
    """What the cross-attack checks said of one data set: models, states by check and model, and what failed."""

    models: list[Identity]
    rows: list[tuple[str, list[dict[str, Any]]]]
    failed: list[dict[str, Any]]


class Seen(NamedTuple):
    """What cells kept that figures are drawn from."""

    lands: list[landscape.Landscape]
    moved: list[moved.Scene]
    learned: list[learned_models.Learned]
    remade: list[remade.Remade]


class Inside(NamedTuple):
    """Figures of one model on one data set."""

    model: str
    kind: str
    label: str  # of the data
    figures: list[Shown]
    missing: list[learned_models.Missing]


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
    moved: list[Shown]
    shortcut: list[Shown]
    together: list[Shown]
    transfer: list[Shown]
    queries: list[Shown]
    around: list[Shown]
    strength: list[Shown]
    learned: list[Shown]
    insides: list[dict[str, Any]]
    remade: list[Shown]
    checks: Checked


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
    seen = Seen(
        landscape.landscapes(results, album),
        moved.scenes(results, album),
        learned_models.read(results, album),
        remade.read(results, album),
    )
    sections = [
        _section(results, tables, spec, f"d{i}", marks, seen, report / "figures") for i, spec in enumerate(results.data)
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
        sections=[
            section for section in sections if section.table or any(getattr(section, field) for field in FIGURES)
        ],
        galleries=_by_model(pictures.galleries(results, album), marks),
        classes=_by_model(pictures.class_pictures(results, album), marks),
        nothing=_by_model(pictures.class_pictures(results, album, "fooling"), marks),
        insides=_by_model(_insides(seen.learned, specs, report / "figures"), marks),
        remakes=_by_model(_remakes(seen.remade, specs, marks, report / "figures"), marks),
        unreadable=album.unreadable,
        tile=pictures.TILE,
        strip=lambda count: round(HEAT * (count + (count - 1) * pictures.GAP / pictures.HEAT)),
        heat=HEAT,
        short=_namer(results),
        failures=tables["failures"].to_dict("records"),
        statuses=STATUSES,
        flags=flags.counted(results, tables["summary"]),
        known_flags=sorted({**FLAGS, **(results.info.get("flags") or {})}.items()),
        costs=_costs(tables["costs"]),
        glossary=_glossary(results),
        cells=len(results.info["cells"]),
        done=sum((results.path / "cells" / f"{cell['id']}.parquet").is_file() for cell in results.info["cells"]),
        models=tables["models"].to_dict("records"),
        facts=_provenance(results),
    )


def _section(
    results: Results,
    tables: dict[str, pd.DataFrame],
    spec: str,
    key: str,
    marks: dict[str, Identity],
    seen: Seen,
    folder: Path,
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
        findings=findings(results, ranked, spec, marks, tables),
        table=_ranked(results, rows, marks, tables["checks"]),
        limit=names.ball(str(budget["norm"].iloc[0]), float(budget["eps"].iloc[0])) if len(budget) else "",
        metric=next((metric for metric in rows["quality_metric"] if metric), ""),
        attacks=shown([*radii.figures(results, tables, spec, marks, key), *attacks]),
        explanations=shown([*(plot for plot in heat if plot not in pairs), *standing.figures(tables, spec, key)]),
        moved=shown(moved.figures(results, seen.moved, spec, marks, key)),
        shortcut=shown(shortcut.figures(tables["shortcut"], spec, marks, key)),
        together=shown(pairs),
        transfer=shown(transfer.figures(tables["transfer"], spec, marks, key)),
        queries=shown(queries.figures(results, spec, marks, key)),
        around=shown(landscape.figures(seen.lands, summary, spec, marks, key)),
        learned=shown(learned_models.compared(seen.learned, spec, marks, key)),
        insides=learned_models.lines(tables, spec, marks),
        remade=shown(
            [
                *remade.compared(seen.remade, spec, marks, key),
                *(remade.textures(seen.remade, key) if key == "d0" else []),
            ]
        ),
        strength=shown(radii.optimality(tables["optimality"], spec, marks, key)),
        checks=_checked(tables["checks"], spec, marks),
    )


def _insides(found: list[learned_models.Learned], specs: dict[str, str], folder: Path) -> Iterator[Inside]:
    for i, one in enumerate(found):
        plots = [Shown(plot, *save(plot, folder)) for plot in learned_models.own(one, f"l{i}")]
        yield Inside(one.model, "learned", specs.get(one.data, one.data), plots, learned_models.missing(one))


def _remakes(
    found: list[remade.Remade], specs: dict[str, str], marks: dict[str, Identity], folder: Path
) -> Iterator[Inside]:
    for i, one in enumerate(one for one in found if one.model):
        plot = remade.own(one, marks[one.model].label, f"m{i}")
        yield Inside(one.model, one.kind, specs.get(one.data, one.data), [Shown(plot, *save(plot, folder))], [])


def _checked(found: pd.DataFrame, spec: str, marks: dict[str, Identity]) -> Checked:
    here = found[found["data"] == spec]
    models = [model for model in marks if model in set(here["model"])]
    rows = []
    for check in here["check"].unique():
        cells = {cell["model"]: cell for cell in _records(here[here["check"] == check])}
        rows.append((str(check), [cells[model] for model in models]))
    lost = [{**row, "mark": marks[row["model"]]} for row in _records(here[here["state"] == checks.FAILED])]
    return Checked([marks[model] for model in models], rows, lost)


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _ranked(
    results: Results, rows: pd.DataFrame, marks: dict[str, Identity], checked: pd.DataFrame
) -> list[dict[str, Any]]:
    doubted = {(row["data"], row["model"]) for row in _records(checked[checked["state"] == checks.FAILED])}
    brief = names.short(pd.concat([rows["best_explainer"], rows["best_control"]]))
    facts = results.info.get("models") or {}
    return [
        {
            "mark": marks[row["model"]],
            "spec": row["model"],
            "doubted": (row["data"], row["model"]) in doubted,
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


def _costs(costs: pd.DataFrame) -> list[dict[Any, Any]]:
    costs = costs[
        costs["kind"].isin(
            [
                "clean",
                "attack",
                "transfer",
                "explain",
                "moved",
                "shortcut",
                "synthesis",
                "fooling",
                "landscape",
                "learned",
                "inversion",
                "dream",
                "texture",
                "style",
            ]
        )
    ]
    table = costs.groupby(["kind", "method"])[["forwards", "backwards", "seconds"]].mean().reset_index()
    return table.to_dict("records")


def _glossary(results: Results) -> list[dict[str, str]]:
    used = (
        set(results.rows["metric"].unique())
        | set(results.failures["metric"].unique())
        | set(results.info.get("metrics") or {})
    )
    own = OWN if any(found.minimal for found in all_facts(results, results.rows["method"]).values()) else {}
    facts = ((name, own.get(name) or results.metric(name)) for name in sorted((used | set(own)) - {""}, key=str.lower))
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
