"""Codes of a model, and units that find parts, for ``assay inspect``."""

import copy
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from assay.bench.cells import dataset
from assay.bench.data import DataSet
from assay.bench.inspect import Asked
from assay.bench.inspect_layers import BATCH, batches, draw, pictures, plain, shown, usual_layer, write
from assay.bench.models import Subject, load
from assay.bench.single import read_picture
from assay.core.errors import AssayError
from assay.explain.learned import codes as measured
from assay.explain.learned.units import Dissection, dissect, unit_masks
from assay.explain.metrics.sanity import randomize
from assay.reports.drawing import codes as figures

QUERIES = 6  # pictures whose neighbours are shown
THUMBNAILS = 400  # at most
TILE = 48  # pixels: the longer side of a thumbnail
RANDOM = "random weights"
PIXELS = "pixels"
SHOWN = 6  # parts, and pictures of each


def randomized(model: Subject, seed: int) -> Subject:
    """A copy with all parameters drawn anew, each with the mean and deviation it had: what learning is measured by."""
    changed = copy.deepcopy(model)
    randomize(changed, [name for name, _ in changed.named_parameters()], seed)
    return changed


def codes(asked: Asked) -> Iterator[str]:
    """Codes of the data set: map, thumbnails, neighbours, accuracies and likeness, beside pixels and random weights."""
    model, out, data = asked.model, asked.out, pictures(asked)
    labels = np.array(data.labels)
    k = min(asked.top, len(data) - 1)
    spaces, tiles = _spaces(asked, data)
    flat = {name: measured.project(spaces[name], "tsne", asked.seed) for name in (model.name, PIXELS)}
    first = measured.project(spaces[model.name], "pca")
    table = pd.DataFrame(
        {
            "image": data.ids,
            "class": [data.classes[label] for label in data.labels],
            "pca_x": first[:, 0],
            "pca_y": first[:, 1],
            "tsne_x": flat[model.name][:, 0],
            "tsne_y": flat[model.name][:, 1],
        }
    )
    yield f"{write(table, out / 'codes.csv')}: {len(table)} pictures, codes of {spaces[model.name].shape[1]} numbers"
    titles = [
        ("PCA of codes", first),
        ("t-SNE of codes", flat[model.name]),
        ("PCA of pixels", measured.project(spaces[PIXELS], "pca")),
        ("t-SNE of pixels", flat[PIXELS]),
    ]
    panels = [figures.Panel(title, points, measured.neighbour_accuracy(points, labels)) for title, points in titles]
    said = f", nearest others in t-SNE have the class: {_percent(panels[1].accuracy)}" if _shared(data.labels) else ""
    yield f"{draw(figures.maps(panels, labels, data.classes), out)}: PCA and t-SNE{said}"
    few = slice(THUMBNAILS)
    yield f"{draw(figures.thumbnails(flat[model.name][few], tiles[few]), out)}: {len(tiles[few])} pictures by t-SNE"
    yield from _neighbours(asked, data, spaces, k)
    scores = {name: measured.score(values, labels, flat.get(name), seed=asked.seed) for name, values in spaces.items()}
    frame = pd.DataFrame([each._asdict() for each in scores.values()], index=pd.Index(scores, name="codes"))
    said = ", ".join(f"{name} {_percent(each.neighbours)}" for name, each in scores.items())
    said = f"nearest others have the class: {said}" if _shared(data.labels) else "no two pictures share a class"
    yield f"{write(frame.reset_index(), out / 'codes-scores.csv')}: {said}"
    told = frame[["neighbours", "probe"]].rename(columns={"neighbours": "nearest others", "probe": "linear probe"})
    if told.notna().any(axis=None):
        yield f"{draw(figures.accuracies(told), out)}: {len(frame)} spaces over {len(data)} pictures"
    alike = pd.DataFrame(measured.likeness(list(spaces.values())), index=list(spaces), columns=list(spaces))
    yield f"{draw(figures.similarity(alike, len(data)), out)}: linear CKA of {len(spaces)} codes"


def _spaces(asked: Asked, data: DataSet) -> tuple[dict[str, measured.Array], measured.Array]:
    """Codes of the model, of the others, of random weights and of pixels; and thumbnails (N, h, w, 3) or (N, h, w)."""
    model, random = asked.model, randomized(asked.model, asked.seed)
    rows: dict[str, list[measured.Array]] = {model.name: [], RANDOM: [], PIXELS: []}
    tiles = []
    for images in batches(data):
        rows[model.name].append(measured.codes(model, [images]))
        rows[RANDOM].append(measured.codes(random, [images]))
        rows[PIXELS].append(measured.pixels([images]))
        tiles.append(thumbnails(images))
    spaces = {name: np.concatenate(parts) for name, parts in rows.items()}
    others = {}
    for spec in asked.beside:
        other = load(spec)
        others[other.name] = measured.codes(other, batches(dataset(asked.data, asked.n, other)))
    return {model.name: spaces[model.name], **others, RANDOM: spaces[RANDOM], PIXELS: spaces[PIXELS]}, np.concatenate(
        tiles
    )


def thumbnails(images: Tensor) -> measured.Array:
    """Small pictures (N, h, w, 3) or (N, h, w) of images (N, C, H, W)."""
    small = F.adaptive_avg_pool2d(images, (min(TILE, images.shape[2]), min(TILE, images.shape[3])))
    return np.stack([shown(tile) for tile in small])


def _neighbours(asked: Asked, data: DataSet, spaces: dict[str, measured.Array], k: int) -> Iterator[str]:
    """What lies nearest to one picture, or to some of the data set, in code space and in pixel space."""
    used = (asked.model.name, PIXELS)
    rows = []
    if asked.image is not None:
        picture, label, name = read_picture(asked.image, asked.model)
        said = asked.model.classes[label] if label is not None else name
        queries = (measured.codes(asked.model, [picture]), measured.pixels([picture]))
        if name in data.ids:
            picked = [[data.ids.index(name)]] * 2
            found = [measured.nearest(spaces[space], k).rows[i] for space, i in zip(used, picked, strict=True)]
        else:
            found = [measured.nearest(spaces[space], k, query).rows for space, query in zip(used, queries, strict=True)]
        rows.append(figures.Near(shown(picture[0]), said, [_line(data, each[0], label) for each in found]))
    else:
        every = [measured.nearest(spaces[space], k).rows for space in used]
        for i in range(min(QUERIES, len(data))):
            label = data.labels[i]
            lines = [_line(data, index[i], label if _shared(data.labels) else None) for index in every]
            rows.append(figures.Near(shown(data.example(i).image), data.classes[label], lines))
    yield f"{draw(figures.neighbours(rows, ('codes', 'pixels')), asked.out)}: {k} nearest of {len(data)} pictures"


def _shared(labels: Sequence[int]) -> bool:
    """Whether any two pictures have the same class."""
    return len(set(labels)) < len(labels)


def _line(data: DataSet, index: NDArray[np.int64], label: int | None) -> list[tuple[figures.Array, bool | None]]:
    """Pictures, each with whether it has the label, None where there is none to have."""
    return [(shown(data.example(i).image), None if label is None else data.labels[i] == label) for i in index.tolist()]


def units(asked: Asked) -> Iterator[str]:
    """How well each unit of a layer finds each part, beside random weights and beside where the part mostly is."""
    model, out, data = asked.model, asked.out, pictures(asked)
    layer = asked.layer or usual_layer(model)
    maps = part_maps(data)
    names = maps.names
    (found,) = dissect(model, maps, [layer], len(names))
    (control,) = dissect(randomized(model, asked.seed), maps, [layer], len(names))
    table = pd.DataFrame(found.iou, columns=[f"iou_{name}" for name in names])
    table.insert(0, "unit", range(len(table)))
    table.insert(0, "layer", plain(layer))
    yield f"{write(table, out / 'units.csv')}: {len(table)} units of {plain(layer)} over {found.n} pictures"
    rows = pd.DataFrame(
        {
            "part": names,
            "share_of_pixels": found.shares,
            "unit": found.best,
            "iou": np.nanmax(found.iou, 0),
            "iou_random_weights": np.nanmax(control.iou, 0),
            "iou_place": found.place,
        }
    ).sort_values("iou", ascending=False)
    top = rows.iloc[0]
    said = f"best {top['part']} {top['iou']:.2f}, random weights at most {rows['iou_random_weights'].max():.2f}"
    yield f"{write(rows, out / 'parts.csv')}: IoU of {len(rows)} parts, {said}"
    drawn = [found_part(model, maps, found, names.index(name)) for name in rows["part"][:SHOWN]]
    yield f"{draw(figures.parts(drawn), out)}: {len(drawn)} parts"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"


class PartMaps:
    """Images (n, C, H, W) and maps (n, H, W) of a data set in batches, as often as asked.

    A map has i + 1 where the part ``names[i]`` shows and 0 where there is none; ``holds`` are the numbers by picture.
    """

    def __init__(self, data: DataSet) -> None:
        called = [data.part_names(i) for i in range(len(data))]
        self.data = data
        self.names = list(dict.fromkeys(name for each in called for name in each))
        self.holds = [np.array([0, *(self.names.index(name) + 1 for name in each)], np.uint8) for each in called]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.data), BATCH):
            pairs = [self.pair(i) for i in range(start, min(start + BATCH, len(self.data)))]
            yield torch.stack([image for image, _ in pairs]), torch.stack([numbers for _, numbers in pairs])

    def pair(self, i: int) -> tuple[Tensor, Tensor]:
        """Picture ``i`` (C, H, W) and its map (H, W)."""
        example = self.data.example(i, self.data.has & {"parts", "masks"})
        own = example.parts if example.parts is not None else example.mask
        if own is None:
            return example.image, torch.zeros(example.image.shape[1:], dtype=torch.uint8)
        return example.image, torch.from_numpy(self.holds[i])[own.long()]


def part_maps(data: DataSet) -> PartMaps:
    """What the units of a model are compared with; ``AssayError`` for data without parts and masks."""
    if not data.has & {"parts", "masks"}:
        raise AssayError(f"{data.spec} says nothing of parts: take scenes, or a folder with masks")
    return PartMaps(data)


def found_part(model: Subject, maps: PartMaps, found: Dissection, part: int) -> figures.Found:
    """Pictures that show the part, where its best unit is on, and the part."""
    unit = int(found.best[part])
    holding = (i for i in range(len(maps.data)) if part + 1 in maps.holds[i])
    pairs = [maps.pair(i) for i in itertools.islice(holding, SHOWN)]
    images = torch.stack([image for image, _ in pairs])
    on = unit_masks(
        model, images.to(next(model.parameters()).device), found.layer, unit, float(found.thresholds[unit, part])
    )
    return figures.Found(
        f"{maps.names[part]}: unit {unit}, IoU {found.iou[unit, part]:.2f}",
        [shown(image) for image in images],
        list(on.cpu().numpy()),
        [(numbers == part + 1).numpy() for _, numbers in pairs],
    )
