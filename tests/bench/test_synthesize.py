"""``assay synthesize``: pictures with their settings, scores and history beside them, and wrong usage."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from assay.synthesis.fast import StyleNet, save
from tests.bench.test_cli import MODEL, call

QUICK = "visualize(steps=6)"


def record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    with Image.open(path) as picture:
        assert [picture.height, picture.width] == found["size"]
    return found


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture of 40 x 30 pixels with something to see in it."""
    y, x = np.mgrid[:30, :40]
    pixels = np.stack([127 + 120 * np.sin(x / 3), 127 + 120 * np.sin(y / 2), 127 + 100 * np.sin((x + y) / 5)], -1)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_classes_layers_channels_and_neurons(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    words = ["3", "edges", "edges:2", "edges:2:4:4"]
    assert call("synthesize", "visualize", MODEL, *words, "--method", QUICK, "--out", str(tmp_path)) == 0
    lines = capsys.readouterr().out.splitlines()
    named = [Path(line.partition(": ")[0]) for line in lines]
    assert [path.name for path in named] == ["class-3.png", "edges.png", "edges-2.png", "edges-2-4-4.png"]
    told = [record(path) for path in named]
    assert told[0]["target"] == "3"
    assert set(told[0]["scores"]) == {"probability", "moved_probability"}
    assert set(told[2]["scores"]) == {"value"}
    assert all(len(one["history"]) == 6 for one in told)
    assert told[0]["method"].startswith("Visualize(")
    assert told[0]["model"]["name"] == MODEL


def test_seeds_are_scored_for_diversity_and_spectrum(tmp_path: Path) -> None:
    tokens = ["3", "--count", "3", "--like", "digits", "--method", "visualize(steps=6, parametrisation=maco)"]
    assert call("synthesize", "visualize", MODEL, *tokens, "--out", str(tmp_path)) == 0
    told = [record(tmp_path / f"class-3-{i}.png") for i in range(3)]
    assert told[0]["diversity"] > 0
    assert "spectrum_distance_db" in told[0]["scores"]
    assert told[0]["history"] != told[1]["history"]


def test_facets_start_from_means_of_images(tmp_path: Path) -> None:
    tokens = ["3", "--facets", "2", "--like", "digits", "--method", "visualize(steps=1, step_size=1e-6)"]
    assert call("synthesize", "visualize", MODEL, *tokens, "--out", str(tmp_path)) == 0
    first, second = (np.asarray(Image.open(tmp_path / f"class-3-{i}.png"), float) for i in range(2))
    assert np.abs(first - second).mean() > 2
    assert first.std() > 20  # a mean digit, not grey


def test_every_depth_in_one_call(tmp_path: Path) -> None:
    tokens = ["--depths", "2", "--method", QUICK, "--out", str(tmp_path)]
    assert call("synthesize", "visualize", MODEL, *tokens) == 0
    names = {path.name for path in tmp_path.glob("*.png")}
    assert {"depths.png", "class-0.png", "class-1.png", "edges-0.png"} <= names


def test_inversions_of_several_layers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    tokens = ["digits#3", "input", "edges", "--method", "invert(steps=40, tv=0.01)"]
    assert call("synthesize", "invert", MODEL, *tokens, "--out", str(tmp_path)) == 0
    given, edges = record(tmp_path / "inverted-input.png"), record(tmp_path / "inverted-edges.png")
    assert given["scores"]["inversion_error"] == 0
    assert given["scores"]["inversion_class"] == 1
    assert 0 < edges["scores"]["inversion_error"] < 0.3
    assert capsys.readouterr().out.count("\n") == 2


def test_a_dream_keeps_the_pictures_size(photo: Path, tmp_path: Path) -> None:
    tokens = [str(photo), "--method", "deep-dream(octaves=2, steps=2)", "--out", str(tmp_path)]
    assert call("synthesize", "dream", "zoo:resnet", *tokens) == 0
    told = record(tmp_path / "dream.png")
    assert told["size"] == [30, 40]
    assert told["picture"] == str(photo)
    assert call("synthesize", "dream", "zoo:resnet", *tokens, "--longest", "60", "--guide", str(photo)) == 0
    assert record(tmp_path / "dream.png")["size"] == [45, 60]


@pytest.mark.parametrize(
    "method", ["image-quilting(block=9)", "efros-leung(window=5)", "wei-levoy(window=5, levels=2)"]
)
def test_textures_of_a_sample(method: str, photo: Path, tmp_path: Path) -> None:
    tokens = [str(photo), "--method", method, "--size", "36", "50", "--out", str(tmp_path / "out")]
    assert call("synthesize", "texture", *tokens) == 0
    told = record(tmp_path / "out" / "texture-photo.png")
    assert told["size"] == [36, 50]
    assert {"copy_length", "seam_energy"} <= set(told["scores"])


def test_textures_by_gram_matrices(photo: Path, tmp_path: Path) -> None:
    tokens = [str(photo), "--model", "zoo:resnet", "--method", "texture-synthesis(steps=9)", "--size", "40", "48"]
    assert call("synthesize", "texture", *tokens, "--out", str(tmp_path / "out")) == 0
    told = record(tmp_path / "out" / "texture-photo.png")
    assert told["size"] == [40, 48]
    assert told["history"][-1] > told["history"][-3]


def test_a_style_and_a_blend_of_two(photo: Path, tmp_path: Path) -> None:
    tokens = [str(photo), "scenes#1", "scenes#2", "--weights", "2", "1", "--model", "zoo:resnet", "--longest", "48"]
    assert call("synthesize", "style", *tokens, "--method", "style-transfer(steps=8)", "--out", str(tmp_path)) == 0
    told = record(tmp_path / "style.png")
    assert told["size"] == [36, 48]
    assert told["weights"] == [2, 1]
    assert told["scores"]["style_loss"] > 0


def test_a_style_network_paints_in_one_pass(photo: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    save(StyleNet(("waves", "stars"), 4, 1), tmp_path / "net.safetensors", {})
    tokens = [str(photo), "stars", "--network", str(tmp_path / "net.safetensors"), "--out", str(tmp_path)]
    assert call("synthesize", "style", *tokens) == 0
    told = record(tmp_path / "style.png")
    assert told["size"] == [30, 40]
    assert told["styles"] == {"stars": 1}
    assert told["method"] == "FastStyle(blend=(0.0, 1.0))"


def test_a_dream_that_takes_no_steps_does_not_grow(photo: Path, tmp_path: Path) -> None:
    tokens = [str(photo), "--method", "deep-dream(octaves=3, steps=2, step_size=0, jitter=0)", "--out", str(tmp_path)]
    assert call("synthesize", "dream", "zoo:resnet", *tokens) == 0
    assert record(tmp_path / "dream.png")["scores"]["dream_growth"] == 1


def test_a_model_of_a_fixed_size_is_scored_in_windows(tmp_path: Path) -> None:
    tokens = ["0", "--size", "100", "120", "--method", "visualize(steps=2)", "--out", str(tmp_path)]
    assert call("synthesize", "visualize", "zoo:vit", *tokens) == 0
    told = record(tmp_path / "class-0.png")
    assert told["size"] == [100, 120]
    assert 0 <= told["scores"]["moved_probability"] <= 1


def test_pictures_one_pixel_wide_keep_their_size(tmp_path: Path) -> None:
    tokens = ["conv1.0:1", "--size", "1", "9", "--method", "visualize(steps=2, degrees=0, scale=0)"]
    assert call("synthesize", "visualize", "zoo:resnet", *tokens, "--out", str(tmp_path)) == 0
    record(tmp_path / "conv1.0-1.png")


def test_samples_of_one_name_do_not_overwrite_each_other(photo: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / photo.name
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    tokens = [str(photo), str(other), "--method", "image-quilting(block=9)", "--out", str(tmp_path / "out")]
    assert call("synthesize", "texture", *tokens) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


def test_the_same_command_makes_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        call("synthesize", "visualize", MODEL, "4", "--method", QUICK, "--seed", "5", "--out", str(tmp_path / name))
    files = [(tmp_path / name / f"class-4.{kind}").read_bytes() for kind in ("png", "json") for name in ("one", "two")]
    assert files[0] == files[1]
    assert files[2] == files[3]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["visualize", MODEL, "elevn"], "no class of"),
        (["visualize", MODEL, "edges:2:3"], "LAYER:CHANNEL:ROW:COLUMN"),
        (["visualize", MODEL, "edges:99"], "has 12 x 8 x 8 channels"),
        (["visualize", MODEL, "--method", "invert"], "here --method is visualize"),
        (["visualize", MODEL, "1", "--facets", "2"], "--like DATA"),
        (["visualize", MODEL, "1", "--count", "0"], "--count must be 1 or more"),
        (["visualize", MODEL, "1", "--method", "visualize(parametrisation=pixl)"], "parametrisation='pixl' is not"),
        (["invert", MODEL, "digits#3", "edgs"], "did you mean"),
        (["invert", MODEL, "digits#3", "--method", "deep-dream"], "here --method is invert"),
        (["invert", "zoo:linear", "scenes#3"], "no layers with a grid"),
        (["visualize", "zoo:vit", "0", "--size", "40", "40"], "96 x 96 alone"),
        (["visualize", MODEL, "1", "--facets", "2", "--count", "2"], "leave out --count"),
        (["visualize", MODEL, "1", "--generator", "scenes"], "parametrisation=latent"),
        (["dream", "zoo:resnet", "scenes#1", "--longest", "0"], "--longest 0 must be 1 or more"),
        (["invert", MODEL, "nowhere.png"], "no picture at nowhere.png"),
        (["dream", "zoo:resnet", "nowhere.png"], "no picture at nowhere.png"),
        (["texture"], "requires an argument"),
        (["texture", "digits#1", "--method", "image-quilting(block=99)"], "smaller"),
        (["texture", "digits#1", "--model", MODEL], "takes no --model"),
        (["texture", "digits#1", "--method", "texture-synthesis"], "needs --model"),
        (["style", "digits#1", "--model", MODEL], "in which style?"),
        (["style", "scenes#1", "scenes#2", "--weights", "1", "2", "--model", "zoo:resnet"], "2 weights for 1 styles"),
        (["style", "scenes#1", "--network", "nowhere.safetensors"], "no style network"),
        (["style", "scenes#1", "--network", "net.safetensors", "--model", MODEL], "leave out --model and --method"),
        (["style", "scenes#1", "--network", "net.safetensors", "--method", "style-transfer"], "leave out --model and"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call("synthesize", *words, "--out", str(tmp_path)) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
