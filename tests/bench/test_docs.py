"""What the pages on Python and CI tell to type is there."""

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.bench.cli import app
from assay.bench.commands.run import option_rows
from assay.bench.runs.settings import make_options

pytest_plugins = ["pytester"]
DOCS = Path(__file__).parents[2] / "docs"
CI, PYTHON = ((DOCS / name).read_text(encoding="utf-8") for name in ("ci.md", "python.md"))


def blocks(page: str, language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return [text for name, text in fenced if name == language]


def commands(text: str) -> Iterator[list[str]]:
    """Command lines of ``assay`` and ``pytest``, without what the shell does with them."""
    for line in text.splitlines():
        if re.match(r"(assay|pytest) ", line.strip()):
            yield shlex.split(line.partition("#")[0].partition("||")[0])


def scripts(job: Any) -> Iterator[str]:
    """The shell lines of a GitHub or GitLab job."""
    yield from job.get("script", ())
    yield from (step["run"] for step in job.get("steps", ()) if "run" in step)


def jobs() -> dict[str, Any]:
    yaml: Any = pytest.importorskip("yaml")
    github, gitlab = (yaml.safe_load(text) for text in blocks(CI, "yaml"))
    return {"github": github["jobs"]["assay"], "gitlab": gitlab["assay"]}


def test_commands_and_their_options_are_there(pytester: pytest.Pytester) -> None:
    typed = [tokens for text in blocks(CI, "") + blocks(PYTHON, "") for tokens in commands(text)]
    for job in jobs().values():
        typed += [tokens for script in scripts(job) for tokens in commands(script)]
    assert len(typed) > 10
    known = {option for line in pytester.runpytest_inprocess(
        "-p", "no:assay", "-p", "assay.bench.plugin", "--help"
    ).outlines for option in re.findall(r"--[a-z-]+", line)}  # fmt: skip
    for program, *tokens in typed:
        if program == "assay":
            app.parse_args(tokens, exit_on_error=False, print_error=False)
        else:
            assert {token for token in tokens if token.startswith("--")} <= known, tokens


@pytest.mark.parametrize("which", ["github", "gitlab"])
def test_a_job_measures_compares_and_keeps_what_it_says(which: str) -> None:
    job = jobs()[which]
    told = " ".join(scripts(job))
    for part in ("assay run --config assay.toml", "assay check runs/ci --baseline tests/assay-baseline", "pytest "):
        assert part in told
    written = re.findall(r"--(?:junit|junit-xml|out) (\S+)", told)
    text = str(job.get("artifacts") or [step.get("with", {}).get("path", "") for step in job["steps"]])
    assert all(path in text for path in written)


def test_the_config_file_is_one() -> None:
    (text,) = blocks(CI, "toml")
    options: Any = make_options(tomllib.loads(text))
    assert options.limit == 50
    assert options.transfer == ()


def test_the_tests_of_the_page_pass(pytester: pytest.Pytester) -> None:
    (code,) = blocks(CI, "python")
    pytester.makepyfile(code)
    pytester.runpytest_inprocess(
        "-p", "no:assay", "-p", "assay.bench.plugin", "-p", "no:cacheprovider"
    ).assert_outcomes(passed=3)


@pytest.mark.parametrize("code", blocks(PYTHON, "python"), ids=["specs", "objects"])
def test_the_examples_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(code, "docs/python.md", "exec"), names)
    assert len(names["found"].summary) > 4


ADDING = blocks((DOCS / "adding.md").read_text(encoding="utf-8"), "python")


@pytest.mark.parametrize("code", ADDING, ids=["attack", "explainer", "metric", "source", "cell", "kind"])
def test_what_is_added_runs(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "adding.md", "exec"), {"__name__": "__main__"})


def test_every_option_of_a_run_is_told() -> None:
    page = (DOCS / "options.md").read_text(encoding="utf-8")
    told = re.findall(
        r"^\| `(--[a-z-]+)` \| (.*) \| (.*) \|$", page.partition("## How it is measured")[0], re.MULTILINE
    )
    assert told == list(option_rows())
