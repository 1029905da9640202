"""What a run is, typed: its models, data, methods, metrics, cells and rows. Whoever writes a run and whoever reads one
share these records.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

from assay.core.tables import check, check_types

SCHEMA = 2
TEXT = ("model", "data", "image", "kind", "cell", "variant", "source", "metric", "status", "flags")
COSTS = ("forwards", "backwards", "seconds")
ROW = (  # columns of a stored row: one outcome of one image
    *("model", "data", "image", "label", "kind", "cell", "variant", "source", "metric"),
    *("value", "status", "flags", *COSTS),
)


MODEL = {"digest": str, "spec": str, "input_size": list[int], "parameters": int, "card": dict[str, Any]}
DATA = {"digest": str, "n": int, "classes": list[Any]}


class Record:
    """A dataclass that is stored as a JSON object; keys that it does not know are left out when it is read."""

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Raises ``AssayError`` for a value of a wrong type, ``TypeError`` or ``AttributeError`` for another shape."""
        known = {each.name for each in fields(cls)}  # type: ignore[arg-type]
        record = cls(**{key: value for key, value in stored.items() if key in known and value is not None})
        check(record)
        return record

    def as_json(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True, kw_only=True)
class Metric(Record):
    """What a metric's numbers are. ``gate`` is "controls" where a heatmap method must beat the control maps first."""

    direction: str = "none"  # higher, lower or none is better
    unit: str = ""
    statistic: str = "mean"  # or median, over images
    interval: str = "bootstrap"  # or wilson; "" for numbers of a whole model
    meaning: str = "This run does not say what it means."
    gate: str = "controls"


@dataclass(frozen=True, kw_only=True)
class Method(Record):
    """A method with its settings: who it is in a run. ``text`` is unique in a run and never taken apart."""

    text: str
    class_name: str = ""  # of the record, PGD
    name: str = ""  # in its table, pgd
    settings: dict[str, Any] = field(default_factory=dict)  # as JSON values
    goal: str = ""  # of an attack: least-likely, random or a class; "" is any wrong class
    norm: str = ""  # in which an attack's change is measured
    eps: float | None = None  # the radius of an attack's ball, images in [0, 1]; None without a budget
    access: str = ""  # of an attack to the model: gradient, score, decision or none
    single: bool = False  # one step
    universal: bool = False  # one change for all images
    control: bool = False  # a heatmap that knows nothing of the model: what an explanation has to beat
    version: int = 1  # of the method's results
    about: str = ""  # one sentence

    @property
    def bounded(self) -> bool:
        """Whether it changes an image within a ball."""
        return self.eps is not None and self.norm != ""

    @property
    def minimal(self) -> bool:
        """Whether it looks for the smallest change that makes the image any wrong class."""
        return self.eps is None and self.norm != "" and not self.goal

    @property
    def title(self) -> str:
        """Its class's name, or its text where it has none."""
        return self.class_name or self.text


@dataclass(frozen=True, kw_only=True)
class Cell(Record):
    """One method on one model and data set, measured together; ``kind`` says how."""

    id: str
    kind: str
    model: str = ""
    data: str = ""
    method: str = ""  # text of the method

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What it measured: model, data, kind and method."""
        return self.model, self.data, self.kind, self.method


@dataclass(frozen=True, kw_only=True)
class Info(Record):
    """What ``run.json`` holds."""

    schema: int = SCHEMA
    created: str = ""
    argv: list[str] = field(default_factory=list)
    code: dict[str, Any] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)  # every command that wrote into the folder
    seed: int | None = None
    preset: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)
    hardware: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)  # name: digest, spec, input_size, parameters, card
    data: dict[str, dict[str, Any]] = field(default_factory=dict)  # spec: digest, n, classes
    metrics: dict[str, Metric] = field(default_factory=dict)
    methods: dict[str, Method] = field(default_factory=dict)  # by text
    cells: list[Cell] = field(default_factory=list)
    flags: dict[str, str] = field(default_factory=dict)  # what flags of the user's own say

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """The record of a ``run.json``."""
        known = {
            **stored,
            "metrics": {name: Metric.from_json(each) for name, each in (stored.get("metrics") or {}).items()},
            "methods": {text: Method.from_json(each) for text, each in (stored.get("methods") or {}).items()},
            "cells": [Cell.from_json(each) for each in stored.get("cells") or []],
        }
        info = super().from_json(known)
        for what, hints, table in (("a model", MODEL, info.models), ("data", DATA, info.data)):
            for facts in table.values():
                check_types(what, hints, {key: facts[key] for key in hints if facts.get(key) is not None})
        return info
