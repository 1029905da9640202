"""The zoo's weights, each network with a card beside it."""

import importlib
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from assay.bench.data.scenes import CLASSES
from assay.bench.models.cards import check_architecture, plain_settings, read_card, sketch
from assay.bench.models.checkpoints import check, fill, read
from assay.bench.models.paths import is_file, typed
from assay.bench.models.subject import Subject
from assay.bench.zoo.recipes import RECIPES, Recipe
from assay.core.errors import AssayError, unknown

ZOO = Path(__file__).parents[1] / "zoo"
NEEDS = ("about", "arch", "settings", "input_size", "mean", "std", "classes")  # of a card
OWN = sorted({recipe.arch for recipe in RECIPES.values() if ":" in recipe.arch})  # classes that timm does not have


def create(recipe: Recipe, num_classes: int) -> nn.Module:
    """The untrained network of a zoo recipe."""
    if ":" in recipe.arch:
        module, _, attribute = recipe.arch.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), attribute)(num_classes, **recipe.settings)
        return network
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in recipe.settings.items()}
    classifier: nn.Module = timm.create_model(recipe.arch, num_classes=num_classes, **settings)
    return classifier


def card_recipe(card: Mapping[str, Any], source: Path) -> Recipe:
    """How the network of a card is built; ``AssayError`` unless its architecture and settings are known ones."""
    arch = card["arch"]
    arch = re.sub(r"^bench(?=\.zoo\.nets:)", "assay.bench", arch) if isinstance(arch, str) else ""  # before 0.5
    if ":" in arch and arch not in OWN:
        raise AssayError(
            f"{source}: its card names code of {arch}, which is not run (known: {', '.join(OWN)}); load it with py:"
        )
    if ":" not in arch:
        check_architecture(card["arch"], source)
    return Recipe(
        about=str(card["about"]), arch=arch, settings=plain_settings(card["settings"], source), channels_last=False
    )


def zoo_names() -> list[str]:
    """The zoo models whose weights are there."""
    files = {path.stem for path in ZOO.glob("*.safetensors") if path.with_suffix(".json").exists()}
    return [f"zoo:{name}" for name in RECIPES if name in files]


def from_zoo(name: str) -> Subject:
    """A model of the zoo, or one that ``assay train`` wrote elsewhere, by its file with the card beside it."""
    shipped = not name.endswith(".safetensors")
    if shipped and name not in RECIPES:
        raise unknown("zoo model", name, RECIPES)
    if shipped and f"zoo:{name}" not in zoo_names():
        raise AssayError(f"zoo:{name} has no weights in {ZOO}; make them with: assay train {name} --out {ZOO}")
    path = ZOO / f"{name}.safetensors" if shipped else typed(name)
    if not is_file(path) or not is_file(path.with_suffix(".json")):
        raise AssayError(f"zoo:{name}: no weights with a card beside them; assay train writes both")
    card = read_card(path, NEEDS)
    state = read(path).state
    if shipped:
        recipe = RECIPES[name]
    else:
        recipe = card_recipe(card, path)
        check(sketch(partial(create, recipe, len(CLASSES)), path.stat().st_size, path), state, str(path))
    network = create(recipe, len(CLASSES))
    fill(network, state, str(path))
    if recipe.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Subject(
        network,
        name=f"zoo:{name}",
        input_size=card["input_size"],
        mean=card["mean"],
        std=card["std"],
        classes=card["classes"],
        card=card,
    )
