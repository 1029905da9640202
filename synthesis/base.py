"""What every synthesis shares at its edge."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.borrow import borrowed
from core.draws import Draws, as_draws
from core.errors import AssayError
from core.targets import Target


class Art(NamedTuple):
    """Pictures, and how the target grew while they were made."""

    images: Tensor  # (N, C, H, W) in [0, 1]
    history: Tensor  # (steps, N), the target in each step, as the model saw the pictures


@dataclass(frozen=True, kw_only=True, slots=True)
class Synthesis(ABC):
    """A frozen record of settings; calling it makes pictures."""

    size: tuple[int, ...] | None = None  # (C, H, W) of the pictures; None: the model's ``input_size``

    def __call__(self, model: nn.Module, target: Target, draws: Draws | int = 0) -> Art:
        """Pictures for which ``target`` is large.

        As many as the target holds data for: ``Logit(3)`` gives 1, ``Logit(torch.tensor([0, 1, 2]))`` 3. With
        ``Draws``, there are as many as streams, and a target without data of its own is climbed once by each; an
        int seeds one stream per position. ``model`` maps images (N, C, H, W) in [0, 1] to logits (N, K). Raises
        ``AssayError`` where neither the model nor ``size`` tells the pictures' size.
        """
        if isinstance(draws, Draws) and target.count not in (1, len(draws)):
            raise AssayError(f"the target is for {target.count} pictures and there are {len(draws)} random streams")
        count = target.count if isinstance(draws, int) else len(draws)
        like = next(model.parameters(), torch.zeros(()))
        grey = torch.full((count, *self._shape(model)), 0.5, device=like.device, dtype=like.dtype)
        with borrowed(model):
            art = self.run(model, target, grey, as_draws(draws, grey))
        return Art(art.images.detach(), art.history.detach())

    @abstractmethod
    def run(self, model: nn.Module, target: Target, grey: Tensor, draws: Draws) -> Art:
        """The synthesis itself, on a borrowed model; ``grey`` has the shape (N, C, H, W) of the pictures."""

    def _shape(self, model: nn.Module) -> tuple[int, ...]:
        size = self.size or getattr(model, "input_size", None)
        if size is None:
            raise AssayError(
                f"how large? this model has no input_size; write {type(self).__name__}(size=(3, 224, 224))"
            )
        if len(size) != 3 or min(size) < 1:
            raise AssayError(f"the size of a picture is (C, H, W), not {tuple(size)}")
        return tuple(size)
