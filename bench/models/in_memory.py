"""Networks and pictures of the calling process, under names that stand where specs do while they are lent."""

import copy
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import timm
import torch
from torch import Tensor, nn

from assay.bench import loading
from assay.bench.data import IN_MEMORY as DATA
from assay.bench.data import SOURCES, foreign
from assay.bench.data.base import DataSet, Example, Size, pixels_sha256
from assay.bench.data.foreign import is_foreign
from assay.bench.models.digest import digest_of
from assay.bench.models.specs import IN_MEMORY as MODELS
from assay.bench.models.subject import Subject
from assay.core.borrow import check_images
from assay.core.errors import AssayError, first_line


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures(DataSet):
    """Pictures in memory, ``images`` (N, C, H, W) float32 in [0, 1] by ``rows``; labels without names are indices."""

    images: Tensor
    keys: tuple[str, ...]  # classes, by row

    @classmethod
    def from_spec(cls, rest: str) -> "Pictures":
        raise AssayError("pictures in memory have no spec")

    def example(self, i: int, needs: Collection[str] = ()) -> Example:
        return Example(self.ids[i], self.images[self.rows[i]], self.labels[i])

    def sha256(self, i: int) -> str:
        return pixels_sha256(self.images[self.rows[i]].numpy())

    def _label_key(self, i: int) -> str:
        return self.keys[self.rows[i]]

    def _resize(self, size: Size, crop_pct: float, interpolation: str, crop_mode: str) -> Self:
        if tuple(self.images.shape[1:]) != size:
            raise AssayError(f"{self.spec} holds images {tuple(self.images.shape[1:])}; this model takes {size}")
        return self


@contextmanager
def lending(networks: Mapping[str, Subject], pictures: Mapping[str, DataSet]) -> Iterator[None]:
    """Within, ``models.load`` and ``data.load`` of these names give these, in this process alone."""
    for name in networks:
        _check_name(name, "model", timm.is_model(name))
    for name in pictures:
        _check_name(name, "data set", name in list(SOURCES))
    tables: tuple[dict[str, Any], ...] = (MODELS, DATA)
    contents = [dict(table) for table in tables]
    for table, more in zip(tables, (networks, pictures), strict=True):
        table.update(more)
    _forget(networks, pictures)
    try:
        yield
    finally:
        for table, content in zip(tables, contents, strict=True):
            table.clear()
            table.update(content)
        _forget(networks, pictures)


def subject(
    name: str,
    network: nn.Module,
    *,
    input_size: Sequence[int] = (),
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    classes: Sequence[str] = (),
) -> Subject:
    """A copy of ``network``, on the CPU and in eval mode, as a subject; a ``Subject`` stays what it is.

    Raises ``AssayError`` for a network that cannot be copied or does not take ``input_size``.
    """
    try:
        twin = copy.deepcopy(network).cpu()
    except Exception as error:  # of any kind, by what the network holds
        raise AssayError(
            f"{name} cannot be copied ({first_line(error)}); name it by a function, py:module:function"
        ) from error
    if not isinstance(twin, Subject):
        return Subject(twin, name=name, input_size=input_size, mean=mean, std=std, classes=classes)
    twin.eval()
    twin.name, twin.digest = name, digest_of(twin, twin.input_size)
    return twin


def data(name: str, source: Any) -> DataSet:
    """A data set, or one of ``(images, labels)``, ``(images, labels, classes)`` or what another library has."""
    if isinstance(source, DataSet):
        return source
    if is_foreign(source):
        contents = foreign.read(name, source)
        return pictures(name, *contents) if isinstance(contents, foreign.Stack) else contents
    if not isinstance(source, tuple | list) or len(source) not in (2, 3):
        what = f"{len(source)} parts" if isinstance(source, tuple | list) else type(source).__name__
        spec = "; a spec is its own name" if isinstance(source, str) else ""
        raise AssayError(
            f"{name}: data are a DataSet, (images, labels) or (images, labels, classes), or a data set of torch or "
            f"Hugging Face, not {what}{spec}"
        )
    return pictures(name, *source)


def pictures(name: str, images: Any, labels: Any, classes: Sequence[str] = ()) -> Pictures:
    """A data set of ``images`` (N, C, H, W) in [0, 1] and ``labels`` (N,), class indices."""
    try:
        tensor, numbers = (torch.as_tensor(array).detach().cpu() for array in (images, labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise AssayError(f"{name}: images and labels are tensors or arrays ({first_line(error)})") from error
    if isinstance(classes, str) or not all(isinstance(label, str) for label in classes):
        raise AssayError(f"{name}: classes are names, one a class")
    check_images(tensor)
    whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if numbers.shape != tensor.shape[:1] or not whole:
        raise AssayError(f"{name}: labels are class indices, one an image, not {numbers.dtype} {tuple(numbers.shape)}")
    if not len(tensor):
        raise AssayError(f"{name}: there is no image")
    if numbers.min() < 0 or (classes and numbers.max() >= len(classes)):
        span = f"0 to {len(classes) - 1}" if classes else "at least 0"
        raise AssayError(f"{name}: labels run from {numbers.min()} to {numbers.max()}, classes are {span}")
    names = tuple(classes) or tuple(map(str, range(int(numbers.max()) + 1)))
    return Pictures(
        spec=name,
        classes=names,
        ids=[f"{i:06d}" for i in range(len(tensor))],
        labels=numbers.tolist(),
        rows=list(range(len(tensor))),
        vacant=frozenset(range(len(names))) - set(numbers.tolist()),
        numbering="own" if classes else "index",
        images=tensor.float(),
        keys=tuple(names[label] for label in numbers.tolist()),
    )


def with_classes(source: DataSet, classes: tuple[str, ...]) -> DataSet:
    """The data set, whose labels are indices of ``classes`` where it has no names for them."""
    if source.numbering != "index":
        return source
    low, high = min(source.labels), max(source.labels)
    if high >= len(classes):
        raise AssayError(f"{source.spec}: labels run from {low} to {high}, classes are 0 to {len(classes) - 1}")
    vacant = frozenset(range(len(classes))) - set(source.labels)
    return replace(source, classes=classes, vacant=vacant, numbering="own")


def size_of(source: DataSet) -> Size:
    """The size that the first pictures have in common; ``AssayError`` where they have none."""
    shapes = {source.example(i).image.shape for i in range(min(8, len(source)))}
    if len(shapes) != 1:
        raise AssayError(
            f"{source.spec} has pictures of several sizes; say which size the network takes, by a Subject of it"
        )
    channels, height, width = shapes.pop()
    return channels, height, width


def _check_name(name: str, kind: str, ambiguous: bool) -> None:
    if ambiguous or not re.fullmatch(r"[\w. -]+", name):
        why = (
            "means something else"
            if ambiguous
            else "has other characters than letters, digits, space, '.', '-' and '_'"
        )
        raise AssayError(f"a {kind} of this process needs a name of its own; {name!r} {why}")


def _forget(*tables: Mapping[str, Any]) -> None:
    """Names do not mean what they meant before."""
    if any(tables):
        loading.forget()
