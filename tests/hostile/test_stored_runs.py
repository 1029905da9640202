"""Runs and baselines that lie in a folder: of other versions, damaged, or made up."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from assay.bench import run
from tests.hostile.kit import MODEL, RUN, Hostile, broken, command, pictures, write

REPORT = ["report", "run"]
KEEP = ["baseline", "run", "--out", "kept"]
CHECK = ["check", "run", "--baseline", "base", "--out", "checked"]
AGAIN = [*RUN, "--models", MODEL, "--data", "folder:pictures"]
DEPTH = 100_000
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sound run, its baseline and its pictures."""
    place = tmp_path_factory.mktemp("stored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        pictures()
        run(MODEL, "folder:pictures", attacks="fgsm", out="run")
        assert command("baseline", "run", "--out", "base").status == 0
    return place


def described(change: Change, file: str = "run/run.json") -> None:
    """The file with a change of what it tells."""
    facts = json.loads(Path(file).read_text(encoding="utf-8"))
    change(facts)
    Path(file).write_text(json.dumps(facts), encoding="utf-8")


def setting(value: object, *keys: str | int) -> Change:
    """A change of the value at ``keys``, "*" the first key there is."""

    def change(facts: Any) -> None:
        for key in keys[:-1]:
            facts = facts[next(iter(facts)) if key == "*" else key]
        facts[next(iter(facts)) if keys[-1] == "*" else keys[-1]] = value

    return change


def shard(kind: str) -> Path:
    """The rows of the first cell of a kind."""
    cells = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["cells"]
    return Path("run/cells") / f"{next(cell['id'] for cell in cells if cell['kind'] == kind)}.parquet"


def rows(change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    path = shard("attack")
    change(pd.read_parquet(path)).to_parquet(path)


def art(content: bytes, name: str) -> None:
    for path in Path("run/art").glob(f"*/{name}"):
        path.write_bytes(content)


def another(what: str) -> None:
    """Something else where the run, or a file of it, should be."""
    path = Path(what)
    if path.is_dir():
        shutil.rmtree(path)
        path.touch()
    else:
        path.unlink()
        path.mkdir()


TEXTS = (  # what run.json is, and what is told
    (b"", "cannot read run/run.json: Expecting value"),
    (b" \n", "cannot read run/run.json"),
    (b"null", "cannot read run/run.json: it is not an object"),
    (b"[]", "cannot read run/run.json: it is not an object"),
    (b"5", "cannot read run/run.json: it is not an object"),
    (b'"schema"', "cannot read run/run.json: it is not an object"),
    (b"{", "cannot read run/run.json"),
    (b"{}", "has schema None, this version reads 1 and 2"),
    (b'{"schema": 3}', "has schema 3, this version reads 1 and 2"),
    (b'{"schema": "2"}', "has schema '2'"),
    (b'{"schema": [2]}', r"has schema \[2\]"),
    (b'{"schema": true}', "has schema True|cannot read"),
    (b'{"schema": 1' + b"0" * 5000 + b"}", "cannot read run/run.json: Exceeds the limit"),
    (b'{"schema": 1, "cells": [5]}', "cannot read run/run.json"),
    (b'{"schema": 1, "cells": 5}', "cannot read run/run.json"),
    (b'{"schema": 1, "attacks": {"x": 5}}', "cannot read run/run.json"),
    (b"[" * DEPTH, "cannot read run/run.json: maximum recursion"),
    (b"\xff\xfe{}", "cannot read run/run.json: cannot read|cannot read run/run.json: 'utf-8'"),
    (b"PK\x03\x04", "cannot read run/run.json"),
)
VALUES: tuple[tuple[object, tuple[str | int, ...], str], ...] = (  # a value in run.json, where, and what is told
    (5, ("cells",), "cells|iterable"),
    ({}, ("cells", 0), "id"),
    (5, ("cells", 0), "cannot read run/run.json"),
    (5, ("cells", 0, "id"), "id=5 is not str"),
    ("", ("cells", 0, "id"), "'' is not a cell's id"),
    ("../../x", ("cells", 0, "id"), "'../../x' is not a cell's id"),
    ("x\x00", ("cells", 0, "id"), "is not a cell's id"),
    ("x" * 300, ("cells", 0, "id"), "is not a cell's id"),
    (5, ("cells", 0, "kind"), "kind=5 is not str"),
    ([], ("cells", 0, "method"), "method=.* is not str"),
    ([], ("models",), r"models=\[\] is not dict"),
    (5, ("models", "*"), "is not dict"),
    (5, ("models", "*", "card"), "a model: card=5 is not dict"),
    ("x", ("models", "*", "parameters"), "a model: parameters='x' is not int"),
    (5, ("data", "*"), "is not dict"),
    (5, ("data", "*", "classes"), "data: classes=5 is not list"),
    ("x", ("data", "*", "n"), "data: n='x' is not int"),
    (5, ("methods",), "cannot read run/run.json"),
    (5, ("methods", "*"), "cannot read run/run.json"),
    ({}, ("methods", "*"), "text"),
    (5, ("methods", "*", "settings"), "settings=5 is not dict"),
    ("x", ("methods", "*", "eps"), "eps='x' is not float"),
    (5, ("metrics",), "cannot read run/run.json"),
    (5, ("metrics", "*"), "cannot read run/run.json"),
    (5, ("metrics", "*", "unit"), "unit=5 is not str"),
    ([], ("flags",), "flags=.* is not dict"),
    (5, ("sessions",), "sessions=5 is not list"),
    (5, ("code",), "code=5 is not dict"),
    (5, ("argv",), "argv=5 is not list"),
    ("x", ("seed",), "seed='x' is not int"),
    ([], ("packages",), "packages=.* is not dict"),
    (5, ("created",), "created=5 is not str"),
)
HARMLESS: tuple[tuple[object, tuple[str | int, ...]], ...] = (
    (None, ("code",)), (None, ("models", "*", "card")), (None, ("flags",)), ("half \ud800", ("created",)),
    ({"\ud800": "x"}, ("flags",)), ([], ("sessions",)), ({"deep": [[[[]]]]}, ("options",)),
)  # fmt: skip
BASELINE: tuple[tuple[object, tuple[str | int, ...], str], ...] = (  # the same of baseline.json
    (3, ("baseline",), "base was written by another version"),
    (64, ("side",), "base was written by another version"),
    (99, ("schema",), "base has schema 99"),
    (5, ("cells",), "cannot read the baseline base"),
    ({}, ("cells", 0), "cannot read the baseline base"),
    ("odd", ("cells", 0, "state"), "cannot read the baseline base"),
    (5, ("models", "*"), "is not dict"),
    (5, ("data", "*", "classes"), "data: classes=5 is not list"),
    (5, ("metrics", "*"), "cannot read the baseline base"),
    (5, ("metrics", "*", "direction"), "direction=5 is not str"),
    ({}, ("methods", "*"), "text"),
    (5, ("code",), "code=5 is not dict"),
    (5, ("pictures",), "cannot read the baseline base"),
    ([5], ("pictures",), "cannot read the baseline base"),
    ([["a"] * 9], ("pictures",), "cannot read the baseline base"),
)
ROWS = (  # what becomes of the rows of a cell, and what is told
    ("text-value", lambda frame: frame.assign(value="x"), "cannot read run/cells/.*parquet"),
    ("text-label", lambda frame: frame.assign(label="x"), "cannot read run/cells/.*parquet"),
    ("list-value", lambda frame: frame.assign(value=[[1]] * len(frame)), "cannot read run/cells/.*parquet"),
    ("text-cost", lambda frame: frame.assign(seconds="x"), "cannot read run/cells/.*parquet"),
)
FOLDERS = (  # commands on what is no run
    (["report", "nowhere"], "no run at nowhere: there is no such folder"),
    (["report", "pictures/a/0.png"], "no run at pictures/a/0.png: it is a file"),
    (["report", "pictures"], "no run at pictures: it has no run.json"),
    (["report", "x" * 300], "no run at x+: there is no such folder"),
    (["report", "x/" * 3000], "no run at .*: there is no such folder"),
    (["export", "pictures", "--out", "exported"], "no run at pictures: it has no run.json"),
    (["export", "run", "--figures", "none", "--tables", "ranking", "--out", "pictures/a/0.png"], "cannot write to"),
    (["export", "run", "--width", "nan"], "a figure is 0.5 to 100 inches wide"),
    (["check", "pictures", "--baseline", "base"], "pictures is neither a run nor a baseline"),
    (["check", "run", "--baseline", "x" * 300], "no run at x+"),
    (["check", "run", "--baseline", "base", "--out", "pictures"], "pictures holds something else than a check"),
    (["check", "run", "--baseline", "base", "--out", "pictures/a/0.png"], "cannot write to"),
    (["check", "run", "--baseline", "base", "--junit", "pictures"], "cannot write to"),
    (["baseline", "base", "--out", "kept"], "base is a baseline already"),
    (["baseline", "run", "--out", "run"], "run is a run; write the baseline into a folder of its own"),
    (["baseline", "run", "--out", "pictures/a/0.png"], "cannot write to"),
    (["baseline", "run", "--out", "x" * 300], "cannot write to"),
)

CASES = (
    *(Hostile(f"text-{i}", KEEP, line, partial(write, "run/run.json", text)) for i, (text, line) in enumerate(TEXTS)),
    *(Hostile(f"value-{i}", KEEP, line, partial(described, setting(v, *k))) for i, (v, k, line) in enumerate(VALUES)),
    *(
        Hostile(f"harmless-{i}", KEEP, "kept: 3 cells", partial(described, setting(value, *keys)), status=0)
        for i, (value, keys) in enumerate(HARMLESS)
    ),
    *(
        Hostile(f"baseline-{i}", CHECK, line, partial(described, setting(value, *keys), "base/baseline.json"))
        for i, (value, keys, line) in enumerate(BASELINE)
    ),
    *(Hostile(f"rows-{name}", KEEP, line, partial(rows, change)) for name, change, line in ROWS),
    *(Hostile(f"folder-{i}", words, line) for i, (words, line) in enumerate(FOLDERS)),
    Hostile("missing-code", KEEP, "kept: 3 cells", partial(described, lambda facts: facts.pop("code")), status=0),
    Hostile(
        "statistic",
        REPORT,
        "unknown statistic 'x'",
        partial(described, setting("x", "metrics", "fooling_rate", "statistic")),
    ),
    Hostile("rows-empty", REPORT, "report: ", partial(rows, lambda frame: frame.iloc[:0]), status=0),
    Hostile("rows-no-columns", KEEP, "kept: 3 cells", partial(rows, lambda frame: frame[[]]), status=0),
    Hostile("shard-empty", KEEP, "cannot read run/cells/.*parquet", lambda: shard("clean").write_bytes(b"")),
    Hostile("shard-garbage", KEEP, "cannot read run/cells/.*parquet", lambda: shard("clean").write_bytes(b"PAR1PAR1")),
    Hostile("shard-gone", KEEP, "1 of 3 cells are missing; finish it", lambda: shard("clean").unlink()),
    Hostile("shard-folder", KEEP, "1 of 3 cells are missing", lambda: another(str(shard("clean")))),
    Hostile("art-garbage", REPORT, "report: ", partial(art, b"PK\x03\x04", "*.npz"), status=0),
    Hostile("art-text", REPORT, "report: ", partial(art, b"[]", "*.json"), status=0),
    Hostile("art-garbage-kept", KEEP, "kept: 3 cells", partial(art, b"", "*"), status=0),
    Hostile("description-folder", KEEP, "no run.json|neither a run", partial(another, "run/run.json")),
    Hostile("run-file", KEEP, "it is a file", partial(another, "run")),
    Hostile("run-file-again", AGAIN, "cannot write to run: it is a file", partial(another, "run")),
    Hostile("cells-file-again", AGAIN, "cannot write to run: File exists", partial(another, "run/cells")),
    Hostile("description-again", AGAIN, "cannot read run/run.json", partial(write, "run/run.json", b"[]")),
    Hostile("schema-again", AGAIN, "has schema 3", partial(write, "run/run.json", b'{"schema": 3}')),
    Hostile("pictures-gone", CHECK, "cannot read the baseline base", lambda: Path("base/pictures.npz").unlink()),
    Hostile(
        "pictures-garbage", CHECK, "cannot read the baseline base", partial(write, "base/pictures.npz", b"PK\x03\x04")
    ),
    Hostile("images-garbage", CHECK, "cannot read the baseline base", partial(write, "base/images.parquet", b"PAR1")),
    Hostile("baseline-empty", CHECK, "cannot read the baseline base", partial(write, "base/baseline.json", b"")),
    Hostile("baseline-list", CHECK, "cannot read the baseline base", partial(write, "base/baseline.json", b"[]")),
    Hostile(
        "baseline-deep", CHECK, "cannot read the baseline base", partial(write, "base/baseline.json", b"[" * DEPTH)
    ),
)


@pytest.fixture(autouse=True)
def copied(stored: Path, empty_folder: Path) -> None:
    """The sound run lies in the working folder."""
    shutil.copytree(stored, empty_folder, dirs_exist_ok=True)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stored_run_is_read_or_refused_in_one_line(case: Hostile) -> None:
    case.check()


@pytest.mark.parametrize(
    ("file", "words", "count"),
    [
        ("run/run.json", KEEP, 30),
        ("run/cells", KEEP, 15),
        ("base/baseline.json", CHECK, 12),
        ("base/images.parquet", CHECK, 8),
    ],
)
def test_damaged_files_are_read_or_refused_in_one_line(file: str, words: list[str], count: int) -> None:
    """A fuzzer."""
    path = Path(file) if Path(file).is_file() else shard("attack")
    for content in broken(path.read_bytes(), count, seed=22):
        path.write_bytes(content)
        shutil.rmtree("kept", ignore_errors=True)
        ending = command(*words)
        assert ending.status in (0, 1, 2), content
        assert ending.status != 2 or len(ending.err) == 1, content
