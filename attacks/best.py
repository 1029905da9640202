"""The best image found so far, per image: what iterative attacks return, so that no success on the path is lost."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from assay.attacks.balls import distance
from assay.attacks.goals import Goal, Loss

MOST = 2**24  # values of a model's input in one pass, for memory; never less than one row


class Best(NamedTuple):
    """For attacks with a budget: one that fools beats one that does not, then the larger loss wins."""

    images: Tensor  # (N, C, H, W)
    loss: Tensor  # (N,)
    fooled: Tensor  # (N,) bool

    @classmethod
    def of(cls, images: Tensor) -> "Best":
        """Nothing found yet: the images themselves, which anything beats."""
        return cls(images.clone(), images.new_full((len(images),), float("-inf")), _none(images))

    def update(self, index: Tensor, images: Tensor, loss: Tensor, success: Tensor) -> None:
        """Keep what is better of the images at ``index``, all (n, ...)."""
        before = self.fooled[index]
        better = (success & ~before) | ((success == before) & (loss > self.loss[index]))
        place = index[better]
        self.images[place], self.loss[place], self.fooled[place] = images[better], loss[better], success[better]


class Nearest(NamedTuple):
    """For attacks that make the distance small: the nearest image that fools; the clean one where none does."""

    clean: Tensor  # (N, C, H, W)
    images: Tensor  # (N, C, H, W)
    size: Tensor  # (N,), infinite where nothing fools
    norm: str

    @classmethod
    def of(cls, images: Tensor, norm: str) -> "Nearest":
        return cls(images, images.clone(), images.new_full((len(images),), float("inf")), norm)

    @property
    def fooled(self) -> Tensor:
        """(N,) bool."""
        return self.size.isfinite()

    def update(self, index: Tensor, images: Tensor, success: Tensor) -> Tensor:
        """Keep the images at ``index`` that fool nearer than before; which were kept, (n,) bool."""
        size = distance(images - self.clean[index], self.norm)
        better = success & (size < self.size[index])
        place = index[better]
        self.images[place], self.size[place] = images[better], size[better]
        return better


def all_indices(images: Tensor) -> Tensor:
    """The indices 0 to N - 1 on the images' device: all images are still in the batch."""
    return torch.arange(len(images), device=images.device)


class Pick(NamedTuple):
    """What a model says of several candidates per image, and the best one: one that fools before one of larger loss."""

    images: Tensor  # (n, C, H, W)
    loss: Tensor  # (n, many)
    success: Tensor  # (n, many) bool
    place: Tensor  # (n,) of the best among them

    @property
    def fooled(self) -> Tensor:
        """(n,) bool."""
        return self.success.any(1)

    @property
    def best(self) -> Tensor:
        """Its loss, (n,)."""
        return self.loss.gather(1, self.place[:, None]).squeeze(1)


def best_candidate(
    model: nn.Module,
    goal: Goal,
    make: Callable[[Tensor], Tensor],
    like: Tensor,
    many: int,
    loss: Loss = "margin",
) -> Pick:
    """The best of ``many`` candidates for each image of ``like`` (n, C, H, W).

    ``make(part)`` gives those of the images at ``part``, (len(part) * many, C, H, W), image by image.
    """
    values, picks = like.shape[1:].numel(), []
    for part in parts(all_indices(like), values * many):
        candidates = make(part)
        logits = torch.cat([model(piece) for piece in parts(candidates, values)])
        goals = goal[part.repeat_interleave(many)]
        losses, success = goals.loss(logits, loss).view(-1, many), goals.reached(logits).view(-1, many)
        place = losses.masked_fill(success.any(1, keepdim=True) & ~success, float("-inf")).argmax(1)
        best = candidates.view(-1, many, *like.shape[1:])[all_indices(place), place]
        picks.append(Pick(best, losses, success, place))
    return Pick(*(torch.cat(pieces) for pieces in zip(*picks, strict=True)))


def parts(rows: Tensor, values: int) -> tuple[Tensor, ...]:
    """``rows`` (n, ...) in pieces for one forward pass each; a row stands for ``values`` of the model's input."""
    return torch.split(rows, max(1, MOST // max(values, 1)))


def _none(images: Tensor) -> Tensor:
    return torch.zeros(len(images), dtype=torch.bool, device=images.device)
