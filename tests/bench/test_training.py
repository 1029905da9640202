"""Training: reproducible from its seed, resumed where it stopped, harder to fool with an adversary."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import nn

from assay.attacks import FGSM, PGD
from assay.attacks.balls import Ball
from assay.bench.data import scenes
from assay.bench.models import Subject, create
from assay.bench.training import base, zoo
from assay.bench.zoo.recipes import RECIPES, Recipe, Trades
from assay.core.draws import Draws
from assay.core.errors import AssayError


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes on a few pictures."""
    few = {
        "mlp": replace(RECIPES["mlp"], images=256, epochs=2, then=(2,)),
        "repvgg-robust": replace(RECIPES["repvgg-robust"], images=64, epochs=1, batch=16, bfloat16=False),
        "repvgg-trades": RECIPES["repvgg-trades"],
    }
    monkeypatch.setattr(zoo, "RECIPES", few)
    monkeypatch.setattr(zoo, "TEST_SCENES", 20)
    monkeypatch.setattr(zoo, "WATCH_SCENES", 20)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where scenes stay once they are drawn."""
    return tmp_path_factory.mktemp("cache")


def weights(folder: Path, name: str = "mlp") -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(folder / f"{name}.safetensors")


def test_a_seed_gives_the_same_weights_stopped_or_not(tmp_path: Path, cache: Path) -> None:
    told: list[float] = []

    def progress(name: str, epoch: int, epochs: int, done: float, loss: float) -> None:
        told.append(loss)

    card = zoo.train("mlp", tmp_path / "whole", cache=cache, progress=progress)
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
            zoo.train("mlp", tmp_path / "stopped", cache=cache, progress=stop)
    assert not (tmp_path / "stopped" / "mlp.safetensors").exists()
    again = zoo.train("mlp", tmp_path / "stopped", cache=cache)
    assert again["sha256"] == card["sha256"]
    assert not list((tmp_path / "stopped").glob("*.resume.*"))
    other = zoo.train("mlp", tmp_path / "other", cache=cache, seed=1)
    assert other["sha256"] != card["sha256"]
    assert (other["seed"], other["epochs"]) == (1, 2)


def test_a_card_tells_how_the_weights_came_to_be(tmp_path: Path, cache: Path) -> None:
    card = zoo.train("mlp", tmp_path, cache=cache, epochs=1)
    assert card["epochs"] == 1
    assert card["classes"] == list(scenes.CLASSES)
    assert set(card["accuracy"]) == {"test, shortcut none", "test, shortcut agrees", "test, shortcut lies"}
    assert f"scenes version {scenes.VERSION}" in card["data"]


def test_the_adversary_attacks_the_model_in_training(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[float] = []
    real = zoo._Fit._adversarial

    def watched(self: zoo._Fit, pictures: torch.Tensor, labels: torch.Tensor, epoch: int, batch: int) -> torch.Tensor:
        attacked = real(self, pictures, labels, epoch, batch)
        sizes.append((attacked - pictures).abs().amax().item() * 255)
        return attacked

    monkeypatch.setattr(zoo._Fit, "_adversarial", watched)
    zoo.train("repvgg-robust", tmp_path, cache=cache)
    assert sizes == pytest.approx([0.5, 1.0, 1.5, 2.0], abs=1e-3)


def test_an_unknown_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match="did you mean mlp"):
        zoo.train("mpl", tmp_path, cache=tmp_path)


class Wave(nn.Module):
    """A small curved network of images (N, 3, 8, 8), with the batch normalisation that TRADES trips over."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def pictures(n: int = 6) -> torch.Tensor:
    return Draws.hashed("pictures", map(str, range(n))).uniform((3, 8, 8))


def test_the_loss_of_trades_is_its_formula() -> None:
    clean = [[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]]
    attacked = [[2.0, 0.0, 0.5], [0.5, -1.0, 1.0]]
    labels, beta = [1, 2], 6.0
    total = 0.0
    for x, a, y in zip(clean, attacked, labels, strict=True):
        p = [math.exp(v) / sum(map(math.exp, x)) for v in x]
        q = [math.exp(v) / sum(map(math.exp, a)) for v in a]
        total += -math.log(p[y]) + beta * sum(i * math.log(i / j) for i, j in zip(p, q, strict=True))
    f, g = (torch.tensor(values, requires_grad=True) for values in (clean, attacked))
    loss = zoo.trades_loss(f, g, torch.tensor(labels), beta)
    assert loss.item() == pytest.approx(total / 2, rel=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert f.grad is not None
    natural, consistency = f.grad - (f.softmax(1) - nn.functional.one_hot(torch.tensor(labels), 3)).detach() / 2, g.grad
    assert natural.abs().min() > 0.01  # the paper lets the gradient through the clean answer too
    torch.testing.assert_close(consistency, beta * (g.softmax(1) - f.softmax(1)).detach() / 2)


def test_clean_and_attacked_images_share_the_statistics_of_batch_normalisation(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(known_trades(), images=8, batch=8, epochs=1, channels_last=False)
    seen: list[torch.Tensor] = []
    answers: list[torch.Tensor] = []
    real = zoo.trades_loss

    def searched(attack: PGD, model: nn.Module, images: torch.Tensor, draws: Draws) -> torch.Tensor:
        seen.append(images)
        return 0.5 * images

    def loss(clean: torch.Tensor, attacked: torch.Tensor, *rest: Any) -> torch.Tensor:
        answers.extend((clean.detach(), attacked.detach()))
        return real(clean, attacked, *rest)

    monkeypatch.setattr(zoo, "maximise_divergence", searched)
    monkeypatch.setattr(zoo, "trades_loss", loss)
    zoo.train("x", tmp_path, cache=cache, recipe=recipe)
    torch.manual_seed(recipe.seed)
    network = subject(recipe).train()
    joint = network(torch.cat([seen[0], 0.5 * seen[0]])).detach()
    torch.testing.assert_close(torch.cat(answers), joint, atol=1e-4, rtol=1e-4)
    assert (network(seen[0]) - answers[0]).abs().max() > 0.01


@pytest.mark.parametrize("attack", [PGD(steps=3, eps=0.03), PGD(norm="l2", eps=0.5, steps=3), FGSM(eps=0.03)])
def test_the_search_of_trades_raises_the_divergence_inside_the_ball(attack: PGD | FGSM) -> None:
    model, images = Wave().train(), pictures()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    draws = Draws.hashed("draws", map(str, range(6)))
    found = zoo.maximise_divergence(attack, model, images, draws)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    ball = Ball(attack.norm if isinstance(attack, PGD) else "linf", attack.eps)
    torch.testing.assert_close(ball.inside(images, found), found)
    model.eval()
    with torch.no_grad():
        clean = model(images)
        random = ball.inside(images, images + ball.random(images, draws))
        assert (zoo.divergence(clean, model(found)) > 2 * zoo.divergence(clean, model(random))).all()
    alone = zoo.maximise_divergence(attack, model, images[2:3], Draws.hashed("draws", ["2"]))
    torch.testing.assert_close(alone, found[2:3], atol=1e-3, rtol=0)  # no image hangs on the others of its batch


def known_trades() -> Trades:
    recipe = RECIPES["repvgg-trades"]
    assert isinstance(recipe, Trades)
    return replace(recipe, images=64, epochs=2, batch=16, warmup=0.0, bfloat16=False)


def colours(**settings: object) -> Recipe:
    """A problem of seconds: the background tells the class, and an MLP reads it carelessly."""
    recipe = replace(RECIPES["mlp"], shortcut="agrees", images=128, epochs=3, batch=16)
    kind = Trades if "trades" in settings else Recipe
    return kind(**{**vars(recipe), **settings})


def subject(recipe: Recipe) -> Subject:
    facts: dict[str, Any] = {"input_size": zoo.INPUT_SIZE, "mean": zoo.MEAN, "std": zoo.STD}
    return Subject(create(recipe, len(scenes.CLASSES)), name="x", **facts)


def robust(recipe: Recipe, folder: Path, cache: Path) -> float:
    model = subject(recipe)
    model.body.load_state_dict(weights(folder, "x"))
    test = base.scene_pictures(cache, "test", 50, "agrees")
    assert zoo._accuracy(model, test) >= 0.7
    return zoo._accuracy(model, test, PGD(eps=8 / 255, steps=10))


def test_training_against_an_adversary_makes_a_model_harder_to_fool(tmp_path: Path, cache: Path) -> None:
    stand = {}
    for kind, recipe in {
        "plain": colours(),
        "pgd": colours(adversary="pgd(eps=8/255, steps=2)"),
        "fgsm": colours(adversary="fgsm(eps=8/255, random_start=True)"),
        "trades": colours(adversary="pgd(eps=8/255, steps=3)", trades=6.0),
    }.items():
        zoo.train("x", tmp_path / kind, cache=cache, recipe=recipe)
        stand[kind] = robust(recipe, tmp_path / kind, cache)
    assert min(stand["pgd"], stand["fgsm"], stand["trades"]) >= stand["plain"] + 0.1, stand


@pytest.mark.parametrize("beta", [None, 6.0])
def test_an_adversarial_training_stops_and_goes_on_the_same(tmp_path: Path, cache: Path, beta: float | None) -> None:
    recipe = colours(adversary="pgd(steps=2)", **({"trades": beta} if beta else {}))
    recipe = replace(recipe, images=64, epochs=3)
    card = zoo.train("x", tmp_path / "whole", cache=cache, recipe=recipe)

    def stop(name: str, epoch: int, epochs: int, done: float, loss: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.train("x", tmp_path / "stopped", cache=cache, recipe=recipe, progress=stop)
    again = zoo.train("x", tmp_path / "stopped", cache=cache, recipe=recipe)
    assert again == card
    assert [row["epoch"] for row in card["history"]] == [1, 2, 3]
    assert all(0 <= row["robust"] <= 1 and row["kept"] for row in card["history"])
    assert card.get("trades") == beta
    assert json.loads((tmp_path / "whole" / "x.json").read_text())["history"] == card["history"]


@pytest.mark.parametrize(("adversary", "epochs"), [("fgsm(random_start=True)", 3), ("pgd(steps=1)", 4)])
def test_a_fall_of_the_robust_accuracy_ends_the_training_with_the_epoch_before(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, adversary: str, epochs: int
) -> None:
    kept: list[dict[str, torch.Tensor]] = []

    def watched(self: zoo._Watch, subject: Subject) -> dict[str, float]:
        kept.append({key: value.clone() for key, value in subject.body.state_dict().items()})
        return {"accuracy": 0.9, "robust": {1: 0.5, 2: 0.6, 3: 0.3, 4: 0.5}[len(kept)]}

    monkeypatch.setattr(zoo._Watch, "__call__", watched)
    recipe = replace(colours(adversary=adversary), images=64, epochs=3, then=(1,))
    card = zoo.train("x", tmp_path, cache=cache, recipe=recipe)
    assert [row["kept"] for row in card["history"]] == [True, True, epochs == 4, True][:epochs]
    final = kept[1 if epochs == 3 else 3]  # one step of gradient may overfit catastrophically; PGD is left alone
    assert all(torch.equal(value, final[key]) for key, value in weights(tmp_path, "x").items())


def test_every_image_is_attacked_at_full_strength_unless_told() -> None:
    recipe = replace(RECIPES["mlp"], adversary="pgd(steps=7)")
    assert zoo.adversary_of(recipe) == PGD(steps=7, early_stop=False)
    friendly = replace(recipe, adversary="pgd(early_stop=True)")
    assert zoo.adversary_of(friendly).early_stop
    assert zoo.adversary_of(RECIPES["mlp"]) is None


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"adversary": "deepfool"}, "deepfool cannot train a model"),
        ({"adversary": "pgd(eps=0)"}, "radius eps above 0"),
        ({"adversary": "apgd(eps=4/255)", "trades": 6.0}, "with fgsm, bim or pgd and loss=ce"),
        ({"adversary": "pgd(loss=dlr)", "trades": 6.0}, "with fgsm, bim or pgd and loss=ce"),
        ({"adversary": "pgd", "trades": 0.0}, "trades=0.0 must be above 0"),
        ({"trades": 6.0}, "TRADES needs an adversary"),
        ({"adversary": "pgd", "name": "repvgg-robust"}, "a recipe of its own"),
        ({"adversary": "pgd", "name": "../mlp"}, "letters, digits"),
        ({"adversary": "pgd", "name": "there"}, "is there; choose another"),
    ],
)
def test_a_variant_that_cannot_be_trained_is_refused(tmp_path: Path, settings: dict[str, object], said: str) -> None:
    (tmp_path / "there.safetensors").touch()
    chosen = {"adversary": None, "trades": None, "epochs": None, "name": None, **settings}
    with pytest.raises(AssayError, match=said):
        zoo.variant("mlp", tmp_path, **chosen)  # type: ignore[arg-type]


def test_a_variant_is_a_recipe_of_another_name(tmp_path: Path) -> None:
    called, recipe = zoo.variant("mlp", tmp_path, adversary="pgd", trades=3.0, epochs=8, name=None)
    assert (called, recipe.epochs, recipe.then, recipe.warmup) == ("mlp-adversarial", 8, (), 2.0)
    assert isinstance(recipe, Trades)
    assert (recipe.trades, recipe.adversary, recipe.arch) == (3.0, "pgd", RECIPES["mlp"].arch)
    called, again = zoo.variant(
        "repvgg-trades", tmp_path, adversary="pgd(steps=9)", trades=None, epochs=None, name="my.trades"
    )
    assert (called, again) == ("my.trades", replace(RECIPES["repvgg-trades"], adversary="pgd(steps=9)"))
