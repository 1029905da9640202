"""Models by spec: timm with its published weights, with a checkpoint, the zoo, the user's own callable, ensembles."""

import dataclasses
import importlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from timm.models import PretrainedCfg
from torch import nn

from assay.bench.models import hub
from assay.bench.models.checkpoints import fill, read, unwrap
from assay.bench.models.paths import is_file, typed
from assay.bench.models.subject import FACTS, Subject, described, ensemble
from assay.bench.models.weights import from_zoo, zoo_names
from assay.core.errors import AssayError, first_line, unknown
from assay.core.tables import members

IN_MEMORY: dict[str, Subject] = {}  # what ``assay.bench.models.in_memory`` lends
TIMMS = {field.name for field in dataclasses.fields(PretrainedCfg)}  # facts that a timm model has of itself
logger = logging.getLogger("assay")


def load(spec: str, *, weights: bool = True) -> Subject:
    """The subject that ``spec`` names; ``weights=False`` builds timm architectures without asking the hub.

    ``resnet50.a1_in1k`` (``@revision`` allowed), ``ghostnet_100=path/to/file.pth``, ``zoo:NAME`` or
    ``zoo:PATH.safetensors``, ``py:package.module:function``, timm's ``hf-hub:OWNER/NAME`` and ``local-dir:PATH``, or
    several of them joined by ``+``. Raises ``AssayError`` with the way out for anything that cannot be loaded.
    """
    if spec in IN_MEMORY:
        return IN_MEMORY[spec]
    name, _, path = spec.partition("=")
    parts = [spec] if is_file(typed(path)) else members(spec)
    if len(parts) > 1:
        return ensemble(spec, [load(member, weights=weights) for member in parts])
    if spec.startswith("zoo:"):
        return from_zoo(spec.removeprefix("zoo:"))
    if spec.startswith("py:"):
        return _from_callable(spec)
    if hub.is_place(spec):
        return hub.load(spec)
    if "=" in spec:
        return _from_checkpoint(spec, name, typed(path))
    return _from_hub(spec, weights)


def call(spec: str) -> Any:
    """What the user's callable ``py:package.module:function`` returns; ``AssayError`` where it cannot be called."""
    module_name, _, attribute = spec.removeprefix("py:").partition(":")
    if not attribute or not all(module_name.split(".")):
        raise AssayError(f"{spec!r} names no function; write py:package.module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise AssayError(
            f"{spec!r}: {first_line(error)}; the module must be importable from here (PYTHONPATH)"
        ) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise AssayError(f"{spec!r}: its module raised {type(error).__name__}: {first_line(error)}") from error
    if not callable(factory) or isinstance(factory, nn.Module):
        what = "a network" if isinstance(factory, nn.Module) else f"a {type(factory).__name__}"
        raise AssayError(f"{spec!r} is {what}, no function; write one that returns the network")
    try:
        return factory()
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise AssayError(f"{spec!r} raised {type(error).__name__}: {first_line(error)}") from error


def _from_callable(spec: str) -> Subject:
    pair = call(spec)
    if not (isinstance(pair, tuple) and len(pair) == 2 and all(map(isinstance, pair, (nn.Module, Mapping)))):
        raise AssayError(f"{spec!r} must return (nn.Module, {{'input_size': ..., 'mean': ..., 'std': ...}})")
    network, facts = pair
    for key in facts:
        if key not in FACTS and key not in TIMMS:
            raise AssayError(f"{spec!r}: {unknown('fact', str(key), FACTS)}")
    absent = [key for key in ("input_size", "mean", "std") if facts.get(key) is None]
    if absent:
        raise AssayError(f"{spec!r} says nothing of {', '.join(absent)}")
    return described(network, spec, facts)


def _from_checkpoint(spec: str, name: str, path: Path) -> Subject:
    _check_architecture(name)
    checkpoint = read(path)
    network = timm.create_model(name)
    state, note = unwrap(checkpoint.state, network.state_dict())
    classifiers = network.pretrained_cfg.get("classifier") or ()
    heads = [classifiers] if isinstance(classifiers, str) else classifiers
    count = next((len(state[key]) for head in heads if (key := f"{head}.weight") in state), None)
    if count not in (None, network.num_classes):
        network = timm.create_model(name, num_classes=count)
    fill(network, state, str(path))
    note = "; ".join(filter(None, (checkpoint.note, note)))
    if note:
        logger.warning("%s: %s", path, note)
    return described(network, spec, network.pretrained_cfg, {"checkpoint": note} if note else None)


def _from_hub(spec: str, weights: bool) -> Subject:
    name, _, revision = spec.partition("@")
    if "/" in spec or "\\" in spec:
        raise AssayError(
            f"unknown model {spec!r}; a place is hf-hub:OWNER/NAME or local-dir:PATH, a checkpoint ARCH=PATH"
        )
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
    return described(network, spec, network.pretrained_cfg)


def _check_architecture(name: str) -> None:
    if not timm.is_model(name.split(".")[0]):
        raise unknown("model", name, [*zoo_names(), *timm.list_models()])
    if "." in name and not timm.list_models(name, pretrained=True):
        tags = timm.list_models(f"{name.split('.')[0]}.*", pretrained=True)
        raise unknown(f"weights of {name.split('.')[0]}", name, tags)
