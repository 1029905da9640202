"""Methods, models and data sets in few words."""

import itertools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from assay.reports.run.records import Method

TURNS = frozenset(map(chr, (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)))
LONGEST = 48  # letters of a label
NORMS = {"linf": "L∞", "l2": "L2", "l1": "L1", "l0": "L0"}


def short(methods: Iterable[Method], always: Collection[str] = ()) -> dict[str, str]:
    """A short name for each method by its text: the class, and what differs between that class's methods.

    Settings in ``always`` are named even where they do not differ. Names that would collide stay whole.
    """
    by_text = {method.text: method for method in methods}
    groups = defaultdict(list)
    for method in by_text.values():
        groups[method.title].append(method)
    names = {text: _short(method, groups[method.title], always) for text, method in by_text.items()}
    count = Counter(names.values())
    return {text: visible(name if count[name] == 1 else text) for text, name in names.items()}


def radius(eps: float, norm: str = "linf") -> str:
    """``4/255`` where an Linf radius is such a fraction, else four significant digits."""
    steps = eps * 255
    whole = abs(steps - round(steps)) < 1e-4 and round(steps) <= 32
    half = abs(2 * steps - round(2 * steps)) < 1e-4 and steps <= 8
    if eps > 0 and norm == "linf" and (whole or half):
        return f"{round(2 * steps) / 2:g}/255"
    return f"{eps:.4g}"


def ball(norm: str, eps: float) -> str:
    """A budget in words: ``L∞ 4/255``."""
    return f"{NORMS.get(norm, norm)} {radius(eps, norm)}"


def family(method: Method) -> Method:
    """The method without its radius: methods of one family differ in how far they may go."""
    settings = {key: value for key, value in method.settings.items() if key != "eps"}
    text = f"{method.title}({', '.join(f'{key}={value!r}' for key, value in settings.items())}) {method.goal}"
    return replace(method, text=text.strip(), settings=settings)


def class_name(classes: Sequence[str], label: int) -> str:
    """The name of a class; its number where the names do not reach."""
    return str(classes[label]) if 0 <= label < len(classes) else str(label)


def models(names: Iterable[str]) -> dict[str, str]:
    """Model names without a module or a weights path; with what differs of it where that leaves them alike."""
    names = list(dict.fromkeys(names))
    brief = [re.sub(r"^py:.*:|=.*$", "", name, flags=re.DOTALL) or name for name in names]
    return {name: visible(label) for name, label in _distinct(names, [_clip(label, 28) for label in brief]).items()}


def visible(text: str) -> str:
    """Text whose controls, such as those that turn the order of what follows around, stand as a mark."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") or c in TURNS else c for c in text
    )


_LONG_PATH = re.compile(r"^(folder:).*[/\\](?=[^/\\])|(?<=[?&]root=)[^&]*[/\\](?=[^/\\&])")


def data(specs: Iterable[str]) -> dict[str, str]:
    """Data specs with a folder's path cut down to its last name; with what differs where that leaves them alike."""
    specs = list(dict.fromkeys(specs))
    brief = [re.sub(_LONG_PATH, lambda match: (match[1] or "") + "…/", spec.rstrip("/\\")) or spec for spec in specs]
    return {spec: visible(label) for spec, label in _distinct(specs, [_clip(label, 60) for label in brief]).items()}


def _short(method: Method, group: list[Method], always: Collection[str]) -> str:
    words = [method.title]
    for key in dict.fromkeys(key for other in group for key in other.settings):
        differs = len({repr(other.settings.get(key)) for other in group}) > 1
        if key in method.settings and (differs or key in always):
            words.append(_setting(key, method.settings[key], method))
    if method.goal:
        words.append(f"→ {method.goal}")
    return " ".join(words)


def _setting(key: str, value: object, method: Method) -> str:
    match value:
        case bool():
            return key if value else f"no {key}"
        case int() | float() if key == "eps":
            return radius(float(value), method.norm or "linf")
        case str() if key == "norm":
            return NORMS.get(value, value)
        case float():
            return f"{key} {value:.4g}"
        case str():
            return _clip(value, 24)
        case list() if all(isinstance(item, str) for item in value):
            return _clip(" + ".join(value), 48)
    return f"{key} {_clip(str(value), 24)}"


def _clip(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length // 2]}…{text[-(length // 2 - 1) :]}"


def _distinct(full: list[str], brief: list[str]) -> dict[str, str]:
    """Brief labels; of names that share one the whole name or, where that is long, what tells them apart."""
    groups = defaultdict[str, list[str]](list)
    for name, label in zip(full, brief, strict=True):
        groups[label].append(name)
    long = {label: [name for name in group if len(name) > LONGEST] for label, group in groups.items()}
    words = {label: _differences(long[label]) for label, group in groups.items() if len(group) > 1}
    labels = {
        name: name if len(name) <= LONGEST else f"{_clip(label, 20)} {_clip(words[label][name], 26)}".strip()
        for name, label in zip(full, brief, strict=True)
        if label in words
    }
    result = {name: labels.get(name, label) for name, label in zip(full, brief, strict=True)}
    count, seen = Counter(result.values()), Counter[str]()
    for name, label in result.items():
        seen[label] += 1
        if count[label] > 1:
            result[name] = f"{label} ({seen[label]})"
    return result


def _differences(names: Sequence[str]) -> dict[str, str]:
    """What of each name stands between the parts of a path that all share, at its start and at its end."""
    parts = [re.split(r"[/\\:=+]", name) for name in names]
    start = _shared(parts)
    rest = [each[start:] for each in parts]
    end = _shared([each[::-1] for each in rest])
    return {name: "/".join(each[: len(each) - end]) for name, each in zip(names, rest, strict=True)}


def _shared(parts: Iterable[Sequence[str]]) -> int:
    """How many first parts all have in common."""
    return sum(1 for _ in itertools.takewhile(lambda column: len(set(column)) == 1, zip(*parts, strict=False)))
