"""Heatmaps from what happens when pixels are replaced."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.borrow import check_images, evaluating
from assay.core.draws import Draws
from assay.core.errors import AssayError, NotApplicable
from assay.core.layers import single
from assay.core.tables import check
from assay.core.targets import Logit, Margin, Probability, Target, chosen_of, logits_of
from assay.explain.base import Explainer, TargetLike, as_target
from assay.explain.variants import Baseline, Segments, baseline_of, grid_scores, read_all, scores, segments_of, spans


class Positions(NamedTuple):
    """What the model says while the square is at each place: row i starts at pixel i * stride, columns likewise."""

    probability: Tensor  # (N, rows, columns) float32, of the explained class
    predicted: Tensor  # (N, rows, columns) int64, the most probable class


@dataclass(frozen=True, kw_only=True, slots=True)
class Occlusion(Explainer):
    """How much the target drops when a sliding square is replaced (Zeiler & Fergus 2014, sec. 4.2, arXiv:1311.2901).

    A pixel gets the mean drop over the squares that cover it. Squares start every ``stride`` pixels, the last ones
    cut off at the border. captum's ``Occlusion`` with windows (C, window, window) gives this value in every channel.
    """

    signed: ClassVar[bool] = True

    window: int = 16  # side of the square, pixels
    stride: int = 8  # pixels, at most the window
    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if not (1 <= self.stride <= self.window and self.batch >= 1):
            raise AssayError(f"{self}: needs 1 <= stride <= window, so that every pixel is covered, and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        rows, columns = self._spans(images.shape[-2]), self._spans(images.shape[-1])
        per_image = 1 + len(rows) * len(columns)
        values = grid_scores(model, target, images, per_image, self._sampler(images), self.batch)
        drops = (values[:, :1] - values[:, 1:]).reshape(len(images), len(rows), len(columns))
        down, across = rows.to(drops), columns.to(drops)
        covering = down.sum(0)[:, None] * across.sum(0)
        return torch.einsum("nij,ih,jw->nhw", drops, down, across) / covering

    def positions(self, model: nn.Module, images: Tensor, target: TargetLike) -> Positions:
        """The class's probability and the predicted class per position of the square (Zeiler & Fergus, fig. 7d, e).

        Arguments and errors as for a heatmap, of a class: a target that is none raises ``NotApplicable``.
        """
        check(self)
        check_images(images)
        images, target = images.detach(), as_target(target, images)
        if not isinstance(target, Logit | Probability | Margin):
            raise NotApplicable(f"positions tell the probability of a class, not of a {type(target).__name__}")
        classes = torch.as_tensor(target.classes, device=images.device).expand(len(images))
        rows, columns = (len(self._spans(size)) for size in images.shape[-2:])
        samples = torch.arange(len(images) * rows * columns, device=images.device)
        owners, squares = samples // (rows * columns), samples % (rows * columns) + 1

        def read(owner: Tensor, pictures: Tensor) -> Tensor:
            logits = logits_of(model, pictures)
            indices = chosen_of(logits, classes[owner])
            return torch.stack([Probability.of(logits, indices).double(), logits.argmax(1).double()], 1)

        with evaluating(model):
            answers = read_all(read, owners, squares, self._sampler(images), self.batch)
        probability, winners = answers.reshape(len(images), rows, columns, 2).unbind(-1)
        return Positions(probability.float(), winners.long())

    def _sampler(self, images: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """Builds the samples of images and squares (m,).

        Square 0 is the image itself, square i + 1 lies at row i // columns, column i % columns.
        """
        blank = baseline_of(images, self.baseline)
        rows, columns = (self._spans(size).to(images.device) for size in images.shape[-2:])

        def make(owner: Tensor, square: Tensor) -> Tensor:
            at = (square - 1).clamp(min=0)
            inside = rows[at // len(columns)][:, :, None] & columns[at % len(columns)][:, None, :]
            inside &= (square > 0)[:, None, None]
            return torch.where(inside[:, None], blank[owner], images[owner])

        return make

    def _spans(self, size: int) -> Tensor:
        """Which pixels of a side each position of the window covers, (positions, size) bool."""
        positions = max(math.ceil((size - self.window) / self.stride), 0) + 1
        starts = torch.arange(positions)[:, None] * self.stride
        pixels = torch.arange(size)
        return (pixels >= starts) & (pixels < starts + self.window)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureAblation(Explainer):
    """How much the target drops when the pixel's segment is replaced, one segment at a time.

    Every pixel of a segment gets the whole drop, as in captum's ``FeatureAblation``.
    """

    signed: ClassVar[bool] = True

    segments: Segments = "slic"
    count: int = 49  # about so many segments
    baseline: Baseline = "mean"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if self.count < 2 or self.batch < 1:
            raise AssayError(f"{self}: needs count >= 2 and batch >= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        labels = segments_of(images, self.segments, self.count)
        per_image = int(labels.amax()) + 2
        blank = baseline_of(images, self.baseline)
        samples = torch.arange(len(images) * per_image, device=images.device).reshape(-1, per_image)
        real = samples % per_image <= labels.amax((1, 2))[:, None] + 1
        owners, variants = (samples // per_image)[real], (samples % per_image)[real]

        def make(owner: Tensor, variant: Tensor) -> Tensor:
            """Variant 0 is the image itself, variant i + 1 lacks segment i."""
            hole = labels[owner] == variant[:, None, None] - 1
            return torch.where(hole[:, None], blank[owner], images[owner])

        answers = scores(model, target, owners, variants, make, self.batch)
        values = answers.new_zeros(real.shape).masked_scatter(real, answers)
        drops = values[:, :1] - values[:, 1:]
        return drops.gather(1, labels.flatten(1)).reshape(labels.shape)


@dataclass(frozen=True, kw_only=True, slots=True)
class RISE(Explainer):
    """The target's mean over randomly masked images, each weighted by how much it shows of the pixel.

    Petsiuk et al. 2018, eq. 6 (arXiv:1806.07421): sum of target x mask over samples x ``keep``, the expected share that
    is shown. Masks are a grid of random bits, enlarged bilinearly and shifted by less than a cell. The paper's map has
    the target's mean as its level, of whatever sign a logit has; ``centred`` takes it out, which also steadies the
    estimate. The authors' code replaces by the mean colour of ImageNet.
    """

    signed: ClassVar[bool] = True

    samples: int = 2000  # masks per image; the paper takes 4000 to 8000
    cells: int = 7  # a side of the grid of bits
    keep: float = 0.5  # probability that a cell is shown
    centred: bool = True  # False: equation 6 as printed
    baseline: Baseline = "zero"
    batch: int = field(default=64, repr=False)  # samples in one forward pass; changes no result

    def __post_init__(self) -> None:
        if not (self.samples >= 1 and self.cells >= 1 and 0 < self.keep <= 1 and self.batch >= 1):
            raise AssayError(f"{self}: needs samples, cells and batch >= 1 and 0 < keep <= 1")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        n, _, height, width = images.shape
        blank = baseline_of(images, self.baseline)
        bits = (draws.uniform((self.samples, self.cells, self.cells)) < self.keep).flatten(0, 1)
        steps = [math.ceil(size / self.cells) for size in (height, width)]
        shifts = [draws.integers(step, (self.samples,)).flatten() for step in steps]
        sums = single(images)
        heat, coverage = sums.new_zeros(n, height, width), sums.new_zeros(n, height, width)
        level = sums.new_zeros(n)
        with torch.no_grad():
            for at in spans(len(bits), self.batch):
                owner = torch.arange(at.start, at.stop, device=images.device) // self.samples
                masks = rise_masks(bits[at].to(sums), shifts[0][at], shifts[1][at], (height, width))
                pictures = masks[:, None] * sums[owner] + (1 - masks[:, None]) * blank[owner]
                values = target[owner](model, pictures.to(images))
                heat.index_add_(0, owner, values[:, None, None] * masks)
                coverage.index_add_(0, owner, masks)
                level.index_add_(0, owner, values / self.samples)
        if self.centred:
            heat -= level[:, None, None] * coverage
        return heat / (self.samples * self.keep)


def rise_masks(bits: Tensor, down: Tensor, across: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks (m, H, W) in [0, 1] of bits (m, cells, cells), shifted by ``down`` and ``across`` pixels (m,).

    The bits are enlarged bilinearly to one cell more than the image of ``size``; the mask is cut out at the shift.
    """
    rows, columns = (_enlarging(bits, side) for side in size)
    return torch.einsum("mhi,mij,mwj->mhw", rows[down], bits, columns[across])


def _enlarging(bits: Tensor, side: int) -> Tensor:
    """Weights (step, side, cells) of the bits for each pixel of a side, one row of them per shift."""
    cells = bits.shape[-1]
    step = math.ceil(side / cells)
    unit = torch.eye(cells, dtype=bits.dtype, device=bits.device)[None]
    weights = F.interpolate(unit, size=(cells + 1) * step, mode="linear", align_corners=False)[0]
    return torch.stack([weights[:, shift : shift + side].T for shift in range(step)])
