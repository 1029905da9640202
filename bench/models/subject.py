"""A classifier with its normalisation, classes and digest."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import timm.data
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from assay.bench.data.class_names import numbers
from assay.bench.models.digest import digest_of
from assay.core.errors import AssayError, first_line

LARGEST = 4096  # rows or columns of an input
SPAN = 2.0  # mean and deviation of pixels in [0, 1] are smaller
FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)  # types that layers calculate in
SCALARS = {"crop_pct": (int, float), "crop_mode": (str,), "interpolation": (str,)}
FACTS = ("input_size", "mean", "std", "classes", *SCALARS)  # what a model may say of itself


class Fit(NamedTuple):
    """How a model takes photographs: its size, the share of the resized picture that the centre crop keeps, and how."""

    input_size: tuple[int, int, int]  # C, H, W
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    crop_mode: str = "center"  # or squash: resized to the crop's proportions first


class Subject(nn.Module):
    """A classifier from images (N, C, H, W) in [0, 1] to logits (N, K), normalisation inside, in eval mode.

    ``body`` is the network itself; it gets images in the floating type of its parameters, and may give logits of any
    floating type, or a mapping or record with ``logits``. ``digest`` is the sha256 of what the model does when it is
    made: ``digest_of``. Raises ``AssayError`` for facts of other kinds, and for a network that does not take
    ``input_size`` or gives no two logits.
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
        self.body = body
        self.name = name
        self.input_size = _image_size(name, input_size)
        scalars = {"crop_pct": crop_pct, "crop_mode": crop_mode, "interpolation": interpolation}
        for key, value in scalars.items():
            if not isinstance(value, SCALARS[key]) or (isinstance(value, int | float) and not 0 < value <= SPAN):
                raise AssayError(
                    f"{name}: {key} is {'a number above 0' if key == 'crop_pct' else 'a word'}, not {value!r}"
                )
        self.fit = Fit(self.input_size, crop_pct, interpolation, crop_mode)
        self.card = dict(card or {})
        for key, values in {"mean": mean, "std": std}.items():
            per_channel = _channels(f"{name}: {key}", values, self.input_size[0], positive=key == "std")
            self.register_buffer(key, per_channel, persistent=False)
        self.eval()
        if any(map(is_lazy, body.parameters())):
            self._count_classes()  # which gives them their sizes
        self.digest = digest_of(self, self.input_size)  # before a forward pass can leave anything behind
        count = self._count_classes()
        names = _class_names(name, classes)
        if names and len(names) != count:
            raise AssayError(f"{name}: {len(names)} class names for {count} logits")
        self.named = bool(names)
        self.classes = names or numbers(count)

    @property
    def has_names(self) -> bool:
        """Whether ``classes`` are names, and not only numbers for want of any."""
        return self.named or self.classes != numbers(len(self.classes))

    def forward(self, images: Tensor) -> Tensor:
        normal = (images - self.mean) / self.std
        kind = _floating_type(self.body)
        logits: Tensor = _logits_of(self.body(normal if kind is None else normal.to(kind)))
        return logits.float() if isinstance(logits, Tensor) and logits.is_floating_point() else logits

    @torch.no_grad()
    def _count_classes(self) -> int:
        try:
            logits = self(torch.zeros(1, *self.input_size))
        except (Exception, SystemExit) as error:  # the user's network may raise anything
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise AssayError(f"{self.name} fails on images of {self.input_size}: {reason}") from error
        if isinstance(logits, Tensor) and tuple(logits.shape) in ((1,), (1, 1)):
            raise AssayError(
                f"{self.name} gives one logit z; a binary classifier needs one a class, [0, z]: "
                "torch.cat([torch.zeros_like(z), z], 1)"
            )
        if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.shape[1]:
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


def described(
    network: nn.Module, spec: str, facts: Mapping[str, Any], card: Mapping[str, Any] | None = None
) -> Subject:
    """A subject with what ``facts`` say of it, which may be timm's; 1000 classes without names are ImageNet's."""
    settings = {key: facts[key] for key in FACTS if facts.get(key) is not None}
    labels = facts.get("label_names")
    if isinstance(labels, list | tuple) and labels and not re.match(r"n\d{8}$", str(labels[0])):  # a wnid is no name
        settings.setdefault("classes", labels)
    subject = Subject(network, name=spec, card=card, **settings)
    if len(subject.classes) == 1000 and "classes" not in settings:
        info = timm.data.ImageNetInfo()
        subject.classes = tuple(info.index_to_description(i).split(",")[0] for i in range(1000))
    return subject


def _image_size(name: str, value: Sequence[int]) -> tuple[int, int, int]:
    try:
        channels, height, width = map(int, value)
        plain = (channels, height, width) == tuple(value)
    except (TypeError, ValueError, OverflowError):
        plain = False
    if not plain or channels not in (1, 3) or not 0 < min(height, width) <= max(height, width) <= LARGEST:
        raise AssayError(f"{name}: input_size is (1 or 3, H, W), of 1 to {LARGEST} pixels, not {value!r:.100}")
    return channels, height, width


def _class_names(name: str, classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str | Mapping | set | frozenset):
        raise AssayError(
            f"{name}: classes is a list of names in the order of the logits, not a {type(classes).__name__}"
        )
    try:
        names = tuple(classes)
        "".join(names).encode()
    except (TypeError, UnicodeError) as error:
        raise AssayError(f"{name}: classes are names, one a logit ({first_line(error)})") from error
    return names


def _channels(what: str, values: Sequence[float], channels: int, *, positive: bool) -> Tensor:
    try:
        numbers = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise AssayError(f"{what} is one number a channel, not {values!r:.100}") from error
    if len(numbers) not in (1, channels):
        raise AssayError(f"{what} is one number a channel, not {len(numbers)} for {channels}")
    if not (numbers.abs() <= SPAN).all() or (positive and not (numbers > 0).all()):
        raise AssayError(
            f"{what} is of pixels in [0, 1]{' and above 0' if positive else ''}, not {values!r:.100}; "
            "divide what is of 0 to 255 by 255"
        )
    return numbers


def _floating_type(body: nn.Module) -> torch.dtype | None:
    """What the first layer calculates in; nothing of an ensemble, whose members see to it themselves."""
    if isinstance(body, Averaged):
        return None
    kind = next((tensor.dtype for tensor in body.parameters() if tensor.is_floating_point()), None)
    return kind if kind in FLOATING else None


def _logits_of(output: Any) -> Any:
    """The logits, which may lie in a mapping or a record."""
    if isinstance(output, Mapping):
        return output.get("logits", output)
    return output if isinstance(output, Tensor) else getattr(output, "logits", output)
