"""What models say of images as they are."""

from typing import Any

import pandas as pd

from assay.reports.context import Context
from assay.reports.gate.tolerances import MetricRule
from assay.reports.kinds.base import Block, Kind, Part, metric
from assay.reports.kinds.data import tile
from assay.reports.run.intervals import Estimate, wilson
from assay.reports.run.reader import where

WORST = 8  # mistakes that a model's page shows


def right(values: "pd.Series[float]") -> Estimate:
    """The share of images that are right, with its interval."""
    values = values.dropna()
    return wilson(int(values.sum()), len(values))


def with_classes(context: Context, data: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows on a data set with the names of their images' classes, which sort as the data number them."""
    names = {image: name for (spec, image), name in context.classes.items() if spec == data}
    classes = pd.Categorical([names.get(image) for image in rows["image"]], list(dict.fromkeys(names.values())))
    return rows.assign(**{"class": classes})


def _by_class(context: Context, data: str) -> list[Part]:
    """Clean accuracy of every model on every class."""
    rows = context.run.select("clean", "accuracy", data=data)
    if not len(rows):
        return []
    rows = with_classes(context, data, rows)
    counts = rows.groupby("class", observed=True)["image"].nunique()
    heads = [(str(name), int(count)) for name, count in counts.items()]
    lines = []
    for model in context.ordered(rows["model"]):
        own = where(rows, model=model)
        cells = [right(where(own, **{"class": name})["value"]) for name, _ in heads]
        lines.append((model, right(own["value"]), cells))
    return [Part("classes", "Accuracy by class", "", [Block("class_matrix", {"heads": heads, "lines": lines})])]


def _mistakes(context: Context, model: str, data: str) -> list[Block]:
    """The images that the model has wrong without any attack, the most confident first."""
    rows = context.run.select("clean", data=data, model=model)
    wide = rows.pivot_table(index="image", columns="metric", values="value", aggfunc="first")
    if not {"accuracy", "confidence"} <= set(wide):
        return []
    wrong = where(wide, accuracy=0).sort_values("confidence", ascending=False, kind="stable").head(WORST)
    tiles = [
        tile(context, data, str(image), f"wrong at {100 * confidence:.0f}\N{NO-BREAK SPACE}%")
        for image, confidence in wrong["confidence"].items()
    ]
    title: dict[str, Any] = {"title": "Wrong without any attack", "tiles": tiles}
    return [Block("headed_tiles", title, place=4)] if tiles else []


KIND = Kind(
    name="clean",
    metrics={
        "accuracy": metric("higher", "share", "share of unattacked images classified right", interval="wilson"),
        "confidence": metric("none", "probability", "probability of the predicted class"),
    },
    flags={
        "non-finite-logits": "The model answered with values that are not numbers: wrong on the image, and fooled by "
        "an attack.",
        "not-repeatable": "The model answers differently when asked again, so one answer says little.",
    },
    label="clean images",
    tolerances=(
        MetricRule(absolute=0.002, relative=0.005, each=0.01, share=0.1),
        MetricRule(metric="accuracy", images=1, absolute=0.01, each=0.5, share=0.05),
    ),
    on_data=_by_class,
    on_model=_mistakes,
)
