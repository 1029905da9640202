"""Names of files, whatever their letters, and pictures that do not overwrite one another."""

import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay.bench import run
from assay.bench.commands.synthesize.files import read_large
from assay.bench.models import load
from assay.bench.one_image import read_picture
from assay.bench.runs.settings import make_setup
from assay.core.errors import AssayError
from tests.bench.nets import OWN
from tests.bench.test_cli import call
from tests.hostile.kit import MODEL, RUN, pictures

BYTES = os.fsdecode(b"lat\xe9")  # not UTF-8


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(name: str, seed: int = 0) -> str:
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), np.uint8)
    Path(name).parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(name)
    return name


SHORT = "deep-dream(octaves=1, steps=1)"
ONE = (  # command, its method, the file that tells of a picture, and where
    (["attack", MODEL], ["--method", "fgsm"], "attack/result.json", "image"),
    (["explain", MODEL], ["--method", "saliency"], "explain/result.json", "image"),
    (["synthesize", "dream", "zoo:resnet"], ["--method", SHORT], "synthesize/dream.json", "picture"),
)


@pytest.mark.parametrize(("words", "method", "file", "key"), ONE)
def test_a_picture_whose_name_is_not_utf8(words: list[str], method: list[str], file: str, key: str) -> None:
    """Names are written as ``folder:`` writes them."""
    assert call(*words, picture(f"{BYTES}.png"), *method) == 0
    assert json.loads(Path(file).read_text(encoding="utf-8"))[key] == r"lat\xe9.png"


@pytest.mark.parametrize(("words", "method", "file", "key"), ONE)
def test_a_second_picture_leaves_the_art_of_the_first(words: list[str], method: list[str], file: str, key: str) -> None:
    first, second = picture("a/photo.png", 1), picture("b/photo.png", 2)
    names = []
    for source in (first, second, second, first):
        assert call(*words, source, *method) == 0
        names.append(sorted(path.name for path in Path(file).parent.iterdir()))
    stem, dot, ending = file.rpartition(".")
    told = [json.loads(Path(path).read_text(encoding="utf-8"))[key] for path in (file, f"{stem}_2{dot}{ending}")]
    assert told == [first, second]
    assert len(names[1]) == 2 * len(names[0])
    assert names[1] == names[2] == names[3]


def test_art_leaves_the_users_own_files() -> None:
    own = Path(picture("original.png")).read_bytes()
    assert call("attack", MODEL, "original.png", "--method", "fgsm", "--out", ".") == 0
    assert Path("original.png").read_bytes() == own
    assert Path("original_2.png").exists()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_lines_reach_a_terminal_that_lacks_their_letters(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(terminal, encoding=encoding))
    assert call("attack", MODEL, picture("a.png"), "--method", "fgsm", "--out", "\N{INFINITY}") == 0
    assert rb"\u221e: original.png" in terminal.getvalue()


def test_a_run_on_a_folder_whose_name_is_not_utf8(undrawn: None) -> None:
    pictures(BYTES)
    assert call(*RUN, "--models", MODEL, "--data", f"folder:{BYTES}") == 0
    told = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert list(told["data"]) == [r"folder:lat\xe9"]
    assert set(pd.read_csv("run/tables/images.csv")["data"]) == {r"folder:lat\xe9"}
    assert call("baseline", "run", "--out", "kept") == 0


def test_a_number_is_the_same_picture_for_every_command() -> None:
    """DATA#NUMBER counts as the data set does."""
    pictures("data", n=3)
    model = load(MODEL)
    for number in range(6):
        source = f"folder:data#{number}"
        taken, label, name = read_picture(source, model)
        own, same = read_large(source, model)
        assert (name, label) == (same, number // 3)
        assert taken.equal(own)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": None}, "run: device=None is not str"),
        ({"config": {}}, r"run: config=\{\} is not str \| Path \| None"),
        ({"out": 5}, "run: out=5 is not"),
        ({"preset": 5}, "run: preset=5 is not"),
        ({"jobs": "2"}, "run: jobs='2' is not int"),
        ({"batch_size": None}, "run: batch_size=None is not int"),
        ({"report": "yes"}, "run: report='yes' is not bool"),
        ({"engine": None}, "unknown engine None"),
        ({"out": "a\0b"}, "cannot write to a\0b: its name holds a NUL"),
        ({"limit": 10**5000}, "limit=a int must be below"),
        ({"modelz": 1}, "unknown option 'modelz'; did you mean models"),
    ],
)
def test_wrong_wishes_from_python_are_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(AssayError, match=said):
        run(OWN + "linear", "digits", **{"limit": 2, **settings})  # type: ignore[arg-type]


def test_a_device_that_is_not_there_is_a_wrong_wish(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert make_setup(1, "cuda:1").device == "cuda:1"
    assert make_setup(1, "auto").device == "cuda"
    for device in ("cuda:2", "cuda:-1", "cuda:x", "cpu:1", "meta"):
        with pytest.raises(AssayError, match=r"is not here; use auto, cpu, cuda, cuda:0, cuda:1"):
            make_setup(1, device)


def test_pictures_that_fail_are_not_called_cells(undrawn: None, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (pictures() / "a").iterdir():
        path.write_bytes(b"no picture")
    assert call(*RUN, "--models", MODEL, "--data", "folder:pictures") == 1
    assert "4 cells, 0 stored before, 0 skipped, 0 failed; 2 images cannot be read" in capsys.readouterr().out
