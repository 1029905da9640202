"""What a model does, as one sha256: what it holds, and what it answers to two fixed pictures.

``docs/decisions/0011`` says why both, and how far rounding errors are from changing it.
"""

import copy
import hashlib
import math
import random
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from assay.bench.models.inventory import BASE, Inventory, inventory, is_own

FINE, COARSE = 1e-6, 1e-3  # steps to which answers are rounded, of their scale: in double precision, else
DIRECTIONS = 4  # numbers that stand for all answers, beside their scale
HOOKS = tuple(name for name in sorted(BASE) if name.endswith(("ward_hooks", "ward_pre_hooks")))


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
    """Two inputs of ``size``, in double precision: pictures in [0.1, 0.9], smooth with noise; else in [-2, 2]."""
    noise = _uniform("noise", (2, *size))
    if len(size) != 3:
        return 2 * noise
    smooth = F.interpolate(_uniform("smooth", (2, size[0], 4, 4)), tuple(size[1:]), mode="bilinear", align_corners=True)
    return 0.5 + 0.2 * smooth + 0.2 * noise


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
    with suppress(Exception):  # what cannot be copied, or has single precision built in
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
        with suppress(Exception):
            return _answers(model, inputs, step=COARSE, slope=False, repeat=True)
    finally:
        torch.set_num_threads(threads)
    return []


def _answers(model: nn.Module, inputs: Tensor, *, step: float, slope: bool, repeat: bool) -> list[str]:
    """Outputs, and the gradient of a sum of them by the inputs, rounded; nothing where a repetition differs."""
    lines = []
    if slope:
        with suppress(Exception):  # a model without gradients
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
