"""What a model has learned: filters, dead channels, patches, receptive fields, codes and units."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.bench.data import DataSet, DecodeError
from assay.bench.layer_views import BATCH, field_rows, patch_note, patch_rows, plain
from assay.bench.loading import dataset
from assay.bench.measurements.ask import Ask, option
from assay.bench.measurements.base import Cell, Measured, Row, Setup, meter
from assay.bench.models import Subject
from assay.bench.scene_parts import part_maps, part_unit, randomized, thumbnails
from assay.core.errors import AssayError, NotApplicable
from assay.core.probe import default_layer
from assay.core.receptive import recursion
from assay.explain.representation import codes as space
from assay.explain.representation import filters as weights
from assay.explain.representation.activations import lives
from assay.explain.representation.fields import growth, spread_layers
from assay.explain.representation.patches import Top, strongest
from assay.explain.representation.units import dissect
from assay.reports.run.records import Method

FILTERS = 64  # of the first layer, at most; templates are as large as the image, so ten of them
TEMPLATES = 10
CHANNELS = 6  # whose strongest patches are kept, and so many of each
FIELDS = 8  # pictures that effective fields are the mean of
QUERIES = 4  # pictures whose nearest others are kept
NEAREST = 5
PARTS = 3  # whose best units are kept
OVERLAP = 0.3  # IoU from which a unit counts as finding a part


@dataclass(kw_only=True)
class Part:
    """What one part found: numbers, numbers for each picture, arrays and facts to draw, and what has no meaning."""

    values: dict[str, float] = field(default_factory=dict)
    hits: dict[str, NDArray[Any]] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # metrics, and why


class Pictures(NamedTuple):
    """The pictures that can be read: the data set without the others, and (N, C, H, W)."""

    data: DataSet
    images: Tensor


class View(NamedTuple):
    """A model, and the pictures on its device in batches."""

    model: Subject
    pictures: Pictures
    batches: tuple[Tensor, ...]
    seed: int

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.array(self.pictures.data.labels)


class PixelSpace(NamedTuple):
    """What codes are compared with; the same for all models that see the pictures at one size."""

    hits: NDArray[Any]
    tsne: NDArray[Any]
    tsne_accuracy: float
    near: NDArray[np.int64]


@lru_cache(maxsize=1)
def readable_pictures(data: DataSet) -> Pictures:
    """All pictures of the data set that can be decoded; raises ``DecodeError`` where there is none."""
    images, fine, reason = [], [], ""
    for i in range(len(data)):
        try:
            images.append(data.example(i).image)
            fine.append(i)
        except DecodeError as error:
            reason = str(error)
    if not images:
        raise DecodeError(f"no picture of {data.spec} can be read: {reason}")
    return Pictures(data.pick(fine), torch.stack(images))


@lru_cache(maxsize=1)
def pixel_space(data: DataSet, seed: int) -> PixelSpace:
    """Neighbours and map of the pictures themselves."""
    data, images = readable_pictures(data)
    values, k = space.pixels(torch.split(images, BATCH)), min(NEAREST, len(images) - 1)
    hits = space.neighbour_hits(values, np.array(data.labels), k)
    flat = space.project(values, "tsne", seed)
    accuracy = space.neighbour_accuracy(flat, np.array(data.labels), k)
    return PixelSpace(hits, flat, accuracy, space.nearest(values, k).rows)


@dataclass(frozen=True, kw_only=True)
class LearnedOptions:
    """Of what models have learned."""

    learned: int = option(0, "Images on which it is measured what the models have learned; 0 leaves it out.")


@dataclass(frozen=True, kw_only=True)
class LearnedCell(Cell):
    """Filters, dead channels, strongest patches, receptive fields, codes and units, on the first ``limit`` images.

    A part that has no meaning on the model or the data is a skipped row with the reason.
    """

    kind = "learned"
    options = LearnedOptions

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        count = ask.of(LearnedOptions).learned
        return (cls(**ask.common(*pair, limit=count)) for pair in ask.pairs() if count)

    @property
    def method(self) -> Method:
        return Method(text=f"learned, on {self.limit} images", settings={"images": self.limit})

    def details(self) -> dict[str, Any]:
        return {"sizes": [FILTERS, TEMPLATES, CHANNELS, FIELDS, QUERIES, NEAREST, PARTS]}

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        source = dataset(self.data, self.limit, model)
        pictures = readable_pictures(source)
        batches = tuple(batch.to(setup.device) for batch in torch.split(pictures.images, BATCH))
        view = View(model, pictures, batches, self.seed)
        ids, labels = pictures.data.ids, pictures.data.labels
        with meter(model, len(ids), setup.device) as cost:
            parts = [_attempt(name, part, view) for name, part in MEASURES.items()]
            parts.append(_attempt("codes", lambda view: codes(view, source), view))
        rows: list[Row] = []
        arrays: dict[str, NDArray[Any]] = {}
        meta: dict[str, Any] = {"images": ids, "classes": list(pictures.data.classes), "missing": {}}
        for part in parts:
            rows += [self.row(metric, value) for metric, value in part.values.items()]
            rows += [self.row(name, status="skipped", flags=reason) for name, reason in part.missing.items()]
            hits = {name: torch.from_numpy(values) for name, values in part.hits.items()}
            rows += self.per_image(ids, labels, hits, cost)
            arrays |= part.arrays
            meta |= {**part.meta, "missing": {**meta["missing"], **part.meta.get("missing", {})}}
        return Measured(rows, {"learned.npz": arrays, "meta.json": meta})


def _attempt(name: str, part: Callable[["View"], "Part"], view: "View") -> "Part":
    """The part, or why it is left out."""
    try:
        return part(view)
    except AssayError as error:
        return Part(missing={LEADING[name]: str(error)}, meta={"missing": {name: str(error)}})


def first_layer(view: View) -> Part:
    """Its filters as tiles, how Gabor-like they are; class templates where it reads the whole image."""
    model = view.model
    first = weights.first_filters(model, view.batches[0][:1])
    side = tuple(first.weights.shape[2:])
    whole = side == model.input_size[1:]
    filters = first.weights[: TEMPLATES if whole else FILTERS].cpu()
    common, each = (weights.tiles(filters, common=which) for which in (True, False))
    part = Part(
        values={"first_kernel": float(max(side))},
        arrays={"filters_common": _half(common.pixels), "filters": _half(each.pixels)},
        meta={
            "first": {
                "name": first.name,
                "kind": first.kind,
                "shape": list(first.weights.shape),
                "largest": float(common.scale[0]),
                "whole": whole,
            }
        },
    )
    if whole:
        part.missing["gabor_share"] = "its first layer reads the whole image at once"
        count = min(len(model.classes), TEMPLATES)
        templates = weights.class_templates(model, view.batches[0], torch.arange(count)).cpu()
        part.arrays["templates"] = _half(weights.tiles(templates, common=False).pixels)
        return part
    fits = weights.gabors(filters.double().numpy())
    part.arrays["gabor"] = fits.quality.astype(np.float32)
    if np.isfinite(fits.share):
        part.values |= {
            "gabor_r2": float(np.nanmedian(fits.quality)),
            "gabor_noise": fits.chance,
            "gabor_share": fits.share,
        }
    else:
        part.missing["gabor_share"] = f"a Gabor function can always fit kernels under {weights.SMALLEST} pixels"
    return part


def channels(view: View) -> Part:
    """The share of dead channels in layers from the first to the last."""
    layers = spread_layers(view.model, view.batches[0][:1])
    if not layers:
        raise NotApplicable(f"{type(view.model.body).__name__} has no layer with a grid over the image")
    dead = torch.cat([life.dead for life in lives(view.model, view.batches, layers).values()])
    return Part(
        values={"dead_channels": dead.double().mean().item()},
        meta={"channels": {"layers": len(layers), "channels": len(dead), "dead": int(dead.sum())}},
    )


def patches(view: View) -> Part:
    """What the strongest channels of the usual layer answer to."""
    model, (data, images) = view.model, view.pictures
    layer = default_layer(model, view.batches[0][:1])
    top = strongest(model, view.batches, [layer], CHANNELS)[layer]
    top = Top(top.values.cpu(), top.images.cpu(), top.rows.cpu(), top.columns.cpu(), top.grid)
    trace = recursion(model, view.batches[0][:1], [layer])[layer]
    rows, peaks = patch_rows(data, top, trace, CHANNELS)
    note = patch_note(trace, tuple(images.shape[1:]))
    return Part(
        arrays={
            "patches": _bytes(np.stack([np.stack(row) for row in rows])),
            "patch_values": top.values[peaks].numpy(),
        },
        meta={"patches": {"layer": plain(layer), "channels": peaks, "note": note}},
    )


def fields(view: View) -> Part:
    """How receptive fields grow, and how large that of the usual layer is."""
    model, images = view.model, view.batches[0][:FIELDS]
    usual = default_layer(model, images[:1])
    layers = spread_layers(model, images[:1])
    layer_fields = growth(model, images, [*layers, *({usual} - set(layers))])
    rows = field_rows(layer_fields)
    part = Part(
        arrays={
            "field_weights": np.stack([row.weight for row in rows]).astype(np.float16),
            "field_sides": np.array([[row.arithmetic, row.measured, row.effective] for row in rows], np.float32),
            "field_boxes": np.array([row.box or (0, 0, 0, 0) for row in rows], np.int32),
        },
        meta={"fields": {"layers": [row.layer for row in rows], "usual": plain(usual)}},
    )
    for own, row in zip(layer_fields, rows, strict=True):
        if own.name == usual:
            part.values["field_effective"] = row.effective
            if own.reach:
                part.values["field_arithmetic"] = row.arithmetic
            else:
                part.missing["field_arithmetic"] = own.reason
    return part


def units(view: View) -> Part:
    """How well the units of the usual layer find the parts of the scenes, beside random weights."""
    model, data = view.model, view.pictures.data
    layer = default_layer(model, view.batches[0][:1])
    maps = part_maps(data)
    pairs = [(images, numbers) for images, (_, numbers) in zip(view.batches, maps, strict=True)]
    (dissection,) = dissect(model, pairs, [layer], len(maps.names))
    (control,) = dissect(randomized(model, view.seed), pairs, [layer], len(maps.names))
    best = np.nan_to_num(dissection.iou).max(0)
    order = [int(part) for part in np.argsort(-best, kind="stable")[:PARTS]]
    best_units = [part_unit(model, maps, dissection, part) for part in order]
    values = {
        "unit_iou": float(np.nanmax(dissection.iou)),
        "unit_iou_random": float(np.nanmax(control.iou)),
        "units_over_30": float((np.nan_to_num(dissection.iou).max(1) > OVERLAP).sum()),
    }
    arrays = {
        "unit_pictures": _bytes(np.concatenate([np.stack(unit.pictures) for unit in best_units])),
        "unit_on": np.concatenate([np.stack(unit.on) for unit in best_units]),
        "unit_parts": np.concatenate([np.stack(unit.parts) for unit in best_units]),
    }
    meta = {
        "layer": plain(layer),
        "titles": [unit.title for unit in best_units],
        "counts": [len(unit.pictures) for unit in best_units],
    }
    meta["control"] = [f"{np.nanmax(control.iou[:, part]):.2f}" for part in order]
    return Part(values=values, arrays=arrays, meta={"units": meta})


def codes(view: View, source: DataSet) -> Part:
    """The codes, their map, their nearest neighbours beside those in pixels, and what can be told from them."""
    labels, images = view.labels, view.pictures.images
    k = min(NEAREST, len(labels) - 1)
    values = space.codes(view.model, view.batches)
    pixels = pixel_space(source, view.seed)
    maps = {"pca": space.project(values, "pca"), "tsne": space.project(values, "tsne", view.seed)}
    trust = {f"trust_{name}": space.trust(values, flat, k) for name, flat in maps.items()}
    queries = np.arange(min(QUERIES, len(labels)))
    near = np.stack([space.nearest(values, k).rows[queries], pixels.near[queries]])
    tiles, place = np.unique(np.concatenate([queries, near.ravel()]), return_inverse=True)
    return Part(
        values=trust,
        hits={
            "neighbours_codes": space.neighbour_hits(values, labels, k),
            "neighbours_pixels": pixels.hits,
            "probe_codes": space.probe_hits(values, labels, view.seed),
        },
        arrays={
            "codes": compact(values),
            "tsne": maps["tsne"],
            "tsne_pixels": pixels.tsne,
            "labels": labels,
            "near": place[len(queries) :].reshape(near.shape),
            "near_query": place[: len(queries)],
            "near_labels": labels[tiles],
            "near_tiles": _bytes(thumbnails(images[torch.from_numpy(tiles)])),
            "map_accuracy": np.array([space.neighbour_accuracy(maps["tsne"], labels, k), pixels.tsne_accuracy]),
        },
    )


def compact(values: NDArray[Any]) -> NDArray[np.float16]:
    """Codes (N, D) up to rotation, scale and shift, which CKA does not see: at most N columns, the largest number 1."""
    centred = (values - values.mean(0)).astype(np.float64)
    if centred.shape[1] > len(centred):
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        centred = left * sizes
    small: NDArray[np.float16] = (centred / (np.abs(centred).max() or 1.0)).astype(np.float16)
    return small


def _bytes(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return (pixels * 255).round().astype(np.uint8)


def _half(pixels: Tensor) -> NDArray[np.float16]:
    return pixels.numpy().astype(np.float16)


MEASURES: dict[str, Callable[[View], Part]] = {
    "filters": first_layer,
    "channels": channels,
    "patches": patches,
    "fields": fields,
    "units": units,
}
LEADING = {  # the metric that stands for a part that is left out
    "filters": "first_kernel",
    "channels": "dead_channels",
    "patches": "",
    "fields": "field_effective",
    "units": "unit_iou",
    "codes": "neighbours_codes",
}
CELL = LearnedCell
