"""Heatmaps from the derivative of the target by the pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.borrow import borrowed
from core.draws import Draws
from core.targets import Target, gradient
from explain.base import Explainer
from explain.gates import GuidedReLU


@dataclass(frozen=True, kw_only=True, slots=True)
class Saliency(Explainer):
    """The largest absolute derivative over the channels (Simonyan et al. 2014, sec. 3.1, arXiv:1312.6034)."""

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        return gradient(target, model, images).abs().amax(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedBackprop(Explainer):
    """Saliency where each ReLU lets only positive gradients through (Springenberg et al. 2015, arXiv:1412.6806).

    The rule belongs to the activation: where a ReLU's input also feeds a skip path, that path's gradient stays whole
    (captum clamps the sum). Activations other than ReLU keep their derivative, so on a network of GELU or SiLU this
    *is* ``Saliency``; ``flags`` says so.
    """

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        with GuidedReLU():
            return gradient(target, model, images).abs().amax(1)

    def flags(self, model: nn.Module, images: Tensor) -> str:
        """Empty where every activation call is a ReLU, else ``gates=0.42``: the share that is.

        One forward pass of the first image. At ``gates=0.00`` the heatmaps equal those of ``Saliency``.
        """
        with borrowed(model), torch.no_grad(), GuidedReLU() as gates:
            model(images[:1])
        if gates.gated == gates.calls > 0:
            return ""
        return f"gates={gates.gated / max(gates.calls, 1):.2f}"
