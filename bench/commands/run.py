"""``assay run``."""

import typing
from collections.abc import Iterator
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from assay import reports
from assay.bench.measurements import Options
from assay.bench.progress import CellProgress
from assay.bench.runs.engine import ENGINES
from assay.bench.runs.engine import run as measure
from assay.bench.runs.settings import make_options, make_setup, override, read_settings
from assay.core.errors import unknown


def _typed_options() -> Any:
    """The options of all kinds as they are typed: a record in which each may be left out."""
    hints = typing.get_type_hints(Options)
    columns = []
    for field in fields(Options):
        many = typing.get_origin(hints[field.name]) is tuple
        names = [f"--{name.replace('_', '-')}" for name in (field.name, field.metadata["old"]) if name]
        parameter = Parameter(name=names, help=field.metadata["about"], consume_multiple=many)
        columns.append((field.name, Annotated[(tuple[str, ...] if many else int) | None, parameter], None))
    record = make_dataclass("TypedOptions", columns, frozen=True, kw_only=True)
    record.__module__ = __name__  # cyclopts looks into no class of the standard library
    return record


TypedOptions = _typed_options()


def run(
    *,
    preset: str = "quick",
    config: Path | None = None,
    options: Annotated[TypedOptions | None, Parameter(name="*")] = None,  # type: ignore[valid-type]
    out: Path | None = None,
    engine: str = "processes",
    jobs: int | None = None,
    batch_size: int = 50,
    device: str = "auto",
) -> int:
    """Measure models x data x methods, store every image's outcome, write tables and a report.

    The same command again goes on where it stopped. What is typed beats the config file, which beats the preset.

    Parameters
    ----------
    preset
        Named settings: quick, standard or full.
    config
        A TOML file with the same keys as the options from models to seed.
    out
        The run's folder; runs/PRESET unless given.
    engine
        local (this process) or processes (one per core).
    jobs
        Processes at a time, or threads of the local engine; one per core unless given.
    batch_size
        Images per batch; does not change the outcomes.
    device
        cpu, cuda, or auto.
    """
    typed = {key: value for key, value in vars(options or TypedOptions()).items() if value is not None}
    settings = override(read_settings(preset, config), typed)
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    folder = out or Path("runs") / (config.stem if config else preset)
    plan, setup = make_options(settings), make_setup(batch_size, device)
    with CellProgress() as progress:
        result = measure(plan, folder, engine=engine, jobs=jobs, setup=setup, preset=preset, report=progress.cell)
    cells = f"{result.cells} cells, {result.stored} stored before, {result.skipped} skipped"
    images = f", and {result.images} images in the others" if result.images else ""
    print(f"{cells}, {result.failed - result.images} failed{images}")
    print(f"report: {reports.write(folder)}", flush=True)
    return 1 if result.failed else 0


def option_rows() -> Iterator[tuple[str, str, str]]:
    """Name, meaning and default of each option of the kinds, for the documentation."""
    for field in fields(Options):
        default = str(field.default) if isinstance(field.default, int) else "none"
        yield f"--{field.name.replace('_', '-')}", field.metadata["about"], default
