"""A page for each model: what it knows, what fools it, where it looks, what it has learned."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from assay.reports.run import labels as names
from assay.reports.drawing import album as pictures
from assay.reports.run.cross_attack_checks import FAILED
from assay.reports.run.outcomes import Facts, all_facts, outcomes
from assay.reports.run.intervals import Estimate, wilson
from assay.reports.drawing.album import Picture
from assay.reports.site.files import method_of
from assay.reports.site.gathered import Gathered
from assay.reports.site.grids import Grid, grid
from assay.reports.site.notes import pretty, records
from assay.reports.site.plots import Inside, Shown, insides
from assay.reports.kinds.transfer import split

MAIN = ("spec", "about", "arch", "architecture", "parameters", "input_size", "accuracy", "digest")
WORST = 8  # images that are shown as the easiest to fool


class Easy(NamedTuple):
    """An image that little change fools, and the attack that found it."""

    image: str
    label: str
    picture: Picture | None
    said: str


class ByClass(NamedTuple):
    """How many images of one class are right, and how many stay right in the worst case."""

    name: str
    n: int
    clean: Estimate
    robust: Estimate


class On(NamedTuple):
    """A model on one data set."""

    data: str
    label: str
    rank: dict[str, Any] | None
    share: bool  # whether the quality is one
    curve: Shown | None
    attacks: Grid | None
    transfer: Grid | None
    explanations: Grid | None
    classes: list[ByClass]
    easy: list[Easy]
    wrong: list[Easy]
    failed: list[dict[str, Any]]
    galleries: list[pictures.Gallery]


def facts(found: Gathered, model: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """What ``run.json`` tells of a model, as names and texts: the main facts, and the rest of its card."""
    known: dict[str, Any] = (found.run.info.get("models") or {}).get(model, {})
    card = known.get("card")
    told: dict[str, Any] = dict(card) if isinstance(card, dict) else {}
    told |= {key: known.get(key) for key in ("spec", "parameters", "input_size", "digest")}
    words = {key: pretty(value) for key, value in told.items() if value not in (None, "", {}, []) and _short(value)}
    main = [(key.replace("_", " ").capitalize(), words[key]) for key in MAIN if key in words]
    rest = [
        (key.replace("_", " ").capitalize(), text)
        for key, text in words.items()
        if key not in (*MAIN, "name", "sha256")
    ]
    return main, rest


def _short(value: object) -> bool:
    return isinstance(value, str | int | float | dict | list) and len(str(value)) < 160


def pages(found: Gathered, shown: dict[str, Shown]) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and context of each model's page."""
    happened = outcomes(found.run)
    known = all_facts(found.run, happened["method"])
    inner = list(insides(found))
    flagged = found.run.rows[found.run.rows["flags"] != ""]
    failures = found.tables["failures"]
    for model, mark in found.marks.items():
        main, rest = facts(found, model)
        yield (
            found.files.models[model],
            {
                "mark": mark,
                "name": model,
                "facts": main,
                "more": rest,
                "on": [_on(found, model, i, data, happened, known, shown) for i, data in enumerate(found.run.data)],
                "classes": [one for one in found.classes if one.model == model],
                "nothing": [one for one in found.nothing if one.model == model],
                "insides": [(_about(found, one), _drawn(one, shown)) for one in inner if one.model == model],
                "failures": failures[failures["model"] == model].to_dict("records"),
                "flags": sorted(
                    {
                        flag.strip()
                        for flags in flagged.loc[flagged["model"] == model, "flags"].unique()
                        for flag in flags.split(";")
                        if flag.strip() and not flag.strip().startswith("shared=")
                    }
                ),
            },
        )


def _about(found: Gathered, one: Inside) -> tuple[str, str, list[Any]]:
    return one.kind, found.specs.get(one.data, one.data), one.missing


def _drawn(one: Inside, shown: dict[str, Shown]) -> list[Shown]:
    return [shown[plot.name] for plot in one.plots]


def _on(
    found: Gathered,
    model: str,
    place: int,
    data: str,
    happened: pd.DataFrame,
    known: dict[str, Facts],
    shown: dict[str, Shown],
) -> On:
    tables = found.tables
    ranked, checked = tables["ranking"], tables["checks"]
    rank = records(ranked[(ranked["data"] == data) & (ranked["model"] == model)])
    mine = happened[(happened["data"] == data) & (happened["model"] == model)]
    there = list(dict.fromkeys(tables["curves"].loc[tables["curves"]["data"] == data, "model"]))
    ordered = [name for name in found.marks if name in there]
    failed = checked[(checked["data"] == data) & (checked["model"] == model) & (checked["state"] == FAILED)]
    return On(
        data=data,
        label=found.specs[data],
        rank=rank[0] if rank else None,
        share=bool(rank) and found.run.metric(rank[0]["quality_metric"])["unit"] == "share",
        curve=shown.get(f"d{place}-own{ordered.index(model)}") if model in ordered else None,
        attacks=_methods(found, data, model, "attack", "Attack"),
        transfer=_methods(found, data, model, "transfer", "Attack on another model"),
        explanations=_methods(found, data, model, "explain", "Explainer"),
        classes=_by_class(found, data, model, mine),
        easy=list(_easy(found, data, mine, known)),
        wrong=list(_wrong(found, data, model)),
        failed=records(failed),
        galleries=[one for one in found.galleries if one.model == model and one.data == data],
    )


def _methods(found: Gathered, data: str, model: str, kind: str, head: str) -> Grid | None:
    summary = found.tables["summary"]
    rows = summary[(summary["data"] == data) & (summary["model"] == model) & (summary["kind"] == kind)]
    if not len(rows):
        return None
    files = found.files.methods

    def label(method: str) -> str:
        if kind != "transfer":
            return found.short(method)
        attack, source = split(method, list(found.run.info.get("attacks") or {}))
        return f"{found.short(attack)}, made on {found.marks[source].label if source in found.marks else source}"

    def file(method: str) -> str:
        return files.get((kind, method_of(found.run, kind, method)), "")

    return grid(found.run, rows, "method", head, label, file)


def _by_class(found: Gathered, data: str, model: str, mine: pd.DataFrame) -> list[ByClass]:
    """Worst case within the ranking's budget, over images on which no attack failed."""
    rows = found.run.rows
    rows = rows[(rows["data"] == data) & (rows["model"] == model)]
    clean = rows[(rows["kind"] == "clean") & (rows["metric"] == "accuracy")].dropna(subset="label")
    ranked = found.tables["ranking"]
    at = ranked[(ranked["data"] == data) & (ranked["model"] == model)]
    limit = None if not len(at) or math.isnan(at["eps"].iloc[0]) else (at["norm"].iloc[0], at["eps"].iloc[0])
    facts_of = all_facts(found.run, mine["method"])
    within = [m for m, one in facts_of.items() if limit == (one.norm, one.eps) and not one.goal] if limit else []
    held = rows[(rows["metric"] == "robust_accuracy") & rows["method"].isin(within)].groupby("image")["value"].min()
    classes = ((found.run.info.get("data") or {}).get(data) or {}).get("classes") or []
    lines = []
    for label, group in clean.groupby("label"):
        left = held.reindex(group["image"]).dropna()
        name = str(classes[int(str(label))]) if 0 <= int(str(label)) < len(classes) else str(label)
        right = wilson(int(group["value"].sum()), len(group))
        lines.append(ByClass(name, len(group), right, wilson(int(left.sum()), len(left))))
    return lines


def _easy(found: Gathered, data: str, mine: pd.DataFrame, known: dict[str, Facts]) -> Iterator[Easy]:
    """The images that the smallest change fools, in the first norm in which attacks looked for it."""
    minimal = {method: one.norm for method, one in known.items() if one.minimal}
    rows = mine[mine["method"].isin(list(minimal)) & mine["fooled"] & mine["started"]]
    norms = [norm for norm in names.NORMS if norm in set(rows["method"].map(minimal))]
    if not norms:
        return
    rows = rows[rows["method"].map(minimal) == norms[0]].sort_values(["distance", "image", "method"], kind="stable")
    for row in rows.drop_duplicates("image").head(WORST).to_dict("records"):
        by = found.short(row["method"])
        yield _image(found, data, row["image"], f"{names.ball(norms[0], row['distance'])} by {by}")


def _wrong(found: Gathered, data: str, model: str) -> Iterator[Easy]:
    """The images that the model has wrong without any attack, the most confident first."""
    rows = found.run.rows
    rows = rows[(rows["data"] == data) & (rows["model"] == model) & (rows["kind"] == "clean")]
    wide = rows.pivot_table(index="image", columns="metric", values="value", aggfunc="first")
    if not {"accuracy", "confidence"} <= set(wide):
        return
    lost = wide[wide["accuracy"] == 0].sort_values("confidence", ascending=False, kind="stable")
    for image, row in lost.head(WORST).iterrows():
        yield _image(found, data, str(image), f"wrong at {100 * row['confidence']:.0f}\N{NO-BREAK SPACE}%")


def _image(found: Gathered, data: str, image: str, said: str) -> Easy:
    return Easy(image, found.labels.get((data, image), ""), found.thumbnails.get((data, image)), said)
