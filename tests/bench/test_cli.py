"""The command line: exit statuses, one-line errors, files."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from assay.attacks import ATTACKS
from assay.bench.cli import main
from assay.bench.commands.list import KINDS
from assay.bench.method_records import parse_attacks
from assay.bench.runs.provenance import version
from assay.bench.runs.settings import make_options, read_settings
from assay.bench.zoo.recipes import RECIPES
from assay.explain import EXPLAINERS
from assay.explain.metrics import METRICS
from assay.synthesis import SYNTHESES

MODEL = "py:tests.bench.nets:convolutional"
SMALL = ["--models", MODEL, "--data", "digits", "--attacks", "fgsm", "--explainers", "--metrics", "--syntheses"]


def call(*tokens: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(tokens)
    assert isinstance(stop.value.code, int)
    return stop.value.code


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (["run", "--preset", "quik"], "did you mean quick"),
        (["run", "--models", "zoo:resnt"], "did you mean resnet"),
        (["run", "--models", MODEL, "--data", "digitz"], "did you mean digits"),
        (["run", "--attacks", "pdg"], "did you mean pgd"),
        (["run", "--attacks", "pgd(epz=0.1)"], "did you mean eps"),
        (["run", "--attacks", "pgd(eps=4)"], "between 0 and 1"),
        (["run", "--attacks", "pgd(eps=[])"], "names no value"),
        (["run", "--attacks", "pgd", "--eps", "1/0"], "division by zero"),
        (["run", "--attacks", "pgd", "--eps", "small"], "'small' is not a number"),
        (["run", "--attacks", "pgd", "--norms", "l3"], "unknown norm 'l3'"),
        (["run", "--models", "zoo:resnet+" + MODEL], "another input_size than zoo:resnet"),
        (["run", *SMALL[:-1], "--syntheses", "efros-leung(size=[8, 9, 10])"], "size=(8, 9, 10)"),
        (["run", "--explainers", "gradcan"], "did you mean grad-cam"),
        (["run", "--metrics", "deletions"], "did you mean deletion"),
        (["run", "--limit", "many"], "many"),
        (["run", "--nonsense"], "nonsense"),
        (["run", "--engine", "cloud"], "known: local, processes"),
        (["run", "--device", "tpu"], "device 'tpu' is not here"),
        (["run", "--config", "nowhere.toml"], "cannot read nowhere.toml"),
        (["run", "--data", "folder:/no/such/folder"], "/no/such/folder"),
        (["list", "modelz"], "did you mean models"),
        (["train", "resnt"], "did you mean resnet"),
        (["train", "repvgg", "--adversary", "pdg"], "did you mean pgd"),
        (["train", "repvgg", "--trades", "6"], "TRADES needs an adversary"),
        (["train", "--adversary", "pgd"], "train one model; name it"),
        (["train", "repvgg", "--adversary", "pgd", "--name", "repvgg"], "choose another with --name"),
        (["train", "repvgg", "--name", "mine"], "--name is for a model trained with"),
        (["train", "linear", "--epochs", "0"], "must be 1 or more"),
        (["report", "/no/such/run"], "/no/such/run"),
        (["attack", MODEL, "digits#0", "--method", "fgsm(goal=10)"], "classes 0 to 9"),
        (["attack", MODEL, "nowhere.png"], "no picture at nowhere.png"),
        (["attack", MODEL, "digits#99999"], "pictures 0 to"),
        (["explain", MODEL, "digits#0", "--label", "eleven"], "unknown class"),
        (["fly"], "fly"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    tokens: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*tokens) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.startswith("assay: ")
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_unknown_keys_of_a_config_file_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text('modelz = ["zoo:*"]\n')
    assert call("run", "--config", str(config)) == 2
    assert "did you mean models" in capsys.readouterr().err
    config.write_text("models = [")
    assert call("run", "--config", str(config)) == 2
    assert "is no TOML" in capsys.readouterr().err


@pytest.mark.usefixtures("undrawn")
def test_what_is_typed_beats_the_file_beats_the_preset(tmp_path: Path) -> None:
    config = tmp_path / "my.toml"
    config.write_text("limit = 7\n")
    settings = read_settings("quick", config)
    assert settings["limit"] == 7
    assert settings["models"] == ["zoo:*"]
    assert call("run", "--config", str(config), "--out", str(tmp_path / "run"), "--engine", "local", *SMALL) == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["options"]["limit"] == 7
    assert info["options"]["attacks"] == ["fgsm"]
    assert (
        info["options"]["explainers"]
        == info["options"]["attacked_explainers"]
        == info["options"]["shortcut_pair"]
        == []
    )
    assert (tmp_path / "run" / "report" / "index.html").exists()


@pytest.mark.parametrize("preset", ["quick", "standard", "full"])
def test_presets_are_sound(preset: str) -> None:
    options: Any = make_options(read_settings(preset, None))
    for texts in (options.attacks, options.transfer):
        found = [repr(one) for text in texts for one in parse_attacks(text)]
        assert len(set(found)) == len(found) > 0
    for table, texts in ((EXPLAINERS, options.explainers), (METRICS, options.metrics), (SYNTHESES, options.syntheses)):
        assert len({repr(table.parse(text)) for text in texts}) == len(texts) > 0


def test_the_full_preset_has_every_attack() -> None:
    given = [one for text in read_settings("full", None)["attacks"] for one in parse_attacks(text)]
    assert {ATTACKS.name_of(aim.attack) for aim in given} == set(ATTACKS)


@pytest.mark.parametrize("kind", KINDS)
def test_lists(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", kind) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


def test_attacks_are_listed_with_access_norms_and_goals(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "attacks") == 0
    about = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert about["fgsm"].startswith("gradient; linf; any goal: One signed")
    assert about["pgd"].startswith("gradient; linf l2 l1; any goal: ")
    assert about["ddn"].startswith("gradient; l2; any goal: ")
    assert about["square"].startswith("score; linf l2 l1; any goal: ")
    assert about["universal-perturbation"].startswith("gradient; linf l2; any goal; one for all images: ")


def test_layers_marks_the_grad_cam_layer(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("layers", "test_resnet") == 0
    (marked,) = [line for line in capsys.readouterr().out.splitlines() if "<- Grad-CAM" in line]
    assert marked.split()[0] == "layer4"
    assert "5x5 nchw" in marked


def test_one_picture_attacked_and_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("attack", MODEL, "digits#3", "--method", "pgd(eps=0.3)", "--out", str(tmp_path / "a")) == 0
    result = json.loads((tmp_path / "a" / "result.json").read_text())
    assert result["success"]
    assert result["distances"]["linf"] <= 0.3 + 1e-6
    assert "fooled" in capsys.readouterr().out
    told = call("attack", MODEL, "digits#3", "--method", "pgd(eps=0.01)", "--label", "0", "--out", str(tmp_path / "b"))
    assert told == 0
    assert "its goal was met before the attack" in capsys.readouterr().out
    picture = tmp_path / "a" / "original.png"
    with Image.open(picture) as opened:
        assert opened.size == (8, 8)
    assert (
        call("explain", MODEL, str(picture), "--method", "occlusion(window=3, stride=1)", "--out", str(tmp_path)) == 0
    )
    assert {"original.png", "heatmap.png", "overlay.png", "positions.png", "heatmap.npy", "result.json"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out.strip() == version()
    assert call("run", "--help") == 0
    assert "--accuracy-data" in capsys.readouterr().out


def test_train_against_an_adversary_under_another_name(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"linear": replace(RECIPES["linear"], images=64)}
    monkeypatch.setattr("assay.bench.training.zoo.RECIPES", few)
    monkeypatch.setattr("assay.bench.training.zoo.TEST_SCENES", 10)
    monkeypatch.setattr("assay.bench.training.zoo.WATCH_SCENES", 10)
    folders = ["--out", str(tmp_path / "zoo"), "--cache", str(tmp_path / "cache")]
    tokens = ["train", "linear", "--adversary", "pgd(steps=2)", "--trades", "6", "--epochs", "1", *folders]
    assert call(*tokens) == 0
    assert "linear-adversarial.safetensors: test, shortcut none" in (said := capsys.readouterr().out)
    assert "validation under PGD" in said
    card = json.loads((tmp_path / "zoo" / "linear-adversarial.json").read_text())
    assert (card["adversary"], card["trades"], card["epochs"]) == ("pgd(steps=2)", 6, 1)
    assert {path.name for path in (tmp_path / "zoo").iterdir()} == {
        f"linear-adversarial{s}" for s in (".json", ".safetensors")
    }
    assert call(*tokens) == 2
    assert "is there; choose another --name" in capsys.readouterr().err
