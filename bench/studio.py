"""Pictures made on request, for ``assay synthesize``: files with their settings, scores and history beside them.

Each function yields the lines to tell.
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from assay.bench import remade
from assay.bench.cells import dataset
from assay.bench.data import load as load_data
from assay.bench.data.base import to_image
from assay.bench.data.folder import decode
from assay.bench.inspect_layers import draw, plain, usual_layer
from assay.bench.models import Subject, generators, load
from assay.bench.pictures import saved, to_bytes, to_picture
from assay.bench.progress import Steps
from assay.bench.single import class_of, read_picture
from assay.core.draws import Draws
from assay.core.errors import AssayError, unknown
from assay.core.layers import activations
from assay.core.targets import Channel, LayerNorm2, Logit, Margin, Neuron, Probability, Target
from assay.reports.drawing.layers import depths as depths_figure
from assay.synthesis import SYNTHESES
from assay.synthesis.base import Art, FromSample
from assay.synthesis.dream import DeepDream
from assay.synthesis.fast import FastStyle
from assay.synthesis.fast import load as load_network
from assay.synthesis.gram import TextureSynthesis
from assay.synthesis.invert import Invert
from assay.synthesis.scores import diversity, robust_probability, spectrum_distance
from assay.synthesis.scores_texture import copy_length, seam_energy
from assay.synthesis.style import StyleTransfer
from assay.synthesis.tiles import over_windows, resized
from assay.synthesis.visualize import Visualize, facets

MOST_PAIRS = 150_000_000  # of pixels of texture and sample, beyond which seams are not scored: a minute


class Asked(NamedTuple):
    """One thing to draw: a class, or a target in a layer."""

    name: str  # of the file
    said: str
    target: Target
    label: int | None = None


def method_of(text: str, *kinds: type, **settings: Any) -> Any:
    """The record that ``text`` describes; ``AssayError`` unless it is of one of ``kinds``."""
    given = {key: value for key, value in settings.items() if value is not None}
    method = SYNTHESES.parse(text, **given)
    if not isinstance(method, kinds):
        fitting = [name for name in SYNTHESES if issubclass(SYNTHESES[name], kinds)]
        raise AssayError(f"{text} does something else; here --method is {' or '.join(fitting)}")
    return method


def visualize(
    spec: str, what: Sequence[str], *, method: str, depths: int, count: int, size: tuple[int, int] | None,
    start: str | None, facets: int, like: str | None, generator: str | None, out: Path, seed: int,
) -> Iterator[str]:  # fmt: skip
    """Draw targets."""
    if count < 1 or depths < 0 or facets < 0:
        raise AssayError("--count must be 1 or more, --depths and --facets not negative")
    if facets and (count > 1 or start):
        raise AssayError(
            "--facets says how many pictures there are and where they start; leave out --count and --start"
        )
    if size and min(size) < 1:
        raise AssayError(f"--size {size[0]} {size[1]} must be 1 or more")
    model = load(spec)
    record: Visualize = method_of(method, Visualize, size=size and (model.input_size[0], *size))
    asked = [_read(model, word) for word in what] + (_depths(model, depths) if depths else [])
    asked = asked or [_class(model, k) for k in range(min(len(model.classes), 10))]
    data = _images(like, model) if like else None
    begin = read_picture(start, model)[0] if start else None
    if generator and record.parametrisation != "latent":
        raise AssayError('--generator is for --method "visualize(parametrisation=latent)"')
    if size or record.size:
        high, wide = (record.size or model.input_size)[1:]
        data, begin = (images if images is None else resized(images, (high, wide)) for images in (data, begin))
    kept = data if record.parametrisation in ("fourier", "maco") else None
    made = generators.load(generator or "scenes") if record.parametrisation == "latent" else None
    if made:  # of a picture of things, the class must be the first one
        asked = [one if one.label is None else one._replace(target=Margin(one.label)) for one in asked]
    sheet: dict[str, Tensor] = {}
    for one in asked:
        starts = _facets(model, one, like, facets, seed) if facets else begin
        n = facets or count
        names = [one.name if n == 1 else f"{one.name}-{i}" for i in range(n)]
        draws = Draws.hashed(f"{seed} {model.digest} {record!r}", names)
        with Steps(one.said) as progress:
            art = record(model, one.target, draws, start=starts, like=kept, generator=made, callback=progress.step)
        scores = _scores(model, one, art)
        if data is not None and data.shape[2:] == art.images.shape[2:]:
            scores["spectrum_distance_db"] = spectrum_distance(art.images, data).tolist()
        extra: dict[str, Any] = {"target": one.said}
        if n > 1:
            with suppress(AssayError):  # a model without a grid
                extra["diversity"] = round(diversity(model, art.images, usual_layer(model)), 4)
        yield from _save(out, names, art, scores, {"model": model, "method": record, "seed": seed, **extra})
        sheet[one.said] = art.images[:1]
    if depths:
        yield _sheet(out, model, sheet)


def _scores(model: Subject, one: Asked, art: Art) -> dict[str, list[float]]:
    if one.label is None:
        with torch.no_grad():
            return {"value": over_windows(model, art.images, partial(one.target, model)).tolist()}
    probability, label = Probability(one.label), one.label
    with torch.no_grad():
        plain = over_windows(model, art.images, partial(probability, model))
        moved = over_windows(model, art.images, lambda images: robust_probability(model, images, label))
    return {"probability": plain.tolist(), "moved_probability": moved.tolist()}


def _class(model: Subject, k: int) -> Asked:
    return Asked(f"class-{k}", model.classes[k], Logit(k), k)


def _read(model: Subject, word: str) -> Asked:
    """A class, or LAYER[:CHANNEL[:ROW:COLUMN]]."""
    layer, *numbers = word.split(":")
    if word in model.classes or word.isdecimal():
        return _class(model, class_of(word, model))
    modules = dict(model.named_modules())
    if layer not in modules and f"body.{layer}" not in modules:
        raise AssayError(f"{word!r} is no class of {model.name} and no layer; see assay layers {model.name}")
    if len(numbers) not in (0, 1, 3) or not all(number.isdecimal() for number in numbers):
        raise AssayError(f"{word!r}: a unit is LAYER, LAYER:CHANNEL or LAYER:CHANNEL:ROW:COLUMN")
    at = [int(number) for number in numbers]
    target = Neuron(layer, *at) if len(at) == 3 else Channel(layer, at[0]) if at else LayerNorm2(layer)
    return Asked("-".join([layer, *numbers]), word, target)


def _depths(model: Subject, count: int) -> list[Asked]:
    """``count`` channels at each of four depths, and as many classes."""
    images, words = torch.zeros(1, *model.input_size), []
    for name in remade.depths(model, images, 4):
        with torch.no_grad():
            channels = activations(model, images, name).shape[1]
        at = np.linspace(0, channels - 1, count).round().astype(int)
        words += [(name, c) for c in dict.fromkeys(at.tolist())]
    units = [Asked(f"{name}-{c}", f"{name}:{c}", LayerNorm2(name, c)) for name, c in words]
    return units + [_class(model, k) for k in range(min(count, len(model.classes)))]


def _images(spec: str, model: Subject) -> Tensor:
    """The first 200 pictures of a data set, as the model takes them."""
    data = dataset(spec, 200, model)
    return torch.stack([data.example(i).image for i in range(len(data))])


def _facets(model: Subject, one: Asked, like: str | None, count: int, seed: int) -> Tensor:
    """The mean images of clusters of a class."""
    if like is None or one.label is None:
        raise AssayError("--facets are of classes, in the images of --like DATA")
    data = dataset(like, len(load_data(like)), model)
    own = [i for i, label in enumerate(data.labels) if label == one.label][:200]
    if len(own) < count:
        raise AssayError(f"{like} has {len(own)} images of {one.said}, too few for {count} facets")
    images = torch.stack([data.example(i).image for i in own])
    with torch.no_grad():
        codes = activations(model, images, usual_layer(model)).mean((2, 3))
    return facets(codes, images, count, seed=seed)


def _sheet(out: Path, model: Subject, sheet: dict[str, Tensor]) -> str:
    groups: dict[str, list[Any]] = {}
    for said, images in sheet.items():
        layer, sign, _ = said.partition(":")
        groups.setdefault(layer if sign else "classes", []).append((said, to_bytes(images)[0]))
    return f"{draw(depths_figure(model.name, groups), out)}: {len(groups)} depths"


def invert(spec: str, picture: str, layers: Sequence[str], *, method: str, out: Path, seed: int) -> Iterator[str]:
    """Invert layers."""
    model = load(spec)
    image, _, name = read_picture(picture, model)
    asked = method_of(method, Invert)
    names = layers or ([asked.layer] if asked.layer else remade.depths(model, image))
    if not names:
        raise AssayError(f"{model.name} has no layers with a grid; all it can be asked for is the layer input")
    for layer in dict.fromkeys(map(plain, names)):
        record = replace(asked, layer=layer)
        with Steps(layer) as progress:
            draws = Draws.hashed(f"{seed} {model.digest} {record!r}", [name])
            art = record(model, image, draws, callback=progress.step)
        scores = remade.inversion_scores(model, image, layer, art.images)
        facts = {"model": model, "method": record, "seed": seed, "picture": picture}
        yield from _save(out, [f"inverted-{layer}"], art, {k: v.tolist() for k, v in scores.items()}, facts)


def dream(
    spec: str, picture: str, *, method: str, guide: str | None, longest: int | None, out: Path, seed: int
) -> Iterator[str]:
    """Dream about a picture."""
    model = load(spec)
    record = method_of(method, DeepDream)
    image, name = read_large(picture, model, longest)
    guided = {"guide": read_large(guide, model, None)[0]} if guide else {}
    with Steps("dream") as progress:
        draws = Draws.hashed(f"{seed} {model.digest} {record!r}", [name])
        art = record(model, image, draws, callback=progress.step, **guided)
    scores = {key: values.tolist() for key, values in remade.dream_scores(art, record.steps).items()}
    facts = {"model": model, "method": record, "seed": seed, "picture": picture, "guide": guide}
    yield from _save(out, ["dream"], art, scores, facts)


def texture(
    samples: Sequence[str], *, method: str, model: str | None, size: tuple[int, int] | None, out: Path, seed: int
) -> Iterator[str]:
    """Make textures of samples."""
    record = method_of(method, FromSample, TextureSynthesis, size=size)
    if (record.takes == "images") != (model is not None):
        said = "needs --model" if model is None else "takes no --model"
        raise AssayError(f"{SYNTHESES.name_of(record)} {said}")
    subject = load(model) if model is not None else None
    stems = [Path(source).stem.replace("#", "-") for source in samples]
    for i, source in enumerate(samples):
        image, name = read_large(source, subject, None)
        draws = Draws.hashed(f"{seed} {subject.digest if subject else ''} {record!r}", [name])
        with Steps(name) as progress:
            art = record(subject, image, draws, callback=progress.step) if subject else record(image, draws)
        scores = {"copy_length": copy_length(art.images, image).tolist()}
        pairs = art.images[0, 0].numel() * image[0, 0].numel()  # each of them is compared
        if min(*image.shape[2:], *art.images.shape[2:]) >= 8 and pairs <= MOST_PAIRS:
            scores["seam_energy"] = seam_energy(art.images, image).tolist()
        facts = {"model": subject, "method": record, "seed": seed, "sample": source}
        yield from _save(
            out, [f"texture-{stems[i]}" + (f"-{i}" if stems.count(stems[i]) > 1 else "")], art, scores, facts
        )


def style(
    content: str, styles: Sequence[str], *, model: str | None, method: str | None, weights: Sequence[float],
    network: Path | None, longest: int | None, out: Path, seed: int,
) -> Iterator[str]:  # fmt: skip
    """Paint a picture in the style of others."""
    if network is not None:
        if model is not None or method is not None:
            raise AssayError("--network paints by itself: leave out --model and --method, or --network")
        yield from _fast_style(content, styles, weights=weights, network=network, longest=longest, out=out, seed=seed)
        return
    if not styles:
        raise AssayError("in which style? give one or more pictures after the content")
    if weights and len(weights) != len(styles):
        raise AssayError(f"{len(weights)} weights for {len(styles)} styles")
    record = method_of(method or "style-transfer", StyleTransfer)
    subject = load(model or "zoo:repvgg")
    image, name = read_large(content, subject, longest)
    painted = [read_large(source, subject, None)[0] for source in styles]
    with Steps("style") as progress:
        draws = Draws.hashed(f"{seed} {subject.digest} {record!r}", [name])
        art = record(subject, image, painted, draws, weights=weights or None, callback=progress.step)
    losses = record.losses(subject, art.images, image, painted, weights=weights or None)
    scores = {"content_loss": losses.content.tolist(), "style_loss": losses.style.tolist()}
    facts = {"model": subject, "method": record, "seed": seed, "content": content, "styles": list(styles)}
    yield from _save(out, ["style"], art, scores, {**facts, "weights": list(weights) or None})


def _fast_style(
    content: str, styles: Sequence[str], *, weights: Sequence[float], network: Path, longest: int | None, out: Path,
    seed: int,
) -> Iterator[str]:  # fmt: skip
    """Paint by one forward pass; ``styles`` are names that the network knows, all of them unless given."""
    net = load_network(network)
    for name in styles:
        if name not in net.styles:
            raise unknown("style", name, net.styles)
    if weights and len(weights) != len(styles or net.styles):
        raise AssayError(f"{len(weights)} weights for the styles {', '.join(styles or net.styles)}")
    if len(set(styles)) != len(styles):
        raise AssayError(f"a style is named twice: {' '.join(styles)}")
    shares = dict(zip(styles or net.styles, weights or (1.0,) * len(styles or net.styles), strict=True))
    record = FastStyle(blend=tuple(shares.get(name, 0.0) for name in net.styles))
    image, _ = read_large(content, None, longest)
    art = record(net, image if image.shape[1] == 3 else image.expand(-1, 3, -1, -1), seed)
    facts = {"network": str(network), "method": record, "content": content, "styles": shares}
    yield from _save(out, ["style"], art, {}, facts)


def read_large(source: str, model: Subject | None, longest: int | None) -> tuple[Tensor, str]:
    """A picture (1, C, H, W) at its own size, or with ``longest`` pixels on its longer side, and its id."""
    if not Path(source).is_file() and "#" in source:
        spec, _, number = source.rpartition("#")
        data = load_data(spec)
        if not number.isdecimal() or int(number) >= len(data):
            raise AssayError(f"{spec} has pictures 0 to {len(data) - 1}, not {number!r}")
        example = data.example(int(number))
        pixels, name = to_picture(to_bytes(example.image[None])[0]), example.id
    elif Path(source).is_file():
        pixels, name = decode(Path(source)), source
    else:
        raise AssayError(f"no picture at {source}; give a file, or DATA#NUMBER such as scenes#3")
    if longest is not None and longest < 1:
        raise AssayError(f"--longest {longest} must be 1 or more")
    if longest is not None:
        by = longest / max(pixels.size)
        wide, high = (max(round(side * by), 1) for side in pixels.size)
        pixels = pixels.resize((wide, high), Image.Resampling.LANCZOS)
    return to_image(np.asarray(pixels), model.input_size[0] if model else None)[None], name


def _save(
    out: Path, names: Sequence[str], art: Art, scores: dict[str, list[float]], facts: dict[str, Any]
) -> Iterator[str]:
    """Write NAME.png and NAME.json for each picture; yields one line for each."""
    told = {key: _fact(value) for key, value in facts.items() if value is not None}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for i, (name, pixels) in enumerate(zip(names, to_bytes(art.images), strict=True)):
            own = {key: _number(values[i]) for key, values in scores.items()}
            history = [_number(value) for value in art.history[:, i].tolist()]
            record = {**told, "size": list(pixels.shape[:2]), "scores": own, "history": history}
            safe = name.replace("/", "-")
            saved(pixels, out / f"{safe}.png")
            text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
            (out / f"{safe}.json").write_text(text + "\n", encoding="utf-8")
            said = ", ".join(f"{key.replace('_', ' ')} {value:.3g}" for key, value in own.items() if value is not None)
            yield f"{out / safe}.png" + (f": {said}" if said else "")
    except OSError as error:
        raise AssayError(f"cannot write to {out}: {error.strerror}") from error


def _number(value: float) -> float | None:
    """Six digits; None where there is none."""
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _fact(value: Any) -> Any:
    if isinstance(value, Subject):
        return {"name": value.name, "digest": value.digest}
    return value if isinstance(value, int | float | str | list | dict) else repr(value)
