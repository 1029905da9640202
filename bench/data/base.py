"""What every data set gives."""

import hashlib
import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.bench.data.class_names import Classes, Match, match, numbers, wnid_words
from assay.core.errors import AssayError, unknown

Size = tuple[int, int, int]  # channels, height, width
Pixels = NDArray[np.uint8]  # (H, W, 3), or (H, W) grey
Numbering = Literal["own", "names", "index"]
LARGEST = 2**63 - 1  # of whole options


class DecodeError(AssayError):
    """A picture that cannot be read: its row says so, the others go on."""


class Example(NamedTuple):
    """One picture. What the data set has not, or was not asked for, is None."""

    id: str
    image: Tensor  # (C, H, W) float32 in [0, 1]
    label: int
    mask: Tensor | None = None  # (H, W) bool, the object
    parts: Tensor | None = None  # (H, W) uint8, 0 background, i + 1 part i
    without: Tensor | None = None  # (P, C, H, W), drawn again without part i; the image itself where there is no part i
    shortcut: Tensor | None = None  # (H, W) bool, where a shortcut is or could be planted
    redrawn: Tensor | None = None  # (R, C, H, W), drawn again with R other contents of these pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class DataSet(ABC):
    """Pictures with labels, at their native size until ``at`` fits them to a model.

    ``spec`` is canonical: defaults are left out and options stand in a fixed order. ``classes`` are names by label.
    ``has`` says what the examples carry beside image and label: ``masks``, ``parts``, ``without``, ``shortcut``,
    ``redrawn``. ``numbering`` is what a label's number comes from: an order that models of the data know, that of the
    classes' names, or a model's own indices. ``notes`` say in a sentence each how files and labels were read.
    """

    spec: str
    classes: tuple[str, ...]
    ids: list[str]
    labels: list[int]
    rows: list[int]  # each picture's place in the source, which ``take`` keeps
    has: frozenset[str] = frozenset()
    wnids: tuple[str, ...] = ()  # of the classes, where they are ImageNet's
    vacant: frozenset[int] = frozenset()  # classes without any picture
    numbering: Numbering = "own"
    notes: tuple[str, ...] = ()
    match_key: str = ""  # ``class_names.Match.key``

    @classmethod
    @abstractmethod
    def from_spec(cls, rest: str) -> "DataSet":
        """The data set from what follows its kind in the spec: ``""``, ``:PATH``, ``?option=value&...``."""

    @abstractmethod
    def example(self, i: int, needs: Collection[str] = ()) -> Example:
        """Picture ``i`` with those of ``needs`` (a subset of ``has``) drawn too. Raises ``DecodeError``."""

    def part_names(self, i: int) -> tuple[str, ...]:
        """What part i + 1 of the part map of picture ``i`` is called, for each of its parts; ``object`` for a mask."""
        return ("object",) if "masks" in self.has else ()

    @abstractmethod
    def sha256(self, i: int) -> str:
        """Of picture ``i``'s decoded pixels at their native size. Raises ``DecodeError``."""

    @abstractmethod
    def _resize(self, size: Size, crop_pct: float, interpolation: str, crop_mode: str) -> Self: ...

    def aliases(self, label: int) -> tuple[str, ...]:
        """Other names of a class, under which a model may know it."""
        return (wnid, *wnid_words(wnid)) if self.wnids and (wnid := self.wnids[label]) else ()

    def reduced(self, side: int) -> Self:
        """The same pictures, to be looked at: photographs have a shorter side of at most so many pixels."""
        return self

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, i: int) -> Example:
        """Picture ``i`` with everything that the data set has; ``example(i)`` renders the picture alone."""
        return self.example(i, self.has)

    def at(
        self,
        input_size: Sequence[int],
        *,
        num_classes: int | None = None,
        crop_pct: float = 1.0,
        interpolation: str = "bicubic",
        crop_mode: str = "center",
    ) -> Self:
        """The same pictures as a model takes them, (C, H, W) with C 1 or 3; ``AssayError`` says why they cannot be.

        Colour becomes luminance (ITU-R 601) for a grey model, grey is repeated for a colour model. Photographs go
        through timm's evaluation transform: the shorter side becomes floor(size / ``crop_pct``) (``crop_mode`` squash:
        both sides do), then the centre is cut out; generated pictures are never cropped. ``num_classes`` is of a
        model whose classes have no names: labels become its indices by ``class_names.match``, and a number of classes
        that cannot match is an error.
        """
        if len(input_size) != 3 or input_size[0] not in (1, 3) or min(input_size) < 1:
            raise AssayError(f"a model's input size is (1 or 3, H, W), not {tuple(input_size)}")
        if not 0 < crop_pct <= 1:
            raise AssayError(f"crop_pct must lie in (0, 1], not {crop_pct}")
        channels, height, width = input_size
        model = Classes("the model", numbers(num_classes or 0), has_names=False)
        data = self if num_classes is None else self.labelled(match(self, model))
        return data._resize((channels, height, width), crop_pct, interpolation, crop_mode)

    def labelled(self, match: Match) -> Self:
        """The same pictures with the labels and class names of a model."""
        labels = [match.places[label] for label in self.labels]
        notes = (*self.notes, *match.notes)
        own: dict[str, Any] = {"wnids": (), "vacant": frozenset(), "numbering": "own"}  # as the model's
        return replace(self, classes=match.classes, labels=labels, notes=notes, match_key=match.key, **own)

    def others(self, n: int) -> str | None:
        """The spec of at most ``n`` pictures of another split, where the data has one that is always there."""
        return None

    def take(self, n: int, skip: int = 0) -> Self:
        """The first ``n`` pictures after ``skip``, one of each class in turn; ids and the order within a class stay."""
        if n < 1:
            raise AssayError(f"cannot take {n} pictures; take at least 1")
        by_class: dict[int, list[int]] = {label: [] for label in sorted(set(self.labels))}
        for i, label in enumerate(self.labels):
            by_class[label].append(i)
        turns = itertools.chain.from_iterable(itertools.zip_longest(*by_class.values()))
        places = [i for i in turns if i is not None][skip : skip + n]
        return self.pick(places)

    def pick(self, places: Sequence[int]) -> Self:
        """The pictures at these places alone, in this order."""
        columns: dict[str, Any] = {key: [getattr(self, key)[i] for i in places] for key in ("ids", "labels", "rows")}
        return replace(self, **columns)

    @cached_property
    def digest(self) -> str:
        """sha256 over ids, labels and the sha256 of each picture; the same at every size a model asks for."""
        return lines_sha256(f"{id_}\0{self._label_key(i)}\0{self._pixels_key(i)}" for i, id_ in enumerate(self.ids))

    def _label_key(self, i: int) -> str:
        """A label as the data knows it, whatever the model calls it."""
        return str(self.labels[i])

    def _pixels_key(self, i: int) -> str:
        try:
            return self.sha256(i)
        except DecodeError:
            return "undecodable"


def options(text: str, defaults: Mapping[str, str], kind: str) -> dict[str, str]:
    """``defaults`` overridden by ``?a=b&c=d``; unknown, repeated or empty options raise ``AssayError``."""
    values: dict[str, str] = {}
    if text[:1] not in ("", "?"):
        raise AssayError(f"cannot read {kind}{text!r}; options follow a question mark: {kind}?{'&'.join(defaults)}")
    for item in filter(None, text[1:].split("&")):
        key, _, value = item.partition("=")
        if key not in defaults:
            raise unknown(f"option of {kind}", key, defaults)
        if key in values or not value:
            raise AssayError(f"{kind}: option {key!r} needs one value")
        values[key] = value
    return {**defaults, **values}


def whole(values: Mapping[str, str], key: str, least: int, most: int = LARGEST) -> int:
    """An option as an int from ``least`` to ``most``."""
    value = values[key]
    if not re.fullmatch(r"\d{1,19}", value, re.ASCII) or not least <= int(value) <= most:
        raise AssayError(f"{key}={value[:40]} is not a whole number of at least {least} and at most {most}")
    return int(value)


def one_of(values: Mapping[str, str], key: str, choices: Sequence[str]) -> str:
    if values[key] not in choices:
        raise unknown(key, values[key], choices)
    return values[key]


def canonical(kind: str, values: Mapping[str, object], defaults: Mapping[str, object]) -> str:
    """The shortest spec: options in the order of ``defaults``, those at their default left out."""
    changes = [f"{key}={values[key]}" for key in defaults if values[key] != defaults[key]]
    return kind + ("?" + "&".join(changes) if changes else "")


def lines_sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode() + b"\n")
    return digest.hexdigest()


def pixels_sha256(pixels: NDArray[Any]) -> str:
    """sha256 of the type, the shape and the bytes of decoded pixels."""
    digest = hashlib.sha256(f"{pixels.dtype.name} {' '.join(map(str, pixels.shape))}\n".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest()


def to_image(pixels: Pixels, channels: int | None = None) -> Tensor:
    """(C, H, W) float32 in [0, 1] from (H, W) or (H, W, 3) bytes, with 1 or 3 ``channels`` (None: as they are).

    Luminance is ITU-R 601 in whole numbers, as PIL computes it, so grey stays exactly the grey it was.
    """
    if pixels.ndim == 3 and channels == 1:
        luminance = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        pixels = ((luminance + 32768) >> 16).astype(np.uint8)
    planes = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    image = torch.from_numpy(planes.astype(np.float32, order="C")).div_(255)
    return image.repeat(3, 1, 1) if channels == 3 and len(image) == 1 else image
