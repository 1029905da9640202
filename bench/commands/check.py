"""``assay check`` and ``assay baseline``: a run beside an earlier one."""

from collections.abc import Iterator
from pathlib import Path

from assay.core.errors import AssayError
from assay.reports.gate import compare, distil, load, output
from assay.reports.gate.change import plural
from assay.reports.gate.tolerances import read


def check(
    run: Path,
    /,
    *,
    baseline: Path,
    tolerances: Path | None = None,
    out: Path | None = None,
    junit: Path | None = None,
    markdown: Path | None = None,
) -> int:
    """Compare RUN with an earlier run or a baseline: exit 1 where something got worse.

    That is a metric or a picture beyond its tolerance. Writes check.json, junit.xml, summary.md and a page, index.html,
    with old, new and difference side by side.

    Parameters
    ----------
    baseline
        The folder of an earlier run, or what assay baseline made of one.
    tolerances
        A TOML file whose rules come after the shipped ones.
    out
        The folder for the files, empty or of an earlier check; RUN/check unless given.
    junit
        JUnit XML here too, for CI systems.
    markdown
        The Markdown summary here too, for pull requests.
    """
    rules = read(tolerances)
    verdict = compare(load(baseline), load(run), rules, str(tolerances or "the shipped ones"))
    page = output.write(verdict, out or run / "check", junit, markdown)
    for change in verdict.regressions:
        print(change.line)
    counts = (
        (verdict.regressions, "regression"),
        (verdict.of("improvement"), "improvement"),
        (verdict.of("note"), "note"),
    )
    summary = ", ".join(plural(len(changes), noun) for changes, noun in counts)
    print(f"{'green' if verdict.passed else 'red'}: {summary}; {page}", flush=True)
    return 0 if verdict.passed else 1


def baseline(run: Path, /, *, out: Path) -> Iterator[str]:
    """Keep of RUN only what assay check needs, small enough to be committed. RUN has to be finished.

    Parameters
    ----------
    out
        The folder for it, empty or with a baseline, which is replaced.
    """
    summary = load(run)
    if summary.side is not None:
        raise AssayError(f"{run} is a baseline already")
    folder = distil.write(summary, out)
    size = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    failures = sum(cell["state"] == "failed" for cell in summary.facts["cells"])
    if failures:
        yield f"warning: {plural(failures, 'cell')} of {run} failed, so no check will measure them"
    yield f"{folder}: {len(summary.facts['cells'])} cells, {size / 1e6:.1f} MB"
