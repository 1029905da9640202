"""Tables of names, and methods written as text: ``pgd(eps=4/255, steps=100)``.

A table maps names to ``"module:Class"`` and imports a class only when it is asked for, so listing what there is
loads no torch. Text is parsed, never evaluated: literals, fractions and bare words.
"""

import ast
import dataclasses
import functools
import importlib
import itertools
import math
import numbers
import random
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from assay.core.errors import AssayError, brief, unknown

LARGEST = 10**9  # whole number in a text: of steps, queries, samples
MOST = 500  # methods that one text may stand for


def load_module(name: str) -> types.ModuleType:
    """The module of that name. Python's random state, from which some draw as they are imported, stays the caller's."""
    state = random.getstate()
    try:
        return importlib.import_module(name)
    finally:
        random.setstate(state)


class Table(Mapping[str, type]):
    """Names of one kind of method. ``table["pgd"]`` is the class; ``table.parse("pgd(steps=9)")`` a record of it."""

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, name: str) -> type:
        """The class; ``GradCAM``, ``grad_cam`` and ``grad-cam`` are the same. Raises ``AssayError`` with near names."""
        plain = {re.sub(r"[-_]", "", key): key for key in self._entries}
        key = plain.get(re.sub(r"[-_]", "", name).lower())
        if key is None:
            raise unknown(self.kind, name, self._entries)
        module, _, attribute = self._entries[key].partition(":")
        return typing.cast(type, getattr(load_module(module), attribute))

    def name_of(self, method: object) -> str:
        """The table's name of a record or class."""
        cls = method if isinstance(method, type) else type(method)
        where = f"{cls.__module__}:{cls.__qualname__}"
        return next((name for name, entry in self._entries.items() if entry == where), cls.__name__)

    def parse(self, text: str, **defaults: Any) -> Any:
        """The record that ``name`` or ``name(setting=value, ...)`` describes; what is typed beats ``defaults``."""
        name, settings = parse_call(text)
        cls = self[name]
        fields = {field.name for field in dataclasses.fields(cls)}
        return build(cls, {**{k: v for k, v in defaults.items() if k in fields}, **settings})

    def exporter(self, others: Mapping[str, str] | None = None) -> Callable[[str], Any]:
        """A module ``__getattr__`` that imports the table's classes, and ``others`` (name to module), on first use."""
        modules = {entry.partition(":")[2]: entry.partition(":")[0] for entry in self._entries.values()}
        modules.update(others or {})

        def attribute(name: str) -> Any:
            if name not in modules:
                raise AttributeError(f"no {name!r} here; there is {', '.join(modules)}")
            return getattr(load_module(modules[name]), name)

        return attribute


def parse_call(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``name(a=1, b=4/255, c=word)`` into the name and its settings."""
    match = re.fullmatch(r"\s*([\w.+-]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if match is None:
        raise AssayError(f"cannot read {brief(text)}; write name or name(setting=value, ...)")
    with _reading(f"the settings of {brief(text)}; write setting=value, text with dots in quotes"):
        call = ast.parse(f"f({match[2] or ''})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or any(keyword.arg is None for keyword in call.keywords):
            raise AssayError(f"cannot read the settings of {brief(text)}; every setting needs its name")
        settings: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg in settings:
                raise AssayError(f"{brief(text)}: {keyword.arg} is given twice")
            settings[str(keyword.arg)] = _literal(keyword.value, text)
    return match[1], settings


@contextmanager
def _reading(what: str) -> Iterator[None]:
    """Text that Python cannot parse, or that is nested too deeply, is one line."""
    try:
        yield
    except AssayError:
        raise
    except (SyntaxError, ValueError, ArithmeticError, RecursionError, MemoryError):
        raise AssayError(f"cannot read {what}") from None


def build(cls: type, settings: Mapping[str, Any], kind: str = "") -> Any:
    """A record of ``cls``; unknown settings and values of a wrong type raise ``AssayError``.

    ``kind`` is what a setting is called, where the class is nothing that a user knows.
    """
    names = [field.name for field in dataclasses.fields(cls)]
    for key in settings:
        if key not in names:
            raise unknown(kind or f"setting of {cls.__name__}", key, names)
    check_types("" if kind else cls.__name__, _hints(cls), settings)
    return cls(**settings)


def check(record: object) -> None:
    """Raise ``AssayError`` if a setting of a record is not of its type, as ``build`` does before it makes one."""
    cls = type(record)
    if dataclasses.is_dataclass(cls):
        values = {field.name: getattr(record, field.name) for field in dataclasses.fields(cls)}
        check_types(cls.__name__, _hints(cls), values)


def check_types(where: str, hints: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Raise ``AssayError`` for the first of the ``values`` that is not of the type that ``hints`` give its name."""
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise AssayError(f"{where}{where and ': '}{key}={brief(value)} is not {_describe(hints[key])}")


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def variants(cls: type, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """``settings`` of ``cls`` once for every combination: a list where one value is taken stands for each of them."""
    choices = []
    for key, value in settings.items():
        many = isinstance(value, tuple) and not takes(cls, key, value)
        if many and not value:
            raise AssayError(f"{cls.__name__}: {key}=[] names no value")
        choices.append(value if many else (value,))
    if (count := math.prod(map(len, choices))) > MOST:
        raise AssayError(f"{cls.__name__}: the lists of its settings stand for {count} methods; {MOST} at most")
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*choices)]


def takes(cls: type, setting: str, value: object) -> bool:
    """Whether records of ``cls`` have that setting and ``value`` is of its type."""
    fields = {field.name for field in dataclasses.fields(cls)}
    return setting in fields and _fits(value, _hints(cls)[setting])


def number(text: str) -> float:
    """The number that ``text`` is, or the fraction: ``0.5``, ``4/255``."""
    with _reading(f"{brief(text)}; write a number, or a fraction such as 4/255"):
        return _number(ast.parse(text.strip(), mode="eval").body, text)


def _literal(node: ast.expr, text: str) -> Any:
    match node:
        case ast.Constant(value=int(value)) if value > LARGEST:
            raise AssayError(f"{brief(text)}: whole numbers go to {LARGEST}")
        case ast.Constant():
            return node.value
        case ast.Name():
            return node.id
        case ast.Attribute():  # a dotted layer name
            return f"{_word(node.value, text)}.{node.attr}"
        case ast.UnaryOp(op=ast.USub()):
            return -_number(node.operand, text)
        case ast.BinOp(op=ast.Div()):
            below = _number(node.right, text)
            if below == 0:
                raise AssayError(f"division by zero in {brief(text)}")
            return _number(node.left, text) / below
        case ast.Tuple() | ast.List():
            return tuple(_literal(item, text) for item in node.elts)
    raise AssayError(f"{brief(text)}: only numbers, fractions, words and lists of them are read")


def _word(node: ast.expr, text: str) -> str:
    value = _literal(node, text) if isinstance(node, ast.Name | ast.Attribute) else None
    if not isinstance(value, str):
        raise AssayError(f"{brief(text)}: only numbers, fractions, words and lists of them are read; quote other text")
    return value


def _number(node: ast.expr, text: str) -> float:
    value = _literal(node, text)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AssayError(f"{brief(text)}: {brief(value)} is not a number")
    return value


def _fits(value: object, hint: Any) -> bool:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        items = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return len(value) == len(items) and all(map(_fits, value, items))
    if origin is list:
        return isinstance(value, list) and all(_fits(item, arguments[0]) for item in value)
    if origin is dict:
        key, item = arguments
        return isinstance(value, dict) and all(_fits(k, key) and _fits(v, item) for k, v in value.items())
    if hint is float:
        return isinstance(value, numbers.Real) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) and hint is not Any else True


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return hint.__name__ if isinstance(hint, type) else re.sub(r"\w+\.(?=\w)", "", str(hint))


MEMBER = re.compile(  # how what stands behind a plus begins, where it is no part of a path
    r"""(?:zoo|py|hf[-_]hub|local-dir):                            # a source
    |   [\w. -]+(?:@[\w.-]+)?=                                     # a name with its checkpoint
    |   (?!.*\.(?:pth?|th|tar|ckpt|bin|safetensors)$)[\w. -]+(?:@[\w.-]+)?$  # a name alone
    """,
    re.VERBOSE,
)


def members(spec: str) -> list[str]:
    """The model specs that a plus joins in ``spec``; a plus inside a path joins none."""
    parts: list[str] = []
    for text in spec.split("+"):
        if parts and not MEMBER.match(text):
            parts[-1] += f"+{text}"
        else:
            parts.append(text)
    return parts
