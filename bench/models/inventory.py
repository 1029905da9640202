"""All that can be reached from a module: its tensors by their bytes, and what the user's own classes hold and say."""

import hashlib
import inspect
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

FRAMEWORKS = ("torch", "torchvision", "timm")  # ``run.json`` tells their versions
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, np.generic)
BASE = frozenset(vars(nn.Module()))  # what every module has


class Inventory(NamedTuple):
    """``lines`` and ``sources`` tell what a module holds; ``tensors`` are all of its floating tensors.

    ``inexact`` is whether a framework's module calculated some of them: their last bits are the machine's.
    """

    lines: list[str]
    sources: list[str]
    tensors: list[Tensor]
    inexact: bool


def inventory(model: nn.Module) -> Inventory:
    """What ``model`` holds, in an order that no hash seed changes.

    Walks modules, containers and objects of the user's own classes. Functions, classes, locks and what other languages
    made are not looked into, nor are the settings of framework modules, which their answers tell.
    """
    lines: list[str] = []
    tensors: list[Tensor] = []
    kinds: set[type] = set()
    inexact = False
    holders: dict[int, Any] = {}  # holds them, so that no id is given twice
    stack: list[tuple[str, Any]] = [("", model)]
    while stack:
        path, value = stack.pop()
        if isinstance(value, Tensor):
            tensors += [value] if value.is_floating_point() or value.is_complex() else []
            by_machine = path.endswith("?") and not _exact(value)
            inexact |= by_machine
            lines += [] if by_machine else [f"{path} {tensor_text(value)}"]
        elif isinstance(value, PLAIN):
            lines.append(f"{path} {value!r}")
        elif id(value) not in holders:
            holders[id(value)] = value
            kinds.add(type(value))
            stack += _parts(path, value)
    own = {base for kind in kinds if is_own(kind) for base in kind.__mro__ if is_own(base)}
    return Inventory(sorted(lines), sorted(map(source, own)), tensors, inexact)


def is_own(kind: type) -> bool:
    """Whether a class is the user's: of no framework, of neither numpy nor Python itself, and not ours."""
    home = kind.__module__.partition(".")[0]
    return home not in (*FRAMEWORKS, "numpy", "assay") and home not in sys.stdlib_module_names


def tensor_text(tensor: Tensor) -> str:
    """Type, shape and the sha256 of the values, wherever the tensor is and however it lies in memory."""
    with suppress(RuntimeError):  # of a layout without bytes of its own
        values = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        array = values.flatten().view(torch.uint8).numpy()
        return f"{tensor.dtype} {tuple(tensor.shape)} {hashlib.sha256(array.data).hexdigest()}"
    return f"{tensor.dtype} {tuple(tensor.shape)}"


def source(kind: type) -> str:
    """The source of a class; its compiled methods where there is none, as in a notebook."""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        functions = {name: value for name, value in vars(kind).items() if inspect.isfunction(value)}
        return "\n".join(f"{name} {_bytecode(function.__code__)}" for name, function in sorted(functions.items()))


def _bytecode(code: Any) -> str:
    constants = [_bytecode(value) if inspect.iscode(value) else repr(value) for value in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"


def _parts(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a module, a container or an object holds, by paths."""
    if isinstance(value, nn.Module):
        yield from _module_parts(path, value)
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield f"{path}[{key!r}]" if isinstance(key, PLAIN) else f"{path}[]", part
    elif isinstance(value, list | tuple | deque):
        for i, part in enumerate(value):
            yield f"{path}[{i}]", part
    elif isinstance(value, set | frozenset):
        for part in value:
            yield f"{path}[]", part
    elif isinstance(value, np.ndarray):
        plain = not value.dtype.hasobject
        digest = hashlib.sha256(value.tobytes()).hexdigest() if plain else ""
        yield path, f"{value.dtype} {value.shape} {digest}"
        yield path, [] if plain else value.tolist()
    elif is_own(type(value)):
        with suppress(TypeError):  # of what other languages made
            yield path, object.__getstate__(value)


def _module_parts(path: str, module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Children, parameters and buffers; of the user's own classes the other attributes too.

    The path of what a framework's module calculates for itself when it is built ends with a question mark.
    """
    own, framework = is_own(type(module)), type(module).__module__.partition(".")[0] in FRAMEWORKS
    temporary = getattr(module, "_non_persistent_buffers_set", ())
    for name, child in module.named_children():
        yield f"{path}.{name}", child
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{path}.{name}", parameter
    for name, buffer in module.named_buffers(recurse=False):
        yield f"{path}.{name}" + ("?" if framework and name in temporary else ""), buffer
    for name, value in vars(module).items():
        if name not in BASE and (own or (framework and isinstance(value, Tensor))):
            yield f"{path}.{name}" + ("" if own else "?"), value


def _exact(tensor: Tensor) -> bool:
    """Whether all values are multiples of 2**-16, as masks, indices and binomial filters are: every machine's."""
    return not tensor.is_floating_point() or not (tensor.detach().double() * 2**16).frac().any()
