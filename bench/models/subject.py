"""A classifier with its normalisation, classes and digest."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from assay.bench.data.class_names import numbers
from assay.bench.models.digest import digest_of
from assay.core.errors import AssayError


class Fit(NamedTuple):
    """How a model takes photographs: its size, the share of the resized picture that the centre crop keeps, and how."""

    input_size: tuple[int, int, int]  # C, H, W
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    crop_mode: str = "center"  # or squash: resized to the crop's proportions first


class Subject(nn.Module):
    """A classifier from images (N, C, H, W) in [0, 1] to logits (N, K), normalisation inside, in eval mode.

    ``body`` is the network itself. ``digest`` is the sha256 of what the model does when it is made: ``digest_of``.
    Raises ``AssayError`` for a network that does not take ``input_size`` or gives no logits.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        *,
        name: str,
        input_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        classes: Sequence[str] = (),
        crop_pct: float = 1.0,
        interpolation: str = "bicubic",
        crop_mode: str = "center",
        card: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if len(input_size) != 3 or input_size[0] not in (1, 3) or min(input_size) < 1:
            raise AssayError(f"{name}: input_size is (1 or 3, H, W), not {tuple(input_size)}")
        self.body = body
        self.name = name
        self.input_size = (int(input_size[0]), int(input_size[1]), int(input_size[2]))
        self.fit = Fit(self.input_size, crop_pct, interpolation, crop_mode)
        self.card = dict(card or {})
        for key, values in {"mean": mean, "std": std}.items():
            self.register_buffer(key, _channels(f"{name}: {key}", values), persistent=False)
        self.eval()
        if any(map(is_lazy, body.parameters())):
            self._count_classes()  # which gives them their sizes
        self.digest = digest_of(self, self.input_size)  # before a forward pass can leave anything behind
        count = self._count_classes()
        if classes and len(classes) != count:
            raise AssayError(f"{name}: {len(classes)} class names for {count} logits")
        self.named = bool(classes)
        self.classes = tuple(map(str, classes)) or numbers(count)

    @property
    def has_names(self) -> bool:
        """Whether ``classes`` are names, and not only numbers for want of any."""
        return self.named or self.classes != numbers(len(self.classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body((images - self.mean) / self.std)
        return logits

    @torch.no_grad()
    def _count_classes(self) -> int:
        try:
            logits = self(torch.zeros(1, *self.input_size))
        except Exception as error:  # the user's network may raise anything
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise AssayError(f"{self.name} fails on images of {self.input_size}: {reason}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise AssayError(f"{self.name}: a classifier gives logits (N, K), this gives {shape}")
        return logits.shape[1]


class Averaged(nn.Module):
    """The mean of the members' logits (Dong et al. 2018, eq. 9, arXiv:1710.06081, with equal weights)."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members]).mean(0)


def ensemble(spec: str, members: Sequence[Subject]) -> Subject:
    """One subject of several with the same classes and input size; it takes photographs as the first one does."""
    first = members[0]
    for member in members[1:]:
        for fact in ("input_size", "classes"):
            if getattr(member, fact) != getattr(first, fact):
                raise AssayError(f"{spec!r} does not go together: {member.name} has another {fact} than {first.name}")
    return Subject(
        Averaged(members),
        name=spec,
        **first.fit._asdict(),
        mean=(0.0,),
        std=(1.0,),
        classes=first.classes if first.has_names else (),
    )


def first_line(error: BaseException) -> str:
    """What an error says, without what follows; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _channels(what: str, values: Sequence[float]) -> Tensor:
    try:
        return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AssayError(f"{what} is one number a channel, not {values!r}") from error
