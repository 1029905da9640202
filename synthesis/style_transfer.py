"""Style transfer: the content of one picture in the style of others."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.core.tables import check
from assay.core.targets import gram
from assay.synthesis.base import Art, Callback, Synthesis, detached
from assay.synthesis.gram import (
    Objective,
    Seen,
    check_climb,
    coarse_to_fine,
    gram_loss,
    layer_weights,
    noise_like,
    scale_size,
    style_layers,
)
from assay.synthesis.tiles import Size, resized

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in luminance, ITU-R BT.601


class Losses(NamedTuple):
    """How far pictures are from their content and from the styles, (N,) each."""

    content: Tensor  # mean over layers of ||F - P||^2 / ||P||^2; 0 for the content itself
    style: Tensor  # ``gram_loss``, of several styles the weighted mean; 0 for the style itself


@dataclass(frozen=True, kw_only=True, slots=True)
class StyleTransfer(Synthesis):
    """Pictures with the activations of one image and the Gram matrices of others (Gatys et al. 2016, "Image style
    transfer using convolutional neural networks").

    Both losses are relative to what they aim at, so weights mean the same for every model, layer and size. ``colours``
    ``"content"`` transfers luminance alone and keeps the content's chroma (Gatys et al. 2016, arXiv:1606.05897, section
    4.2). The history is minus the weighted loss, at every scale anew.
    """

    takes = "styles"
    content_layers: tuple[str, ...] | None = None  # None: the last but one of the style layers
    style_layers: tuple[str, ...] | None = None  # None: ``assay.synthesis.gram.style_layers``
    layer_weights: tuple[float, ...] | None = None  # of the style layers; None: all the same
    content_weight: float = 1.0
    style_weight: float = 30.0
    tv: float = 1.0  # of the mean squared difference of neighbours
    style_size: float = 1.0  # longer side of the styles, as a share of the content's
    colours: Literal["style", "content"] = "style"
    init: Literal["content", "noise"] = "content"
    steps: int = 300  # passes forward and backward, shared equally among the scales
    optimiser: Literal["lbfgs", "adam"] = "lbfgs"
    step_size: float = 0.02  # adam
    scales: int = 2  # each half as large as the next

    def __post_init__(self) -> None:
        check(self)
        check_climb(self)
        if min(self.content_weight, self.style_weight) < 0 or self.style_size <= 0:
            raise AssayError("StyleTransfer: weights are not negative, and style_size is positive")

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        styles: Sequence[Tensor],
        draws: Draws | int = 0,
        *,
        weights: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Art:
        """Each of ``images`` (N, C, H, W) in [0, 1] in the style of all ``styles`` (C, h, w) or (1, C, h, w), any size.

        ``weights`` are the styles' shares, all the same unless given. Of a picture larger than the ``input_size`` of a
        model that takes no other, it sees windows.
        """
        check_images(images)
        blend = as_blend(styles, images, weights)
        with evaluating(model):
            return detached(self.run(model, images.detach(), blend, as_draws(draws, images), callback))

    def run(self, model: nn.Module, images: Tensor, styles: "Blend", draws: Draws, callback: Callback | None) -> Art:
        """The transfer itself, on a borrowed model."""
        size = (images.shape[2], images.shape[3])

        def start(at: Size) -> Tensor:
            return resized(images, at) if self.init == "content" else noise_like(images, at, draws)

        def objective(at: Size) -> Objective:
            aim = self.aim(model, resized(images, at), styles)

            def minus_loss(pictures: Tensor, index: Tensor) -> Tensor:
                losses = aim(pictures, index)
                return -self.content_weight * losses.content - self.style_weight * losses.style

            return minus_loss

        art = coarse_to_fine(self, size, start, objective, draws, callback)
        return art if self.colours == "style" else Art(restore_chroma(art.images, images), art.history)

    def losses(
        self,
        model: nn.Module,
        pictures: Tensor,
        images: Tensor,
        styles: Sequence[Tensor],
        *,
        weights: Sequence[float] | None = None,
    ) -> Losses:
        """Of ``pictures`` (N, C, H, W) that were to have the content of ``images``, equally large, and ``styles``."""
        check_images(pictures)
        if pictures.shape != images.shape:
            raise AssayError(f"pictures {tuple(pictures.shape)} and images {tuple(images.shape)} are of one size")
        blend = as_blend(styles, images, weights)
        with evaluating(model), torch.no_grad():
            return self.aim(model, images, blend)(pictures, torch.arange(len(pictures), device=pictures.device))

    def layers(self, model: nn.Module, images: Tensor) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the content layers and of the style layers."""
        style = self.style_layers or style_layers(model, images)
        return self.content_layers or (style[-2:][0],), style

    def aim(self, model: nn.Module, images: Tensor, styles: "Blend") -> "Aim":
        """The losses as a function of pictures of the size of ``images``."""
        content, style = self.layers(model, images)
        see = Seen(model, content + style)
        luminance = self.colours == "content"
        longest = round(self.style_size * max(images.shape[2:]))
        images = grey(images) if luminance else images
        with torch.no_grad():
            codes = see(images)[: len(content)]
            grams = []
            for picture in styles.pictures:
                picture = resized(
                    picture, scale_size((picture.shape[2], picture.shape[3]), longest / max(picture.shape[2:]))
                )
                picture = matched_contrast(grey(picture), images) if luminance else picture
                grams.append([gram(grid).expand(len(images), -1, -1) for grid in see(picture)[len(content) :]])
        return Aim(see, codes, grams, styles.weights, layer_weights(self.layer_weights, style), luminance)


class Blend(NamedTuple):
    """Pictures (1, C, h, w) whose styles to mix, and their shares, which sum to 1."""

    pictures: list[Tensor]
    weights: tuple[float, ...]


class Aim(NamedTuple):
    """What ``losses`` compares with, at one size."""

    see: Seen  # the content layers, then the style layers
    codes: list[Tensor]  # (N, C, h, w) of each content layer
    grams: list[list[Tensor]]  # (N, C, C) of each style and style layer
    shares: tuple[float, ...]  # of the styles
    weights: tuple[float, ...]  # of the style layers
    luminance: bool

    def __call__(self, pictures: Tensor, index: Tensor) -> Losses:
        """Of ``pictures``, made of the images at ``index``."""
        grids = self.see(grey(pictures) if self.luminance else pictures)
        codes, grids = grids[: len(self.codes)], grids[len(self.codes) :]
        losses = [code_loss(code, target[index]) for code, target in zip(codes, self.codes, strict=True)]
        content = torch.stack(losses).mean(0)
        style = torch.zeros_like(content)
        for share, grams in zip(self.shares, self.grams, strict=True):
            style = style + share * gram_loss(grids, [matrix[index] for matrix in grams], self.weights)
        return Losses(content, style)


def as_blend(styles: Sequence[Tensor], images: Tensor, weights: Sequence[float] | None) -> Blend:
    """The styles as (1, C, h, w) on the images' device; ``AssayError`` for others and for weights that do not fit."""
    pictures = [style[None] if style.ndim == 3 else style for style in styles]
    for picture in pictures:
        check_images(picture)
        if picture.shape[:2] != (1, images.shape[1]):
            raise AssayError(f"a style is one picture of {images.shape[1]} channels, not {tuple(picture.shape)}")
    shares = tuple(weights) if weights is not None else (1.0,) * len(pictures)
    if len(shares) != len(pictures) or not all(0 <= s < math.inf for s in shares) or sum(shares) <= 0:
        raise AssayError(f"weights {shares} for {len(pictures)} styles; give one for each, not all 0")
    return Blend([picture.detach().to(images) for picture in pictures], tuple(share / sum(shares) for share in shares))


def code_loss(codes: Tensor, target: Tensor) -> Tensor:
    """||F - P||^2 / ||P||^2, (N,), of activations (N, C, h, w): ``assay.core.targets.CodeDistance``."""
    norm = target.square().sum((1, 2, 3)).clamp_min(torch.finfo(target.dtype).tiny)
    return (codes - target).square().sum((1, 2, 3)) / norm


def luminance(images: Tensor) -> Tensor:
    """(N, 1, H, W) of images of three channels; of others the mean."""
    if images.shape[1] != len(LUMA):
        return images.mean(1, keepdim=True)
    return torch.einsum("nchw,c->nhw", images, images.new_tensor(LUMA))[:, None]


def grey(images: Tensor) -> Tensor:
    """Luminance in every channel."""
    return luminance(images).expand_as(images)


def restore_chroma(pictures: Tensor, images: Tensor) -> Tensor:
    """Pictures with the chroma of ``images`` and their own luminance, clipped to [0, 1]."""
    return (images + luminance(pictures) - luminance(images)).clamp(0, 1)


def matched_contrast(styles: Tensor, images: Tensor) -> Tensor:
    """Grey ``styles`` (1, C, h, w) with mean and deviation of each of the grey images, (N, C, h, w) clipped to [0, 1].

    Gatys et al. 2016, arXiv:1606.05897, eq. 10.
    """
    (mean, deviation), (new_mean, new_deviation) = (
        (x.mean((1, 2, 3), keepdim=True), x.std((1, 2, 3), keepdim=True)) for x in (styles, images)
    )
    return ((styles - mean) * (new_deviation / deviation.clamp_min(1e-6)) + new_mean).clamp(0, 1)
