"""What is done to a model is given back: modes and gradient flags here, hooks in ``assay.core.layers``."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from assay.core import norms
from assay.core.errors import AssayError


class _Scripted(nn.Module):
    """A TorchScript model where hooks can be set; one image goes through it twice for the sake of ``core.norms``."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.training = False

    def forward(self, images: Tensor) -> Any:
        if len(images) == 1 and images.requires_grad and images.device.type == "cpu":
            output = self.body(images.expand(2, *images.shape[1:]))
            return output[:1] if isinstance(output, Tensor) else {key: value[:1] for key, value in output.items()}
        return self.body(images)


@dataclass
class _Loan:
    """A module or parameter: what it was before the first borrower took it, and how many hold it now."""

    thing: nn.Module | nn.Parameter
    before: bool
    holders: int = 0
    handles: list[RemovableHandle] = field(default_factory=list)

    def take(self) -> None:
        self.holders += 1
        if isinstance(self.thing, nn.Parameter):
            self.thing.requires_grad_(False)
        elif self.holders == 1 and (handle := norms.guard(self.thing)):
            self.handles.append(handle)

    def give_back(self) -> None:
        self.holders -= 1
        if self.holders:
            return
        for handle in self.handles:
            handle.remove()
        if isinstance(self.thing, nn.Parameter):
            self.thing.requires_grad_(self.before)
        else:
            self.thing.training = self.before
        del _LOANS[id(self.thing)]


_LOANS: dict[int, _Loan] = {}
_LOCK = threading.RLock()


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode with frozen parameters, gradients enabled; all as before once its last borrower is done.

    Threads may borrow one model at the same time. Images that it is given stay as they are, also where it normalises in
    place, and a batch of one has the gradient that it has in a larger one (``core.norms``). A TorchScript model comes
    back inside a module that takes hooks.
    """
    model = _Scripted(model) if isinstance(model, torch.jit.ScriptModule) else model
    modules, parameters = [*model.modules()], [*model.parameters()]
    with _LOCK:
        loans = [_LOANS.setdefault(id(m), _Loan(m, m.training)) for m in modules]
        loans += [_LOANS.setdefault(id(p), _Loan(p, p.requires_grad)) for p in parameters]
        for loan in loans:
            loan.take()
        if loans[0].holders == 1:
            loans[0].handles.append(model.register_forward_pre_hook(_copied))
        model.eval()
    try:
        with torch.inference_mode(False), torch.enable_grad():
            yield model
    finally:
        with _LOCK:
            for loan in loans:
                loan.give_back()


def _copied(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in inputs)


@contextmanager
def matched(model: nn.Module, images: Tensor) -> Iterator[None]:
    """A ``RuntimeError`` inside is an ``AssayError`` where images and parameters differ in type or device.

    Not refused beforehand: a model may convert its images.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        kinds = {_kind(parameter) for parameter in model.parameters() if parameter.is_floating_point()}
        if not kinds or _kind(images) in kinds:
            raise
        raise AssayError(f"images are {_kind(images)}, the model is {' and '.join(sorted(kinds))}") from error


def _kind(tensor: Tensor) -> str:
    return f"{tensor.dtype} on {tensor.device.type}"


@dataclass
class Passes:
    """Samples, not calls, that went through a model."""

    forwards: int = 0
    backwards: int = 0


@contextmanager
def counting(model: nn.Module) -> Iterator[Passes]:
    """Count the samples that pass forward through ``model`` and backward while the block runs.

    Backward from its output, or to its input where a forward pass ended at a layer before.
    """
    passes, hooks = Passes(), list[Any]()

    def before_pass(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        passes.forwards += len(inputs[0])
        hooks[:] = [hook_once(inputs[0])] if inputs[0].requires_grad else []

    def after_pass(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        for handle in hooks:
            handle.remove()
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(count_backward)  # type: ignore[no-untyped-call]

    def hook_once(images: Tensor) -> Any:
        """A hook on the images that goes after its first gradient: a leaf may be seen again and again."""

        def first_gradient(gradient: Tensor) -> None:
            handle.remove()
            count_backward(gradient)

        handle = images.register_hook(first_gradient)  # type: ignore[no-untyped-call]
        return handle

    def count_backward(gradient: Tensor) -> None:
        passes.backwards += len(gradient)

    handles = [model.register_forward_pre_hook(before_pass), model.register_forward_hook(after_pass)]
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def now(device: torch.device) -> float:
    """Seconds on a clock, once everything that was sent to ``device`` is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def check_images(images: Tensor) -> None:
    """Raise ``AssayError`` unless ``images`` is (N, C, H, W), floating and in [0, 1]."""
    if not isinstance(images, Tensor):
        raise AssayError(f"images must be a float tensor (N, C, H, W), not {type(images).__name__}")
    if images.ndim != 4 or not images.is_floating_point():
        raise AssayError(f"images must be float (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
    if images.is_inference():
        raise AssayError("images made in torch.inference_mode() carry no gradients: make them outside, or clone there")
    if len(images) and not (images.min() >= 0 and images.max() <= 1):
        low, high = images.min().item(), images.max().item()
        raise AssayError(f"images must lie in [0, 1], not [{low:.3g}, {high:.3g}]; normalisation belongs in the model")
