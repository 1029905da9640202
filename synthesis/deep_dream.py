"""DeepDream: what a layer sees in a picture, more and more of it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.core.layers import activations
from assay.core.probe import default_layer
from assay.core.tables import check
from assay.core.targets import LayerNorm2
from assay.synthesis.base import Art, Callback, FromImages, detached
from assay.synthesis.tiles import Slope, margin, resized, slope, slope_by_tiles, slope_by_windows, takes
from assay.synthesis.transforms import roll


@dataclass(frozen=True, kw_only=True, slots=True)
class DeepDream(FromImages):
    """Climb half the sum of squares of a layer, from small to full size (Mordvintsev et al. 2015, "Inceptionism").

    A step is the gradient over its mean size: exactly ``step_size`` in the mean before pixels are clipped to [0, 1].
    Each step sees the picture rolled at random. A model of a fixed input size sees windows of a larger picture.
    """

    layer: str | None = None  # None: the last one with a grid
    channel: int | None = None  # None: all of the layer
    steps: int = 10  # in each octave
    step_size: float = 1.5 / 255  # mean over the values of a picture in [0, 1]
    octaves: int = 4
    octave_scale: float = 1.4  # from one octave to the next
    jitter: int = 32  # pixels, largest roll; at most a third of the shorter side
    tile: int | None = None  # pixels, largest side of what is computed at once, its surroundings aside

    def __post_init__(self) -> None:
        check(self)
        if self.steps < 1 or self.octaves < 1 or self.jitter < 0 or (self.tile is not None and self.tile < 1):
            raise AssayError("DeepDream: steps, octaves and tile are at least 1, and jitter not negative")
        if self.step_size < 0 or self.octave_scale <= 1:
            raise AssayError("DeepDream: step_size is not negative, and octave_scale above 1")

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        draws: Draws | int = 0,
        *,
        guide: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Art:
        """A dream about each of ``images`` (N, C, H, W) in [0, 1], of any size.

        With a ``guide`` (1, C, h, w), what grows is at each place the likeness to what is most like it in the guide:
        their activations' inner product. The history has a row for each step of each octave.
        """
        check_images(images)
        if guide is not None:
            check_images(guide)
            if guide.shape[:2] != (1, images.shape[1]):
                raise AssayError(f"a guide is one picture of {images.shape[1]} channels, not {tuple(guide.shape)}")
            if self.channel is not None:
                raise AssayError("DeepDream: a guide speaks of all channels; leave channel out")
        with evaluating(model):
            return detached(self.run(model, images.detach(), as_draws(draws, images), callback, guide))

    def run(
        self, model: nn.Module, images: Tensor, draws: Draws, callback: Callback | None, guide: Tensor | None = None
    ) -> Art:
        window = getattr(model, "input_size", images.shape[1:])
        layer = self.layer or default_layer(model, images.new_zeros(1, *window))
        objective = self._objective(model, layer, guide)
        sizes = self._sizes((images.shape[2], images.shape[3]))
        history: list[Tensor] = []
        detail = torch.zeros_like(resized(images, sizes[0]))
        for size in sizes:
            base, climb = resized(images, size), self._climb(model, layer, (images.shape[1], *size))
            dream = (base + resized(detail, size)).clamp(0, 1)
            reach = min(self.jitter, min(size) // 3)
            for _ in range(self.steps):
                shifts = draws.integers(2 * reach + 1, (2,)) - reach
                ascent = climb(objective, roll(dream, shifts))
                dream = (dream + self.step(roll(ascent.gradient, -shifts))).clamp(0, 1)
                history.append(ascent.value)
                if callback is not None:
                    callback(len(history), len(sizes) * self.steps, ascent.value)
            detail = dream - base
        return Art(dream, torch.stack(history))

    def step(self, gradient: Tensor) -> Tensor:
        """What one step adds: the gradient (N, C, H, W) over its mean size, times ``step_size``."""
        mean = gradient.abs().mean((1, 2, 3), keepdim=True)
        return self.step_size * gradient / mean.clamp_min(torch.finfo(gradient.dtype).tiny)

    def _objective(self, model: nn.Module, layer: str, guide: Tensor | None) -> Callable[[Tensor], Tensor]:
        if guide is None:
            target = LayerNorm2(layer, self.channel)
            return lambda images: target(model, images)
        with torch.no_grad():
            guide_codes = activations(model, self._fit_guide(model, layer, guide), layer).flatten(2)[0]

        def likeness(images: Tensor) -> Tensor:
            products = activations(model, images, layer).flatten(2).transpose(1, 2) @ guide_codes
            return products.amax(2).sum(1)

        return likeness

    def _fit_guide(self, model: nn.Module, layer: str, guide: Tensor) -> Tensor:
        """The guide as the model takes it, at its own size where it takes no other."""
        guide = guide.to(next(model.parameters(), guide))
        if takes(model, guide.shape[1:], [layer]):
            return guide
        height, width = getattr(model, "input_size", guide.shape[1:])[1:]
        return resized(guide, (height, width))

    def _climb(
        self, model: nn.Module, layer: str, size: tuple[int, int, int]
    ) -> Callable[[Callable[[Tensor], Tensor], Tensor], Slope]:
        """How an objective's derivative by pictures of ``size`` is found."""
        tile, window = self.tile, getattr(model, "input_size", size)
        if tile is None or max(size[1:]) <= tile:
            if takes(model, size, [layer]):
                return slope
            return lambda objective, images: slope_by_windows(objective, images, (window[1], window[2]))
        around, stride = margin(model, layer, window)
        return lambda objective, images: slope_by_tiles(objective, images, tile, around, stride)

    def _sizes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """(H, W) of the octaves, small to large."""
        scales = [self.octave_scale**-i for i in reversed(range(self.octaves))]
        return [(max(round(size[0] * by), 1), max(round(size[1] * by), 1)) for by in scales]
