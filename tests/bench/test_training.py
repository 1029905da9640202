"""Training: reproducible from its seed, resumed where it stopped."""

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from bench import training
from bench.data import scenes
from bench.zoo.recipes import RECIPES
from core.errors import AssayError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes on a few pictures."""
    few = {
        "mlp": replace(RECIPES["mlp"], images=256, epochs=2, then=(2,)),
        "repvgg-robust": replace(RECIPES["repvgg-robust"], images=64, epochs=1, batch=16, bfloat16=False),
    }
    monkeypatch.setattr(training, "RECIPES", few)
    monkeypatch.setattr(training, "TEST_SCENES", 20)


def weights(folder: Path, name: str = "mlp") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / f"{name}.safetensors")


def test_a_seed_gives_the_same_weights_stopped_or_not(tmp_path: Path) -> None:
    told: list[float] = []

    def progress(name: str, epoch: int, epochs: int, done: float, loss: float) -> None:
        told.append(loss)

    cache = tmp_path / "cache"
    card = training.train("mlp", tmp_path / "whole", cache=cache, progress=progress)
    assert len(told) == 4 * (256 // 64)
    assert told[3] > told[7]

    class Stopped(Exception):
        pass

    for last in (1, 2, 3):  # within a cycle, at the start of the second, within the second

        def stop(name: str, epoch: int, epochs: int, done: float, loss: float, last: int = last) -> None:
            assert epochs == 4
            if epoch == last:
                raise Stopped

        with pytest.raises(Stopped):
            training.train("mlp", tmp_path / "stopped", cache=cache, progress=stop)
    assert not (tmp_path / "stopped" / "mlp.safetensors").exists()
    again = training.train("mlp", tmp_path / "stopped", cache=cache)
    assert again["sha256"] == card["sha256"]
    assert not list((tmp_path / "stopped").glob("*.resume.*"))
    other = training.train("mlp", tmp_path / "other", cache=cache, seed=1)
    assert other["sha256"] != card["sha256"]
    assert (other["seed"], other["epochs"]) == (1, 2)


def test_a_card_tells_how_the_weights_came_to_be(tmp_path: Path) -> None:
    card = training.train("mlp", tmp_path, cache=tmp_path / "cache", epochs=1)
    assert card["epochs"] == 1
    assert card["classes"] == list(scenes.CLASSES)
    assert set(card["accuracy"]) == {"test, shortcut none", "test, shortcut agrees", "test, shortcut lies"}
    assert f"scenes version {scenes.VERSION}" in card["data"]


def test_the_adversary_attacks_the_model_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[float] = []
    real = training._Fit._attacked

    def watched(
        self: training._Fit, pictures: torch.Tensor, labels: torch.Tensor, epoch: int, batch: int
    ) -> torch.Tensor:
        attacked = real(self, pictures, labels, epoch, batch)
        sizes.append((attacked - pictures).abs().amax().item() * 255)
        return attacked

    monkeypatch.setattr(training._Fit, "_attacked", watched)
    training.train("repvgg-robust", tmp_path, cache=tmp_path / "cache")
    assert sizes == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=1e-3)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="did you mean mlp"):
        training.train("mpl", tmp_path, cache=tmp_path)
