"""What models have learned, in the report: a table and figures over models, and figures of each model."""

import json
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from assay.core.alignment import likeness
from assay.reports.drawing import layers as learned
from assay.reports.drawing import codes as learned_codes
from assay.reports.run.intervals import NOTHING, Estimate
from assay.reports.drawing.theme import Identity, Look, Plot, canvas
from assay.reports.drawing.album import Album, art, each
from assay.reports.run.reader import Run

Array = NDArray[Any]
NUMBERS = (
    *("first_kernel", "gabor_r2", "gabor_noise", "gabor_share", "dead_channels", "field_arithmetic", "field_effective"),
    *("neighbours_codes", "neighbours_pixels", "probe_codes", "trust_pca", "trust_tsne"),
    *("unit_iou", "unit_iou_random", "units_over_30"),
)
OVER_IMAGES = ("neighbours_codes", "neighbours_pixels", "probe_codes")
COLUMNS = ["data", "model", "first_layer", "usual_layer", *NUMBERS]
SHOWN = 32  # filters in the figure of one model
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


def read(run: Run, album: Album) -> list[Learned]:
    """One for each cell whose art can be read; the others are noted in ``album.unreadable``."""
    return each(run, "learned", album, _read)


def _read(run: Run, cell: dict[str, str], album: Album) -> Learned | None:
    if not (run.path / "art" / cell["id"] / "learned.npz").is_file():
        return None
    arrays, meta = art(run, cell, "learned.npz")
    return Learned(cell["model"], cell["data"], arrays, meta)


def table(run: Run, summary: pd.DataFrame) -> pd.DataFrame:
    """One row for each model and data set; NaN where a number has no meaning."""
    rows = summary[summary["kind"] == "learned"]
    values = {
        (data, model): group.set_index("metric")["value"] for (data, model), group in rows.groupby(["data", "model"])
    }
    words = {(cell["data"], cell["model"]): _words(run, cell) for cell in run.cells("learned")}
    pairs = [(data, model) for data in run.data for model in run.models if (data, model) in values]
    records = [(*pair, *words.get(pair, ("", "")), *values[pair].reindex(NUMBERS)) for pair in pairs]
    return pd.DataFrame(records, columns=COLUMNS).astype(dict.fromkeys(NUMBERS, "float64"))


def lines(tables: dict[str, pd.DataFrame], data: str) -> list[dict[str, Any]]:
    """The lines of the page's table for one data set: numbers, those over images with intervals."""
    summary, here = tables["summary"], tables["learned"]
    rows = summary[(summary["kind"] == "learned") & (summary["data"] == data)]
    found = {
        (model, metric): Estimate(value, low, high, n)
        for model, metric, value, low, high, n in rows[["model", "metric", "value", "low", "high", "n"]].itertuples(
            index=False
        )
    }
    return [
        {
            **{str(key): value for key, value in row.items()},
            **{name: found.get((row["model"], name), NOTHING) for name in OVER_IMAGES},
        }
        for row in here[here["data"] == data].to_dict("records")
    ]


def _words(run: Run, cell: dict[str, str]) -> tuple[str, str]:
    """The first layer, and the name of the one that Grad-CAM uses; empty where the cell kept none."""
    path = run.path / "art" / cell["id"] / "meta.json"
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        return _first(meta.get("first")), str((meta.get("fields") or {}).get("usual", ""))
    except (OSError, ValueError, KeyError, TypeError):
        return "", ""


def _first(facts: dict[str, Any] | None) -> str:
    """A first layer in words: kind, number of filters and size."""
    if not facts:
        return ""
    count, _, height, width = facts["shape"]
    return f"{facts['kind']}, {count} of {height} × {width}"


def missing(one: Learned) -> list[Missing]:
    """The parts that are left out, with the reasons; those of one reason together."""
    reasons: dict[str, list[str]] = {}
    for part, reason in (one.meta.get("missing") or {}).items():
        reasons.setdefault(str(reason), []).append(PARTS.get(part, part))
    return [Missing(", ".join(parts), reason) for reason, parts in reasons.items()]


def compared(found: list[Learned], data: str, marks: dict[str, Identity], prefix: str) -> list[Plot]:
    """Figures over the models of one data set: first layers side by side, how alike the codes are."""
    here = sorted((one for one in found if one.data == data), key=lambda one: list(marks).index(one.model))
    plots = []
    with_filters = [one for one in here if "filters" in one.arrays]
    if with_filters:
        plots.append(_first_layers(with_filters, marks, f"{prefix}-first-layers"))
    coded = [one for one in here if "codes" in one.arrays]
    coded = [one for one in coded if one.meta["images"] == coded[0].meta["images"]]
    if len(coded) > 1 and len(coded[0].arrays["codes"]) > 3:
        names = [marks[one.model].label for one in coded]
        alike = pd.DataFrame(likeness([one.arrays["codes"] for one in coded]), index=names, columns=names)
        plot = learned_codes.similarity(alike, len(coded[0].arrays["codes"]))
        plots.append(replace(plot, name=f"{prefix}-alike", title="Do models that differ learn the same codes?"))
    return plots


def own(one: Learned, prefix: str) -> list[Plot]:
    """The figures of one model."""
    makers = (_filters, _patches, _fields, _codes, _neighbours, _units)
    plots = [plot for plot in (make(one) for make in makers) if plot]
    return [replace(plot, name=f"{prefix}-{plot.name}") for plot in plots]


def _filters(one: Learned) -> Plot | None:
    first = one.meta.get("first")
    if not first:
        return None
    if first["whole"]:
        return learned.templates(one.meta["classes"], one.arrays["templates"].astype(np.float32))
    common, scaled = (one.arrays[name][:SHOWN].astype(np.float32) for name in ("filters_common", "filters"))
    return learned.filters(first["name"], common, scaled, first["largest"], one.arrays["gabor"][:SHOWN].tolist())


def _patches(one: Learned) -> Plot | None:
    facts = one.meta.get("patches")
    if not facts:
        return None
    rows = [list(_grey(line)) for line in one.arrays["patches"]]
    return learned.patches(facts["layer"], rows, facts["channels"], one.arrays["patch_values"], facts["note"])


def _fields(one: Learned) -> Plot | None:
    facts = one.meta.get("fields")
    if not facts:
        return None
    sides, boxes = one.arrays["field_sides"].tolist(), one.arrays["field_boxes"].tolist()
    weights = one.arrays["field_weights"].astype(np.float32)
    rows = [
        learned.FieldRow(layer, arithmetic, measured, effective, weight, box if any(box) else None)
        for layer, (arithmetic, measured, effective), weight, box in zip(
            facts["layers"], sides, weights, boxes, strict=True
        )
    ]
    return learned.fields(rows, max(weights.shape[1:]))


def _codes(one: Learned) -> Plot | None:
    if "tsne" not in one.arrays:
        return None
    shown = zip(("codes", "pixels"), ("tsne", "tsne_pixels"), one.arrays["map_accuracy"].tolist(), strict=True)
    panels = [learned_codes.Panel(f"t-SNE of {what}", one.arrays[name], share) for what, name, share in shown]
    return learned_codes.maps(panels, one.arrays["labels"], one.meta["classes"])


def _neighbours(one: Learned) -> Plot | None:
    if "near" not in one.arrays:
        return None
    tiles, labels, classes = _grey(one.arrays["near_tiles"]), one.arrays["near_labels"], one.meta["classes"]
    rows = [
        learned_codes.Near(
            tiles[query],
            str(classes[labels[query]]),
            [[(tiles[i], bool(labels[i] == labels[query])) for i in line[q]] for line in one.arrays["near"]],
        )
        for q, query in enumerate(one.arrays["near_query"].tolist())
    ]
    return learned_codes.neighbours(rows, ("codes", "pixels"))


def _units(one: Learned) -> Plot | None:
    facts = one.meta.get("units")
    if not facts:
        return None
    ends = np.cumsum(facts["counts"])[:-1].tolist()
    pictures, on, parts = (np.split(one.arrays[name], ends) for name in ("unit_pictures", "unit_on", "unit_parts"))
    rows = [
        learned_codes.Found(f"{title}, random weights {control}", list(_grey(shown)), list(lit), list(true))
        for title, control, shown, lit, true in zip(facts["titles"], facts["control"], pictures, on, parts, strict=True)
    ]
    return learned_codes.parts(rows)


def _grey(pictures: Array) -> Array:
    """Pictures in bytes as numbers in [0, 1]."""
    return pictures.astype(np.float32) / 255


def _first_layers(found: list[Learned], marks: dict[str, Identity], name: str) -> Plot:
    def draw(look: Look) -> Figure:
        figure = canvas(9.4, 0.3 + 0.68 * len(found))
        axes = figure.subplots(len(found), 1, squeeze=False)[:, 0]
        for ax, one in zip(axes, found, strict=True):
            ax.imshow(_strip(one.arrays["filters"].astype(np.float32)), interpolation="nearest")
            label = f"{marks[one.model].label}\n{_first(one.meta['first'])}"
            ax.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
            ax.set(xticks=[], yticks=[])
            ax.grid(visible=False)
            ax.spines[:].set_visible(False)
        return figure

    return Plot(
        name,
        "Do all first layers look alike?",
        f"Up to {FILTERS} first-layer filters of each model, those whose weights vary most, each on its own scale: "
        "grey is a weight of zero. Networks learn edges at several angles and opposite colours from photographs.",
        f"Rows of first-layer filters of {len(found)} models.",
        draw,
    )


def _strip(tiles: Array) -> Array:
    """The most uneven filters (F, C, h, w) side by side, (TILE, width, 4), all at one size, each pixel a square."""
    order = np.argsort(-tiles.std((1, 2, 3)), kind="stable")[:FILTERS]
    chosen = learned.channels_last(tiles[np.sort(order)])
    chosen = chosen if chosen.ndim == 4 else np.repeat(chosen[..., None], 3, -1)
    rows, columns = (np.arange(TILE) * side // TILE for side in chosen.shape[1:3])
    strip = np.zeros((TILE, FILTERS * (TILE + GAP), 4), np.float32)
    for i, tile in enumerate(chosen):
        strip[:, i * (TILE + GAP) : i * (TILE + GAP) + TILE] = np.dstack(
            [tile[rows][:, columns], np.ones((TILE, TILE))]
        )
    return np.clip(strip, 0, 1)
