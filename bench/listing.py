"""What there is, as lines for the command line."""

import inspect
import json
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from assay.attacks import ATTACKS
from assay.bench.data import SOURCES
from assay.core.tables import Table, takes
from assay.explain import EXPLAINERS
from assay.explain.metrics import METRICS
from assay.synthesis import SYNTHESES

if TYPE_CHECKING:
    from assay.core.probe import LayerInfo
    from assay.core.receptive import Field

TABLES: dict[str, Table] = {
    "attacks": ATTACKS,
    "explainers": EXPLAINERS,
    "metrics": METRICS,
    "syntheses": SYNTHESES,
    "data": SOURCES,
}


def rows(kind: str) -> Iterator[tuple[str, str]]:
    """Name and one line about it."""
    if kind == "models":
        yield from _models()
    elif kind == "presets":
        for path in sorted((Path(__file__).parent / "presets").glob("*.toml")):
            yield path.stem, path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    else:
        for name, cls in TABLES[kind].items():
            yield name, (_attack(cls) if kind == "attacks" else "") + _first_line(cls)


def layer_rows(spec: str) -> Iterator[str]:
    """One line per layer: name, type, shape, grid, receptive field; an arrow at the Grad-CAM layer."""
    import torch

    from assay.bench.models import load
    from assay.core import probe, receptive
    from assay.core.errors import NotApplicable

    model = load(spec, weights=False)
    images = torch.zeros(1, *model.input_size)
    try:
        chosen, reason = probe.default_layer(model.body, images), ""
    except NotApplicable as error:
        chosen, reason = "", str(error)
    found = probe.describe(model.body, images)
    grids = dict.fromkeys(info.name for info in found if info.layout)
    fields = receptive.measured(model.body, images, list(grids))
    reached: dict[str, receptive.Field | None] = {}
    width = max((len(info.name) for info in found), default=4)
    yield f"{'layer':<{width}}  {'type':<20} {'shape':<14} {'grid':<14} receptive field, pixels"
    for info in found:
        if info.layout and info.name not in reached:
            reached.update([next(fields)])
        yield f"{info.name:<{width}}  {_layer_columns(info, reached.get(info.name), info.name == chosen)}".rstrip()
    if reason:
        yield f"no Grad-CAM layer: {reason}"


def _layer_columns(info: "LayerInfo", field: "Field | None", chosen: bool) -> str:
    shape = "x".join(map(str, info.shape))
    grid = f"{info.layout.height}x{info.layout.width} {info.layout.order}" if info.layout else "-"
    if info.layout and info.layout.prefix:
        grid += f" +{info.layout.prefix}"
    reach = f"{field.height}x{field.width}" if field else "-"
    return f"{info.kind:<20} {shape:<14} {grid:<14} {reach}{'  <- Grad-CAM' if chosen else ''}"


def _models() -> Iterator[tuple[str, str]]:
    from assay.bench.models import ZOO, zoo_names
    from assay.bench.zoo.recipes import RECIPES

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
    own = getattr(cls, "norm", None) if typing.get_origin(hint) is typing.ClassVar else None
    norms = (own,) if own else typing.get_args(hint) or (("linf",) if takes(cls, "eps", 0.0) else ())
    record: Any = cls()
    goals = "draws a class" if record.from_nothing else "any goal"
    scope = "one for all images" if record.universal else ""
    access = "no access" if record.access == "none" else record.access
    return "; ".join(filter(None, (access, " ".join(norms), goals, scope))) + ": "


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]
