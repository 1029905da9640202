"""``assay train`` and ``assay train style``."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from cyclopts import App

from assay.bench.commands import Words
from assay.bench.models import load
from assay.bench.progress import TrainingProgress
from assay.bench.training import generator
from assay.bench.training import style as style_network
from assay.bench.training.zoo import recipe_of, train, variant
from assay.bench.writing import writing
from assay.bench.zoo.recipes import RECIPES
from assay.core.errors import AssayError, brief

app = App(name="train")


@app.default
def zoo(
    names: Words = (),
    /,
    *,
    out: Path = Path("zoo"),
    cache: Path = Path(".cache/assay"),
    epochs: int | None = None,
    seed: int | None = None,
    adversary: str | None = None,
    trades: float | None = None,
    name: str | None = None,
) -> Iterator[str]:
    """Train zoo models, a generator, or a network that paints in styles.

    All zoo models unless NAMES are given; a stopped training goes on after its last epoch. With --adversary or --trades
    the recipe of one model is trained against attacks, as a model of another name. The name "generator" trains what
    draws scenes from latent codes, to generators/scenes.safetensors.

    Parameters
    ----------
    out
        Where weights and cards go; bench/zoo in a checkout replaces the shipped ones.
    cache
        Where the drawn scenes are kept.
    epochs
        Instead of the recipe's.
    seed
        Instead of the recipe's.
    adversary
        The attack that makes the training images: "pgd(eps=4/255, steps=7)", "fgsm(random_start=True)".
    trades
        Beta of TRADES: accuracy on clean images and beta times the KL divergence that the adversary can cause.
    name
        Of the model trained with --adversary or --trades; NAME-adversarial unless given.
    """
    if epochs is not None and epochs < 1:
        raise AssayError(f"--epochs {epochs} must be 1 or more")
    if seed is not None and abs(seed) >= 2**63:
        raise AssayError(f"--seed {brief(seed)} is no number of 64 bits")
    if names == ("generator",) and (adversary, trades, name) == (None, None, None):
        with _folders(out / "generators", cache), TrainingProgress() as progress:
            card = generator.train(out / "generators", cache=cache, epochs=epochs, seed=seed, progress=progress.batch)
        shares = ", ".join(f"{judge} {share:.1%}" for judge, share in card["kept"].items())
        yield f"{out / 'generators' / 'scenes'}.safetensors: class of redrawn scenes kept for {shares}"
        return
    recipes = {model: recipe_of(model) for model in names or RECIPES}
    if adversary is not None or trades is not None:
        if len(names) != 1:
            raise AssayError("--adversary and --trades train one model; name it: assay train repvgg --adversary pgd")
        recipes = dict([variant(names[0], out, adversary=adversary, trades=trades, epochs=epochs, name=name)])
    elif name is not None:
        raise AssayError("--name is for a model trained with --adversary or --trades")
    for model, recipe in recipes.items():
        with _folders(out, cache), TrainingProgress() as progress:
            card = train(model, out, cache=cache, recipe=recipe, epochs=epochs, seed=seed, progress=progress.batch)
        yield f"{out / model}.safetensors: {_accuracies(card)}"


@contextmanager
def _folders(out: Path, cache: Path) -> Iterator[None]:
    """Both can be written before hours of training begin."""
    with writing(cache):
        pass
    with writing(out):
        yield


def _accuracies(card: dict[str, Any]) -> str:
    accuracy = {key: f"{value:.1%}" for key, value in card["accuracy"].items()}
    epochs = [row for row in card.get("history", ()) if row["kept"]]
    if epochs:
        accuracy["validation under PGD"] = f"{epochs[-1]['robust']:.1%} after epoch {epochs[-1]['epoch']}"
    return ", ".join(f"{key} {value}" for key, value in accuracy.items())


@app.command
def style(
    *pictures: Path,
    model: str = "zoo:resnet",
    content: Path | None = None,
    out: Path = Path("style.safetensors"),
    steps: int | None = None,
    seed: int = 0,
) -> Iterator[str]:
    """Train a network that paints in the styles of PICTURES in one pass; a stopped training goes on where it was.

    One network learns all of them, and mixes them. Its losses are StyleTransfer's.

    Parameters
    ----------
    pictures
        Picture files, a style each.
    model
        The spec of the model whose layers tell content and style.
    content
        A folder of photographs to paint; those that scikit-image and scikit-learn ship unless given.
    out
        The network's file; what it is goes into a .json beside it.
    steps
        Of two crops each.
    seed
        Of everything that is random.
    """
    recipe = replace(style_network.StyleRecipe(), seed=seed)
    if steps is not None:
        recipe = replace(recipe, steps=steps)
    if not pictures:
        raise AssayError("which styles? assay train style PICTURE ...")
    with TrainingProgress() as progress:
        card = style_network.train(pictures, out, load(model), content=content, recipe=recipe, progress=progress.batch)
    losses = ", ".join(f"{name} {value:.3g}" for name, value in card["loss"].items())
    yield f"{out}: {', '.join(card['styles'])}; losses of the last steps: {losses}"
