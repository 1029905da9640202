"""Training of style networks, on tiny ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from assay.bench.cli import main
from assay.bench.data import pictures as shelf
from assay.bench.models import Subject
from assay.bench.training.style import STORE_EVERY, StyleRecipe, _Fit, train
from assay.core.errors import AssayError
from assay.synthesis.fast import FastStyle, load
from assay.synthesis.style_transfer import StyleTransfer
from tests.synthesis.pyramid import Pyramid, pictures

TINY = StyleRecipe(
    aim=StyleTransfer(style_weight=10.0, tv=0.0), width=2, blocks=1, size=32, crop=32, batch=2, steps=6, lr=0.01
)


@pytest.fixture
def subject() -> Subject:
    return Subject(Pyramid(), name="pyramid", input_size=(3, 32, 32), mean=(0.5,), std=(0.25,))


@pytest.fixture
def content(tmp_path: Path) -> Path:
    folder = tmp_path / "content" / "deeper"
    folder.mkdir(parents=True)
    for i, image in enumerate(pictures(3, 40, 48)):
        _write(image, folder / f"{i}.png")
    return folder.parent


@pytest.fixture
def styles(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "wave.png", tmp_path / "night.png"]
    for i, path in enumerate(paths):
        _write(pictures(1, 36, 30, seed=10 + i)[0], path)
    return paths


def _write(image: torch.Tensor, path: Path) -> None:
    Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy()).save(path)


def test_a_network_and_its_card(subject: Subject, content: Path, styles: list[Path], tmp_path: Path) -> None:
    told: list[tuple[int, int, float]] = []
    out = tmp_path / "out" / "net.safetensors"
    card = train(
        styles, out, subject, content=content, recipe=TINY,
        progress=lambda _, epoch, epochs, done, loss: told.append((epoch, epochs, done)),
    )  # fmt: skip
    assert card == json.loads(out.with_suffix(".json").read_text())
    assert card["styles"] == ["wave", "night"]
    assert card["pictures"] == 3
    assert card["model"] == "pyramid"
    assert card["loss"]["total"] == pytest.approx(card["loss"]["content"] + 10 * card["loss"]["style"])
    assert len(told) == TINY.steps
    assert told[-1] == (0, 1, 1.0)
    assert sorted(each.name for each in out.parent.iterdir()) == ["net.json", "net.safetensors"]
    assert FastStyle(blend=(1, 0))(load(out), pictures(1)).images.shape == (1, 3, 24, 20)
    assert all(parameter.requires_grad for parameter in subject.parameters() if parameter is not subject.body.head.bias)  # type: ignore[union-attr]


def test_the_command(
    content: Path,
    styles: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("assay.bench.training.style.StyleRecipe", lambda: TINY)
    out = tmp_path / "net.safetensors"
    with pytest.raises(SystemExit, match="0"):
        main(["train", "style", *map(str, styles), "--content", str(content), "--out", str(out), "--steps", "2"])
    assert "wave, night; losses" in capsys.readouterr().out
    assert load(out).styles == ("wave", "night")
    with pytest.raises(SystemExit, match="2"):
        main(["train", "style"])
    assert capsys.readouterr().err == "assay: which styles? assay train style PICTURE ...\n"


def test_a_training_starts_with_the_styles_colours(
    subject: Subject, content: Path, styles: list[Path], tmp_path: Path
) -> None:
    fit = _Fit(styles, subject, shelf.photographs(content, 32), TINY, tmp_path / "state.pt", content)
    nn.init.zeros_(fit.network.last.conv.weight)
    images = pictures(1, 40, 48)
    for i, path in enumerate(styles):
        made = FastStyle(blend=tuple(float(i == j) for j in range(2)))(fit.network, images).images[0]
        logits = shelf.read(path, longer=32).flatten(1).clamp(0.02, 0.98).logit()
        torch.testing.assert_close(made.logit().flatten(1).mean(1), logits.mean(1), atol=1e-3, rtol=0)
        torch.testing.assert_close(made.logit().flatten(1).std(1), logits.std(1), atol=1e-2, rtol=0)


def test_training_lowers_the_loss(subject: Subject, content: Path, styles: list[Path], tmp_path: Path) -> None:
    recipe = replace(TINY, steps=150, width=4)
    fit = _Fit(styles[:1], subject, shelf.photographs(content, 32), recipe, tmp_path / "state.pt", content)
    fit.run(None)
    total, _, style = torch.tensor(fit.history).T
    assert total[-20:].mean() < 0.6 * total[:20].mean()
    assert style[-20:].mean() < 0.4 * style[:20].mean()


def test_the_same_seed_the_same_network(subject: Subject, content: Path, styles: list[Path], tmp_path: Path) -> None:
    hashes = [
        train(styles, tmp_path / f"{i}.safetensors", subject, content=content, recipe=replace(TINY, seed=seed))[
            "sha256"
        ]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_stopped_training_goes_on(
    subject: Subject, content: Path, styles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert STORE_EVERY > 1
    monkeypatch.setattr("assay.bench.training.style.STORE_EVERY", 2)
    whole = train(styles, tmp_path / "whole.safetensors", subject, content=content, recipe=TINY)

    class Stopped(Exception):
        pass

    def stop(name: str, epoch: int, epochs: int, done: float, loss: float) -> None:
        steps.append(epoch * 2 + round(done * 2))
        if len(steps) == 5:
            raise Stopped

    steps: list[int] = []
    out = tmp_path / "stopped.safetensors"
    with pytest.raises(Stopped):
        train(styles, out, subject, content=content, recipe=TINY, progress=stop)
    assert not out.exists()
    again = train(styles, out, subject, content=content, recipe=TINY, progress=stop)
    assert steps == [1, 2, 3, 4, 5, 5, 6]
    assert again["sha256"] == whole["sha256"]
    other = replace(TINY, lr=0.02)
    train(styles, out, subject, content=content, recipe=other, progress=stop)
    assert steps[7:] == [1, 2, 3, 4, 5, 6]


def test_what_cannot_be_trained(subject: Subject, content: Path, styles: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "net.safetensors"
    with pytest.raises(AssayError, match=r"is a \.safetensors file"):
        train(styles, tmp_path / "net.pt", subject, content=content, recipe=TINY)
    with pytest.raises(AssayError, match="which styles"):
        train([], out, subject, content=content, recipe=TINY)
    with pytest.raises(AssayError, match="no picture"):
        train([tmp_path / "no.png"], out, subject, content=content, recipe=TINY)
    with pytest.raises(AssayError, match="no pictures in"):
        train(styles, out, subject, content=tmp_path / "none", recipe=TINY)
    grey = Subject(
        nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), name="grey", input_size=(1, 2, 2), mean=(0.5,), std=(0.25,)
    )
    with pytest.raises(AssayError, match="grey takes pictures of 1 channel"):
        train(styles, out, grey, content=content, recipe=TINY)
    with pytest.raises(AssayError, match="no larger than"):
        train(styles, out, subject, content=content, recipe=replace(TINY, crop=64))


def test_shipped_photographs() -> None:
    found = shelf.photographs(side=64)
    assert len(found) == len(shelf.package_photographs()) >= 8
    for picture in found:
        assert min(picture.shape[1:]) == 64
        assert picture.shape[0] == 3
        assert 0 <= picture.min() < 0.5 < picture.max() <= 1
        assert picture.std((1, 2)).min() > 0.01


def test_pictures_are_read_as_they_are(styles: list[Path]) -> None:
    with Image.open(styles[0]) as picture:
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
    assert torch.equal(shelf.read(styles[0]), pixels)
    assert shelf.read(styles[0], longer=18).shape == (3, 18, 15)
    assert shelf.read(styles[0], shorter=15).shape == (3, 18, 15)
