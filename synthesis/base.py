"""What every synthesis shares at its edge."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from assay.core.borrow import check_images, evaluating
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError

Callback = Callable[[int, int, Tensor], None]  # step, steps, value (N,): called after each step


class Art(NamedTuple):
    """Pictures, and how the objective moved while they were made."""

    images: Tensor  # (N, C, H, W) in [0, 1]
    history: Tensor  # (steps, N), the objective as seen in each step


@dataclass(frozen=True, kw_only=True, slots=True)
class Synthesis(ABC):
    """A frozen record of settings; calling it makes pictures, from what ``takes`` says.

    ``"target"``: a model and a target. ``"images"``: a model and images, one picture for each. ``"sample"``: images
    alone, one texture for each. ``"styles"``: a model, images, and pictures whose style to take.
    """

    takes: ClassVar[Literal["target", "images", "sample", "styles"]]
    version: ClassVar[int] = 1  # raised when the results of a class change; a cell's id holds it


@dataclass(frozen=True, kw_only=True, slots=True)
class FromImages(Synthesis):
    """Makes a picture of each image, by what a model sees in it."""

    takes = "images"

    def __call__(
        self, model: nn.Module, images: Tensor, draws: Draws | int = 0, *, callback: Callback | None = None
    ) -> Art:
        """``model`` maps images (N, C, H, W) in [0, 1] to logits (N, K); an int seeds one random stream an image."""
        check_images(images)
        with evaluating(model):
            return detached(self.run(model, images.detach(), as_draws(draws, images), callback))

    @abstractmethod
    def run(self, model: nn.Module, images: Tensor, draws: Draws, callback: Callback | None) -> Art:
        """The synthesis itself, on a borrowed model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FromSample(Synthesis):
    """Makes more of a texture from a sample of it, without a model."""

    takes = "sample"
    size: tuple[int, int] | None = None  # (H, W) of the textures; None: twice the sample's sides

    def __call__(self, samples: Tensor, draws: Draws | int = 0) -> Art:
        """A texture for each of ``samples`` (N, C, h, w) in [0, 1]; an int seeds one random stream a sample."""
        check_images(samples)
        height, width = self.size or (2 * samples.shape[2], 2 * samples.shape[3])
        if min(height, width) < 1:
            raise AssayError(f"the size of a texture is (H, W), not {self.size}")
        with torch.no_grad():
            return detached(self.run(samples.detach(), (height, width), as_draws(draws, samples)))

    @abstractmethod
    def run(self, samples: Tensor, size: tuple[int, int], draws: Draws) -> Art:
        """The synthesis itself; a history of no steps where nothing is climbed."""


def blank(count: int, size: tuple[int, int, int], model: nn.Module) -> Tensor:
    """``count`` mid-grey pictures (N, C, H, W) of the model's type, on its device."""
    like = next(model.parameters(), torch.zeros(()))
    return torch.full((count, *size), 0.5, device=like.device, dtype=like.dtype)


def size_for(model: nn.Module, size: tuple[int, ...] | None, name: str) -> tuple[int, int, int]:
    """(C, H, W): ``size``, else the model's ``input_size``; ``AssayError`` where neither tells."""
    size = size or getattr(model, "input_size", None)
    if size is None:
        raise AssayError(f"how large? this model has no input_size; write {name}(size=(3, 224, 224))")
    if len(size) != 3 or min(size) < 1:
        raise AssayError(f"the size of a picture is (C, H, W), not {tuple(size)}")
    return (size[0], size[1], size[2])


def detached(art: Art) -> Art:
    return Art(art.images.detach(), art.history.detach())
