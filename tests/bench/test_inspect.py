"""``assay inspect``: files, one line each, and wrong usage."""

from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.bench.test_cli import MODEL, call

SMALL = ["--data", "digits", "--n", "12", "--top", "2"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["filtres"], "did you mean filters"),
        (["filters", "digits#0", "digits#1"], "one picture at a time"),
        ([], "say what to inspect: filters"),
        (["patches", "--data", "digits", "--n", "2", "--layer", "edgs"], "did you mean body.edges"),
        (["activations", "digits#99999"], "pictures 0 to"),
        (["filters", "--top", "0"], "must be 1 or more"),
        (["patches", "--data", "digitz"], "did you mean digits"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("inspect", MODEL, *words, "--out", str(tmp_path)) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_every_file_has_its_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "learned"
    parts = ["filters", "activations", "patches", "receptive-field"]
    assert call("inspect", MODEL, "digits#3", *parts, *SMALL, "--out", str(out)) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [Path(line.partition(": ")[0]) for line in lines]
    assert sorted(named) == sorted(out.iterdir())
    assert {"filters.png", "activations.png", "patches.png", "receptive-field.png"} <= {path.name for path in named}
    for path in named:
        if path.suffix == ".png":
            with Image.open(path) as picture:
                assert picture.width > 300
        else:
            assert len(pd.read_csv(path))
    top = pd.read_csv(out / "patches.csv")
    assert (top.groupby("channel")["value"].diff().dropna() <= 0).all()
    assert set(top["rank"]) == {1, 2}
    fields = pd.read_csv(out / "receptive-field.csv")
    assert (fields["expected"] == fields["measured"]).all()


def test_a_linear_model_shows_what_its_classes_look_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert call("inspect", "zoo:linear", "filters", "--n", "2", "--out", str(tmp_path)) == 0
    assert "templates of 10 classes" in capsys.readouterr().out
    assert (tmp_path / "templates.png").exists()
    assert not (tmp_path / "filters.csv").exists(), "a Gabor function as large as the image says nothing"
