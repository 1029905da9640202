"""Checkpoints as training scripts leave them: state dicts from files, read without running their code."""

import argparse
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from assay.bench.models.paths import exists, is_file
from assay.core.errors import AssayError, first_line

CONTAINERS = ("state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "net")  # timm's order first
DEEPEST = 8  # containers in containers, and names in a prefix
WRAPPERS = re.compile(r"\b(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")  # anywhere in a name
PREFIX = re.compile(r"(?:(?:module|model|net|network)\.)*")  # of DataParallel, AveragedModel, Lightning
COUNTERS = ("n_averaged", "num_batches_tracked")  # that old files lack, and averaged ones have
GREEDY = re.compile(r"(?:builtins|__builtin__) bytearray|torch(?:\.\w+)* \w*Tensor")  # allocate what they are told
MULTIPLE = 4  # times the size of its file that a state dict may need


class Checkpoint(NamedTuple):
    """A state dict, and which of several in its file it is: empty where there is one."""

    state: dict[str, Tensor]
    note: str


def read(path: Path) -> Checkpoint:
    """From safetensors or a weights-only pickle, the averaged weights before the raw ones, as timm takes them.

    Raises ``AssayError`` for all else: what would run code, holds no plain tensors, or needs more memory than its file.
    """
    if not is_file(path):
        raise AssayError(f"{path} is no file" if exists(path) else f"no checkpoint at {path}")
    try:
        content = safetensors.torch.load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except AssayError:
        raise
    except Exception as error:  # a damaged file makes the readers raise anything
        code = re.search(r"GLOBAL (\S+)|unrecognized function|Unsupported operand", str(error))
        if not isinstance(error, pickle.UnpicklingError) or code is None:
            raise AssayError(f"{path} is no readable checkpoint: {first_line(error)}") from error
        raise AssayError(
            f"{path} holds more than tensors{f' ({code[1]})' if code[1] else ''} and is refused, since loading it "
            "would run its code; save the state_dict alone, best as .safetensors"
        ) from error
    containers, others = list[str](), list[str]()
    while len(containers) < DEEPEST and isinstance(content, dict):
        inside = [key for key in CONTAINERS if isinstance(content.get(key), dict) and content[key]]
        if not inside:
            break
        containers.append(inside[0])
        others += inside[1:]
        content = content[inside[0]]
    _check_tensors(content, path)
    note = f"the weights are those of {'.'.join(containers)}, not of {' or '.join(others)}" if others else ""
    return Checkpoint(content, note)


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:
        archive = file.read(4) == b"PK\3\4"
        file.seek(0)
        for name in _archive_globals(file, path) if archive else _pickle_globals(file):
            if GREEDY.fullmatch(name):
                raise AssayError(f"{path} is refused, since it asks for {name.replace(' ', '.')} of any size")
    with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):  # as timm's train.py saves
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)


def _archive_globals(file: IO[bytes], path: Path) -> Iterator[str]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            raise AssayError(
                f"{path} is a TorchScript program; save its state_dict alone, or load it in a py: function"
            )
        if any(entry.compress_type for entry in entries) or sum(e.file_size for e in entries) > path.stat().st_size:
            raise AssayError(f"{path} is a compressed archive; torch.save writes values as they are")
        for entry in entries:
            if entry.filename.endswith(".pkl"):
                yield from _pickle_globals(BytesIO(archive.read(entry)))


def _pickle_globals(file: IO[bytes]) -> Iterator[str]:
    """What the pickles at the start of ``file`` import; torch's older format has five before the values."""
    for _ in range(5):
        if not file.read(1):
            return
        file.seek(-1, os.SEEK_CUR)
        for operation, argument, _ in pickletools.genops(file):
            if operation.name in ("GLOBAL", "INST"):
                yield str(argument)


def _check_tensors(state: Any, path: Path) -> None:
    """Raise ``AssayError`` unless ``state`` holds plain tensors by names, no larger than their file."""
    if not isinstance(state, dict) or not state:
        raise AssayError(f"{path} holds no state_dict (names to tensors), but {_kind(state)}")
    foreign = [f"{key!r:.60}: {_kind(value)}" for key, value in state.items() if not _is_entry(key, value)]
    if foreign:
        raise AssayError(f"{path} holds no state_dict (names to plain tensors), but {_some(foreign)}")
    most = MULTIPLE * path.stat().st_size
    stored = max(tensor.untyped_storage().nbytes() for tensor in state.values())
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if max(stored, total) > most:
        raise AssayError(
            f"{path} is refused, since its tensors need {max(stored, total):,} bytes, far more than it has"
        )


def _is_entry(key: Any, value: Any) -> bool:
    return (
        isinstance(key, str) and len(key) < 1000 and type(value) in (Tensor, nn.Parameter) and not _peculiarity(value)
    )


def _peculiarity(tensor: Tensor) -> str:
    """Why a tensor cannot be copied as it is, or nothing."""
    kinds = {
        "quantised": tensor.is_quantized,
        "sparse": tensor.layout != torch.strided,
        "nested": tensor.is_nested,
        "complex": tensor.is_complex(),
        "meta": tensor.device.type != "cpu",
    }
    return next((name for name, holds in kinds.items() if holds), "")


def _kind(value: Any) -> str:
    if type(value) in (Tensor, nn.Parameter):
        return f"a {_peculiarity(value)} tensor".replace("  ", " ")
    return "nothing" if isinstance(value, dict) and not value else f"a {type(value).__name__}"


def unwrap(state: Mapping[str, Tensor], slots: Mapping[str, Tensor]) -> Checkpoint:
    """``state`` without what DataParallel, AveragedModel, torch.compile and Lightning put before names of ``slots``.

    The note tells which tensors beside those under the prefix are left out.
    """
    clean = {WRAPPERS.sub("", key): value for key, value in state.items()}
    clean = clean if len(clean) == len(state) else dict(state)
    prefix, _ = _nearest_prefix(clean, slots)
    prefix = prefix if PREFIX.fullmatch(prefix) else ""
    inside = {key.removeprefix(prefix): value for key, value in clean.items() if key.startswith(prefix)}
    others = [key for key in clean if not key.startswith(prefix) and not key.endswith(COUNTERS)]
    state = {key: value for key, value in inside.items() if key in slots or not key.endswith(COUNTERS)}
    return Checkpoint(state, f"{_some(others)} is left out" if others else "")


def _nearest_prefix(state: Mapping[str, Any], slots: Mapping[str, Any]) -> tuple[str, int]:
    """What before most names of ``state`` gives names of ``slots``, and how many."""
    counts = Counter(
        key[:start]
        for key in state
        for start in [0, *(dot.end() for dot in re.finditer(r"\.", key))][:DEEPEST]
        if key[start:] in slots
    )
    prefix = max(counts, key=lambda name: (counts[name], bool(PREFIX.fullmatch(name)), -len(name)), default="")
    return prefix, counts[prefix]


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load ``state`` from ``source``; ``AssayError`` that names the keys that do not fit."""
    check(network, state, source)
    try:
        network.load_state_dict(dict(state))
    except Exception as error:  # of modules that load in a way of their own
        raise AssayError(f"{source} does not fit {type(network).__name__}: {first_line(error)}") from error


def check(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Raise ``AssayError`` unless ``state`` fits; says which prefix would make it fit better."""
    slots = network.state_dict()
    absent = [key for key in slots if key not in state and not key.endswith(COUNTERS)]
    foreign = [key for key in state if key not in slots]
    both = [key for key in slots if key in state]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, wanted {tuple(slots[key].shape)}"
        for key in both
        if state[key].shape != slots[key].shape
    ]
    types = [
        f"{key} is {state[key].dtype}, wanted {slots[key].dtype}"
        for key in both
        if state[key].is_floating_point() != slots[key].is_floating_point()
    ]
    prefix, count = _nearest_prefix(state, slots)
    faults = {"missing": absent, "not in the model": foreign, "wrong shape": shapes, "wrong type": types}
    problems = [f"{what}{'' if what == 'missing' else ':'} {_some(names)}" for what, names in faults.items() if names]
    if problems:
        hint = f"; without the prefix {prefix!r} {count} of {len(slots)} names would fit" if prefix else ""
        raise AssayError(f"{source} does not fit {type(network).__name__}: {'; '.join(problems)}{hint}")


def _some(names: Sequence[str], most: int = 3) -> str:
    texts = [name if name.isprintable() and len(name) < 200 else f"{name[:200]!a}" for name in names[:most]]
    return ", ".join(texts) + (f" and {len(names) - most} more" if len(names) > most else "")
