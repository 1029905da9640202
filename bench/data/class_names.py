"""Which class of a model each class of the data is: by name, by ImageNet's numbers, or by its place; never a guess."""

import hashlib
import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from assay.core.errors import AssayError

if TYPE_CHECKING:
    from assay.bench.data.base import DataSet


class Named(Protocol):
    """What is asked of a model: its classes, and whether these are names or only count."""

    @property
    def name(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def has_names(self) -> bool: ...


class Classes(NamedTuple):
    """All that is known of a model here."""

    name: str
    classes: tuple[str, ...]
    has_names: bool


class Match(NamedTuple):
    """The model's class of each class of the data (-1: it has no pictures), the model's names, and what to say.

    ``key`` tells matches apart that neither the names nor the pictures tell.
    """

    places: tuple[int, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    key: str = ""


def numbers(count: int) -> tuple[str, ...]:
    """What classes without names are called."""
    return tuple(map(str, range(count)))


def match(data: "DataSet", model: Named) -> Match:
    """How labels of ``data`` become classes of ``model``.

    By ImageNet's numbers where the data have wnids and the model ImageNet's classes; else by name where the model has
    names: as they are written or, where that is no name of the model, but for case, underscores and spaces. A model
    without names takes the place of a class in data whose order is published, and of folders the number that they
    are named by, or timm's order of them. Raises ``AssayError`` with the names that do not match, or the counts.
    """
    if data.numbering == "index":
        return _by_index(data, model)
    if (wnids := _model_wnids(model)) and data.wnids:
        return _by_wnid(data, model, wnids)
    return _by_name(data, model) if model.has_names else _by_place(data, model)


def _by_index(data: "DataSet", model: Named) -> Match:
    """Labels that are the model's indices."""
    if model.has_names and model.classes != numbers(len(model.classes)):
        raise _mismatch(data, model, list(data.classes))
    if max(data.labels) >= len(model.classes):
        raise AssayError(
            f"{data.spec} has label {max(data.labels)}, {model.name} classes 0 to {len(model.classes) - 1}"
        )
    return Match(tuple(range(len(data.classes))), numbers(len(model.classes)))


def _by_wnid(data: "DataSet", model: Named, wnids: Mapping[str, int]) -> Match:
    places = tuple(wnids.get(wnid, -1) for wnid in data.wnids)
    for k, place in enumerate(places):
        if place < 0 and k not in data.vacant:
            subset = _subset(model)
            raise AssayError(f"{data.spec}: {data.wnids[k]} is no class of {subset}, which this model was trained on")
    return Match(places, wnid_names(list(wnids)))


def _by_name(data: "DataSet", model: Named) -> Match:
    if data.classes == model.classes:  # also where a name stands twice
        return Match(tuple(range(len(model.classes))), model.classes)
    exact, near = _places(model.classes, str), _places(model.classes, fold)
    places, strangers, folded = [], [], []
    for k, name in enumerate(data.classes):
        aliases = (name, *data.aliases(k))
        hits = set[int]().union(*(exact[alias] for alias in aliases))
        if not hits and (hits := set[int]().union(*(near[fold(alias)] for alias in aliases))):
            folded.append(k)
        places.append(hits.pop() if len(hits) == 1 else -1)
        if places[-1] < 0 and k not in data.vacant:
            strangers.append(name)
    counts = Counter(place for place in places if place >= 0)
    strangers += [name for name, place in zip(data.classes, places, strict=True) if counts[place] > 1]
    if strangers:
        raise _mismatch(data, model, strangers)
    pairs = ", ".join(f"{data.classes[k]!r} is {model.classes[places[k]]!r}" for k in folded[:3])
    more = f" and {len(folded) - 3} more" if len(folded) > 3 else ""
    note = f"class names match but for case, underscores and spaces: {pairs}{more}"
    key = hashlib.sha256(repr(places).encode()).hexdigest()[:8] if folded or -1 in places else ""
    return Match(tuple(places), model.classes, (note,) if folded else (), key)


def _by_place(data: "DataSet", model: Named) -> Match:
    """For a model without names."""
    count, names = len(model.classes), list(data.classes)
    if data.numbering == "names" and (match := _by_number(data, count)):
        return match
    present = [k for k in range(len(names)) if k not in data.vacant]
    order = next((order for order in (range(len(names)), present) if len(order) == count), None)
    if order is None:
        empty = f", {len(data.vacant)} of them without pictures," if data.vacant else ""
        raise AssayError(
            f"{data.spec} has {len(names)} classes{empty} and {model.name} {count}: labels would not match"
        )
    places = {k: place for place, k in enumerate(order)}
    classes = tuple(names[k] for k in order)
    notes = _order_notes(data, classes) if data.numbering == "names" else ()
    return Match(tuple(places.get(k, -1) for k in range(len(names))), classes, notes)


def _by_number(data: "DataSet", count: int) -> Match | None:
    """Where all folders are named by indices of the model's classes."""
    if not all(re.fullmatch(r"[0-9]{1,9}", name) for name in data.classes):
        return None
    places = tuple(map(int, data.classes))
    if len(set(places)) < len(places) or max(places) >= count:
        return None
    names = dict(zip(places, data.classes, strict=True))
    note = f"the model's classes have no names: folders are their numbers, {min(places)} to {max(places)}"
    return Match(places, tuple(names.get(i, str(i)) for i in range(count)), (note,))


def _order_notes(data: "DataSet", names: Sequence[str]) -> tuple[str, ...]:
    keys = [natural_key(name) for name in names]
    for first, second in zip(range(len(names)), range(1, len(names)), strict=False):
        if keys[first] == keys[second]:
            raise AssayError(
                f"{data.spec}: {names[first]!r} and {names[second]!r} have no order, and the model's classes no names; "
                "rename a folder"
            )
    pairs = ", ".join(f"{name!r} {i}" for i, name in enumerate(names[:4])) + (", ..." if len(names) > 4 else "")
    other = "" if list(names) == sorted(names) else ", which is not torchvision's"
    return (f"the model's classes have no names: folders count in timm's order{other}, {pairs}",)


def _mismatch(data: "DataSet", model: Named, strangers: Sequence[str]) -> AssayError:
    spare = next((name for name in model.classes if name not in data.classes), model.classes[0])
    return AssayError(
        f"{data.spec} has classes such as {strangers[0]!r} and {model.name} such as {spare!r}: labels would not match; "
        f"no class of the model, or not one alone: {listed(strangers)}"
    )


def _places(names: Iterable[str], key: Callable[[str], str]) -> Mapping[str, set[int]]:
    places = defaultdict[str, set[int]](set)
    for i, name in enumerate(names):
        places[key(name)].add(i)
    return places


def fold(name: str) -> str:
    """A name without case, and with one space for spaces and underscores."""
    return " ".join(unicodedata.normalize("NFC", name).casefold().replace("_", " ").split())


def natural_key(name: str) -> list[str | int]:
    """Timm's order of class folders: case folded, runs of digits as numbers."""
    parts = re.split(r"(\d+)", name.lower())
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def listed(names: Sequence[str], most: int = 5) -> str:
    """``'a', 'b' and 3 more``."""
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def are_wnids(names: Sequence[str]) -> bool:
    """Whether all are numbers of WordNet's nouns, as ImageNet's classes have."""
    return all(re.fullmatch(r"n\d{8}", name, re.ASCII) for name in names)


def wnid_names(wnids: Sequence[str]) -> tuple[str, ...]:
    """ImageNet's first word for each, with the wnid behind where two classes share it."""
    names = {wnid: wnid_words(wnid)[0] for wnid in wnids}
    counts = Counter(names.values())
    return tuple(name if counts[name] == 1 else f"{name} ({wnid})" for wnid, name in names.items())


def wnid_words(wnid: str) -> tuple[str, ...]:
    """What WordNet calls it: first the first word, then all words in one; the wnid itself where it knows none."""
    words = str(_lemmas().get(wnid, wnid))
    return words.partition(",")[0], words


@cache
def _lemmas() -> Mapping[str, str]:
    from timm.data.imagenet_info import ImageNetInfo

    known = (ImageNetInfo(subset).label_descriptions(as_dict=True) for subset in ("imagenet-1k", "imagenet-22k"))
    return dict(itertools.chain.from_iterable(each.items() for each in known))


def _subset(model: Named) -> str | None:
    from timm.data.imagenet_info import infer_imagenet_subset

    subset: str | None = infer_imagenet_subset({"num_classes": len(model.classes)})
    return subset


def _model_wnids(model: Named) -> Mapping[str, int]:
    """Index by wnid, where the model's classes are those of an ImageNet by their number and, if it has any, names."""
    subset = _subset(model)
    wnids = _subset_wnids(subset) if subset else ()
    if model.has_names and model.classes != tuple(wnid_words(wnid)[0] for wnid in wnids):
        return {}
    return {wnid: i for i, wnid in enumerate(wnids)}


@cache
def _subset_wnids(subset: str) -> tuple[str, ...]:
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo(subset).label_names())
