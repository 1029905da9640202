"""``torchvision:NAME?root=PATH&split=...``: classification sets of torchvision that are on disk already."""

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from assay.bench.data.base import DecodeError, canonical, options
from assay.bench.data.folder import Pictures
from assay.core.errors import AssayError, unknown


@dataclass(frozen=True)
class _Kind:
    """How a class of torchvision takes its split: the parameter, the default, and what else it is given."""

    parameter: str | None
    default: str = "test"
    settings: Mapping[str, Any] = field(default_factory=dict)


_FLAG, _SPLIT, _WHOLE = _Kind("train"), _Kind("split"), _Kind(None, "all")
SETS: dict[str, _Kind] = {
    **dict.fromkeys(("CIFAR10", "CIFAR100", "FashionMNIST", "KMNIST", "MNIST", "QMNIST", "USPS"), _FLAG),
    **dict.fromkeys(("Country211", "DTD", "FER2013", "FGVCAircraft", "Flowers102", "Food101", "GTSRB"), _SPLIT),
    **dict.fromkeys(("OxfordIIITPet", "PCAM", "RenderedSST2", "STL10", "SVHN", "StanfordCars"), _SPLIT),
    **dict.fromkeys(("ImageNet", "Imagenette", "Places365"), _Kind("split", "val")),
    **dict.fromkeys(("Caltech101", "Caltech256", "EuroSAT", "SEMEION", "SUN397"), _WHOLE),
    "EMNIST": _Kind("split", "balanced", {"train": False}),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Torchvision(Pictures):
    """A set of torchvision found below ``root``; ids are ``<split>-<position>``. Nothing is downloaded."""

    data: Any

    @classmethod
    def from_spec(cls, rest: str) -> "Torchvision":
        name, mark, query = rest.removeprefix(":").partition("?")
        names = {k.lower(): k for k in SETS}
        if name.lower() not in names:
            raise unknown("set of torchvision", name, SETS)
        name = names[name.lower()]
        kind = SETS[name]
        defaults = {"root": "", "split": kind.default}
        values = options(mark + query, defaults, f"torchvision:{name}")
        if not values["root"]:
            raise AssayError(f"where is it? write torchvision:{name}?root=PATH; nothing is downloaded")
        data = _open(name, kind, values["root"], values["split"])
        labels = labels_of(data)
        if not labels or min(labels) < 0:
            raise AssayError(f"torchvision:{name} split {values['split']} has no labels")
        return cls(
            spec=canonical(f"torchvision:{name}", values, defaults),
            classes=_classes(data, max(labels) + 1),
            ids=[f"{values['split']}-{i:05d}" for i in range(len(labels))],
            labels=labels,
            rows=list(range(len(labels))),
            wnids=tuple(getattr(data, "wnids", ())),
            data=data,
        )

    def picture(self, i: int) -> Image.Image:
        try:
            picture: Image.Image = self.data[self.rows[i]][0]
        except Exception as error:  # a decoder may raise anything on a broken file
            raise DecodeError(f"{self.spec} {self.ids[i]} cannot be decoded: {error}") from error
        return picture if picture.mode in ("L", "RGB") else picture.convert("RGB")


def _open(name: str, kind: _Kind, root: str, split: str) -> Any:
    import torchvision

    cls = getattr(torchvision.datasets, name)
    settings = dict(kind.settings)
    if kind.parameter == "train":
        if split not in ("train", "test"):
            raise unknown(f"split of {name}", split, ("train", "test"))
        settings["train"] = split == "train"
    elif kind.parameter is not None:
        settings[kind.parameter] = split
    elif split != kind.default:
        raise AssayError(f"torchvision:{name} has no splits; leave split out")
    if "download" in inspect.signature(cls).parameters:
        settings["download"] = False
    try:
        return cls(root, **settings)
    except (RuntimeError, OSError, ValueError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise AssayError(f"torchvision finds no {name} in {root} (nothing is downloaded): {reason}") from error


def labels_of(data: Any) -> list[int]:
    """Labels without decoding pictures where torchvision keeps them apart, under whatever name."""
    for name in ("targets", "labels", "_labels", "y"):
        values = np.asarray(getattr(data, name, ()))
        if values.shape == (len(data),) and np.issubdtype(values.dtype, np.integer):
            return [int(value) for value in values]
    for name in ("samples", "_samples"):
        pairs = getattr(data, name, ())
        if len(pairs) == len(data) and all(len(pair) == 2 and isinstance(pair[1], int) for pair in pairs):
            return [pair[1] for pair in pairs]
    return [int(data[i][1]) for i in range(len(data))]


def _classes(data: Any, count: int) -> tuple[str, ...]:
    """Class names; numbers where torchvision has none. ImageNet's are tuples of synonyms: the first is taken."""
    names: Sequence[Any] = getattr(data, "classes", None) or getattr(data, "categories", None) or ()
    if len(names) < count:
        return tuple(map(str, range(count)))
    return tuple(name if isinstance(name, str) else str(name[0]) for name in names)
