"""``assay synthesize visualize``."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from assay.bench.commands import ModelSpec, Words
from assay.bench.commands.drawing import draw
from assay.bench.commands.synthesize.files import FILES, LONGEST_SIDE, Files, method_of
from assay.bench.data import load as load_data
from assay.bench.layer_views import depths as layer_depths
from assay.bench.layer_views import usual_layer
from assay.bench.loading import dataset
from assay.bench.measurements.base import to_bytes
from assay.bench.models import Subject, generators, load
from assay.bench.one_image import class_of, index, read_picture
from assay.bench.progress import StepProgress
from assay.core.errors import AssayError, brief
from assay.core.layers import activations
from assay.core.targets import Channel, LayerNorm2, Logit, Margin, Neuron, Probability, Target
from assay.reports.drawing.layer_figures import depths as depths_figure
from assay.synthesis.base import Art
from assay.synthesis.scores import diversity, robust_probability, spectrum_distance
from assay.synthesis.tiles import over_windows, resized
from assay.synthesis.visualize import Visualize
from assay.synthesis.visualize import facets as facet_means

CLASSES = 10  # that are drawn unless others are asked for
SAMPLES = 200  # pictures of a data set, at most, whose colours, spectrum and clusters are taken


class Wish(NamedTuple):
    """One thing to draw: a class, or a target in a layer."""

    name: str  # of the file
    title: str
    target: Target
    label: int | None = None

    @classmethod
    def of_class(cls, model: Subject, k: int) -> "Wish":
        return cls(f"class-{k}", model.classes[k], Logit(k), k)

    @classmethod
    def read(cls, model: Subject, word: str) -> "Wish":
        """A class, or LAYER[:CHANNEL[:ROW:COLUMN]]."""
        layer, *numbers = word.split(":")
        if word in model.classes or index(word) is not None:
            return cls.of_class(model, class_of(word, model))
        modules = dict(model.named_modules())
        if layer not in modules and f"body.{layer}" not in modules:
            raise AssayError(f"{brief(word)} is no class of {model.name} and no layer; see assay layers {model.name}")
        at = [place for number in numbers if (place := index(number)) is not None]
        if len(numbers) not in (0, 1, 3) or len(at) < len(numbers):
            raise AssayError(f"{brief(word)}: a unit is LAYER, LAYER:CHANNEL or LAYER:CHANNEL:ROW:COLUMN")
        target = Neuron(layer, *at) if len(at) == 3 else Channel(layer, at[0]) if at else LayerNorm2(layer)
        return cls("-".join([layer, *numbers]), word, target)

    def scores(self, model: Subject, art: Art) -> dict[str, list[float]]:
        """What the model says of the pictures; of a class also of their rolls, turns and scalings."""
        with torch.no_grad():
            if self.label is None:
                return {"value": over_windows(model, art.images, partial(self.target, model)).tolist()}
            label = self.label
            values = over_windows(model, art.images, partial(Probability(label), model))
            changes = over_windows(model, art.images, lambda images: robust_probability(model, images, label))
        return {"probability": values.tolist(), "moved_probability": changes.tolist()}


def visualize(
    model: ModelSpec,
    what: Words = (),
    /,
    *,
    method: str = "visualize",
    depths: int = 0,
    count: int = 1,
    size: tuple[int, int] | None = None,
    start: str | None = None,
    facets: int = 0,
    like: str | None = None,
    generator: str | None = None,
    files: Files = FILES,
) -> Iterator[str]:
    """Draw what MODEL sees in WHAT: classes, LAYER, LAYER:CHANNEL or LAYER:CHANNEL:ROW:COLUMN.

    Parameters
    ----------
    what
        Classes by index or name, the first ten unless this or --depths says else; layers, channels and neurons by the
        layer's name in assay layers MODEL.
    method
        With settings, as in "visualize(parametrisation=maco, steps=512)".
    depths
        As many channels at each of four depths, and classes, on one sheet.
    count
        Pictures of each, from different random numbers.
    size
        Height and width, the model's own unless given; of a larger picture it sees windows.
    start
        A picture to start from, a file or DATA#NUMBER.
    facets
        Start from the means of as many clusters of a class's images in the data of --like.
    like
        Data whose colours and spectrum fourier and maco keep: scenes, folder:PATH.
    generator
        For latent: scenes, or py:MODULE:FUNCTION.
    """
    _check(depths, count, size, start, facets)
    subject = load(model)
    record: Visualize = method_of(method, Visualize, size=size and (subject.input_size[0], *size))
    source = _generator(record, generator)
    data, begin = _references(subject, like, start, record.size)
    natural = data if record.parametrisation in ("fourier", "maco") else None
    sheet: dict[str, Tensor] = {}
    for thing in _wishes(subject, what, depths, margin=source is not None):
        starts = _facets(subject, thing, like, facets, files.seed) if facets else begin
        n = facets or count
        names = [thing.name if n == 1 else f"{thing.name}-{i}" for i in range(n)]
        how: dict[str, Any] = {"start": starts, "like": natural, "generator": source}
        with StepProgress(thing.title) as progress:
            art = record(subject, thing.target, files.draws(subject, record, names), callback=progress.step, **how)
        scores, facts = _results(subject, thing, art, data)
        yield from files.save(names, art, scores, model=subject, method=record, **facts)
        sheet[thing.title] = art.images[:1]
    if depths:
        yield _sheet(files, subject, sheet)


def _check(depths: int, count: int, size: tuple[int, int] | None, start: str | None, facets: int) -> None:
    """Raise ``AssayError`` for numbers that make no sense, or not together."""
    if count < 1 or depths < 0 or facets < 0:
        raise AssayError("--count must be 1 or more, --depths and --facets not negative")
    if facets and (count > 1 or start):
        raise AssayError(
            "--facets says how many pictures there are and where they start; leave out --count and --start"
        )
    if size and not 1 <= min(size) <= max(size) <= LONGEST_SIDE:
        raise AssayError(f"--size {size[0]} {size[1]} must be 1 or more, {LONGEST_SIDE} at most")


def _generator(record: Visualize, spec: str | None) -> generators.ImageGenerator | None:
    """What draws latent codes, for the parametrisation that has them."""
    if record.parametrisation == "latent":
        return generators.load(spec or "scenes")
    if spec:
        raise AssayError('--generator is for --method "visualize(parametrisation=latent)"')
    return None


def _references(
    model: Subject, like: str | None, start: str | None, size: tuple[int, ...] | None
) -> tuple[Tensor | None, Tensor | None]:
    """Images of the data ``like`` and the picture to start from, at the ``size`` (C, H, W) that is drawn."""
    data = _images(like, model) if like else None
    begin = read_picture(start, model)[0] if start else None
    if size:
        _, high, wide = size
        data, begin = (None if images is None else resized(images, (high, wide)) for images in (data, begin))
    return data, begin


def _wishes(model: Subject, words: Sequence[str], depths: int, *, margin: bool) -> list[Wish]:
    """What to draw; with ``margin``, for pictures of things, a class must be the first one."""
    wishes = [Wish.read(model, word) for word in words] + (_depths(model, depths) if depths else [])
    wishes = wishes or [Wish.of_class(model, k) for k in range(min(len(model.classes), CLASSES))]
    return [wish._replace(target=Margin(wish.label)) if margin and wish.label is not None else wish for wish in wishes]


def _results(
    model: Subject, thing: Wish, art: Art, data: Tensor | None
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Scores of each picture, and facts about all."""
    scores, facts = thing.scores(model, art), dict[str, Any](target=thing.title)
    if data is not None and data.shape[2:] == art.images.shape[2:]:
        scores["spectrum_distance_db"] = spectrum_distance(art.images, data).tolist()
    if len(art.images) > 1:
        with suppress(AssayError):  # a model without a grid
            facts["diversity"] = round(diversity(model, art.images, usual_layer(model)), 4)
    return scores, facts


def _depths(model: Subject, count: int) -> list[Wish]:
    """``count`` channels at each of four depths, and as many classes."""
    images, units = torch.zeros(1, *model.input_size), []
    for name in layer_depths(model, images, 4):
        with torch.no_grad():
            channels = activations(model, images, name).shape[1]
        at = np.linspace(0, channels - 1, count).round().astype(int)
        units += [Wish(f"{name}-{c}", f"{name}:{c}", LayerNorm2(name, c)) for c in dict.fromkeys(at.tolist())]
    return units + [Wish.of_class(model, k) for k in range(min(count, len(model.classes)))]


def _images(spec: str, model: Subject) -> Tensor:
    """The first pictures of a data set, as the model takes them."""
    data = dataset(spec, SAMPLES, model)
    return torch.stack([data.example(i).image for i in range(len(data))])


def _facets(model: Subject, thing: Wish, like: str | None, count: int, seed: int) -> Tensor:
    """The mean images of clusters of a class."""
    if like is None or thing.label is None:
        raise AssayError("--facets are of classes, in the images of --like DATA")
    data = dataset(like, len(load_data(like)), model)
    members = [i for i, label in enumerate(data.labels) if label == thing.label][:SAMPLES]
    if len(members) < count:
        raise AssayError(f"{like} has {len(members)} images of {thing.title}, too few for {count} facets")
    images = torch.stack([data.example(i).image for i in members])
    with torch.no_grad():
        codes = activations(model, images, usual_layer(model)).mean((2, 3))
    return facet_means(codes, images, count, seed=seed)


def _sheet(files: Files, model: Subject, sheet: dict[str, Tensor]) -> str:
    groups: dict[str, list[Any]] = {}
    for title, images in sheet.items():
        layer, sign, _ = title.partition(":")
        groups.setdefault(layer if sign else "classes", []).append((title, to_bytes(images)[0]))
    return f"{draw(depths_figure(model.name, groups), files.out)}: {len(groups)} depths"
