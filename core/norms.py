"""Gradients of normalisations as torch should give them on a CPU.

torch 2.15 reads the gradient that arrives at a batch or instance norm in eval mode as contiguous where the input is,
and so mixes up its values where it is permuted and one dimension has size one, as after ``flatten(2).transpose(1, 2)``
of one image; docs/decisions.md has a short example. A contiguous copy of the gradient is read rightly.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.utils.hooks import RemovableHandle


def guard(module: nn.Module) -> RemovableHandle | None:
    """A hook on a normalisation that makes the gradients that come back to it contiguous; None for other modules."""
    if not isinstance(module, _NormBase) or isinstance(module, torch.jit.ScriptModule):
        return None
    return module.register_forward_hook(_mend)


def _mend(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
    if torch.compiler.is_compiling() or not (isinstance(output, Tensor) and output.requires_grad):
        return
    x = inputs[0]
    if x.device.type == "cpu" and (x.is_contiguous() or isinstance(module, _InstanceNorm)):
        output.register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]
