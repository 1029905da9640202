"""How good textures and stylised pictures are: by what was not optimised, and for what they cost."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating, now
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import gram
from assay.synthesis.gram import Seen, gram_loss, style_layers, trunk_of
from assay.synthesis.style_transfer import StyleTransfer


def gram_distance(model: nn.Module, pictures: Tensor, samples: Tensor, layers: Sequence[str] | None = None) -> Tensor:
    """Mean over ``layers`` of ||G - A||^2 / ||A||^2, (N,), between ``pictures`` (N, C, H, W) and ``samples``
    (1 or N, C, h, w), of any two sizes. ``style_layers`` unless named.

    Without meaning as a score of pictures that were optimised for it: take ``held_out`` layers, or another model.
    """
    check_images(pictures)
    check_images(samples)
    if len(samples) not in (1, len(pictures)):
        raise AssayError(f"{len(pictures)} pictures and {len(samples)} samples; give one for all or one for each")
    with evaluating(model), torch.no_grad():
        names = tuple(layers or style_layers(model, samples))
        see = Seen(model, names)
        return gram_loss(see(pictures), [gram(grid) for grid in see(samples)], (1 / len(names),) * len(names))


def held_out(model: nn.Module, images: Tensor, layers: Sequence[str]) -> tuple[str, ...]:
    """Layers that everything passes, no deeper than ``layers`` and not among them, in their order.

    Of a network that has none, those behind them.
    """
    with evaluating(model):
        names = trunk_of(model, images)
    full = {name for name in names if name in layers or name.removeprefix("body.") in layers}
    deepest = max((i for i, name in enumerate(names) if name in full), default=len(names))
    before = tuple(name for name in names[:deepest] if name not in full)
    return before or tuple(name for name in names if name not in full)


class Transfer(NamedTuple):
    """What a transfer reached for what it cost, (N,) each but the first two, and the pictures."""

    steps: int  # passes forward and backward of every picture
    seconds: float  # of all pictures
    content: Tensor
    style: Tensor
    images: Tensor


def against_budget(
    method: StyleTransfer,
    model: nn.Module,
    images: Tensor,
    styles: Sequence[Tensor],
    budgets: Sequence[int],
    *,
    weights: Sequence[float] | None = None,
    draws: Draws | int = 0,
) -> list[Transfer]:
    """Both losses of what ``method`` makes with each of the ``budgets`` of steps; each is a transfer of its own.

    Streams as ``draws`` go on from one budget to the next; an int gives each the same numbers.
    """
    rows = []
    for steps in budgets:
        start = now(images.device)
        pictures = replace(method, steps=steps)(model, images, styles, draws, weights=weights).images
        seconds = now(images.device) - start
        losses = method.losses(model, pictures, images, styles, weights=weights)
        rows.append(Transfer(steps, seconds, *losses, pictures))
    return rows
