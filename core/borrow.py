"""What is done to a model is given back: modes and gradient flags here, hooks in ``assay.core.layers``."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.errors import AssayError


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """The model in eval mode with frozen parameters, gradients enabled; all as before on the way out."""
    training = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield model
    finally:
        for module, mode in training:
            module.training = mode
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


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
