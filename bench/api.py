"""Runs from Python: ``run`` measures, ``load_results`` reads what a run has stored, both give pandas frames."""

import shutil
import tempfile
import textwrap
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
from assay.core.tables import Table
from assay.reports.run.reader import Run

Models = str | Subject | Sequence[str | Subject] | Mapping[str, nn.Module]
Own = DataSet | tuple[Any, ...]  # data of this process
Data = str | Sequence[str] | Own | Mapping[str, Own]
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
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    base = read_settings(preset, None if config is None else Path(config))
    if not base:
        base = {"data": ["scenes"], "gallery": 4 if report else 0}
        base["metrics"] = ["deletion", "insertion"] if options.get("explainers") is not None else []
    chosen, networks, pictures = _choices(models, data, options, base)
    if engine != "local" and (networks or pictures):
        raise AssayError(
            "other processes do not see what lies in this one: take engine='local', or name a model by "
            "py:module:function and data by folder:PATH"
        )
    record = make_options(override(base, chosen))
    folder = Path(tempfile.mkdtemp(prefix="assay-")) if out is None else Path(out)
    try:
        with in_memory.lending(networks, pictures):
            setup = make_setup(batch_size, device)
            how: dict[str, Any] = {"engine": engine, "jobs": jobs, "setup": setup, "preset": preset}
            result = measure(record, folder, report=progress, argv=("assay.run",), **how)
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


def _choices(
    models: Models | None, data: Data | None, options: Mapping[str, Any], base: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Subject], dict[str, DataSet]]:
    """Options as a preset has them, and what the names in them stand for: networks and pictures of this process."""
    chosen = {key: _texts(key, value) for key, value in options.items() if value is not None}
    sources, pictures = _data(data)
    if sources:
        chosen["data"] = sources
    first = (chosen.get("data") or base.get("data") or ["scenes"])[0]
    subjects, networks = _models(models, pictures.get(first, first))
    if subjects:
        chosen["models"] = subjects
    if not (subjects or base.get("models")):
        raise AssayError("which models? run('zoo:resnet'), run({'mine': network}), or a preset")
    return chosen, networks, pictures


def _texts(key: str, value: Any) -> Any:
    """A setting as a preset has it: what may be many as a list, records as text."""
    known = {name: each for each in fields(Options) for name in (each.name, each.metadata["old"])}
    if key not in known or not isinstance(known[key].default, tuple):
        return value
    several = [value] if isinstance(value, str | float | int) or not isinstance(value, Iterable) else list(value)
    table = known[key].metadata["table"]
    return several if table is None else [_text(table, each) for each in several]


def _text(table: Table, method: object) -> str:
    """A method as it is typed; ``AssayError`` for a record that its text does not tell."""
    if isinstance(method, str):
        return method
    text = repr(method)
    try:
        told = table.parse(text) == method
    except AssayError:
        told = False
    if not told:
        brief = textwrap.shorten(text, 80, placeholder=" ...")
        raise AssayError(f"{brief} is no {table.kind} that its text tells, which is what a run stores")
    return text


def _data(given: Data | None) -> tuple[list[str], dict[str, DataSet]]:
    """What to measure on by spec or name, and what the names stand for."""
    if given is None:
        return [], {}
    if isinstance(given, DataSet) or (isinstance(given, tuple) and given and not isinstance(given[0], str)):
        given = {IMAGES: given}
    if isinstance(given, Mapping):
        own = {name: in_memory.data(name, one) for name, one in given.items()}
        return _some("data", list(own)), own
    return _some("data", [_spec(one) for one in _several("data", given)]), {}


def _spec(given: object) -> str:
    if isinstance(given, str):
        return given
    raise AssayError(
        f"several data are specs, or names with what they stand for: run(models, {{'mine': (images, labels)}}), "
        f"not a list with {type(given).__name__}"
    )


def _models(given: Models | None, first: DataSet | str) -> tuple[list[str], dict[str, Subject]]:
    """What to measure by spec or name, and what the names stand for; a plain module takes images as ``first`` has."""
    if given is None:
        return [], {}
    if isinstance(given, Mapping):
        own = {
            name: in_memory.subject(name, _network(name, one), input_size=_size(one, first))
            for name, one in given.items()
        }
        return _some("models", list(own)), own
    several = [given] if isinstance(given, nn.Module) else _several("models", given)
    if wrong := [one for one in several if not isinstance(one, str | Subject)]:
        kind = "a network needs a name" if isinstance(wrong[0], nn.Module) else f"{type(wrong[0]).__name__} is no model"
        raise AssayError(f"{kind}: run({{'mine': network}}); in a list stand specs and Subjects")
    called = [one if isinstance(one, str) else one.name for one in several]
    own = {one.name: in_memory.subject(one.name, one) for one in several if isinstance(one, Subject)}
    if twice := [name for name in own if called.count(name) > 1]:
        raise AssayError(
            f"{called.count(twice[0])} models are called {twice[0]!r}; name each: run({{'one': a, 'two': b}})"
        )
    return _some("models", called), own


def _network(name: object, given: object) -> nn.Module:
    if isinstance(given, nn.Module):
        return given
    way = f"a spec is its own name: run({given!r})" if isinstance(given, str) else "a name is of an nn.Module"
    raise AssayError(f"{name!r} is {type(given).__name__}; {way}")


def _several(key: str, given: Any) -> list[Any]:
    if not isinstance(given, Sequence):
        raise AssayError(f"{key} are specs, or names with what they stand for, not {type(given).__name__}")
    return [given] if isinstance(given, str) else list(given)


def _some(key: str, found: list[str]) -> list[str]:
    if not found:
        raise AssayError(f"{key} are given, but none is in them")
    if wrong := [name for name in found if not isinstance(name, str)]:
        raise AssayError(f"names of {key} are texts, not {wrong[0]!r}")
    return found


def _size(network: nn.Module, first: DataSet | str) -> tuple[int, ...]:
    if isinstance(network, Subject):
        return network.input_size
    return in_memory.size_of(load_data(first) if isinstance(first, str) else first)
