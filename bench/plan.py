"""From what a user types to the cells of a run."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from assay.attacks.base import Attack
from assay.attacks.judge import NORMS
from assay.bench.attacked import AttackCell, pool
from assay.bench.cells import Cell, CleanCell, DataCell, ExplainCell, dataset, metric_name, subject
from assay.bench.data import DataSet
from assay.bench.data import load as load_data
from assay.bench.facts import attack_facts, method_facts, metric_facts, model_facts
from assay.bench.goals import attack_text, check_goal, parse_attacks
from assay.bench.landscape import LandscapeCell
from assay.bench.learned import LearnedCell
from assay.bench.models import Subject, zoo_names
from assay.bench.moved import DECEIVED_EPS, MovedCell
from assay.bench.painted import StyleCell, TextureCell
from assay.bench.pictures import FoolingCell, GalleryCell, SynthesisCell
from assay.bench.remade import DreamCell, InversionCell
from assay.bench.shortcut import ShortcutCell, shortcut_cells
from assay.bench.transfer import TransferCell
from assay.core.errors import AssayError, unknown
from assay.core.tables import number
from assay.explain import EXPLAINERS, Explainer
from assay.explain.metrics import METRICS
from assay.synthesis import SYNTHESES, DeepDream, FastStyle, Invert, StyleTransfer, TextureSynthesis, Visualize
from assay.synthesis.base import FromSample

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, as text. ``accuracy_data`` are data sets on which only clean accuracy is measured.

    ``eps`` and ``norms`` multiply the attacks that have such a setting and do not give it. ``transfer`` are the attacks
    whose images every other model is shown. ``deceived`` are explainers whose heatmaps are attacked. ``twins`` are a
    model that may have learned a shortcut and its sound twin: do the explainers show it?
    """

    models: tuple[str, ...]
    data: tuple[str, ...]
    accuracy_data: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    eps: tuple[float | str, ...] = ()  # radii, as numbers or fractions
    norms: tuple[str, ...] = ()
    transfer: tuple[str, ...] = ()
    explainers: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    deceived: tuple[str, ...] = ()
    twins: tuple[str, ...] = ()
    syntheses: tuple[str, ...] = ()
    limit: int = 100  # images per data set
    craft: int = 200  # other images that universal attacks learn from
    gallery: int = 4  # images per model in the report's galleries
    landscapes: int = 0  # images per model whose surroundings are drawn
    deceive: int = 50  # images per model whose heatmaps are attacked
    learned: int = 0  # images on which it is measured what a model has learned
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cells of a run and the facts that the report tells of them."""

    cells: tuple[Cell, ...]
    models: dict[str, dict[str, Any]]
    data: dict[str, dict[str, Any]]
    attacks: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, str]]
    methods: dict[str, str]  # what each class of methods does


Aimed = tuple[Attack, str | int]  # an attack and its goal


def plan(options: Options) -> Plan:
    """All cells of a run, model by model. Raises ``AssayError`` before anything runs, with the near names."""
    if min(options.limit, options.craft, options.deceive) < 1:
        known = f"limit={options.limit}, craft={options.craft} and deceive={options.deceive}"
        raise AssayError(f"{known} must be at least 1")
    if min(options.gallery, options.landscapes, options.learned) < 0:
        known = f"gallery={options.gallery}, landscapes={options.landscapes} and learned={options.learned}"
        raise AssayError(f"{known} must be at least 0")
    given, transferred = (_attacks(texts, options) for texts in (options.attacks, options.transfer))
    attacks, drawing = ([one for one in given if one[0].from_nothing is drawn] for drawn in (False, True))
    refused = [one for one in drawing if one[1] != "untargeted"] + [one for one in transferred if one[0].from_nothing]
    for one in refused:
        raise AssayError(f"{attack_text(*one)} draws every class from nothing: it takes no goal and does not transfer")
    explainers = _once(EXPLAINERS.parse(text) for text in options.explainers)
    metrics = _once(METRICS.parse(text) for text in options.metrics)
    deceived = _once(EXPLAINERS.parse(text) for text in options.deceived)
    syntheses = _once(SYNTHESES.parse(text) for text in options.syntheses)
    if any(isinstance(one, FastStyle) for one in syntheses):
        raise AssayError("fast-style paints with a network of its own, not in a run: assay synthesize style --network")
    sources = {spec: load_data(spec).take(options.limit) for spec in (*options.data, *options.accuracy_data)}
    digests = {spec: load_data(spec).take(options.learned).digest for spec in options.data if options.learned}
    subjects = {spec: subject(spec, "cpu") for spec in expand(options.models)}
    if not subjects or not options.data:
        raise AssayError("a run needs at least one model and one data set")
    universal = any(attack.universal for attack, _ in (*attacks, *transferred))
    pools = {data: pool(data, options.limit, options.craft) if universal else None for data in options.data}

    def common(model: str, data: str) -> dict[str, Any]:
        facts = {"model": model, "data": data, "limit": options.limit, "seed": options.seed}
        known = {"model_digest": subjects[model].digest, "fit": subjects[model].fit} if model else {"model_digest": ""}
        return {**facts, **known, "data_digest": sources[data].digest}

    def aimed(one: Aimed, data: str) -> dict[str, Any]:
        attack, goal = one
        return {"attack": attack, "goal": goal, "pool": pools[data] if attack.universal else None}

    cells: list[Cell] = []
    for data, source in sources.items():
        asked = metrics if data in options.data and explainers else ()
        unmet = [(metric_name(m), ", ".join(sorted(set(m.data_needs()) - source.has))) for m in asked]
        cells.append(DataCell(**common("", data), unmet=tuple((name, needs) for name, needs in unmet if needs)))
    everyone = tuple((spec, loaded.digest) for spec, loaded in subjects.items())
    classical = {**common("", options.data[0]), "data": "", "data_digest": "", "judges": everyone}
    cells += [TextureCell(**classical, synthesis=one) for one in syntheses if isinstance(one, FromSample)]
    for model, loaded in subjects.items():
        for data in sources:
            dataset(data, options.limit, loaded)
            cells.append(CleanCell(**common(model, data)))
        for _, goal in (*attacks, *transferred):
            check_goal(goal, len(loaded.classes), model)
        peers = _peers(model, subjects)
        for data in _once(options.data):
            shared = common(model, data)
            cells += [AttackCell(**shared, **aimed(one, data)) for one in attacks]
            victims = ((model, loaded.digest), *peers)
            cells += [TransferCell(**shared, **aimed(one, data), victims=victims) for one in transferred]
            usable = tuple(m for m in metrics if set(m.data_needs()) <= sources[data].has)
            if usable:
                cells += [ExplainCell(**shared, explainer=explainer, metrics=usable) for explainer in explainers]
            shown = [one for one in attacks if not one[0].universal]
            if shown and options.gallery:
                first, goal = shown[0]
                cells.append(
                    GalleryCell(**shared, attack=first, goal=goal, explainers=explainers, count=options.gallery)
                )
            if options.landscapes:
                cells.append(LandscapeCell(**shared, count=options.landscapes))
            if digests:
                cells.append(LearnedCell(**{**shared, "limit": options.learned, "data_digest": digests[data]}))
            kept = {**shared, "shown": options.gallery}
            remakes = syntheses if options.gallery else ()
            cells += [InversionCell(**kept, synthesis=one) for one in remakes if isinstance(one, Invert)]
            cells += [DreamCell(**kept, synthesis=one) for one in remakes if isinstance(one, DeepDream)]
            few = {**shared, "limit": min(options.limit, options.deceive)}
            cells += [MovedCell(**few, explainer=one, eps=DECEIVED_EPS, shown=options.gallery) for one in deceived]
        alone = {**common(model, options.data[0]), "data": "", "data_digest": "", "judges": peers}
        painted = {**alone, "judges": everyone}
        cells += [TextureCell(**painted, synthesis=one) for one in syntheses if isinstance(one, TextureSynthesis)]
        bare = {key: value for key, value in painted.items() if key != "judges"}
        cells += [StyleCell(**bare, synthesis=one) for one in syntheses if isinstance(one, StyleTransfer)]
        alone["natural"] = (options.data[0], sources[options.data[0]].digest)
        alone["classes"] = _pictured(loaded, dataset(options.data[0], options.limit, loaded).labels)
        cells += [SynthesisCell(**alone, synthesis=one) for one in syntheses if isinstance(one, Visualize)]
        cells += [FoolingCell(**alone, attack=attack) for attack, _ in drawing]
    if options.twins:
        cells += _twins(options, sources, explainers)
    return Plan(
        cells=tuple(cells),
        models={spec: model_facts(spec, loaded) for spec, loaded in subjects.items()},
        data={spec: {"digest": d.digest, "n": len(d), "classes": list(d.classes)} for spec, d in sources.items()},
        attacks={attack_text(*one): attack_facts(*one) for one in (*given, *transferred)},
        metrics=metric_facts(metrics),
        methods=method_facts(cells),
    )


def _twins(options: Options, sources: dict[str, DataSet], explainers: Sequence[Explainer]) -> list[ShortcutCell]:
    """The cells that compare a model with its sound twin, on the first data whose shortcut agrees with the label."""
    if len(set(options.twins)) != 2 or len(options.twins) != 2:
        raise AssayError(f"twins are two models, the suspect and the sound one, not {' '.join(options.twins)}")
    planted = [spec for spec, data in sources.items() if getattr(data, "shortcut", "none") == "agrees"]
    if not planted:
        raise AssayError("twins need data that show the shortcut, as in --accuracy-data 'scenes?shortcut=agrees'")
    suspect, sound = options.twins
    return shortcut_cells(explainers, suspect, sound, planted[0], options.limit, options.seed)


def _attacks(texts: Iterable[str], options: Options) -> tuple[Aimed, ...]:
    """Attacks and goals, each once, with the lists of ``options`` put in."""
    for norm in options.norms:
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
    radii = [number(value) if isinstance(value, str) else value for value in options.eps]
    return _once(one for text in texts for one in parse_attacks(text, radii, options.norms))


def _once(items: Iterable[T]) -> tuple[T, ...]:
    """Each item once, in order."""
    return tuple(dict.fromkeys(items))


def expand(specs: Iterable[str]) -> list[str]:
    """Model specs with ``zoo:*`` wildcards replaced by the models that are there, each once."""
    found: list[str] = []
    for spec in specs:
        wild = spec.startswith("zoo:") and any(sign in spec for sign in "*?[")
        matches = fnmatch.filter(zoo_names(), spec) if wild else [spec]
        if not matches:
            raise AssayError(f"no zoo model matches {spec!r}; there are {', '.join(zoo_names()) or 'none'}")
        found += [match for match in matches if match not in found]
    return found


def _pictured(model: Subject, labels: Sequence[int]) -> tuple[int, ...]:
    """The classes to picture: all of a small model's, else the first ten that the data shows."""
    if len(model.classes) <= 10:
        return tuple(range(len(model.classes)))
    return tuple(dict.fromkeys(label for label in labels if label < len(model.classes)))[:10]


def _peers(model: str, subjects: dict[str, Subject]) -> tuple[tuple[str, str], ...]:
    """Spec and digest of the other models of the run that know the same classes at the same size."""
    own = subjects[model]
    same = (own.classes, own.input_size)
    return tuple((s, m.digest) for s, m in subjects.items() if s != model and (m.classes, m.input_size) == same)
