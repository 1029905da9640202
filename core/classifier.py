"""What every attack may assume of a classifier: float32 images in, float32 logits (N, K) out, a gradient of numbers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from assay.core.borrow import evaluating
from assay.core.errors import AssayError, NotApplicable
from assay.core.layers import first_tensor, independent, single


def as_logits(output: Any, least: int = 2) -> Tensor:
    """Logits (N, K) of at least float32: the network's output, or ``logits`` or the first entry of a dict of tensors.

    Raises ``NotApplicable`` for grids of logits, and ``AssayError`` for fewer than ``least`` an image: the argmax of
    one is always class 0, so every attack would seem to fail.
    """
    logits = first_tensor(output)
    if logits.ndim == 1 or (logits.ndim == 2 and logits.shape[1] < least):
        raise AssayError(
            f"the network gives {tuple(logits.shape)}, one logit an image; a binary classifier needs two classes: "
            "give torch.stack([torch.zeros_like(z), z], 1) for its logit z"
        )
    if logits.ndim != 2:
        raise NotApplicable(f"needs logits (N, K), not {tuple(logits.shape)}; the target Region reads grids of them")
    return single(logits)


def answered(logits: Tensor) -> Tensor:
    """Whether each row of ``logits`` (N, K) names a class, (N,) bool: none is NaN, and the largest is finite."""
    return logits.amax(1).isfinite()


@contextmanager
def classifier(model: nn.Module, images: Tensor) -> Iterator[nn.Module]:
    """The borrowed model, which takes float32 images as if they had the type of ``images`` and gives float32 logits.

    Its gradients by the images are numbers: an infinite slope is the steepest finite one of its image, and what is no
    number is 0. A forward pass that no derivative passes raises ``AssayError`` where one is wanted.
    """
    kind = images.dtype

    def before_pass(module: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = inputs[0].to(kind, copy=True)
        if x.requires_grad:
            x.register_hook(_finite)  # type: ignore[no-untyped-call]
        return (x, *inputs[1:])

    def after_pass(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Tensor:
        logits = as_logits(output).float()
        if inputs[0].requires_grad and not logits.requires_grad and torch.is_grad_enabled():
            raise independent()
        return logits

    with evaluating(model) as borrowed:
        handles = [
            borrowed.register_forward_pre_hook(before_pass, prepend=True),  # a classifier inside another one hands on
            borrowed.register_forward_hook(after_pass),
        ]
        try:
            yield borrowed
        finally:
            for handle in handles:
                handle.remove()


def _finite(gradient: Tensor | None) -> Tensor:
    if gradient is None:  # as an operator gives that has no derivative, such as a quantised layer's
        raise independent()
    finite = gradient.isfinite()
    if finite.all():
        return gradient
    whole = gradient.where(finite, 0)
    steepest = whole.abs().flatten(1).amax(1).view(-1, *[1] * (whole.ndim - 1))
    steepest = steepest.where(steepest > 0, 1)
    return whole.where(~gradient.isinf(), gradient.sign() * steepest)
