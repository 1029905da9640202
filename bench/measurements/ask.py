"""What a run asks for: options as they are typed, and models, data and methods as the planner sees them."""

import fnmatch
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple, TypeVar, cast

from assay.attacks import ATTACKS
from assay.attacks.judge import NORMS
from assay.bench.data import DataSet
from assay.bench.data import load as load_data
from assay.bench.data.class_names import numbers
from assay.bench.loading import dataset, subject
from assay.bench.method_records import Aim, parse_attacks
from assay.bench.models import Fit, zoo_names
from assay.core.errors import AssayError, brief, unknown
from assay.core.tables import Table, number
from assay.explain import EXPLAINERS, Explainer
from assay.explain.metrics import METRICS, Metric
from assay.synthesis import SYNTHESES

T = TypeVar("T")


def option(
    default: Any, about: str, *, table: Table | None = None, beside: tuple[str, ...] = (), least: int = 0, old: str = ""
) -> Any:
    """A field of an options record: ``about`` says what it is, ``least`` is the smallest number, of 64 bits at most.

    Methods of a ``table`` may be given as records too. What a preset gives ``beside`` other options goes where one of
    these is given. ``old`` is another spelling of it.
    """
    facts = {"about": about, "table": table, "beside": beside, "least": least, "old": old}
    return field(default=default, metadata=facts)


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Models x data x methods."""

    models: tuple[str, ...] = option(
        (), "Specs: zoo:NAME, zoo:*, a timm name, ARCH=CHECKPOINT, py:MODULE:FUNCTION; SPEC+SPEC averages logits."
    )
    data: tuple[str, ...] = option((), "Specs: scenes, digits, folder:PATH, torchvision:NAME?root=PATH.")
    accuracy_data: tuple[str, ...] = option((), "Data on which only the clean accuracy is measured.", beside=("data",))
    attacks: tuple[str, ...] = option(
        (),
        'Names with settings, as in "pgd(eps=4/255, steps=100)"; goal=least_likely, random or a class index; a list as '
        'in "pgd(eps=[1/255, 2/255])" stands for one attack each.',
        table=ATTACKS,
    )
    eps: tuple[float | str, ...] = option(
        (), "Radii of every attack that has one and does not give it, as in 1/255 2/255."
    )
    norms: tuple[str, ...] = option(
        (), "Norms of every attack that knows them and does not give one: linf, l2, l1, l0."
    )
    explainers: tuple[str, ...] = option((), 'Names with settings, as in "grad-cam".', table=EXPLAINERS)
    metrics: tuple[str, ...] = option((), "Scores of heatmaps.", table=METRICS)
    syntheses: tuple[str, ...] = option((), 'Names with settings, as in "visualize(steps=256)".', table=SYNTHESES)
    limit: int = option(100, "Images per data set.", least=1)
    gallery: int = option(4, "Images per model in the galleries, and of pictures made again.")
    seed: int = option(0, "Of everything that is random.", least=-(2**63))

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, int) and value < each.metadata["least"]:
                raise AssayError(f"{each.name}={brief(value)} must be at least {each.metadata['least']}")
            if isinstance(value, int) and value >= 2**63:
                raise AssayError(f"{each.name}={brief(value)} must be below 2 ** 63")


class ModelFacts(NamedTuple):
    """What a run knows of a model; the network itself is loaded where it is measured."""

    name: str  # its spec
    digest: str
    classes: tuple[str, ...]
    has_names: bool  # else the classes are only counted
    fit: Fit
    parameters: int
    card: dict[str, Any]

    @classmethod
    def of(cls, spec: str) -> "ModelFacts":
        model = subject(spec, "cpu")
        count = sum(parameter.numel() for parameter in model.parameters())
        return cls(spec, model.digest, model.classes, model.has_names, model.fit, count, model.card)

    @property
    def class_digest(self) -> str:
        """Of the class names in their order, and of their being names where they look like numbers."""
        numbered = self.has_names and self.classes == numbers(len(self.classes))
        return hashlib.sha256("\0".join((*self.classes, *["named"][:numbered])).encode()).hexdigest()[:16]

    def as_json(self) -> dict[str, Any]:
        """As ``run.json`` has it."""
        return {
            "digest": self.digest,
            "spec": self.name,
            "input_size": list(self.fit.input_size),
            "parameters": self.parameters,
            "card": self.card,
        }


Judge = tuple[str, str]  # spec and digest of a model


@dataclass(frozen=True)
class Ask:
    """What a run asks for. Raises ``AssayError`` before anything runs, with the near names."""

    options: RunOptions
    _digests: dict[tuple[str, int], str] = field(default_factory=dict, compare=False)

    def of(self, kind: type[T]) -> T:
        """The options as the record of a kind."""
        return cast(T, self.options)

    @cached_property
    def models(self) -> Mapping[str, ModelFacts]:
        """Each model once, ``zoo:*`` wildcards replaced by the models that are there."""
        specs = _once(match for spec in self.options.models for match in _matches(spec))
        if not specs or not self.options.data:
            raise AssayError("a run needs at least one model and one data set")
        return {spec: ModelFacts.of(spec) for spec in specs}

    @cached_property
    def data(self) -> Mapping[str, DataSet]:
        """The images of each data set, those for the clean accuracy alone last."""
        specs = _once((*self.options.data, *self.options.accuracy_data))
        return {spec: load_data(spec).take(self.options.limit) for spec in specs}

    @property
    def first(self) -> str:
        """The data set that pictures are compared with."""
        return self.options.data[0]

    @cached_property
    def aims(self) -> tuple[Aim, ...]:
        """The attacks with their goals."""
        return self.attacks(self.options.attacks)

    def attacks(self, texts: Iterable[str]) -> tuple[Aim, ...]:
        """Attacks and goals, each once, with the run's radii and norms put in."""
        for norm in self.options.norms:
            if norm not in NORMS:
                raise unknown("norm", norm, NORMS)
        radii = [number(value) if isinstance(value, str) else value for value in self.options.eps]
        return _once(aim for text in texts for aim in parse_attacks(text, radii, self.options.norms))

    @cached_property
    def explainers(self) -> tuple[Explainer, ...]:
        return self.records(EXPLAINERS, self.options.explainers)

    @cached_property
    def metrics(self) -> tuple[Metric, ...]:
        return self.records(METRICS, self.options.metrics)

    def syntheses(self, kind: type[Any]) -> tuple[Any, ...]:
        """The syntheses of one class."""
        return tuple(each for each in self.records(SYNTHESES, self.options.syntheses) if isinstance(each, kind))

    def records(self, table: Table, texts: Iterable[str]) -> tuple[Any, ...]:
        """Methods of a table, each once."""
        return _once(table.parse(text) for text in texts)

    def common(self, model: str = "", data: str = "", limit: int | None = None) -> dict[str, Any]:
        """What a cell says of its model and data."""
        common: dict[str, Any] = {"model": model, "data": data, "seed": self.options.seed, "limit": self.options.limit}
        if model:
            facts = self.models[model] if model in self.models else ModelFacts.of(model)
            common |= {"model_digest": facts.digest, "class_digest": facts.class_digest, "fit": facts.fit}
        if limit is not None:
            common["limit"] = limit
        if model and data:
            common["class_digest"] += dataset(data, common["limit"], facts).match_key
        if data:
            common["data_digest"] = self.digest(data, common["limit"])
        return common

    def digest(self, data: str, limit: int) -> str:
        """Of the first images of a data set."""
        if (data, limit) not in self._digests:
            self._digests[data, limit] = load_data(data).take(limit).digest
        return self._digests[data, limit]

    def pairs(self) -> Iterator[tuple[str, str]]:
        """Each model with each data set on which everything is measured."""
        return ((model, data) for model in self.models for data in _once(self.options.data))

    @cached_property
    def everyone(self) -> tuple[Judge, ...]:
        """All models of the run."""
        return tuple((spec, facts.digest) for spec, facts in self.models.items())

    def peers(self, model: str) -> tuple[Judge, ...]:
        """The other models of the run that know the same classes at the same size."""
        own = self.models[model]
        same = (own.classes, own.has_names, own.fit.input_size)
        return tuple(
            (spec, facts.digest)
            for spec, facts in self.models.items()
            if spec != model and (facts.classes, facts.has_names, facts.fit.input_size) == same
        )

    def check(self) -> None:
        """Raise ``AssayError`` where data do not fit a model, or a goal names a class that it does not have."""
        for spec, facts in self.models.items():
            for data in self.data:
                dataset(data, self.options.limit, facts)
            for aim in self.aims:
                aim.check(len(facts.classes), spec)


def _matches(spec: str) -> list[str]:
    wild = spec.startswith("zoo:") and any(sign in spec for sign in "*?[")
    matches = fnmatch.filter(zoo_names(), spec) if wild else [spec]
    if not matches:
        raise AssayError(f"no zoo model matches {spec!r}; there are {', '.join(zoo_names()) or 'none'}")
    return matches


def _once(items: Iterable[T]) -> tuple[T, ...]:
    """Each item once, in order."""
    return tuple(dict.fromkeys(items))
