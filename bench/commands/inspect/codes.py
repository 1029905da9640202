"""Codes of a model, and units that find parts."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from assay.bench.commands.drawing import draw, write
from assay.bench.commands.inspect.base import Inspection
from assay.bench.data import DataSet
from assay.bench.layer_views import batches, plain, shown, usual_layer
from assay.bench.loading import dataset
from assay.bench.models import load
from assay.bench.one_image import read_picture
from assay.bench.scene_parts import PICTURES, part_maps, part_unit, randomized, thumbnails
from assay.explain.representation import codes as code_spaces
from assay.explain.representation.units import dissect
from assay.reports.drawing import code_figures as figures

QUERIES = 6  # pictures whose neighbours are shown
THUMBNAILS = 400  # at most
RANDOM = "random weights"
PIXELS = "pixels"


def codes(inspection: Inspection) -> Iterator[str]:
    """Codes of the data set: map, thumbnails, neighbours, accuracies and likeness, beside pixels and random weights."""
    model, out, data = inspection.model, inspection.out, inspection.pictures()
    labels = np.array(data.labels)
    k = min(inspection.top, len(data) - 1)
    spaces, tiles = _spaces(inspection, data)
    flat = {name: code_spaces.project(spaces[name], "tsne", inspection.seed) for name in (model.name, PIXELS)}
    first = code_spaces.project(spaces[model.name], "pca")
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
        ("PCA of pixels", code_spaces.project(spaces[PIXELS], "pca")),
        ("t-SNE of pixels", flat[PIXELS]),
    ]
    panels = [figures.Panel(title, points, code_spaces.neighbour_accuracy(points, labels)) for title, points in titles]
    pairs = len(set(data.labels)) < len(data)  # any two pictures of one class
    note = f", nearest others in t-SNE have the class: {_percent(panels[1].accuracy)}" if pairs else ""
    yield f"{draw(figures.maps(panels, labels, data.classes), out)}: PCA and t-SNE{note}"
    few = slice(THUMBNAILS)
    yield f"{draw(figures.thumbnails(flat[model.name][few], tiles[few]), out)}: {len(tiles[few])} pictures by t-SNE"
    yield from _neighbours(inspection, data, spaces, k)
    scores = {
        name: code_spaces.score(values, labels, flat.get(name), seed=inspection.seed) for name, values in spaces.items()
    }
    frame = pd.DataFrame([score._asdict() for score in scores.values()], index=pd.Index(scores, name="codes"))
    shares = ", ".join(f"{name} {_percent(score.neighbours)}" for name, score in scores.items())
    note = f"nearest others have the class: {shares}" if pairs else "no two pictures share a class"
    yield f"{write(frame.reset_index(), out / 'codes-scores.csv')}: {note}"
    columns = frame[["neighbours", "probe"]].rename(columns={"neighbours": "nearest others", "probe": "linear probe"})
    if columns.notna().any(axis=None):
        yield f"{draw(figures.accuracies(columns), out)}: {len(frame)} spaces over {len(data)} pictures"
    alike = pd.DataFrame(code_spaces.likeness(list(spaces.values())), index=list(spaces), columns=list(spaces))
    yield f"{draw(figures.similarity(alike, len(data)), out)}: linear CKA of {len(spaces)} codes"


def _spaces(inspection: Inspection, data: DataSet) -> tuple[dict[str, code_spaces.Array], code_spaces.Array]:
    """Codes of the model, of the others, of random weights and of pixels; and thumbnails (N, h, w, 3) or (N, h, w)."""
    model, random = inspection.model, randomized(inspection.model, inspection.seed)
    rows: dict[str, list[code_spaces.Array]] = {model.name: [], RANDOM: [], PIXELS: []}
    tiles = []
    for images in batches(data):
        rows[model.name].append(code_spaces.codes(model, [images]))
        rows[RANDOM].append(code_spaces.codes(random, [images]))
        rows[PIXELS].append(code_spaces.pixels([images]))
        tiles.append(thumbnails(images))
    spaces = {name: np.concatenate(parts) for name, parts in rows.items()}
    rivals = {}
    for spec in inspection.beside:
        rival = load(spec)
        rivals[rival.name] = code_spaces.codes(rival, batches(dataset(inspection.data, inspection.n, rival)))
    spaces = {model.name: spaces[model.name], **rivals, RANDOM: spaces[RANDOM], PIXELS: spaces[PIXELS]}
    return spaces, np.concatenate(tiles)


def _neighbours(inspection: Inspection, data: DataSet, spaces: dict[str, code_spaces.Array], k: int) -> Iterator[str]:
    """What lies nearest to one picture, or to some of the data set, in code space and in pixel space."""
    model, codes_and_pixels = inspection.model, [spaces[inspection.model.name], spaces[PIXELS]]
    rows = []
    if inspection.image is not None:
        picture, label, name = read_picture(inspection.image, model)
        if name in data.ids:
            near = [code_spaces.nearest(space, k).rows[data.ids.index(name)] for space in codes_and_pixels]
        else:
            queries = (code_spaces.codes(model, [picture]), code_spaces.pixels([picture]))
            near = [
                code_spaces.nearest(space, k, query).rows[0]
                for space, query in zip(codes_and_pixels, queries, strict=True)
            ]
        title = model.classes[label] if label is not None else name
        rows.append(figures.Near(shown(picture[0]), title, [_line(data, index, label) for index in near]))
    else:
        pairs = len(set(data.labels)) < len(data)
        indices = [code_spaces.nearest(space, k).rows for space in codes_and_pixels]
        for i in range(min(QUERIES, len(data))):
            label = data.labels[i]
            lines = [_line(data, index[i], label if pairs else None) for index in indices]
            rows.append(figures.Near(shown(data.example(i).image), data.classes[label], lines))
    yield f"{draw(figures.neighbours(rows, ('codes', 'pixels')), inspection.out)}: {k} nearest of {len(data)} pictures"


def _line(data: DataSet, index: NDArray[np.int64], label: int | None) -> list[tuple[figures.Array, bool | None]]:
    """Pictures, each with whether it has the label, None where there is none to have."""
    return [(shown(data.example(i).image), None if label is None else data.labels[i] == label) for i in index.tolist()]


def units(inspection: Inspection) -> Iterator[str]:
    """How well each unit of a layer finds each part, beside random weights and beside where the part mostly is."""
    model, out, data = inspection.model, inspection.out, inspection.pictures()
    layer = inspection.layer or usual_layer(model)
    maps = part_maps(data)
    names = maps.names
    (dissection,) = dissect(model, maps, [layer], len(names))
    (control,) = dissect(randomized(model, inspection.seed), maps, [layer], len(names))
    table = pd.DataFrame(dissection.iou, columns=[f"iou_{name}" for name in names])
    table.insert(0, "unit", range(len(table)))
    table.insert(0, "layer", plain(layer))
    yield f"{write(table, out / 'units.csv')}: {len(table)} units of {plain(layer)} over {dissection.n} pictures"
    rows = pd.DataFrame(
        {
            "part": names,
            "share_of_pixels": dissection.shares,
            "unit": dissection.best,
            "iou": np.nanmax(dissection.iou, 0),
            "iou_random_weights": np.nanmax(control.iou, 0),
            "iou_place": dissection.place,
        }
    ).sort_values("iou", ascending=False)
    top = rows.iloc[0]
    note = f"best {top['part']} {top['iou']:.2f}, random weights at most {rows['iou_random_weights'].max():.2f}"
    yield f"{write(rows, out / 'parts.csv')}: IoU of {len(rows)} parts, {note}"
    best_units = [part_unit(model, maps, dissection, names.index(name)) for name in rows["part"][:PICTURES]]
    yield f"{draw(figures.parts(best_units), out)}: {len(best_units)} parts"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{share:.1%}"
