"""``assay list``: what there is."""

import inspect
import json
import typing
from collections.abc import Iterator
from typing import Any

from assay.attacks import ATTACKS
from assay.bench.data import SOURCES
from assay.bench.models import ZOO, zoo_names
from assay.bench.runs.settings import PRESETS
from assay.bench.zoo.recipes import RECIPES
from assay.core.errors import AssayError, unknown
from assay.core.tables import Table, takes
from assay.explain import EXPLAINERS
from assay.explain.metrics import METRICS
from assay.synthesis import SYNTHESES

TABLES: dict[str, Table] = {
    "attacks": ATTACKS,
    "explainers": EXPLAINERS,
    "metrics": METRICS,
    "syntheses": SYNTHESES,
    "data": SOURCES,
}


KINDS = ("models", *TABLES, "presets")


def list_(kind: str = "", /) -> Iterator[str]:
    """List what there is: models, data, attacks, explainers, metrics, syntheses or presets."""
    if not kind:
        raise AssayError(f"list what? {', '.join(KINDS)}")
    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    for name, about in rows(kind):
        yield f"{name:<22} {about}".rstrip()


def rows(kind: str) -> Iterator[tuple[str, str]]:
    """Name and one line about it."""
    if kind == "models":
        yield from _models()
    elif kind == "presets":
        for path in sorted(PRESETS.glob("*.toml")):
            yield path.stem, path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    else:
        for name, cls in TABLES[kind].items():
            yield name, (_attack(cls) if kind == "attacks" else "") + _first_line(cls)


def _models() -> Iterator[tuple[str, str]]:
    for spec in zoo_names():
        name = spec.removeprefix("zoo:")
        card = json.loads((ZOO / f"{name}.json").read_text(encoding="utf-8"))
        size = f"{card['parameters'] / 1e6:.2f} M"
        yield spec, f"{size}, {card['accuracy']['test, shortcut none']:.1%} on scenes: {RECIPES[name].about}"
    yield "NAME", "a timm model with its published weights, such as resnet50.a1_in1k (NAME@revision allowed)"
    yield "ARCH=PATH", "a timm architecture with your checkpoint, .safetensors or a state_dict"
    yield "py:MODULE:FUNCTION", "your own callable that gives (nn.Module, {input_size, mean, std})"
    yield "SPEC+SPEC", "the mean of the logits of models with the same classes and input size"


def _attack(cls: type) -> str:
    """What an attack asks of the model, its norms, and the goals that it takes."""
    hint = typing.get_type_hints(cls).get("norm")
    norm = getattr(cls, "norm", None) if typing.get_origin(hint) is typing.ClassVar else None
    norms = (norm,) if norm else typing.get_args(hint) or (("linf",) if takes(cls, "eps", 0.0) else ())
    record: Any = cls()
    goals = "draws a class" if record.from_nothing else "any goal"
    scope = "one for all images" if record.universal else ""
    access = "no access" if record.access == "none" else record.access
    return "; ".join(filter(None, (access, " ".join(norms), goals, scope))) + ": "


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
