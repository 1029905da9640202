"""A page for each data set: its images, how hard they are, and for whom."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd

from assay.reports.run import ranking
from assay.reports.run.intervals import Estimate, wilson
from assay.reports.drawing.album import Picture
from assay.reports.site.gathered import Gathered
from assay.reports.site.notes import pretty

SAMPLES = 24  # pictures
HARDEST = 12


class Hard(NamedTuple):
    """An image, how many models have it wrong, and how many lose it to an attack."""

    image: str
    label: str
    picture: Picture | None
    wrong: int
    lost: int
    models: int


class Sample(NamedTuple):
    """A picture with its class."""

    image: str
    label: str
    picture: Picture


def pages(found: Gathered) -> Iterator[tuple[str, dict[str, Any]]]:
    """File and context of each data set's page."""
    for data, label in found.specs.items():
        facts = (found.run.info.get("data") or {}).get(data) or {}
        classes = list(map(str, facts.get("classes") or []))
        told = [("Spec", data), ("Images", facts.get("n")), ("Classes", len(classes) or None)]
        told += [("Digest", facts.get("digest"))]
        rows = found.run.rows
        clean = rows[(rows["kind"] == "clean") & (rows["metric"] == "accuracy") & (rows["data"] == data)]
        yield (
            found.files.data[data],
            {
                "label": label,
                "name": data,
                "facts": [(name, pretty(value)) for name, value in told if value is not None],
                "samples": list(_samples(found, data))[:SAMPLES],
                "matrix": _matrix(found, clean, classes),
                "hard": list(_hard(found, data, clean)),
                "failures": found.tables["failures"].query("data == @data and kind == 'data'").to_dict("records"),
            },
        )


def _samples(found: Gathered, data: str) -> Iterator[Sample]:
    for (spec, image), picture in found.thumbnails.items():
        if spec == data:
            yield Sample(image, found.labels.get((data, image), ""), picture)


def _matrix(found: Gathered, clean: pd.DataFrame, classes: list[str]) -> dict[str, Any] | None:
    """Clean accuracy of every model on every class."""
    if not len(clean):
        return None
    counts = clean.groupby("label")["image"].nunique()
    heads = [(classes[i] if 0 <= i < len(classes) else str(i), int(counts[i])) for i in counts.index]
    lines = []
    for model, mark in found.marks.items():
        mine = clean[clean["model"] == model]
        if len(mine):
            cells: list[Estimate] = []
            for label in counts.index:
                values = mine.loc[mine["label"] == label, "value"].dropna()
                cells.append(wilson(int(values.sum()), len(values)))
            values = mine["value"].dropna()
            lines.append((model, mark, wilson(int(values.sum()), len(values)), cells))
    return {"heads": heads, "lines": lines}


def _hard(found: Gathered, data: str, clean: pd.DataFrame) -> Iterator[Hard]:
    """Images that most models have wrong, then those that most lose within the ranking's budget."""
    wrong = (clean["value"] == 0).groupby(clean["image"]).sum()
    models = clean.groupby("image")["model"].nunique()
    attacked = ranking.survivors(found.run, data)
    limit = ranking.budget(attacked)
    attacked = attacked[(attacked["norm"] == limit.norm) & (attacked["eps"] == limit.eps)] if limit else attacked
    fallen = attacked.groupby(["image", "model"])["value"].min() == 0
    right = clean[clean["value"] == 1].set_index(["image", "model"]).index
    lost = fallen[fallen.index.isin(right)].groupby("image").sum()
    table = pd.DataFrame({"wrong": wrong, "lost": lost, "models": models}).dropna(subset="models").fillna(0)
    table = table.astype("int64").sort_values(["wrong", "lost"], ascending=False, kind="stable")
    for image, row in table.head(HARDEST).iterrows():
        if row["wrong"] or row["lost"]:
            picture = found.thumbnails.get((data, str(image)))
            numbers = (int(row[key]) for key in ("wrong", "lost", "models"))
            yield Hard(str(image), found.labels.get((data, str(image)), ""), picture, *numbers)
