"""Networks and pictures of the calling process, under names that stand where specs do while they are lent."""

import copy
import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import timm
import torch
from torch import Tensor, nn

from assay.bench import cells, models
from assay.bench.data import LENT, SOURCES
from assay.bench.data.base import DataSet, Example, Size, pixels_sha256
from assay.bench.models import Subject, first_line
from assay.core.borrow import check_images
from assay.core.errors import AssayError

FRAMEWORKS = ("torch", "torchvision", "timm")  # ``run.json`` tells their versions


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures(DataSet):
    """Pictures in memory, ``images`` (N, C, H, W) float32 in [0, 1] by ``rows``; labels without names are indices."""

    images: Tensor
    named: bool

    @classmethod
    def from_spec(cls, rest: str) -> "Pictures":
        raise AssayError("pictures in memory have no spec")

    def example(self, i: int, needs: Collection[str] = ()) -> Example:
        return Example(self.ids[i], self.images[self.rows[i]], self.labels[i])

    def sha256(self, i: int) -> str:
        return pixels_sha256(self.images[self.rows[i]].numpy())

    def _for_classes(self, num_classes: int) -> Self:
        if self.named:
            return super()._for_classes(num_classes)
        if max(self.labels) >= num_classes:
            raise AssayError(f"{self.spec} has label {max(self.labels)}, the model classes 0 to {num_classes - 1}")
        return replace(self, classes=tuple(map(str, range(num_classes))))

    def _sized(self, size: Size, crop_pct: float, interpolation: str, crop_mode: str) -> Self:
        if tuple(self.images.shape[1:]) != size:
            raise AssayError(f"{self.spec} holds images {tuple(self.images.shape[1:])}; this model takes {size}")
        return self


@contextmanager
def lending(networks: Mapping[str, Subject], pictures: Mapping[str, DataSet]) -> Iterator[None]:
    """Within, ``models.load`` and ``data.load`` of these names give these, in this process alone."""
    for name in networks:
        _own_name(name, "model", timm.is_model(name))
    for name in pictures:
        _own_name(name, "data set", name in list(SOURCES))
    tables: tuple[dict[str, Any], ...] = (models.LENT, LENT)
    before = [dict(table) for table in tables]
    for table, more in zip(tables, (networks, pictures), strict=True):
        table.update(more)
    _forget(networks, pictures)
    try:
        yield
    finally:
        for table, old in zip(tables, before, strict=True):
            table.clear()
            table.update(old)
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

    Its digest covers weights, normalisation, the network as it prints, and the source of its own classes: what a
    forward pass takes from elsewhere is not seen. Raises ``AssayError`` for a network that cannot be copied or does not
    take ``input_size``.
    """
    try:
        own = copy.deepcopy(network).cpu()
    except RuntimeError as error:
        raise AssayError(
            f"{name} cannot be copied ({first_line(error)}); name it by a function, py:module:function"
        ) from error
    code = "\n".join([repr(own), *sorted({_source(type(module)) for module in own.modules()})]).encode()
    if isinstance(own, Subject):
        own.eval()
        own.name = name
        own.digest = models.digest_of({**own.body.state_dict(), "mean": own.mean, "std": own.std}, code)
        return own
    try:
        return Subject(own, name=name, input_size=input_size, mean=mean, std=std, classes=classes, code=code)
    except AssayError:
        raise
    except Exception as error:  # the user's network may raise anything
        size = tuple(input_size)
        raise AssayError(f"{name} fails on images of {size}: {type(error).__name__}: {first_line(error)}") from error


def data(name: str, given: Any) -> DataSet:
    """A data set, or one of ``(images, labels)`` or ``(images, labels, classes)``."""
    if isinstance(given, DataSet):
        return given
    if not isinstance(given, tuple | list) or len(given) not in (2, 3):
        what = f"{len(given)} parts" if isinstance(given, tuple | list) else type(given).__name__
        spec = "; a spec is its own name" if isinstance(given, str) else ""
        raise AssayError(f"{name}: data are a DataSet, (images, labels) or (images, labels, classes), not {what}{spec}")
    return pictures(name, *given)


def pictures(name: str, images: Any, labels: Any, classes: Sequence[str] = ()) -> Pictures:
    """A data set of ``images`` (N, C, H, W) in [0, 1] and ``labels`` (N,), class indices."""
    try:
        tensor, numbers = (torch.as_tensor(given).detach().cpu() for given in (images, labels))
    except (TypeError, ValueError, RuntimeError) as error:
        raise AssayError(f"{name}: images and labels are tensors or arrays ({first_line(error)})") from error
    if isinstance(classes, str) or not all(isinstance(one, str) for one in classes):
        raise AssayError(f"{name}: classes are names, one a class")
    check_images(tensor)
    whole = not (numbers.is_floating_point() or numbers.is_complex() or numbers.dtype == torch.bool)
    if numbers.shape != tensor.shape[:1] or not whole:
        raise AssayError(f"{name}: labels are class indices, one an image, not {numbers.dtype} {tuple(numbers.shape)}")
    if not len(tensor):
        raise AssayError(f"{name}: there is no image")
    if numbers.min() < 0 or (classes and numbers.max() >= len(classes)):
        known = f"0 to {len(classes) - 1}" if classes else "at least 0"
        raise AssayError(f"{name}: labels run from {numbers.min()} to {numbers.max()}, classes are {known}")
    names = tuple(classes) or tuple(map(str, range(int(numbers.max()) + 1)))
    return Pictures(
        spec=name,
        classes=names,
        ids=[f"{i:06d}" for i in range(len(tensor))],
        labels=numbers.tolist(),
        rows=list(range(len(tensor))),
        images=tensor.float(),
        named=bool(classes),
    )


def size_of(source: DataSet) -> Size:
    """The size that the first pictures have in common; ``AssayError`` where they have none."""
    found = {source.example(i).image.shape for i in range(min(8, len(source)))}
    if len(found) != 1:
        raise AssayError(
            f"{source.spec} has pictures of several sizes; say which size the network takes, by a Subject of it"
        )
    channels, height, width = found.pop()
    return channels, height, width


def _own_name(name: str, kind: str, taken: bool) -> None:
    if taken or not re.fullmatch(r"[\w. -]+", name):
        why = "means something else" if taken else "has other characters than letters, digits, space, '.', '-' and '_'"
        raise AssayError(f"a {kind} of this process needs a name of its own; {name!r} {why}")


def _forget(*lent: Mapping[str, Any]) -> None:
    """Names do not mean what they meant before."""
    if any(lent):
        cells.subject.cache_clear()
        cells.sized.cache_clear()


def _source(kind: type) -> str:
    """The source of a class of the user's own; its compiled methods where there is none, as in a notebook."""
    if kind.__module__.partition(".")[0] in FRAMEWORKS:
        return ""
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):
        functions = {name: value for name, value in vars(kind).items() if inspect.isfunction(value)}
        return "\n".join(f"{name} {_compiled(function.__code__)}" for name, function in sorted(functions.items()))


def _compiled(code: Any) -> str:
    constants = [_compiled(value) if inspect.iscode(value) else repr(value) for value in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
