"""What the fixtures measure: the cells of a run, on models and images of the test."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Self, TypedDict, Unpack

import numpy as np
from numpy.typing import NDArray
from torch import nn

from assay.attacks.base import Attack
from assay.bench.data import DataSet
from assay.bench.data import load as load_data
from assay.bench.data.base import lines_sha256
from assay.bench.data.foreign import Foreign
from assay.bench.loading import subject as load_subject
from assay.bench.measurements import Cell, Setup
from assay.bench.measurements.attack import AttackCell, Pool
from assay.bench.measurements.clean import CleanCell
from assay.bench.measurements.explain import ExplainCell
from assay.bench.method_records import Aim, describe_metric, metric_name, parse_attacks
from assay.bench.models import Subject, in_memory
from assay.bench.plugin.comparison import What
from assay.bench.runs.settings import make_setup
from assay.core.errors import AssayError, unknown
from assay.explain import EXPLAINERS, Explainer
from assay.explain.metrics import METRICS, Metric
from assay.reports.kinds import kind_of
from assay.reports.run.intervals import estimate
from assay.reports.run.records import Metric as Numbers

LIMIT = 100  # images of a data set that a spec names
TRAINING_IMAGES = 200  # other images that a universal attack learns from
NETWORK, IMAGES = "network", "images"  # the names that a test's own go by

Data = str | DataSet | Foreign | tuple[Any, ...]


class How(TypedDict, total=False):
    """What all fixtures take beside the model and the data.

    ``mean`` and ``std`` normalise images in [0, 1] for a module that wants it; ``input_size`` is (C, H, W), that of the
    data unless given. ``limit`` is the number of images: all, or the first 100 of a spec.
    """

    limit: int
    mean: Sequence[float]
    std: Sequence[float]
    input_size: Sequence[int]
    seed: int
    batch_size: int
    device: str


class Value(float):
    """A number over images with its 95 % interval ``low`` to ``high``; elsewhere a plain float.

    ``values`` (n,) are those of the images in the order they were given, NaN where the metric is undefined; ``flags``
    counts the checks of an attack or explainer that did not hold.
    """

    low: float
    high: float
    values: NDArray[np.float64]
    flags: dict[str, int]
    what: What

    @classmethod
    def of(cls, what: What, values: NDArray[np.float64], interval: str, flags: Mapping[str, int]) -> Self:
        number = estimate(values, what.statistic, interval, f"{what.metric} {what.method}")
        self = cls(number.value)
        self.low, self.high, self.values, self.flags, self.what = number.low, number.high, values, dict(flags), what
        return self

    def __repr__(self) -> str:
        doubts = "".join(f", {flag} on {count}" for flag, count in self.flags.items())
        count = int(np.isfinite(self.values).sum())
        return f"{float(self):.4g} [{self.low:.4g}, {self.high:.4g}] {self.what.metric} of {count} images{doubts}"


def clean_accuracy(model: str | nn.Module, data: Data, **how: Unpack[How]) -> Value:
    """Share of images that ``model`` classifies right.

    ``model`` is a spec, a ``Subject``, or a module from images (N, C, H, W) in [0, 1], with ``mean`` and ``std`` from
    normalised ones. ``data`` is a spec, a ``DataSet``, or images (N, C, H, W) in [0, 1] and labels (N,). Raises
    ``AssayError`` for a wrong wish, and where an image cannot be measured.
    """
    with _bench(model, data, how) as bench:
        return bench.measure([CleanCell(**bench.common)], "accuracy", kind_of("clean").metrics["accuracy"])


def robust_accuracy(
    model: str | nn.Module,
    data: Data,
    attack: str | Attack | Sequence[str | Attack] = "pgd(eps=8/255)",
    **how: Unpack[How],
) -> Value:
    """Share of images that ``model`` classifies right under ``attack``; of several, under each of them.

    An attack is a record or text, ``"fgsm(eps=4/255, goal=random)"``; for the others see ``clean_accuracy``.
    """
    several = [attack] if isinstance(attack, str | Attack) else list(attack)
    aims = [aim for item in several for aim in (parse_attacks(item) if isinstance(item, str) else [Aim(item)])]
    if not aims:
        raise AssayError("robust accuracy under no attack is the clean accuracy")
    with _bench(model, data, how) as bench:
        cells: list[Cell] = []
        for aim in aims:
            if aim.attack.from_nothing:
                raise AssayError(f"{aim.text} draws images from nothing: no accuracy is under it")
            aim.check(len(bench.subject.classes), bench.subject.name)
            spec, limit = bench.common["data"], bench.common["limit"]
            pool = Pool.of(spec, limit, TRAINING_IMAGES) if aim.attack.universal else None
            cells.append(AttackCell(**bench.common, aim=aim, pool=pool))
        return bench.measure(cells, "robust_accuracy", kind_of("attack").metrics["robust_accuracy"])


def explanation_score(
    model: str | nn.Module,
    data: Data,
    explainer: str | Explainer = "grad-cam",
    metric: str | Metric = "deletion",
    **how: Unpack[How],
) -> Value:
    """``metric`` of the heatmaps that ``explainer`` makes for the labels; for the others see ``clean_accuracy``."""
    record = EXPLAINERS.parse(explainer) if isinstance(explainer, str) else explainer
    score = METRICS.parse(metric) if isinstance(metric, str) else metric
    with _bench(model, data, how) as bench:
        if lacking := sorted(set(score.data_needs()) - bench.source.has):
            raise AssayError(f"{metric_name(score)} needs {', '.join(lacking)}, which {bench.source.spec} has not")
        cell = ExplainCell(**bench.common, explainer=record, metrics=(score,))
        return bench.measure([cell], metric_name(score), describe_metric(score))


class _Bench(NamedTuple):
    """A model and data under names that cells know them by."""

    subject: Subject
    source: DataSet
    common: dict[str, Any]
    setup: Setup

    def measure(self, cells: Sequence[Cell], metric: str, numbers: Numbers) -> Value:
        """The smallest of the cells' values for each image."""
        rows = [row for cell in cells for row in cell.measure(self.setup).rows if row["metric"] == metric]
        if failures := [row for row in rows if row["status"] != "ok"]:
            raise AssayError(f"{metric} of {len(failures)} images failed: {failures[0]['flags']}")
        values: dict[str, float] = {}
        flags: Counter[str] = Counter()
        for row in rows:
            values[row["image"]] = min(row["value"], values.get(row["image"], row["value"]))
            flags.update(filter(None, re.split("; ?", row["flags"])))
        pictures = self.source if isinstance(self.source, in_memory.Pictures) else None
        what = What(
            metric=metric,
            method=" and ".join(cell.method.text for cell in cells),
            data=self.source.digest if pictures is None else lines_sha256(map(str, pictures.labels)),
            level=0.0 if pictures is None else pictures.images[pictures.rows].mean().item(),
            model=self.subject.digest,
            seed=self.common["seed"],
            direction=numbers.direction,
            statistic=numbers.statistic,
        )
        ids = list(values) if pictures is None else sorted(values)
        return Value.of(what, np.array([values[image] for image in ids]), numbers.interval, flags)


@contextmanager
def _bench(model: str | nn.Module, data: Data, how: How) -> Iterator[_Bench]:
    """Lend the test's own model and images while they are measured."""
    for name in how:
        if name not in How.__annotations__:
            raise unknown("setting of a measurement", name, How.__annotations__)
    source = load_data(data) if isinstance(data, str) else in_memory.data(IMAGES, data)
    networks, images = {}, {}
    if isinstance(model, str | Subject) and how.keys() & {"mean", "std", "input_size"}:
        raise AssayError(
            "a spec or Subject knows its own size and normalisation; mean, std and input_size are for modules"
        )
    if isinstance(model, str):
        subject = load_subject(model, "cpu")
    else:
        size = how.get("input_size") or (model.input_size if isinstance(model, Subject) else in_memory.size_of(source))
        mean, std = how.get("mean", (0.0,)), how.get("std", (1.0,))
        subject = networks[NETWORK] = in_memory.subject(NETWORK, model, input_size=size, mean=mean, std=std)
    if not isinstance(data, str):
        source = images[IMAGES] = in_memory.with_classes(source, subject.classes)
    limit = how.get("limit", min(LIMIT, len(source)) if isinstance(data, str) else len(source))
    source = source.take(limit)
    common = {
        "model": model if isinstance(model, str) else NETWORK,
        "data": data if isinstance(data, str) else IMAGES,
        "limit": limit,
        "seed": how.get("seed", 0),
        "model_digest": subject.digest,
        "data_digest": source.digest,
        "fit": subject.fit,
    }
    with in_memory.lending(networks, images):
        yield _Bench(subject, source, common, make_setup(how.get("batch_size", 50), how.get("device", "auto")))
