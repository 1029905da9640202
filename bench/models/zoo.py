"""Models of the zoo: small networks with a card beside their weights, made by ``assay train``."""

import hashlib
import importlib
import json
import re
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from torch import nn

from assay.bench.data.scenes import CLASSES
from assay.bench.models.checkpoints import fill
from assay.bench.models.subject import Subject
from assay.bench.zoo.recipes import RECIPES, Recipe
from assay.core.errors import AssayError, unknown

ZOO = Path(__file__).parents[1] / "zoo"


def create(recipe: Recipe, num_classes: int) -> nn.Module:
    """The untrained network of a zoo recipe."""
    if ":" in recipe.arch:
        module, _, attribute = recipe.arch.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), attribute)(num_classes, **recipe.settings)
        return network
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in recipe.settings.items()}
    classifier: nn.Module = timm.create_model(recipe.arch, num_classes=num_classes, **settings)
    return classifier


def zoo_names() -> list[str]:
    """The zoo models whose weights are there."""
    files = {path.stem for path in ZOO.glob("*.safetensors") if path.with_suffix(".json").exists()}
    return [f"zoo:{name}" for name in RECIPES if name in files]


def from_zoo(name: str) -> Subject:
    """A model of the zoo, or one that ``assay train`` wrote elsewhere, by its file with the card beside it."""
    path = Path(name) if name.endswith(".safetensors") else ZOO / f"{name}.safetensors"
    if path.parent == ZOO and name not in RECIPES:
        raise unknown("zoo model", name, RECIPES)
    if path.parent == ZOO and f"zoo:{name}" not in zoo_names():
        raise AssayError(f"zoo:{name} has no weights in {ZOO}; make them with: assay train {name} --out {ZOO}")
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise AssayError(f"zoo:{name}: no weights with a card beside them; assay train writes both")
    card = read_card(path)
    card["arch"] = re.sub(r"^bench(?=\.zoo\.nets:)", "assay.bench", card["arch"])  # as versions before 0.5 wrote it
    module = card["arch"].partition(":")[0] if ":" in card["arch"] else "assay.bench.zoo.nets"
    if module != "assay.bench.zoo.nets":
        raise AssayError(f"{path}: its card names code of {module}, which is not run; load it with py:")
    own = Recipe(about=card["about"], arch=card["arch"], settings=card["settings"], channels_last=False)
    recipe = RECIPES.get(name, own)
    network = create(recipe, len(CLASSES))
    fill(network, safetensors.torch.load_file(path), str(path))
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


def read_card(path: Path) -> dict[str, Any]:
    """The card beside weights; ``AssayError`` where it is of other weights."""
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    if hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
        raise AssayError(f"{path} is not the file that its card describes (sha256 differs); fetch or train it again")
    return card
