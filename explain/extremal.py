"""The smooth mask of a given area that keeps the target highest."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.tables import check
from assay.core.targets import Target
from assay.explain.base import Explainer
from assay.explain.variants import Baseline, baseline_of, blurred, spans

LEVELS = 8  # of blur, from none to the strongest
STRONGEST = 20 / 224  # standard deviation of the strongest blur, share of the shorter side
COLDNESS = 20  # of the smooth maximum
RATE, MOMENTUM = 0.01, 0.9
FIRST, LAST = 300.0, 4900.0  # weight of the area constraint; it grows by the same factor at every step


@dataclass(frozen=True, kw_only=True, slots=True)
class ExtremalPerturbation(Explainer):
    """The smooth mask of a given area that keeps the target highest (Fong, Patrick & Vedaldi 2019, arXiv:1910.08485).

    Where the mask is 1 the image shows, where it is 0 it is perturbed most (the paper's preservation game); the target
    plus a growing penalty on masks of another area is climbed by gradient ascent from a mask of ones. In [0, 1]; of
    several ``areas`` the mean mask. Constants are those of the authors' code (TorchRay), whose flips of every second
    step are left out and whose area is a share of the image with its margin.
    """

    areas: tuple[float, ...] = (0.1,)  # shares of the image
    steps: int = 400  # the paper takes 800; forward and backward passes per image and area
    cells: int = 32  # of the mask, along the shorter side
    sigma: float = 21 / 224  # radius of what one cell shows, share of the shorter side
    baseline: Baseline = "blur"  # of growing strength; zero and mean fade in
    batch: int = field(default=8, repr=False)  # masks at once; changes no result

    def __post_init__(self) -> None:
        check(self)
        if not self.areas or not all(0 < area < 1 for area in self.areas):
            raise AssayError(f"{self}: needs areas between 0 and 1")
        if not (self.steps >= 1 and self.cells >= 1 and self.sigma > 0 and self.batch >= 1):
            raise AssayError(f"{self}: needs steps, cells and batch >= 1 and sigma > 0")

    def run(self, model: nn.Module, images: Tensor, target: Target, draws: Draws) -> Tensor:
        owners = torch.arange(len(images), device=images.device).repeat_interleave(len(self.areas))
        areas = images.new_tensor(self.areas).repeat(len(images))
        parts = [(owners[at], areas[at]) for at in spans(len(owners), self.batch)]
        masks = torch.cat([self._climb(model, images[owner], target[owner], area) for owner, area in parts])
        return masks.reshape(len(images), len(self.areas), *images.shape[-2:]).mean(1)

    def _climb(self, model: nn.Module, images: Tensor, target: Target, areas: Tensor) -> Tensor:
        n, _, height, width = images.shape
        smooth = _Smooth((height, width), min(self.cells, height, width), self.sigma, images)
        pyramid = _pyramid(images, self.baseline)
        ones = torch.ones(n, *smooth.shape, dtype=images.dtype, device=images.device)
        ranks = torch.arange(smooth(ones)[0].numel(), 0, -1, device=images.device)
        ideal = (ranks <= areas[:, None] * (height * width)).to(images.dtype)
        cells, velocity = ones, torch.zeros_like(ones)
        for step in range(self.steps):
            weight = FIRST * (LAST / FIRST) ** (step / self.steps)
            cells = cells.detach().requires_grad_(True)
            masks = smooth(cells)
            misfit = (masks.flatten(1).sort(1).values - ideal).square().mean(1)
            energy = target(model, _perturb(pyramid, smooth.inside(masks))) - weight * misfit
            (slope,) = torch.autograd.grad(energy.sum(), cells)
            velocity = slope if step == 0 else MOMENTUM * velocity + (1 - MOMENTUM) * slope
            cells = (cells.detach() + RATE * velocity).clamp(0, 1)
        with torch.no_grad():
            return smooth.inside(smooth(cells))


class _Smooth:
    """Masks from cells (n, rows, columns): the paper's smooth max-convolution, sec. 3.2.

    They reach a margin of ``sigma`` beyond the image, (n, H + 2 margin, W + 2 margin), so that a cell at the border
    costs as much area as any other.
    """

    def __init__(self, size: tuple[int, int], cells: int, sigma: float, like: Tensor) -> None:
        step, sigma = min(size) / cells, sigma * min(size)
        self.shape = (math.ceil(size[0] / step - 1e-9), math.ceil(size[1] / step - 1e-9))
        self.margin, radius = math.ceil(sigma), math.ceil(sigma / step)
        self.padding = radius + math.ceil(self.margin / step)
        pixels = [torch.arange(-self.margin, side + self.margin, device=like.device) + 0.5 for side in size]
        around = torch.arange(-radius, radius + 1, device=like.device)[:, None]
        near = [(places / step).floor() + around for places in pixels]
        self.near = [(cells + self.padding).long() for cells in near]
        gaps = [places - (cells + 0.5) * step for places, cells in zip(pixels, near, strict=True)]
        distance = torch.hypot(gaps[0][:, None, :, None], gaps[1][None, :, None, :]) / sigma
        self.kernel = torch.exp(-2 * (distance - 0.5).clamp(min=0).square()).to(like.dtype)

    def __call__(self, cells: Tensor) -> Tensor:
        padded = F.pad(cells, (self.padding,) * 4)
        nearby = padded[:, self.near[0][:, None, :, None], self.near[1][None, :, None, :]] * self.kernel
        nearby = nearby.flatten(1, 2)
        return (nearby * (COLDNESS * nearby).softmax(1)).sum(1).clamp(0, 1)

    def inside(self, masks: Tensor) -> Tensor:
        """Without the margin, (n, H, W)."""
        return masks[:, self.margin : -self.margin, self.margin : -self.margin]


def _pyramid(images: Tensor, baseline: Baseline) -> Tensor:
    """The image from most perturbed to whole, (N, levels, C, H, W)."""
    if baseline != "blur":
        return torch.stack([baseline_of(images, baseline), images], 1)
    strongest = STRONGEST * min(images.shape[-2:])
    return torch.stack([blurred(images, strongest * (1 - i / (LEVELS - 1))) for i in range(LEVELS)], 1)


def _perturb(pyramid: Tensor, masks: Tensor) -> Tensor:
    """Each pixel at its mask's level of the pyramid, between levels in proportion."""
    last = pyramid.shape[1] - 1
    level = masks * last
    below = level.detach().floor().clamp(max=last - 1).nan_to_num()  # a mask that is NaN stays so by its share
    share = (level - below)[:, None]
    low = F.one_hot(below.long(), last + 1).movedim(-1, 1)
    high = F.one_hot(below.long() + 1, last + 1).movedim(-1, 1)
    return torch.einsum("nlhw,nlchw->nchw", low * (1 - share) + high * share, pyramid)
