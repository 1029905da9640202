"""Generators: the shipped one, the user's own, and how it is trained."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.bench import models
from assay.bench.cli import main
from assay.bench.data import scenes
from assay.bench.models import generators
from assay.bench.training import generator
from assay.bench.training.generator import codes, records, train
from assay.bench.zoo.generator import Generator, GeneratorRecipe
from assay.core.errors import AssayError

SMALL = GeneratorRecipe(
    settings={"size": 96, "hidden": 16, "width": 16, "depth": 2, "turns": (0, 1), "octaves": 2},
    images=40, epochs=2, batch=10, pixels=32,
)  # fmt: skip


class Own(nn.Module):
    """Grey pictures whose level is the code's mean."""

    latent = 4

    def __init__(self, scale: float = 1.0, channels: int = 1) -> None:
        super().__init__()
        self.scale, self.channels = nn.Parameter(torch.tensor(scale)), channels

    def forward(self, codes: Tensor) -> Tensor:
        return (0.5 + self.scale * (codes.mean(1).sigmoid() - 0.5)).view(-1, 1, 1, 1).expand(-1, self.channels, 6, 8)


def own() -> nn.Module:
    return Own()


def too_bright() -> nn.Module:
    made = Own()
    made.scale.data.fill_(0)
    made.forward = lambda codes: torch.full((1, 3, 4, 4), 1.5)  # type: ignore[method-assign]
    return made


def of_two_channels() -> nn.Module:
    return Own(channels=2)


def without_a_code() -> nn.Module:
    return nn.Identity()


def another_code() -> nn.Module:
    made = nn.Linear(3, 2)
    made.latent = 5  # type: ignore[assignment]
    return made


def no_module() -> int:
    return 3


@pytest.fixture(scope="module")
def shipped() -> generators.ImageGenerator:
    return generators.load("scenes")


def random(n: int, latent: int) -> Tensor:
    return torch.randn(n, latent, generator=torch.Generator().manual_seed(7))


def test_codes_become_pictures(shipped: generators.ImageGenerator) -> None:
    some = random(3, shipped.latent)
    with torch.no_grad():
        images = shipped(some)
        assert torch.equal(images, generators.load("scenes")(some))
        assert torch.allclose(images[1:2], shipped(some[1:2]), atol=1e-5)
        body = shipped.body
        assert isinstance(body, Generator)
        assert torch.allclose(images.flatten(2)[..., 900:950].mT, body.draw(some, body.places[900:950]), atol=1e-5)
    assert images.shape == (3, *shipped.size) == (3, 3, 96, 96)
    assert images.dtype == torch.float32
    assert images.amin() >= 0
    assert images.amax() <= 1
    assert (images[0] - images[1]).abs().amax() > 0.1
    assert not shipped.training


def test_a_picture_has_a_gradient_by_its_code(shipped: generators.ImageGenerator) -> None:
    some = random(1, shipped.latent).requires_grad_()
    (slope,) = torch.autograd.grad(shipped(some).square().sum(), some)
    assert slope.isfinite().all()
    assert (slope != 0).all()


def test_the_digest_is_of_the_weights(shipped: generators.ImageGenerator) -> None:
    again = generators.load("scenes")
    assert again.digest == shipped.digest
    assert len(shipped.digest) == 64
    body = Own()
    before = generators.ImageGenerator(body, name="own").digest
    body.scale.data.add_(1e-6)
    after = generators.ImageGenerator(body, name="own").digest
    assert before != after


def test_loads_the_users_own() -> None:
    made = generators.load(f"py:{__name__}:own")
    assert (made.latent, made.size, made.name) == (4, (1, 6, 8), f"py:{__name__}:own")
    assert torch.equal(made(torch.zeros(2, 4)), torch.full((2, 1, 6, 8), 0.5))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("scene", "did you mean scenes"),
        ("zoo:resnet", "unknown generator"),
        ("py:nowhere.to:be", "must be importable"),
        (f"py:{__name__}", "names no function"),
        (f"py:{__name__}:too_bright", r"in \[0, 1\]"),
        (f"py:{__name__}:of_two_channels", r"gives \(1, 2, 6, 8\)"),
        (f"py:{__name__}:without_a_code", "latent"),
        (f"py:{__name__}:another_code", r"fails on codes \(1, 5\)"),
        (f"py:{__name__}:no_module", "must return an nn.Module"),
    ],
)
def test_says_why_it_cannot_be_loaded(spec: str, says: str) -> None:
    with pytest.raises(AssayError, match=says) as caught:
        generators.load(spec)
    assert "\n" not in str(caught.value)


def test_it_is_no_classifier_of_the_zoo() -> None:
    assert generators.names() == ["scenes"]
    assert not [name for name in models.zoo_names() if "scenes" in name]


def test_codes_tell_the_record(tmp_path: Path) -> None:
    of = records(tmp_path, "validation", 200)
    told = codes(of, np.random.default_rng(0)).double().numpy()
    assert told.shape == (200, 33)
    assert np.abs(told.mean(0)).max() < 0.25  # 3.5 standard errors
    assert np.abs(told.std(0) - 1).max() < 0.2
    first = [scenes.scene(i, "validation") for i in range(200)]
    across, up, x, bodies, marks = told[:, 0:4:2], told[:, 1:4:2], told[:, 10], told[:, 24:29], told[:, 32]
    assert [scenes.BODIES[k] for k in bodies.argmax(1)] == [scene.body.kind for scene in first]
    assert [scenes.MARKS[int(sign > 0)] for sign in marks] == [scene.mark.kind for scene in first]
    assert np.allclose(np.arctan2(up, across), [(scene.body.angle, scene.mark.angle) for scene in first], atol=1e-5)
    assert (np.argsort(x) == np.argsort([scene.body.x for scene in first])).all()


def test_a_seed_gives_the_same_weights_stopped_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "JUDGES", ("resnet",))
    monkeypatch.setattr(generator, "TEST_SCENES", 10)
    monkeypatch.setattr(generator, "SAMPLES", 5)
    cache = tmp_path / "cache"
    whole = train(tmp_path / "whole", cache=cache, recipe=SMALL)

    class Stopped(Exception):
        pass

    def stop(name: str, epoch: int, epochs: int, done: float, loss: float) -> None:
        if epoch == 1:
            raise Stopped

    with pytest.raises(Stopped):
        train(tmp_path / "stopped", cache=cache, recipe=SMALL, progress=stop)
    assert train(tmp_path / "stopped", cache=cache, recipe=SMALL)["sha256"] == whole["sha256"]
    assert {path.name for path in (tmp_path / "stopped").iterdir()} == {"scenes.json", "scenes.safetensors"}
    assert train(tmp_path / "other", cache=cache, recipe=SMALL, seed=1)["sha256"] != whole["sha256"]
    monkeypatch.setattr(generators, "WEIGHTS", tmp_path / "whole")
    made = generators.load("scenes")
    assert made.card["epochs"] == 2
    assert set(made.card["kept"]) == {"resnet"}
    (tmp_path / "whole" / "scenes.safetensors").write_bytes(b"")
    with pytest.raises(AssayError, match="sha256 differs"):
        generators.load("scenes")


def test_learns_one_picture(tmp_path: Path) -> None:
    """Drawn at few places in a step, and all of it is there at the end."""
    losses: list[float] = []

    def progress(name: str, epoch: int, epochs: int, done: float, loss: float) -> None:
        losses.append(loss)

    fit = generator._Fit(replace(SMALL, images=10, epochs=150, bfloat16=False), tmp_path / "r.pt", tmp_path)
    fit.pictures, fit.records = fit.pictures[:1].repeat(10, 0), fit.records
    fit.run(progress)
    assert losses[-1] < 0.6 * losses[0]


def test_the_command_trains_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator, "GeneratorRecipe", lambda: SMALL)
    monkeypatch.setattr(generator, "JUDGES", ("repvgg",))
    monkeypatch.setattr(generator, "TEST_SCENES", 10)
    monkeypatch.setattr(generator, "SAMPLES", 5)
    with pytest.raises(SystemExit) as end:
        main(["train", "generator", "--out", str(tmp_path), "--cache", str(tmp_path / "cache"), "--epochs", "1"])
    assert end.value.code == 0
    assert "kept for repvgg" in capsys.readouterr().out
    assert json.loads((tmp_path / "generators" / "scenes.json").read_text())["epochs"] == 1


def test_the_shipped_card_tells_the_recipe(shipped: generators.ImageGenerator) -> None:
    recipe = json.loads(json.dumps(asdict(GeneratorRecipe())))
    assert {key: shipped.card[key] for key in recipe} == recipe
    assert isinstance(shipped.body, Generator)


def test_redrawn_scenes_keep_their_class(shipped: generators.ImageGenerator, tmp_path: Path) -> None:
    told = codes(records(tmp_path, "test", 60), np.random.default_rng(0))
    with torch.no_grad():
        redrawn = shipped(told)
        for name in ("resnet", "vit"):
            right = models.load(f"zoo:{name}")(redrawn).argmax(1) == torch.arange(60) % 10
            assert right.float().mean() >= shipped.card["kept"][name] - 0.1, name
    assert min(shipped.card["kept"].values()) >= 0.8


def test_a_turned_pair_turns_the_object(shipped: generators.ImageGenerator) -> None:
    """Without the other kinds of change: a quarter turn of object, its place and its mark is one of the picture."""
    code = torch.zeros(1, shipped.latent)
    code[:, [0, 2, 4, 6, 8]] = 1.0  # directions
    code[:, 24], code[:, 32] = 2.0, 1.0  # the kind of the body, and of the mark
    turned = code.clone()
    turned[:, [0, 2]], turned[:, [1, 3]] = 0.0, 1.0
    with torch.no_grad():
        one, other = shipped(code), shipped(turned)
    assert (one.rot90(-1, (2, 3)) - other).abs().mean() < 0.02
