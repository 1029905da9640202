"""What a model does, as one sha256: what it holds, and what it answers to two fixed pictures.

``docs/decisions/0011`` says why both, and how far rounding errors are from changing it.
"""

import copy
import hashlib
import inspect
import math
import random
import re
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

FRAMEWORKS = ("torch", "torchvision", "timm")  # ``run.json`` tells their versions
PLAIN = (bool, int, float, complex, str, bytes, type(None), torch.dtype, np.generic)
BASE = frozenset(vars(nn.Module()))  # what every module has
FINE, COARSE = 1e-6, 1e-3  # steps to which answers are rounded, of their scale: in double precision, else
DIRECTIONS = 4  # numbers that stand for all answers, beside their scale
HOOKS = tuple(name for name in sorted(BASE) if name.endswith(("ward_hooks", "ward_pre_hooks")))


class Inventory(NamedTuple):
    """``lines`` and ``sources`` tell what a module holds; ``tensors`` are all of its floating tensors.

    ``inexact`` is whether a framework's module calculated some of them: their last bits are the machine's.
    """

    lines: list[str]
    sources: list[str]
    tensors: list[Tensor]
    inexact: bool


def digest_of(model: nn.Module, size: Sequence[int]) -> str:
    """The sha256 of what ``model``, in eval mode, does with inputs of ``size``, which is without the batch.

    Equal for two loads of one model, in any process and number of threads. Where equal inputs get unequal answers, by
    random numbers of the model's own, the network as it prints stands for them.
    """
    stock = inventory(model)
    inputs = probe(size)
    with _aside():
        lines = _in_double(model, inputs, stock) or _as_it_is(model, inputs.float())
    lines = lines or [re.sub(r"0x[0-9a-f]+", "", repr(model))]
    return hashlib.sha256("\0".join([*stock.lines, *stock.sources, *lines]).encode()).hexdigest()


def probe(size: Sequence[int]) -> Tensor:
    """Two inputs of ``size``, in double precision: pictures from 0 to 1, smooth with noise; else in [-2, 2]."""
    noise = _uniform("noise", (2, *size))
    if len(size) != 3:
        return 2 * noise
    smooth = F.interpolate(_uniform("smooth", (2, size[0], 4, 4)), tuple(size[1:]), mode="bilinear", align_corners=True)
    return (0.5 + 0.4 * smooth + 0.4 * noise).clip(0, 1)


class _InDouble(TorchFunctionMode):
    """Within, a cast to another floating type is one to double."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.float, Tensor.half, Tensor.bfloat16):
            return args[0].double()
        return func(*map(_double, args), **{name: _double(value) for name, value in (kwargs or {}).items()})


def _double(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value


def _in_double(model: nn.Module, inputs: Tensor, stock: Inventory) -> list[str]:
    """The answers of a copy in double precision, with gradients where more than frameworks calculates them."""
    custom = any(
        is_own(type(module)) or "forward" in vars(module) or any(vars(module).get(name) for name in HOOKS)
        for module in model.modules()
    )
    with suppress(Exception, SystemExit):  # what cannot be copied, or has single precision built in
        twin = copy.deepcopy(model, {id(tensor): _wide(tensor) for tensor in stock.tensors}).double()
        with _InDouble():
            return _answers(twin, inputs, step=COARSE if stock.inexact else FINE, slope=custom, repeat=custom)
    return []


def _as_it_is(model: nn.Module, inputs: Tensor) -> list[str]:
    """The answers in the model's own precision, by one thread, since the order of sums shows in them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with suppress(Exception):
            model = copy.deepcopy(model)
        with suppress(Exception, SystemExit):
            return _answers(model, inputs, step=COARSE, slope=False, repeat=True)
    finally:
        torch.set_num_threads(threads)
    return []


def _answers(model: nn.Module, inputs: Tensor, *, step: float, slope: bool, repeat: bool) -> list[str]:
    """Outputs, and the gradient of a sum of them by the inputs, rounded; nothing where a repetition differs."""
    lines = []
    if slope:
        with suppress(Exception, SystemExit):  # a model without gradients
            images = inputs.clone().requires_grad_()
            outputs = _outputs(model, images)
            total = (outputs.nan_to_num(0, 0, 0).flatten() * _uniform("slope", (outputs.numel(),))).sum()
            lines = [_summary(outputs, step), _summary(torch.autograd.grad(total, images)[0], step)]
    with torch.no_grad():
        if not lines:
            lines = [_summary(_outputs(model, inputs), step)]
        if repeat and _summary(_outputs(model, inputs), step) != lines[0]:
            return []
    return lines


def _outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """The outputs, after the same random numbers each time."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (the model's own code may take from it)
    torch.default_generator.manual_seed(0)
    outputs: Tensor = model(inputs)
    return outputs


def _summary(values: Tensor, step: float) -> str:
    """Shape, scale and a few weighted sums of ``values``, each to ``step`` of the scale; not-finite ones by place."""
    flat = values.detach().double().flatten()
    finite = flat.isfinite()
    flat = torch.where(finite, flat, 0.0)
    step = step if values.dtype == torch.float64 else COARSE
    scale = flat.square().mean().sqrt()
    sums = _uniform("directions", (DIRECTIONS, len(flat))) @ flat / (scale * math.sqrt(len(flat)))
    numbers = [scale.log(), *sums] if scale > 0 else []
    steps = [round(number.item() / step) for number in numbers]
    return f"{tuple(values.shape)} {steps} {hashlib.sha256(bytes(finite.tolist())).hexdigest()}"


def _uniform(name: str, shape: tuple[int, ...]) -> Tensor:
    """Numbers in [-1, 1) that are the same everywhere."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")
    raw = np.random.Philox(key=key).random_raw(math.prod(shape))
    return torch.from_numpy((raw >> 11) * 2.0**-52 - 1).view(shape)


def _wide(tensor: Tensor) -> Tensor:
    wide = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    return nn.Parameter(wide, requires_grad=tensor.requires_grad) if isinstance(tensor, nn.Parameter) else wide


@contextmanager
def _aside() -> Iterator[None]:
    """Within, random numbers, gradients and warnings are apart from the caller's."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.inference_mode(False),
            torch.enable_grad(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002


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
            if isinstance(value, nn.Module) and not is_own(type(value)):
                lines.append(f"{path} {type(value).__name__}")
            stack += _parts(path, value)
    classes = {base for kind in kinds if is_own(kind) for base in kind.__mro__ if is_own(base)}
    return Inventory(sorted(lines), sorted(map(source, classes)), tensors, inexact)


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
    custom, framework = is_own(type(module)), type(module).__module__.partition(".")[0] in FRAMEWORKS
    temporary = getattr(module, "_non_persistent_buffers_set", ())
    for name, child in module.named_children():
        yield f"{path}.{name}", child
    for name, parameter in module.named_parameters(recurse=False):
        yield f"{path}.{name}", parameter
    for name, buffer in module.named_buffers(recurse=False):
        yield f"{path}.{name}" + ("?" if framework and name in temporary else ""), buffer
    for name, value in vars(module).items():
        if name not in BASE and (custom or (framework and isinstance(value, Tensor))):
            yield f"{path}.{name}" + ("" if custom else "?"), value


def _exact(tensor: Tensor) -> bool:
    """Whether all values are multiples of 2**-16, as masks, indices and binomial filters are: every machine's."""
    return not tensor.is_floating_point() or not (tensor.detach().double() * 2**16).frac().any()
