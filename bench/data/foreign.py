"""Data sets of other libraries as they are: torch's, its loaders, and Hugging Face's."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, RandomSampler, SequentialSampler, default_collate

from assay.bench.data.base import DecodeError
from assay.bench.data.folder import Pictures
from assay.bench.data.picture_files import to_rgb
from assay.bench.data.tv import labels_of
from assay.core.errors import AssayError

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMNS = ("label", "labels")


@runtime_checkable
class Columns(Protocol):
    """What is used of a ``datasets.Dataset``: rows by their place, columns by their name, and what these hold."""

    @property
    def features(self) -> Any: ...
    @property
    def column_names(self) -> Any: ...
    def __getitem__(self, key: Any, /) -> Any: ...


Foreign = Columns | Dataset[Any] | DataLoader[Any]


class Stack(NamedTuple):
    """Images (N, C, H, W), labels (N,) and class names, if there are any."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Items(Pictures):
    """Pictures that another library decodes when they are asked for."""

    item: Callable[[int], Any]  # PIL, or bytes as an array (H, W, 3) or (H, W) or a tensor (C, H, W)
    keys: tuple[str, ...]  # classes, by row

    @classmethod
    def from_spec(cls, rest: str) -> "Items":
        raise AssayError("data sets of this process have no spec")

    def picture(self, i: int) -> Image.Image:
        name = f"{self.spec} {self.ids[i]}"
        try:
            picture = as_picture(self.item(self.rows[i]))
        except Exception as error:  # another library's decoder may raise anything
            raise DecodeError(f"{name} cannot be decoded: {error}") from error
        return to_rgb(picture, name)

    def _label_key(self, i: int) -> str:
        return self.keys[self.rows[i]]


def is_foreign(source: object) -> TypeGuard[Foreign]:
    """Whether ``read`` is for it."""
    return isinstance(source, Columns | Dataset | DataLoader)


def read(name: str, source: Foreign) -> Items | Stack:
    """The pictures of ``source``: stacked where they are tensors of numbers, else decoded one at a time.

    Loaders give the pictures of their data set in its order, those that their sampler takes. Raises ``AssayError``
    for what has no length, and for items that are not an image and a label.
    """
    if isinstance(source, DataLoader):
        if isinstance(source.dataset, IterableDataset):
            return _stack(name, source, ())
        classes, places = _classes(source.dataset), _places(source)
        if source.collate_fn is not default_collate:
            return _stack(name, _batches(source, places), classes)
        return _read(name, source.dataset, places, classes)
    if not isinstance(source, Sized):
        raise AssayError(f"{name}: {type(source).__name__} has no length; take a part of it that has one")
    return _read(name, source, range(len(source)), _classes(source))


def as_picture(item: Any) -> Image.Image:
    """A picture from one of PIL, or from bytes; raises ``TypeError`` for anything else."""
    if isinstance(item, Image.Image):
        return item
    if isinstance(item, Tensor) and item.dtype == torch.uint8 and item.ndim == 3:
        item = item.permute(1, 2, 0).numpy()
    if isinstance(item, np.ndarray) and item.dtype == np.uint8:
        pixels = item[..., 0] if item.ndim == 3 and item.shape[2] == 1 else item
        if pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3):
            return Image.fromarray(np.ascontiguousarray(pixels))
    shape = f" {item.dtype} {tuple(item.shape)}" if isinstance(item, Tensor | np.ndarray) else ""
    raise TypeError(f"{type(item).__name__}{shape} is no picture")


def _read(name: str, source: Any, places: Sequence[int], classes: tuple[str, ...]) -> Items | Stack:
    if not len(places):
        raise AssayError(f"{name}: there is no image")
    image, _ = _pair(name, source[places[0]])
    if isinstance(image, Tensor | np.ndarray) and image.dtype not in (torch.uint8, np.uint8):
        pairs = (_pair(name, source[i]) for i in places)
        return _stack(name, ((torch.as_tensor(image)[None], [label]) for image, label in pairs), classes)
    try:
        as_picture(image)
    except TypeError as error:
        raise AssayError(f"{name}: its images are to be of PIL, bytes or tensors; {error}") from error
    labels = _labels(name, source, places)
    if not labels or min(labels) < 0 or (classes and max(labels) >= len(classes)):
        raise AssayError(f"{name}: labels run from {min(labels)} to {max(labels)}, of {len(classes)} classes")
    names = classes or tuple(map(str, range(max(labels) + 1)))
    return Items(
        spec=name,
        classes=names,
        ids=[f"{i:06d}" for i in range(len(places))],
        labels=labels,
        rows=list(range(len(places))),
        vacant=frozenset(range(len(names))) - set(labels),
        numbering="own" if classes else "index",
        item=lambda row: _pair(name, source[places[row]])[0],
        keys=tuple(names[label] for label in labels),
    )


def _pair(name: str, item: Any) -> tuple[Any, Any]:
    """Image and label of an item."""
    if isinstance(item, Mapping):
        return item[_column(name, item, IMAGE_COLUMNS)], item[_column(name, item, LABEL_COLUMNS)]
    if isinstance(item, tuple | list) and len(item) >= 2:
        return item[0], item[1]
    raise AssayError(f"{name}: an item is (image, label, ...) or a dict with both, not {type(item).__name__}")


def _column(name: str, columns: Iterable[str], known: Sequence[str]) -> str:
    columns = list(columns)
    column = next((column for column in known if column in columns), None)
    if column is None:
        raise AssayError(f"{name}: no column {' or '.join(known)} among {', '.join(columns)}; rename_column makes one")
    return column


def _labels(name: str, source: Any, places: Sequence[int]) -> list[int]:
    """Class indices, without a look at the images where the source keeps them apart."""
    if isinstance(source, Columns):
        column = source[_column(name, source.column_names, LABEL_COLUMNS)]
        labels = [column[i] for i in places]
    elif type(source).__module__.startswith("torchvision.") and getattr(source, "target_transform", None) is None:
        every = labels_of(source)
        labels = [every[i] for i in places]
    else:
        labels = [_pair(name, source[i])[1] for i in places]
    try:
        whole = [int(label) for label in labels]
    except (TypeError, ValueError) as error:
        raise AssayError(f"{name}: labels are class indices ({error})") from error
    if any(number != label for number, label in zip(whole, labels, strict=True)):
        raise AssayError(f"{name}: labels are class indices, not {labels[0]!r}")
    return whole


def _classes(source: Any) -> tuple[str, ...]:
    """Class names, where it has any; of a subset those of the whole."""
    if isinstance(source, Columns):
        features = source.features or {}
        kinds = (features[column] for column in LABEL_COLUMNS if column in features)
        return tuple(getattr(next(kinds, None), "names", None) or ())
    while not hasattr(source, "classes") and hasattr(source, "dataset"):
        source = source.dataset
    names = getattr(source, "classes", None)
    return tuple(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else ()


def _places(loader: "DataLoader[Any]") -> list[int]:
    """What a loader takes of its data set, in the data set's order."""
    whole = isinstance(loader.sampler, SequentialSampler) or (
        isinstance(loader.sampler, RandomSampler) and loader.sampler.num_samples == len(loader.dataset)  # type: ignore[arg-type]
    )
    if whole and getattr(loader.batch_sampler, "sampler", None) is loader.sampler:
        return list(range(len(loader.dataset)))  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        batches = loader.batch_sampler or ([i] for i in loader.sampler)
        return sorted({int(i) for batch in batches for i in batch})


def _batches(loader: "DataLoader[Any]", places: Sequence[int]) -> Iterator[Any]:
    """As the loader's own function makes them."""
    size = loader.batch_size or 1
    for start in range(0, len(places), size):
        yield loader.collate_fn([loader.dataset[i] for i in places[start : start + size]])


def _stack(name: str, batches: Iterable[Any], classes: tuple[str, ...]) -> Stack:
    """Batches of tensors as one."""
    images, labels = [], []
    try:
        for batch in batches:
            image, label = _pair(name, batch)
            images.append(torch.as_tensor(image))
            labels.append(torch.as_tensor(label))
        return Stack(torch.cat(images), torch.cat(labels), classes)
    except (TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, AssayError):
            raise
        reason = str(error).partition("\n")[0]
        raise AssayError(f"{name}: its images are not tensors of one size with class indices ({reason})") from error
