"""Models by spec: timm with its published weights, with a checkpoint, the zoo, the user's own callable, ensembles."""

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import timm.data
from torch import nn

from assay.bench.models.subject import Subject, ensemble, first_line
from assay.bench.models.weights import fill, from_zoo, read, zoo_names
from assay.core.errors import AssayError, unknown

IN_MEMORY: dict[str, Subject] = {}  # what ``assay.bench.models.in_memory`` lends


def load(spec: str, *, weights: bool = True) -> Subject:
    """The subject that ``spec`` names; ``weights=False`` builds timm architectures without asking the hub.

    ``resnet50.a1_in1k`` (``@revision`` allowed), ``ghostnet_100=path/to/file.pth``, ``zoo:NAME`` or
    ``zoo:PATH.safetensors``, ``py:package.module:function``, or several of them joined by ``+``. Raises ``AssayError``
    with the way out for anything that cannot be loaded.
    """
    if spec in IN_MEMORY:
        return IN_MEMORY[spec]
    if "+" in spec and not Path(spec.partition("=")[2]).expanduser().is_file():
        return ensemble(spec, [load(member, weights=weights) for member in spec.split("+")])
    if spec.startswith("zoo:"):
        return from_zoo(spec.removeprefix("zoo:"))
    if spec.startswith("py:"):
        return _from_callable(spec)
    if "=" in spec:
        name, _, path = spec.partition("=")
        return _from_checkpoint(spec, name, Path(path))
    return _from_hub(spec, weights)


def call(spec: str) -> Any:
    """What the user's callable ``py:package.module:function`` returns; ``AssayError`` where it cannot be called."""
    module_name, _, attribute = spec.removeprefix("py:").partition(":")
    if not attribute:
        raise AssayError(f"{spec!r} names no function; write py:package.module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise AssayError(f"{spec!r}: {error}; the module must be importable from here (PYTHONPATH)") from error
    except Exception as error:  # the user's code may raise anything
        raise AssayError(f"{spec!r}: its module raised {type(error).__name__}: {first_line(error)}") from error
    try:
        return factory()
    except Exception as error:  # the user's code may raise anything
        raise AssayError(f"{spec!r} raised {type(error).__name__}: {first_line(error)}") from error


def _from_callable(spec: str) -> Subject:
    pair = call(spec)
    if not (isinstance(pair, tuple) and [*map(isinstance, pair, (nn.Module, Mapping))] == [True, True]):
        raise AssayError(f"{spec!r} must return (nn.Module, {{'input_size': ..., 'mean': ..., 'std': ...}})")
    network, facts = pair
    absent = [key for key in ("input_size", "mean", "std") if key not in facts]
    if absent:
        raise AssayError(f"{spec!r} says nothing of {', '.join(absent)}")
    try:
        return _subject(network, spec, facts)
    except (TypeError, ValueError) as error:
        raise AssayError(f"{spec!r}: input_size, mean and std are lists of numbers ({first_line(error)})") from error


def _from_checkpoint(spec: str, name: str, path: Path) -> Subject:
    path = path.expanduser()
    if not path.exists():
        raise AssayError(f"no checkpoint at {path}")
    _check_architecture(name)
    state = read(path)
    settings: dict[str, Any] = {}
    classifier = timm.create_model(name).pretrained_cfg.get("classifier")
    weight = state.get(f"{classifier}.weight") if isinstance(classifier, str) else None
    if weight is not None:
        settings["num_classes"] = len(weight)
    network = timm.create_model(name, **settings)
    fill(network, state, str(path))
    return _subject(network, spec, network.pretrained_cfg)


def _from_hub(spec: str, weights: bool) -> Subject:
    name, _, revision = spec.partition("@")
    _check_architecture(name)
    overlay: dict[str, Any] = {}
    if revision:
        config = timm.get_pretrained_cfg(name)
        overlay = {"pretrained_cfg_overlay": {"hf_hub_id": f"{config.hf_hub_id or f'timm/{name}'}@{revision}"}}
    try:
        network = timm.create_model(name, pretrained=weights, **overlay)
    except Exception as error:  # whatever the hub's client raises, the way out is the same
        reason = first_line(error)
        local = f"{name.split('.')[0]}=path/to/file"
        raise AssayError(
            f"the weights of {name} could not be fetched ({reason}); with a local file: {local}"
        ) from error
    return _subject(network, spec, network.pretrained_cfg)


def _subject(network: nn.Module, spec: str, facts: Mapping[str, Any]) -> Subject:
    keys = ("input_size", "mean", "std", "classes", "crop_pct", "crop_mode", "interpolation")
    settings = {key: facts[key] for key in keys if facts.get(key) is not None}
    subject = Subject(network, name=spec, **settings)
    if len(subject.classes) == 1000 and "classes" not in settings:
        info = timm.data.ImageNetInfo()
        subject.classes = tuple(info.index_to_description(i).split(",")[0] for i in range(1000))
    return subject


def _check_architecture(name: str) -> None:
    if not timm.is_model(name.split(".")[0]):
        raise unknown("model", name, [*zoo_names(), *timm.list_models()])
    if "." in name and not timm.list_models(name, pretrained=True):
        tags = timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)
        raise unknown(f"weights of {name.split('.')[0]}", name, tags)
