"""timm's own places: ``hf-hub:OWNER/NAME`` (``@revision`` allowed) and ``local-dir:PATH``, a config beside weights."""

import dataclasses
from functools import partial
from pathlib import Path

import huggingface_hub
import timm
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from timm.models import PretrainedCfg
from timm.models._hub import load_model_config_from_path

from assay.bench.models.cards import check_architecture, plain_settings, read_object, sketch
from assay.bench.models.checkpoints import read, unwrap
from assay.bench.models.paths import is_file, typed
from assay.bench.models.subject import Subject, described
from assay.core.errors import AssayError, first_line

FILES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")  # in timm's order
SUFFIXES = (".safetensors", ".pth", ".pth.tar", ".bin")
PLACES = ("url", "file", "state_dict", "hf_hub_id", "hf_hub_filename", "source", "custom_load")  # of other weights
FACTS = {field.name for field in dataclasses.fields(PretrainedCfg)} - set(PLACES)


def is_place(spec: str) -> bool:
    """Whether ``spec`` names a place of weights, as timm reads it."""
    return _source(spec) in ("hf-hub", "local-dir")


def load(spec: str) -> Subject:
    """The subject of a place. Its config reaches known architectures and plain settings; its pickles stay closed."""
    name = spec.partition(":")[2]
    if not name:
        raise AssayError(f"{spec!r} names no place; write hf-hub:OWNER/NAME or local-dir:PATH")
    folder = _download(name) if _source(spec) == "hf-hub" else typed(name)
    config = folder / "config.json"
    read_object(config)
    weights = _weights(folder)
    try:
        facts, arch, settings = load_model_config_from_path(folder)
    except Exception as error:  # of a config that is not timm's
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise AssayError(f"{config} is no config of timm ({reason})") from error
    check_architecture(arch, config)
    settings = dict(plain_settings(settings, config))
    classes = settings.pop("num_classes", None)
    facts = {key: value for key, value in facts.items() if key in FACTS}
    if classes is not None:
        facts.setdefault("num_classes", classes)
    state = read(weights).state
    create = partial(timm.create_model, arch, **settings)
    empty = sketch(partial(create, pretrained_cfg=facts), weights.stat().st_size, config)
    facts["state_dict"] = unwrap(state, empty.state_dict()).state
    try:
        network = create(pretrained=True, pretrained_cfg=facts, pretrained_model_args=settings)
    except Exception as error:  # tensors that do not fit, in timm's words
        raise AssayError(f"{weights} does not fit {arch}: {' '.join(str(error).split())[:300]}") from error
    del network.pretrained_cfg["state_dict"]
    return described(network, spec, network.pretrained_cfg)


def _source(spec: str) -> str:
    return spec.partition(":")[0].lower().replace("_", "-") if ":" in spec else ""


def _weights(folder: Path) -> Path:
    files = [folder / name for name in FILES]
    files += [path for suffix in SUFFIXES for path in sorted(folder.glob(f"*{suffix}"))]
    weights = next(filter(is_file, files), None)
    if weights is None:
        raise AssayError(f"{folder} has no weights beside a config.json ({', '.join(FILES)})")
    return weights


def _download(name: str) -> Path:
    """The folder into which the hub's client has put the config and the first weights that there are."""
    owner, _, revision = name.partition("@")
    try:
        config = huggingface_hub.hf_hub_download(owner, "config.json", revision=revision or None)
        for file in FILES:
            try:
                huggingface_hub.hf_hub_download(owner, file, revision=revision or None)
                break
            except LocalEntryNotFoundError:
                raise
            except EntryNotFoundError:
                continue
    except Exception as error:  # whatever the hub's client raises, the way out is the same
        raise AssayError(
            f"hf-hub:{name} could not be fetched ({first_line(error)}); with a local folder: local-dir:PATH"
        ) from error
    return Path(config).parent
