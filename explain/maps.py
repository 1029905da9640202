"""Heatmaps from a layer's activations, enlarged bilinearly to the image (corners not aligned).

Tokens and channels-last layers are read as grids, class tokens left out. A is the grid (C, h, w), g the derivative of
the target by it. pytorch-grad-cam applies a ReLU to every map and stretches each to [0, 1]; here a map keeps its units,
and its signs where the paper has no ReLU. A layer that the target does not depend on raises ``AssayError``.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.calls import eager
from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.layers import activations, find, find_layout, record, to_grid
from assay.core.probe import default_layer, is_cut
from assay.core.targets import Target, logits_of
from assay.explain.base import Explainer
from assay.explain.passes import Derived, LayerValues, Request
from assay.explain.variants import grid_scores

TINY = 1e-5  # relative: a sum that is smaller beside its terms is rounding
ROUNDING = 64  # units of rounding by which sums of the same terms in another order may differ


@dataclass(frozen=True, kw_only=True, slots=True)
class _LayerMap(Derived):
    """Maps from A and g of one layer."""

    layer: str | None = None  # dotted name; None: the last grid on every path to the logits

    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        return (Request(_layer(self.layer, model, images)),)

    def flags(self, model: nn.Module, images: Tensor) -> str:
        """``branch`` where the layer that was found stands beside others: the map shows what it alone sees."""
        return _branch(self.layer, model, images)

    def read(self, images: Tensor, *layers: LayerValues) -> Tensor:
        return _enlarge(self.combine(*layers[0]), images)

    @abstractmethod
    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        """The map (N, h, w) from A and g, (N, C, h, w)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CAM(_LayerMap):
    """Sum of w A, w the class's weights (Zhou et al. 2016, eq. 2, arXiv:1512.04150); bias left out, no ReLU.

    Defined only where the logits are W mean(A) + b, which one forward pass of the first image checks; there w is the
    sum of g, and the mean of a map is the logit without its bias. Other networks raise ``NotApplicable``.
    """

    signed: ClassVar[bool] = True

    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        name = _layer(self.layer, model, images)
        if not _has_pooled_head(model, images[:1], name):
            raise NotApplicable(f"the logits are no linear function of the mean of layer {name!r}")
        return (Request(name),)

    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        return torch.einsum("nc,nchw->nhw", gradient.sum((2, 3)), values)


@dataclass(frozen=True, kw_only=True, slots=True)
class GradCAM(_LayerMap):
    """ReLU of the sum of w A, w the mean of g (Selvaraju et al. 2017, eq. 1-2, arXiv:1610.02391)."""

    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        return torch.einsum("nc,nchw->nhw", gradient.mean((2, 3)), values).relu()


@dataclass(frozen=True, kw_only=True, slots=True)
class GradCAMPlusPlus(_LayerMap):
    """ReLU of the sum of w A, w the sum of ReLU(g) / (2 + g sum(A)) (Chattopadhay et al. 2018, eq. 5-6 and 19).

    arXiv:1710.11063. The score is the exponential of the target; its factor exp(f) is left out. pytorch-grad-cam adds
    1e-6 to 2 g^2 + g^3 sum(A), which changes the weights where gradients are small.
    """

    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        below = 2 + gradient * values.sum((2, 3), keepdim=True)
        weights = (gradient.relu() / torch.where(below == 0, 1, below)).sum((2, 3))
        return torch.einsum("nc,nchw->nhw", weights, values).relu()


@dataclass(frozen=True, kw_only=True, slots=True)
class HiResCAM(_LayerMap):
    """Sum of g A, no ReLU (Draelos & Carin 2020, sec. 3.3, arXiv:2011.08891)."""

    signed: ClassVar[bool] = True

    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        return (gradient * values).sum(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCAM(_LayerMap):
    """ReLU of the sum of ReLU(g) A (Jiang et al. 2021, eq. 5-7, doi:10.1109/TIP.2021.3089943)."""

    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        return (gradient.relu() * values).sum(1).relu()


@dataclass(frozen=True, kw_only=True, slots=True)
class XGradCAM(_LayerMap):
    """ReLU of the sum of w A, w the sum of g A / sum(A) (Fu et al. 2020, eq. 8, arXiv:2008.02312).

    w is 0 where sum(A) is nothing but rounding beside sum |A|; pytorch-grad-cam adds 1e-7 to sum(A).
    """

    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        total = values.sum((2, 3))
        void = total.abs() <= TINY * values.abs().sum((2, 3))
        weights = ((gradient * values).sum((2, 3)) / total.masked_fill(void, 1)).masked_fill(void, 0)
        return torch.einsum("nc,nchw->nhw", weights, values).relu()


@dataclass(frozen=True, kw_only=True, slots=True)
class EigenCAM(_LayerMap):
    """A on its first principal direction over positions, no ReLU (Muhammad & Yeasin 2020, eq. 5, arXiv:2008.00299).

    It knows no target: every class has the same map. The paper's projection is not centred, pytorch-grad-cam's is.
    Neither defines the direction's sign; here strong activations are positive.
    """

    signed: ClassVar[bool] = True

    centred: bool = False  # subtract each channel's mean first

    def requests(self, model: nn.Module, images: Tensor) -> tuple[Request, ...]:
        return (Request(_layer(self.layer, model, images), rule=None),)

    def combine(self, values: Tensor, gradient: Tensor) -> Tensor:
        rows = values.flatten(2).transpose(1, 2)
        strength = rows.norm(dim=2)
        if self.centred:
            rows, strength = rows - rows.mean(1, keepdim=True), strength - strength.mean(1, keepdim=True)
        whole = rows.isfinite().flatten(1).all(1)[:, None]
        left, lengths, _ = torch.linalg.svd(rows.where(whole[:, :, None], 0), full_matrices=False)
        first = left[:, :, 0] * lengths[:, :1]
        sign = torch.where((first * strength).sum(1, keepdim=True) < 0, -1, 1)
        heat: Tensor = (sign * first).where(whole, torch.nan)
        return heat.reshape(len(values), *values.shape[2:])


@dataclass(frozen=True, kw_only=True, slots=True)
class _ChannelMap(Explainer):
    """ReLU of the sum of w A, w from forward passes, one for each channel or more."""

    layer: str | None = None  # dotted name; None: the last grid on every path to the logits
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise AssayError(f"{self}: needs batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        name = _layer(self.layer, model, images)
        calls: list[None] = []
        with torch.no_grad():
            values = activations(model, images, name)
            with _forward_hook(find(model, name), lambda *_: calls.append(None)):
                weights = self.weights(model, images, target, name, values)
        if not calls:
            raise AssayError(f"the target does not depend on layer {name!r}")
        return _enlarge(torch.einsum("nc,nchw->nhw", weights, values).relu(), images)

    def flags(self, model: nn.Module, images: Tensor) -> str:
        """As of maps from gradients: ``branch``, or nothing."""
        return _branch(self.layer, model, images)

    @abstractmethod
    def weights(self, model: nn.Module, images: Tensor, target: Target, name: str, values: Tensor) -> Tensor:
        """One weight per channel, (N, C), from the layer's ``name`` and grid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreCAM(_ChannelMap):
    """w is the softmax over channels of the target on the image times the channel's map (Wang et al. 2020, eq. 6-8).

    arXiv:1910.01279. Maps are enlarged and stretched to [0, 1], a flat one to 0. The score of the black image, which
    the paper subtracts, cancels in the softmax. pytorch-grad-cam enlarges with corners aligned; the authors' code does
    not, but leaves the softmax out.
    """

    def weights(self, model: nn.Module, images: Tensor, target: Target, name: str, values: Tensor) -> Tensor:
        def make(owner: Tensor, channel: Tensor) -> Tensor:
            mask = F.interpolate(values[owner, channel][:, None], images.shape[-2:], mode="bilinear")
            low, high = mask.amin((1, 2, 3), keepdim=True), mask.amax((1, 2, 3), keepdim=True)
            return images[owner] * ((mask - low) / (high - low).clamp(min=1e-8)).to(images)

        return grid_scores(model, target, images, values.shape[1], make, self.batch).softmax(1)


@dataclass(frozen=True, kw_only=True, slots=True)
class AblationCAM(_ChannelMap):
    """w is the share of the target that is lost when the channel is set to zero (Desai & Ramaswamy 2020, eq. 4).

    doi:10.1109/WACV45572.2020.9093360. The share is of the absolute value, so that a negative score does not turn the
    map round; pytorch-grad-cam divides by the score itself, and ablates to a value far below the others where a
    channel has negative ones. A score is taken to be at least 1e-5 of the largest, of those after the ablations too.
    """

    def weights(self, model: nn.Module, images: Tensor, target: Target, name: str, values: Tensor) -> Tensor:
        pictures, channels = images, torch.zeros(0, dtype=torch.int64)

        def make(owner: Tensor, variant: Tensor) -> Tensor:
            """Variant 0 is intact, in variant c + 1 channel c is gone."""
            nonlocal pictures, channels
            pictures, channels = images[owner], variant - 1
            return pictures

        def ablate(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            output = output.clone()
            grid = to_grid(output, find_layout(model, name, output, pictures))
            hit = (channels >= 0).nonzero().flatten()
            grid[hit, channels[hit]] = 0
            return output

        with _forward_hook(find(model, name), ablate):
            answers = grid_scores(model, target, images, 1 + values.shape[1], make, self.batch)
        whole, without = answers[:, :1], answers[:, 1:]
        least = (TINY * answers.abs().amax(1, keepdim=True)).clamp(min=torch.finfo(whole.dtype).tiny)
        return (whole - without) / torch.maximum(whole.abs(), least)


def _layer(name: str | None, model: nn.Module, images: Tensor) -> str:
    return name if name is not None else default_layer(model, images)


def _branch(name: str | None, model: nn.Module, images: Tensor) -> str:
    return "" if name is not None or is_cut(model, images, default_layer(model, images)) else "branch"


def _enlarge(heat: Tensor, images: Tensor) -> Tensor:
    return F.interpolate(heat[:, None], images.shape[-2:], mode="bilinear", align_corners=False).squeeze(1)


@contextmanager
def _forward_hook(module: nn.Module, hook: Any) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        with eager():
            yield
    finally:
        handle.remove()


def _has_pooled_head(model: nn.Module, images: Tensor, name: str) -> bool:
    """Whether some linear layer W, b of the model gives logits = W mean(A) + b, by the spread of the logits.

    The sum's rounding, from as many terms as there are channels and cells, is no difference.
    """
    with torch.no_grad(), record(model, name) as outputs:
        logits = logits_of(model, images)
    grid = to_grid(outputs[name], find_layout(model, name, outputs[name], images)).to(logits)
    means, sizes = grid.mean((2, 3)), grid.abs().mean((2, 3))
    spread, eps = logits.amax() - logits.amin(), torch.finfo(outputs[name].dtype).eps
    for head in model.modules():
        if isinstance(head, nn.Linear | nn.Conv2d) and head.weight.flatten(1).shape == (
            logits.shape[1],
            means.shape[1],
        ):
            weight = head.weight.flatten(1).to(logits)
            bias = logits.new_zeros(len(weight)) if head.bias is None else head.bias.to(logits)
            rounding = ROUNDING * eps * (sizes @ weight.abs().T + bias.abs())
            gap = F.linear(means, weight, bias) - logits
            if (gap.abs() <= 1e-3 * spread + rounding).all() or not logits.isfinite().all():
                return True
    return False
