"""What the model says around an image: along a line, and on a plane. Nothing is cut off at [0, 1]."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks.balls import rows
from assay.attacks.goals import Untargeted
from assay.attacks.gradient import slope
from assay.core.borrow import evaluating


class Plane(NamedTuple):
    """Of each image at each point: the loss, and how far the label leads."""

    loss: Tensor  # (N, S, S), cross-entropy of the label
    margin: Tensor  # (N, S, S), logit of the label minus the largest other


def uphill(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """The sign of the gradient of the label's cross-entropy by the images, (N, C, H, W): the direction of FGSM."""
    with evaluating(model):
        return slope(model, images, Untargeted(labels).loss).gradient.sign()


def line(model: nn.Module, images: Tensor, direction: Tensor, radii: Tensor, batch_size: int = 64) -> Tensor:
    """Logits (N, R, K) of ``images + radii[r] * direction`` (Goodfellow et al. 2015, fig. 4, arXiv:1412.6572).

    ``images`` and ``direction`` are (N, C, H, W), ``radii`` (R,); ``batch_size`` points go through the model at once.
    """
    steps = radii.to(images)
    return _logits(model, images, [direction], steps[:, None], batch_size)


def plane(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    first: Tensor,
    second: Tensor,
    axis: Tensor,
    batch_size: int = 64,
) -> Plane:
    """Loss and margin of ``labels`` (N,) at ``images + axis[i] * first + axis[j] * second``, at [:, i, j].

    ``images``, ``first`` and ``second`` are (N, C, H, W), ``axis`` (S,).
    """
    steps = torch.cartesian_prod(axis, axis).to(images)
    logits = _logits(model, images, [first, second], steps, batch_size)
    shape = (len(images), len(axis), len(axis))
    point_labels = labels.repeat_interleave(len(steps))
    flat = logits.flatten(0, 1)
    loss = F.cross_entropy(flat, point_labels, reduction="none")
    return Plane(loss.view(shape), Untargeted(point_labels).margin(flat).view(shape))


def linearity(radii: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """R^2 of a straight line through the margin along a line of ``logits`` (N, R, K), (N,); 1 for an affine model.

    The margin here is the label's logit minus that of the class that rivals it at the radius nearest to 0, the same
    class all along: the largest other one would bend where the rival changes. NaN where it does not vary at all.
    """
    centre = logits[:, radii.abs().argmin()]
    rival = centre.scatter(1, labels[:, None], float("-inf")).argmax(1)
    pair = torch.stack([labels, rival], 1)[:, None].expand(-1, logits.shape[1], -1)
    logit, rival_logit = logits.double().gather(2, pair).unbind(2)
    margin = logit - rival_logit - (logit - rival_logit).mean(1, keepdim=True)
    along = radii.to(margin) - radii.to(margin).mean()
    fit = (margin @ along).square() / along.square().sum()
    total = margin.square().sum(1)
    noise = logits.abs().amax((1, 2)).double() * 1e-6
    return torch.where(total.sqrt() > noise, fit / total, torch.nan).float()


def _logits(model: nn.Module, images: Tensor, directions: list[Tensor], steps: Tensor, batch_size: int) -> Tensor:
    """Logits (N, P, K) of every image moved by each row of ``steps`` (P, len(directions))."""
    points = torch.cartesian_prod(
        torch.arange(len(images), device=images.device), torch.arange(len(steps), device=images.device)
    )
    logits = []
    with evaluating(model), torch.no_grad():
        for image, step in (part.unbind(1) for part in torch.split(points, batch_size)):
            x = images[image]
            for k, direction in enumerate(directions):
                x = x + rows(steps[step, k], x) * direction[image]
            logits.append(model(x))
    return torch.cat(logits).view(len(images), len(steps), -1)
