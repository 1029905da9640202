"""Runs from Python: ``run`` measures, ``load_results`` reads what a run has stored, both give pandas frames."""

import shutil
import tempfile
import textwrap
import typing
import warnings
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from assay import reports
from assay.bench.data import load as load_data
from assay.bench.data.base import DataSet
from assay.bench.measurements import Options
from assay.bench.models import Subject, in_memory
from assay.bench.runs.engine import ENGINES, Engine, Report
from assay.bench.runs.engine import run as measure
from assay.bench.runs.settings import make_options, make_setup, override, read_settings
from assay.core.errors import AssayError, unknown
from assay.core.tables import Table, check_types
from assay.reports.run.reader import Run

Models = str | Subject | Sequence[str | Subject] | Mapping[str, nn.Module]
Images = DataSet | tuple[Any, ...]  # of this process
Data = str | Sequence[str] | Images | Mapping[str, Images]
IMAGES = "images"  # what data without a name go by


class Tables(Mapping[str, pd.DataFrame]):
    """The tables of a run, made once one is asked for: ``tables.summary`` is ``tables["summary"]``.

    ``path`` is the run's folder, ``info`` what its ``run.json`` says, ``run`` the rows that the tables are made of.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.path = run.path
        self.info = run.info

    @cached_property
    def _frames(self) -> dict[str, pd.DataFrame]:
        return reports.tables(self.run)

    def __getitem__(self, name: str) -> pd.DataFrame:
        if name not in self._frames:
            raise KeyError(str(unknown("table", name, self._frames)))
        return self._frames[name]

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name.startswith("_") or name not in self._frames:
            raise AttributeError(f"no table {name!r}" if name.startswith("_") else unknown("table", name, self._frames))
        return self._frames[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *self._frames]

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(frame)}" for name, frame in self.items())
        return f"Tables of {self.path} (rows): {sizes}"


def load_results(path: str | Path) -> Tables:
    """The tables of the run that is stored in ``path``. Raises ``AssayError`` where there is none."""
    return Tables(reports.load(Path(path)))


def run(
    models: Models | None = None,
    data: Data | None = None,
    *,
    preset: str | None = None,
    config: str | Path | None = None,
    out: str | Path | None = None,
    engine: Engine = "local",
    jobs: int | None = None,
    batch_size: int = 50,
    device: str = "auto",
    report: bool = False,
    progress: Report | None = None,
    **options: Any,
) -> Tables:
    """Measure models x data x methods, as ``assay run`` does, and give the tables.

    ``models`` are specs, or networks of this process: a ``Subject``, or names with modules, which take images in [0, 1]
    at the size of the first data. ``data`` are specs ("scenes" unless given), or a ``DataSet``, ``(images, labels)`` or
    ``(images, labels, classes)``, which go by the name "images", or names with these. ``options`` are those of ``assay
    run``: ``attacks``, ``explainers``, ``limit`` and more, methods as texts or records (``PGD(eps=8/255)``). Without
    ``preset`` and ``config`` only what is named is measured, explainers by deletion and insertion, and galleries only
    for a ``report``.

    A folder ``out`` is resumed like one of ``assay run``; without one the run lies in a temporary folder, which goes
    with the tables. ``progress(finished, done, total)`` is called after each cell. Raises ``AssayError`` for a wrong
    wish; what fails while measuring is a warning, and in the table ``failures``.
    """
    given = {"preset": preset, "config": config, "out": out, "jobs": jobs, "batch_size": batch_size, "device": device}
    check_types("run", typing.get_type_hints(run), {**given, "report": report})
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    base = read_settings(preset, None if config is None else Path(config))
    if not base:
        base = {"data": ["scenes"], "gallery": 4 if report else 0}
        base["metrics"] = ["deletion", "insertion"] if options.get("explainers") is not None else []
    settings, networks, pictures = _settings(models, data, options, base)
    if engine != "local" and (networks or pictures):
        raise AssayError(
            "other processes do not see what lies in this one: take engine='local', or name a model by "
            "py:module:function and data by folder:PATH"
        )
    record = make_options(override(base, settings))
    folder = Path(tempfile.mkdtemp(prefix="assay-")) if out is None else Path(out)
    try:
        with in_memory.lending(networks, pictures):
            how: dict[str, Any] = {"engine": engine, "jobs": jobs, "setup": make_setup(batch_size, device)}
            result = measure(record, folder, preset=preset, report=progress, argv=("assay.run",), **how)
        if report:
            reports.write(folder)
        tables = load_results(folder)
    except BaseException:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if out is None:
        weakref.finalize(tables, shutil.rmtree, folder, ignore_errors=True)
    if result.failed:
        warnings.warn(f"{result.failed} cells or images failed; the table failures says why", stacklevel=2)
    return tables


def _settings(
    models: Models | None, data: Data | None, options: Mapping[str, Any], base: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Subject], dict[str, DataSet]]:
    """Options as a preset has them, and what the names in them stand for: networks and pictures of this process."""
    settings = {key: _texts(key, value) for key, value in options.items() if value is not None}
    sources, pictures = _data(data)
    if sources:
        settings["data"] = sources
    first = (settings.get("data") or base.get("data") or ["scenes"])[0]
    subjects, networks = _models(models, pictures.get(first, first))
    if subjects:
        settings["models"] = subjects
    if not (subjects or base.get("models")):
        raise AssayError("which models? run('zoo:resnet'), run({'mine': network}), or a preset")
    return settings, networks, pictures


def _texts(key: str, value: Any) -> Any:
    """A setting as a preset has it: what may be many as a list, records as text."""
    field = next((field for field in fields(Options) if key in (field.name, field.metadata["old"])), None)
    if field is None or not isinstance(field.default, tuple):
        return value
    several = [value] if isinstance(value, str | float | int) or not isinstance(value, Iterable) else list(value)
    table = field.metadata["table"]
    return several if table is None else [_text(table, method) for method in several]


def _text(table: Table, method: object) -> str:
    """A method as it is typed; ``AssayError`` for a record that its text does not tell."""
    if isinstance(method, str):
        return method
    text = repr(method)
    try:
        same = table.parse(text) == method
    except AssayError:
        same = False
    if not same:
        brief = textwrap.shorten(text, 80, placeholder=" ...")
        raise AssayError(f"{brief} is no {table.kind} that its text tells, which is what a run stores")
    return text


def _data(data: Data | None) -> tuple[list[str], dict[str, DataSet]]:
    """What to measure on by spec or name, and what the names stand for."""
    if data is None:
        return [], {}
    if isinstance(data, DataSet) or (isinstance(data, tuple) and data and not isinstance(data[0], str)):
        data = {IMAGES: data}
    if isinstance(data, Mapping):
        pictures = {name: in_memory.data(name, images) for name, images in data.items()}
        return _names("data", pictures), pictures
    return _names("data", [_spec(source) for source in _several("data", data)]), {}


def _spec(source: object) -> str:
    if isinstance(source, str):
        return source
    raise AssayError(
        f"several data are specs, or names with what they stand for: run(models, {{'mine': (images, labels)}}), "
        f"not a list with {type(source).__name__}"
    )


def _models(models: Models | None, first: DataSet | str) -> tuple[list[str], dict[str, Subject]]:
    """What to measure by spec or name, and what the names stand for; a plain module takes images as ``first`` has."""
    if models is None:
        return [], {}
    if isinstance(models, Mapping):
        networks = {
            name: in_memory.subject(name, _network(name, network), input_size=_size(network, first))
            for name, network in models.items()
        }
        return _names("models", networks), networks
    several = [models] if isinstance(models, nn.Module) else _several("models", models)
    if wrong := [model for model in several if not isinstance(model, str | Subject)]:
        kind = "a network needs a name" if isinstance(wrong[0], nn.Module) else f"{type(wrong[0]).__name__} is no model"
        raise AssayError(f"{kind}: run({{'mine': network}}); in a list stand specs and Subjects")
    names = [model if isinstance(model, str) else model.name for model in several]
    networks = {model.name: in_memory.subject(model.name, model) for model in several if isinstance(model, Subject)}
    if twice := [name for name in networks if names.count(name) > 1]:
        raise AssayError(
            f"{names.count(twice[0])} models are called {twice[0]!r}; name each: run({{'one': a, 'two': b}})"
        )
    return _names("models", names), networks


def _network(name: object, network: object) -> nn.Module:
    if isinstance(network, nn.Module):
        return network
    way = f"a spec is its own name: run({network!r})" if isinstance(network, str) else "a name is of an nn.Module"
    raise AssayError(f"{name!r} is {type(network).__name__}; {way}")


def _several(key: str, values: Any) -> list[Any]:
    if not isinstance(values, Sequence):
        raise AssayError(f"{key} are specs, or names with what they stand for, not {type(values).__name__}")
    return [values] if isinstance(values, str) else list(values)


def _names(key: str, names: Iterable[str]) -> list[str]:
    """The names as a list, where there are any and all are texts."""
    names = list(names)
    if not names:
        raise AssayError(f"{key} are given, but none is in them")
    if wrong := [name for name in names if not isinstance(name, str)]:
        raise AssayError(f"names of {key} are texts, not {wrong[0]!r}")
    return names


def _size(network: nn.Module, first: DataSet | str) -> tuple[int, ...]:
    if isinstance(network, Subject):
        return network.input_size
    return in_memory.size_of(load_data(first) if isinstance(first, str) else first)
