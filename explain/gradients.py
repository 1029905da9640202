"""Heatmaps from one derivative of the target by the pixels."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from assay.core.probe import default_layer
from assay.core.tables import check
from assay.explain.gates import Activations, Rule, gated_share
from assay.explain.maps import GradCAM
from assay.explain.passes import Derived, LayerValues, Request


@dataclass(frozen=True, kw_only=True, slots=True)
class Saliency(Derived):
    """The largest absolute derivative over the channels (Simonyan et al. 2014, sec. 3.1, arXiv:1312.6034)."""

    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        return (Request(),)

    def read(self, images: Tensor, *layers: LayerValues) -> Tensor:
        return layers[0].gradient.abs().amax(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class InputXGradient(Derived):
    """Each pixel times its derivative, summed over the channels (Shrikumar et al. 2016, sec. 3, arXiv:1605.01713)."""

    signed: ClassVar[bool] = True

    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        return (Request(),)

    def read(self, images: Tensor, *layers: LayerValues) -> Tensor:
        return (images * layers[0].gradient).sum(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class _BackwardRule(Derived):
    """Explanations with another backward rule for activations."""

    rule: ClassVar[Rule]

    activations: Activations = "relu"  # which follow the rule; "all" is our generalisation, see ``assay.explain.gates``

    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        return (Request(rule=self.rule, activations=self.activations),)

    def read(self, images: Tensor, *layers: LayerValues) -> Tensor:
        return layers[0].gradient.abs().amax(1)

    def flags(self, model: nn.Module, images: Tensor) -> str:
        """Empty where the rule reaches every activation, else ``gates=0.42``: the share that it reaches.

        One forward pass of the first image. At ``gates=0.00`` the gradient is the plain one.
        """
        check(self)
        share = gated_share(model, images[:1], self.activations)
        return "" if share == 1 else f"gates={0 if math.isnan(share) else share:.2f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedBackprop(_BackwardRule):
    """Saliency where each ReLU lets only positive gradients through (Springenberg et al. 2015, arXiv:1412.6806).

    The rule belongs to the activation: where a ReLU's input also feeds a skip path, that path's gradient stays whole
    (captum clamps the sum). Activations other than ReLU keep their derivative unless ``activations="all"``, so on a
    network of GELU or SiLU this *is* ``Saliency``; ``flags`` says so.
    """

    rule: ClassVar[Rule] = "guided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deconvnet(_BackwardRule):
    """Saliency where each ReLU acts on the gradient instead (Zeiler & Fergus 2014, sec. 2.1, arXiv:1311.2901).

    Other activations and skip paths as in ``GuidedBackprop``; so are the flags.
    """

    rule: ClassVar[Rule] = "deconvnet"


@dataclass(frozen=True, kw_only=True, slots=True)
class GuidedGradCAM(_BackwardRule):
    """``GuidedBackprop`` times ``GradCAM``, pixel by pixel (Selvaraju et al. 2017, sec. 3.2, arXiv:1610.02391).

    captum enlarges the Grad-CAM by the nearest neighbour, here it is bilinear, as in the paper.
    """

    rule: ClassVar[Rule] = "guided"

    layer: str | None = None  # as in GradCAM

    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        layer = self.layer if self.layer is not None else default_layer(model, images)
        return Request(rule=self.rule, activations=self.activations), Request(layer)

    def read(self, images: Tensor, *layers: LayerValues) -> Tensor:
        pixels, grid = layers
        return pixels.gradient.abs().amax(1) * GradCAM().read(images, grid)
