"""State dicts from files, read without running their code, and networks that they fill."""

import pickle
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from assay.bench.models.subject import first_line
from assay.core.errors import AssayError


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
