"""Weights: state dicts from files, read without running their code, and the zoo, each network with a card beside it."""

import hashlib
import importlib
import json
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from assay.bench.data.scenes import CLASSES
from assay.bench.models.subject import Subject, first_line
from assay.bench.zoo.recipes import RECIPES, Recipe
from assay.core.errors import AssayError, unknown

ZOO = Path(__file__).parents[1] / "zoo"


def read(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or a weights-only pickle; anything that would run code is refused."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of unusual pickles, which are judged below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if path.read_bytes()[:2] != b"PK" and path.read_bytes()[:1] != pickle.PROTO:
            raise AssayError(f"{path} is no readable checkpoint") from error
        raise AssayError(
            f"{path} holds more than tensors and is refused, since loading it would run its code; "
            "save the state_dict alone, best as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise AssayError(f"{path} is no readable checkpoint: {first_line(error)}") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise AssayError(f"{path} holds no state_dict (names to tensors)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state`` from ``source``; ``AssayError`` that names the keys that do not fit."""
    slots = network.state_dict()
    absent = [key for key in slots if key not in state]
    foreign = [key for key in state if key not in slots]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, wanted {tuple(slots[key].shape)}"
        for key in slots
        if key in state and state[key].shape != slots[key].shape
    ]
    problems = [
        *([f"missing {_some(absent)}"] if absent else []),
        *([f"not in the model: {_some(foreign)}"] if foreign else []),
        *([f"wrong shape: {_some(shapes)}"] if shapes else []),
    ]
    if problems:
        raise AssayError(f"{source} does not fit {type(network).__name__}: {'; '.join(problems)}")
    network.load_state_dict(dict(state))


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


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
    from_card = Recipe(about=card["about"], arch=card["arch"], settings=card["settings"], channels_last=False)
    recipe = RECIPES.get(name, from_card)
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
