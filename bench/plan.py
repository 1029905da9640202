"""From what a user types to the cells of a run."""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from attacks.metrics import RATES
from bench.cells import AttackCell, Cell, CleanCell, DataCell, ExplainCell, dataset, metric_name, subject
from bench.data import load as load_data
from bench.goals import check_goal, parse_attack
from bench.models import Subject, zoo_names
from bench.pictures import GalleryCell, SynthesisCell
from core.errors import AssayError
from explain import EXPLAINERS
from explain.metrics import METRICS
from synthesis import SYNTHESES

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to measure, as text. ``accuracy_data`` are data sets on which only clean accuracy is measured."""

    models: tuple[str, ...]
    data: tuple[str, ...]
    accuracy_data: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    explainers: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    syntheses: tuple[str, ...] = ()
    limit: int = 100  # images per data set
    gallery: int = 4  # images per model in the report's galleries
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The cells of a run and the facts that the report tells of them."""

    cells: tuple[Cell, ...]
    models: dict[str, dict[str, Any]]
    data: dict[str, dict[str, Any]]
    metrics: dict[str, dict[str, str]]


def plan(options: Options) -> Plan:
    """All cells of a run, model by model. Raises ``AssayError`` before anything runs, with the near names."""
    if options.limit < 1 or options.gallery < 0:
        raise AssayError(f"limit={options.limit} must be at least 1 and gallery={options.gallery} at least 0")
    attacks = _once(parse_attack(text) for text in options.attacks)
    explainers = _once(EXPLAINERS.parse(text) for text in options.explainers)
    metrics = _once(METRICS.parse(text) for text in options.metrics)
    syntheses = _once(SYNTHESES.parse(text) for text in options.syntheses)
    sources = {spec: load_data(spec).take(options.limit) for spec in (*options.data, *options.accuracy_data)}
    subjects = {spec: subject(spec, "cpu") for spec in expand(options.models)}
    if not subjects or not options.data:
        raise AssayError("a run needs at least one model and one data set")

    def common(model: str, data: str) -> dict[str, Any]:
        facts = {"model": model, "data": data, "limit": options.limit, "seed": options.seed}
        known = {"model_digest": subjects[model].digest, "fit": subjects[model].fit} if model else {"model_digest": ""}
        return {**facts, **known, "data_digest": sources[data].digest}

    cells: list[Cell] = []
    for data, source in sources.items():
        asked = metrics if data in options.data and explainers else ()
        unmet = [(metric_name(m), ", ".join(sorted(set(m.needs) - source.has))) for m in asked]
        cells.append(DataCell(**common("", data), unmet=tuple((name, needs) for name, needs in unmet if needs)))
    for model, loaded in subjects.items():
        for data in sources:
            dataset(data, options.limit, loaded)
            cells.append(CleanCell(**common(model, data)))
        for _, goal in attacks:
            check_goal(goal, len(loaded.classes), model)
        for data in _once(options.data):
            shared = common(model, data)
            cells += [AttackCell(**shared, attack=attack, goal=goal) for attack, goal in attacks]
            usable = tuple(m for m in metrics if set(m.needs) <= sources[data].has)
            if usable:
                cells += [ExplainCell(**shared, explainer=explainer, metrics=usable) for explainer in explainers]
            if attacks and options.gallery:
                first, goal = attacks[0]
                shown = {"attack": first, "goal": goal, "explainers": explainers, "count": options.gallery}
                cells.append(GalleryCell(**shared, **shown))
        shared = {**common(model, options.data[0]), "data": "", "data_digest": ""}
        classes = _pictured(loaded, dataset(options.data[0], options.limit, loaded).labels)
        judges = _judges(model, subjects)
        cells += [SynthesisCell(**shared, synthesis=s, classes=classes, judges=judges) for s in syntheses]
    return Plan(
        cells=tuple(cells),
        models={spec: _model_facts(spec, loaded) for spec, loaded in subjects.items()},
        data={spec: {"digest": d.digest, "n": len(d), "classes": list(d.classes)} for spec, d in sources.items()},
        metrics=_metric_facts(metrics),
    )


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


def _judges(model: str, subjects: dict[str, Subject]) -> tuple[tuple[str, str], ...]:
    """The other models of the run that know the same classes at the same size."""
    own = subjects[model]
    same = (own.classes, own.input_size)
    return tuple((s, m.digest) for s, m in subjects.items() if s != model and (m.classes, m.input_size) == same)


def _model_facts(spec: str, model: Subject) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "digest": model.digest,
        "spec": spec,
        "input_size": list(model.input_size),
        "parameters": parameters,
        "card": model.card,
    }


def _metric_facts(metrics: Sequence[Any]) -> dict[str, dict[str, str]]:
    """Direction, unit, statistic, interval and meaning of every metric name that rows may carry."""

    def fact(direction: str, unit: str, meaning: str, statistic: str = "mean", interval: str = "bootstrap") -> Any:
        return {
            "direction": direction,
            "unit": unit,
            "statistic": statistic,
            "interval": interval,
            "meaning": meaning,
        }

    distance = "of the images that were fooled, the {} between original and adversarial image"
    sizes = {
        "linf": "largest change of a value",
        "l2": "Euclidean distance",
        "l1": "sum of absolute changes",
        "l0": "number of changed values",
    }
    units = {"linf": "pixel value in [0, 1]", "l2": "L2", "l1": "L1", "l0": "values"}
    return {
        "decoded": fact("higher", "share", "share of images that can be decoded", interval="wilson"),
        "accuracy": fact("higher", "share", "share of unattacked images classified right", interval="wilson"),
        "confidence": fact("none", "probability", "probability of the predicted class"),
        **{name: fact(r.direction, "share", r.meaning, interval="wilson") for name, r in RATES.items()},
        "success_8bit": fact(
            "lower", "share", "share of images that fool the model after rounding to 8 bits", interval="wilson"
        ),
        **{
            f"distance_{norm}": fact("higher", units[norm], distance.format(text), "median")
            for norm, text in sizes.items()
        },
        "own_probability": fact("higher", "probability", "what the model itself gives the class in its picture"),
        "other_probability": fact("higher", "probability", "mean of what the other models give the class"),
        "other_agreement": fact("higher", "share", "share of the other models that see the class in the picture"),
        **{metric_name(m): fact(m.direction, m.unit, m.meaning, m.statistic, m.interval) for m in metrics},
    }
