"""What models have learned: a table and figures over models, and figures of each model."""

import json
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.core.alignment import likeness
from assay.reports.context import Context
from assay.reports.drawing import code_figures, layer_figures
from assay.reports.drawing.album import Album, art, has_art
from assay.reports.drawing.charts import blank
from assay.reports.drawing.reconstruction import data_label
from assay.reports.drawing.theme import Look, Plot, canvas
from assay.reports.gate.tolerances import MetricRule
from assay.reports.kinds.base import Arrays, Block, Kind, Part, Section, Tables, metric, plots, records
from assay.reports.run.intervals import NOTHING
from assay.reports.run.ranking import estimate_of
from assay.reports.run.reader import Run, where
from assay.reports.run.records import Cell, Metric

Array = NDArray[Any]


def _of_model(direction: str, unit: str, meaning: str) -> Metric:
    return metric(direction, unit, meaning, interval="")


def _of_images(direction: str, meaning: str) -> Metric:
    return metric(direction, "share", meaning, interval="wilson")


METRICS = {
    "first_kernel": _of_model("none", "pixels", "longer side of what a first-layer filter weighs"),
    "gabor_r2": _of_model(
        "none", "R²", "median over first-layer filters of the variance that a Gabor function explains"
    ),
    "gabor_noise": _of_model("none", "R²", "what 95 % of filters of noise stay below when a Gabor function is fitted"),
    "gabor_share": _of_model(
        "none", "share", "share of first-layer filters that a Gabor function fits better than noise"
    ),
    "dead_channels": _of_model(
        "lower", "share", "share of the channels, of layers from first to last, that are constant"
    ),
    "field_arithmetic": _of_model("none", "pixels", "side of the usual layer's receptive field, padding included"),
    "field_effective": _of_model(
        "none", "pixels", "side of a square as large as what weighs in the usual layer's field"
    ),
    "neighbours_codes": _of_images("higher", "whether most of the 5 nearest others in codes have the class"),
    "neighbours_pixels": _of_images("none", "whether most of the 5 nearest others in pixels have the class"),
    "probe_codes": _of_images("higher", "whether a linear classifier of codes has the held-out image right"),
    "trust_pca": _of_model("higher", "share", "trustworthiness of two principal components of the codes"),
    "trust_tsne": _of_model("higher", "share", "trustworthiness of t-SNE of the codes"),
    "unit_iou": _of_model("higher", "IoU", "largest IoU of a unit of the usual layer with a part of the scene"),
    "unit_iou_random": _of_model("none", "IoU", "the same with random weights"),
    "units_over_30": _of_model("higher", "units", "units of the usual layer with an IoU above .3 with a part"),
}
OVER_IMAGES = [name for name, each in METRICS.items() if each.interval]
COLUMNS = ["data", "model", "first_layer", "usual_layer", *METRICS]
FILE = "learned.npz"
MOST = 32  # filters in the figure of one model
FILTERS = 12  # of a model, side by side with those of the others
TILE, GAP = 96, 8  # pixels: a filter in that figure, and what lies between two
PARTS = {  # what is left out, in words
    "filters": "First-layer filters",
    "channels": "Dead channels",
    "patches": "Strongest patches",
    "fields": "Receptive fields",
    "units": "Units and parts",
    "codes": "Codes",
}


@dataclass(frozen=True, eq=False, slots=True)
class Learned:
    """What one cell kept."""

    model: str
    data: str
    arrays: dict[str, Array]
    meta: dict[str, Any]


class Missing(NamedTuple):
    """A part that has no meaning on a model."""

    part: str
    reason: str


def _read(run: Run, cell: Cell, _: Album) -> Learned | None:
    if not has_art(run, cell, FILE):
        return None
    return Learned(cell.model, cell.data, *art(run, cell, FILE))


def table(run: Run, summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each model and data set; NaN where a number has no meaning."""
    groups = where(summary, kind="learned").groupby(["data", "model"])
    values = {pair: group.set_index("metric")["value"] for pair, group in groups}
    words = {(cell.data, cell.model): _layers(run, cell) for cell in run.cells("learned")}
    pairs = [(data, model) for data in run.data for model in run.models if (data, model) in values]
    lines = [(*pair, *words.get(pair, ("", "")), *values[pair].reindex(list(METRICS))) for pair in pairs]
    return pd.DataFrame(lines, columns=COLUMNS).astype(dict.fromkeys(METRICS, "float64"))


def _tables(run: Run, summary: pd.DataFrame) -> Tables:
    return {"learned": table(run, summary)}


def _lines(context: Context, data: str, _: str) -> list[Block]:
    """The page's table for one data set: numbers, those over images with intervals."""
    rows = context.table("summary", data, kind="learned")
    numbers = {(row["model"], row["metric"]): estimate_of(row) for _, row in rows.iterrows()}
    lines = [
        row | {name: numbers.get((row["model"], name), NOTHING) for name in OVER_IMAGES}
        for row in records(context.table("learned", data))
    ]
    return [Block("learned", lines)] if lines else []


def _layers(run: Run, cell: Cell) -> tuple[str, str]:
    """The first layer, and the name of the one that Grad-CAM uses; empty where the cell kept none."""
    try:
        meta = json.loads((run.path / "art" / cell.id / "meta.json").read_text(encoding="utf-8"))
        return _first(meta.get("first")), str((meta.get("fields") or {}).get("usual", ""))
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def _first(facts: dict[str, Any] | None) -> str:
    """A first layer in words: kind, number of filters and size."""
    if not facts:
        return ""
    count, _, height, width = facts["shape"]
    return f"{facts['kind']}, {count} of {height} × {width}"


def missing(each: Learned) -> list[Missing]:
    """The parts that are left out, with the reasons; those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for part, reason in (each.meta.get("missing") or {}).items():
        reasons.setdefault(str(reason), []).append(PARTS.get(part, part))
    return [Missing(", ".join(parts), reason) for reason, parts in reasons.items()]


def figures(context: Context, data: str, prefix: str) -> list[Plot]:
    """Figures over the models of one data set: first layers side by side, how alike the codes are."""
    cells: list[Learned] = context.art("learned", data)
    figures = []
    with_filters = [each for each in cells if "filters" in each.arrays]
    if with_filters:
        figures.append(_first_layers(with_filters, context, f"{prefix}-first-layers"))
    with_codes = [each for each in cells if "codes" in each.arrays]
    with_codes = [each for each in with_codes if each.meta["images"] == with_codes[0].meta["images"]]
    if len(with_codes) > 1 and len(with_codes[0].arrays["codes"]) > 3:
        names = [context.label(each.model) for each in with_codes]
        alike = pd.DataFrame(likeness([each.arrays["codes"] for each in with_codes]), index=names, columns=names)
        plot = code_figures.similarity(alike, len(with_codes[0].arrays["codes"]))
        figures.append(replace(plot, name=f"{prefix}-alike", title="Do models that differ learn the same codes?"))
    return figures


def _on_model(context: Context, model: str) -> list[Part]:
    blocks: list[Block] = []
    for i, each in enumerate(context.art("learned")):
        if each.model == model:
            blocks += [*data_label(context, each.data), *plots(own(each, f"l{i}"))]
            blocks += [Block("small", f"Left out: {part}. {reason}.") for part, reason in missing(each)]
    return [Part("learned", "What it has learned", "", blocks)] if blocks else []


def own(each: Learned, prefix: str) -> list[Plot]:
    """The figures of one model."""
    makers = (_filters, _patches, _fields, _codes, _neighbours, _units)
    figures = [plot for plot in (make(each) for make in makers) if plot]
    return [replace(plot, name=f"{prefix}-{plot.name}") for plot in figures]


def _filters(each: Learned) -> Plot | None:
    first = each.meta.get("first")
    if not first:
        return None
    if first["whole"]:
        return layer_figures.templates(each.meta["classes"], each.arrays["templates"].astype(np.float32))
    common, single = (each.arrays[name][:MOST].astype(np.float32) for name in ("filters_common", "filters"))
    return layer_figures.filters(first["name"], common, single, first["largest"], each.arrays["gabor"][:MOST].tolist())


def _patches(each: Learned) -> Plot | None:
    facts = each.meta.get("patches")
    if not facts:
        return None
    rows = [list(_grey(line)) for line in each.arrays["patches"]]
    return layer_figures.patches(facts["layer"], rows, facts["channels"], each.arrays["patch_values"], facts["note"])


def _fields(each: Learned) -> Plot | None:
    facts = each.meta.get("fields")
    if not facts:
        return None
    sides, boxes = each.arrays["field_sides"].tolist(), each.arrays["field_boxes"].tolist()
    weights = each.arrays["field_weights"].astype(np.float32)
    rows = [
        layer_figures.FieldRow(layer, side[0], side[1], side[2], weight, box if any(box) else None)
        for layer, side, weight, box in zip(facts["layers"], sides, weights, boxes, strict=True)
    ]
    return layer_figures.fields(rows, max(weights.shape[1:]))


def _codes(each: Learned) -> Plot | None:
    if "tsne" not in each.arrays:
        return None
    spaces = zip(("codes", "pixels"), ("tsne", "tsne_pixels"), each.arrays["map_accuracy"].tolist(), strict=True)
    panels = [code_figures.Panel(f"t-SNE of {space}", each.arrays[name], share) for space, name, share in spaces]
    return code_figures.maps(panels, each.arrays["labels"], each.meta["classes"])


def _neighbours(each: Learned) -> Plot | None:
    if "near" not in each.arrays:
        return None
    tiles, labels, classes = _grey(each.arrays["near_tiles"]), each.arrays["near_labels"], each.meta["classes"]
    rows = [
        code_figures.Near(
            tiles[query],
            str(classes[labels[query]]),
            [[(tiles[i], bool(labels[i] == labels[query])) for i in line[q]] for line in each.arrays["near"]],
        )
        for q, query in enumerate(each.arrays["near_query"].tolist())
    ]
    return code_figures.neighbours(rows, ("codes", "pixels"))


def _units(each: Learned) -> Plot | None:
    facts = each.meta.get("units")
    if not facts:
        return None
    ends = np.cumsum(facts["counts"])[:-1].tolist()
    units = (np.split(each.arrays[name], ends) for name in ("unit_pictures", "unit_on", "unit_parts"))
    rows = [
        code_figures.UnitAndPart(f"{title}, random weights {control}", list(_grey(pictures)), list(on), list(part))
        for title, control, pictures, on, part in zip(facts["titles"], facts["control"], *units, strict=True)
    ]
    return code_figures.parts(rows)


def _grey(pictures: Array) -> Array:
    """Pictures in bytes as numbers in [0, 1]."""
    return pictures.astype(np.float32) / 255


def _first_layers(cells: list[Learned], context: Context, name: str) -> Plot:
    lines = [
        (f"{context.label(each.model)}\n{_first(each.meta['first'])}", each.arrays["filters"].astype(np.float32))
        for each in cells
    ]

    def draw(look: Look) -> Figure:
        figure = canvas(9.4, 0.3 + 0.68 * len(lines))
        axes = figure.subplots(len(lines), 1, squeeze=False)[:, 0]
        for ax, (label, tiles) in zip(axes, lines, strict=True):
            ax.imshow(_strip(tiles), interpolation="nearest")
            ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
            blank(ax)
        return figure

    return Plot(
        name,
        "Do all first layers look alike?",
        f"Up to {FILTERS} first-layer filters of each model, those whose weights vary most, each on its own scale: "
        "grey is a weight of zero. Networks learn edges at several angles and opposite colours from photographs.",
        f"Rows of first-layer filters of {len(lines)} models.",
        draw,
    )


def _strip(tiles: Array) -> Array:
    """The most uneven filters (F, C, h, w) side by side, (TILE, width, 4), all at one size, each pixel a square."""
    order = np.argsort(-tiles.std((1, 2, 3)), kind="stable")[:FILTERS]
    uneven = layer_figures.channels_last(tiles[np.sort(order)])
    uneven = uneven if uneven.ndim == 4 else np.repeat(uneven[..., None], 3, -1)
    rows, columns = (np.arange(TILE) * side // TILE for side in uneven.shape[1:3])
    strip = np.zeros((TILE, FILTERS * (TILE + GAP), 4), np.float32)
    for i, tile in enumerate(uneven):
        place = slice(i * (TILE + GAP), i * (TILE + GAP) + TILE)
        strip[:, place] = np.dstack([tile[rows][:, columns], np.ones((TILE, TILE))])
    return np.clip(strip, 0, 1)


KIND = Kind(
    name="learned",
    metrics=METRICS,
    label="{method}",
    arrays=(Arrays(FILE, "filters_common", "filter"),),
    ignored=tuple(
        f"{FILE}:{name}"
        for name in (
            *("filters", "templates", "gabor", "patch*", "field_*", "codes", "tsne*", "labels", "near*"),
            *("map_accuracy", "unit_*"),
        )
    ),
    tolerances=(
        MetricRule(absolute=0.02),
        MetricRule(metric="*_codes", images=2),
        MetricRule(metric="units_over_30", absolute=1),
    ),
    read=_read,
    tables=_tables,
    sections=(
        Section(
            id="learned",
            page="learned",
            title="Between the pixels and the answer",
            text="Filters, what channels answer to, how far they see, and the codes that the last layer reads. "
            "Numbers alone flatter a model; beside them stands what noise, random weights and the pixels themselves "
            "reach. What single layers hold is on the page of each model.",
            blocks=_lines,
            figures=figures,
            note='As a table: <a href="../tables/learned.csv">learned.csv</a>. What each number means is in the '
            '<a href="glossary.html">glossary</a>.',
        ),
    ),
    parts=_on_model,
)
