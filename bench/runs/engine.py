"""Run the cells that are not stored yet, and say what became of each."""

import itertools
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from assay.bench import loading
from assay.bench.measurements import Cell, Measured, Setup
from assay.bench.measurements.ask import RunOptions
from assay.bench.runs.describe import describe
from assay.bench.runs.plan import plan
from assay.bench.runs.store import Store, StoreError, read_rows
from assay.core.errors import AssayError, NotApplicable, brief

Engine = Literal["local", "processes"]
ENGINES: tuple[Engine, ...] = ("local", "processes")
MOST_JOBS = 1000
ALONE = "measured-alone"  # the flag of rows whose cells could not share passes, though they should


class Finished(NamedTuple):
    """What became of one cell: done, skipped, failed, or stored (by an earlier run)."""

    cell: Cell
    state: Literal["done", "skipped", "failed", "stored"]
    seconds: float
    reason: str = ""


Report = Callable[[Finished, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Result:
    """Counts of a run. ``failed`` counts cells and images that failed alone, ``images`` these."""

    cells: int
    stored: int
    skipped: int
    failed: int
    images: int = 0


def run(
    options: RunOptions,
    out: Path,
    *,
    engine: Engine = "local",
    jobs: int | None = None,
    setup: Setup | None = None,
    preset: str | None = None,
    report: Report | None = None,
    argv: Sequence[str] | None = None,
) -> Result:
    """Measure what ``options`` ask for into the folder ``out``; what is stored there already is not measured again.

    ``report(finished, done, total)`` is called after each cell. ``argv`` is the command that ``run.json`` tells, this
    process's unless given. Raises ``AssayError`` for a wrong wish before anything runs, and for a folder that cannot be
    written.
    """
    if jobs is not None and not 1 <= jobs <= MOST_JOBS:
        raise AssayError(f"jobs={brief(jobs)} must be at least 1, {MOST_JOBS} at most; one per core unless given")
    setup = setup or Setup()
    loading.forget()  # files may have changed since an earlier run of this process
    wishes = plan(options)
    store = Store(out)
    sessions = store.sessions()
    store.open()
    store.describe(describe(wishes.ask, wishes.cells, preset, sessions, argv))
    waiting = [cell for cell in wishes.cells if not store.done(cell.id)]
    earlier = [Finished(cell, "stored", 0.0) for cell in wishes.cells if store.done(cell.id)]
    results: list[Finished] = []
    for result in itertools.chain(earlier, _dispatch(waiting, out, setup, engine, jobs)):
        results.append(result)
        if report is not None:
            report(result, len(results), len(wishes.cells))
    states = Counter(result.state for result in results)
    images = sum(_failed_rows(store, cell) for cell in wishes.cells if store.done(cell.id))
    return Result(
        cells=len(wishes.cells),
        stored=states["stored"],
        skipped=states["skipped"],
        failed=states["failed"] + images,
        images=images,
    )


def _dispatch(cells: Sequence[Cell], out: Path, setup: Setup, engine: Engine, jobs: int | None) -> Iterator[Finished]:
    cores = os.cpu_count() or 1
    jobs = jobs or cores
    groups: dict[Hashable, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(cell.shares or cell.id, []).append(cell)
    if engine == "local" or jobs == 1:
        with _threads(min(jobs, cores)):
            for group in groups.values():
                yield from _finish(group, out, setup)
        return
    parallel = joblib.Parallel(
        n_jobs=min(jobs, max(len(groups), 1)), backend="loky", return_as="generator_unordered", batch_size=1
    )
    threads = max(cores // jobs, 1)
    try:
        session = uuid.uuid4().hex, Path.cwd()
        work = (joblib.delayed(_in_process)(group, out, setup, threads, session) for group in groups.values())
        for results in parallel(work):
            yield from results
    except TerminatedWorkerError as error:
        raise StoreError(
            "a worker process was killed, perhaps for want of memory; what is stored stays valid, the same command "
            "goes on from there, if need be with --jobs 1 or a smaller --batch-size"
        ) from error


@lru_cache(maxsize=1)
def _begin(session: str, place: Path) -> None:
    loading.forget()
    os.chdir(place)  # where relative specs are looked for


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _in_process(
    cells: Sequence[Cell], out: Path, setup: Setup, threads: int, session: tuple[str, Path]
) -> list[Finished]:
    """In a worker, which outlives a run: a new ``session``, of an id and a working folder, loads all again."""
    torch.set_num_threads(threads)
    _begin(*session)
    return list(_finish(cells, out, setup))


def _finish(cells: Sequence[Cell], out: Path, setup: Setup) -> Iterator[Finished]:
    """Measure and store cells that are measured together; those for which that fails alone, and they say so."""
    start = time.perf_counter()
    together: Mapping[str, Measured] = {}
    alone = ""
    if len(cells) > 1:
        try:
            together = cells[0].measure_together(cells, setup)
        except Exception as error:
            alone = f"measured alone, as together raised {_told(error)}"
    for cell in cells:
        if cell.id in together:
            Store(out).keep(cell.id, together[cell.id].rows, together[cell.id].art)
            yield Finished(cell, "done", (time.perf_counter() - start) / len(together))
        else:
            yield _finish_alone(cell, out, setup, alone)


def _finish_alone(cell: Cell, out: Path, setup: Setup, note: str) -> Finished:
    """Measure and store one cell. The one place where a method's failure is caught."""
    store = Store(out)
    start = time.perf_counter()
    try:
        measured = cell.measure(setup)
    except NotApplicable as reason:
        store.keep(cell.id, [cell.row(status="skipped", flags=str(reason))])
        return Finished(cell, "skipped", time.perf_counter() - start, str(reason))
    except Exception as error:
        store.fail(cell.id, cell.row(status="failed", flags=_told(error)))
        return Finished(cell, "failed", time.perf_counter() - start, _told(error))
    rows = [{**row, "flags": "; ".join(filter(None, (row["flags"], ALONE)))} for row in measured.rows] if note else None
    store.keep(cell.id, rows or measured.rows, measured.art)
    return Finished(cell, "done", time.perf_counter() - start, note)


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _failed_rows(store: Store, cell: Cell) -> int:
    rows = read_rows(store.run / "cells" / f"{cell.id}.parquet")
    return int((rows["status"] == "failed").groupby(rows["image"]).any().sum())
