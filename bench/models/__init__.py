"""Models by spec: timm with its published weights, with a checkpoint, the zoo, the user's own callable, ensembles."""

import hashlib
import importlib
import inspect
import json
import pickle
import re
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import timm
import timm.data
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from assay.bench.data.scenes import CLASSES
from assay.bench.zoo.recipes import RECIPES, Recipe
from assay.core.errors import AssayError, unknown

ZOO = Path(__file__).parents[1] / "zoo"
LENT: dict[str, "Subject"] = {}  # by ``assay.bench.models.in_memory``


class Fit(NamedTuple):
    """How a model takes photographs: its size, the share of the resized picture that the centre crop keeps, and how."""

    input_size: tuple[int, int, int]  # C, H, W
    crop_pct: float = 1.0
    interpolation: str = "bicubic"
    crop_mode: str = "center"  # or squash: resized to the crop's proportions first


class Subject(nn.Module):
    """A classifier from images (N, C, H, W) in [0, 1] to logits (N, K), normalisation inside, in eval mode.

    ``body`` is the network itself. ``digest`` is the sha256 of weights and normalisation, and of the file that a
    ``py:`` model's callable stands in.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        *,
        name: str,
        input_size: Sequence[int],
        mean: Sequence[float],
        std: Sequence[float],
        classes: Sequence[str] = (),
        crop_pct: float = 1.0,
        interpolation: str = "bicubic",
        crop_mode: str = "center",
        card: Mapping[str, Any] | None = None,
        code: bytes = b"",
    ) -> None:
        super().__init__()
        if len(input_size) != 3 or input_size[0] not in (1, 3) or min(input_size) < 1:
            raise AssayError(f"{name}: input_size is (1 or 3, H, W), not {tuple(input_size)}")
        self.body = body
        self.name = name
        self.input_size = (int(input_size[0]), int(input_size[1]), int(input_size[2]))
        self.fit = Fit(self.input_size, crop_pct, interpolation, crop_mode)
        self.card = dict(card or {})
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(-1, 1, 1), persistent=False)
        self.eval()
        count = self._count_classes()
        if classes and len(classes) != count:
            raise AssayError(f"{name}: {len(classes)} class names for {count} logits")
        self.classes = tuple(classes) or tuple(map(str, range(count)))
        self.digest = digest_of({**body.state_dict(), "mean": self.mean, "std": self.std}, code)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body((images - self.mean) / self.std)
        return logits

    @torch.no_grad()
    def _count_classes(self) -> int:
        logits = self(torch.zeros(1, *self.input_size))
        if not isinstance(logits, Tensor) or logits.ndim != 2:
            shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise AssayError(f"{self.name}: a classifier gives logits (N, K), this gives {shape}")
        return logits.shape[1]


def load(spec: str, *, weights: bool = True) -> Subject:
    """The subject that ``spec`` names; ``weights=False`` builds timm architectures without asking the hub.

    ``resnet50.a1_in1k`` (``@revision`` allowed), ``ghostnet_100=path/to/file.pth``, ``zoo:NAME`` or
    ``zoo:PATH.safetensors``, ``py:package.module:function``, or several of them joined by ``+``. Raises ``AssayError``
    with the way out for anything that cannot be loaded.
    """
    if spec in LENT:
        return LENT[spec]
    if "+" in spec and not Path(spec.partition("=")[2]).expanduser().is_file():
        return ensemble(spec, [load(member, weights=weights) for member in spec.split("+")])
    if spec.startswith("zoo:"):
        return _zoo(spec.removeprefix("zoo:"))
    if spec.startswith("py:"):
        return _own(spec)
    if "=" in spec:
        name, _, path = spec.partition("=")
        return _checkpoint(spec, name, Path(path))
    return _published(spec, weights)


class Averaged(nn.Module):
    """The mean of the members' logits (Dong et al. 2018, eq. 9, arXiv:1710.06081, with equal weights)."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([member(images) for member in self.members]).mean(0)


def ensemble(spec: str, members: Sequence[Subject]) -> Subject:
    """One subject of several with the same classes and input size; it takes photographs as the first one does."""
    first = members[0]
    for other in members[1:]:
        for fact in ("input_size", "classes"):
            if getattr(other, fact) != getattr(first, fact):
                raise AssayError(f"{spec!r} does not go together: {other.name} has another {fact} than {first.name}")
    return Subject(
        Averaged(members),
        name=spec,
        **first.fit._asdict(),
        mean=(0.0,),
        std=(1.0,),
        classes=first.classes,
        code="".join(member.digest for member in members).encode(),
    )


def create(recipe: Recipe, num_classes: int) -> nn.Module:
    """The untrained network of a zoo recipe."""
    if ":" in recipe.arch:
        module, _, attribute = recipe.arch.partition(":")
        network: nn.Module = getattr(importlib.import_module(module), attribute)(num_classes, **recipe.settings)
        return network
    settings = {key: list(v) if isinstance(v, tuple) else v for key, v in recipe.settings.items()}
    created: nn.Module = timm.create_model(recipe.arch, num_classes=num_classes, **settings)
    return created


def zoo_names() -> list[str]:
    """The zoo models whose weights are there."""
    there = {path.stem for path in ZOO.glob("*.safetensors") if path.with_suffix(".json").exists()}
    return [f"zoo:{name}" for name in RECIPES if name in there]


def _zoo(name: str) -> Subject:
    """A model of the zoo, or one that ``assay train`` wrote elsewhere, by its file with the card beside it."""
    path = Path(name) if name.endswith(".safetensors") else ZOO / f"{name}.safetensors"
    if path.parent == ZOO and name not in RECIPES:
        raise unknown("zoo model", name, RECIPES)
    if path.parent == ZOO and f"zoo:{name}" not in zoo_names():
        raise AssayError(f"zoo:{name} has no weights in {ZOO}; make them with: assay train {name} --out {ZOO}")
    if not path.is_file() or not path.with_suffix(".json").is_file():
        raise AssayError(f"zoo:{name}: no weights with a card beside them; assay train writes both")
    card = read_card(path)
    card["arch"] = re.sub(r"^bench(?=\.zoo\.nets:)", "assay.bench", card["arch"])  # as versions before 0.5 wrote it
    module = card["arch"].partition(":")[0] if ":" in card["arch"] else "assay.bench.zoo.nets"
    if module != "assay.bench.zoo.nets":
        raise AssayError(f"{path}: its card names code of {module}, which is not run; load it with py:")
    written = Recipe(about=card["about"], arch=card["arch"], settings=card["settings"], channels_last=False)
    recipe = RECIPES.get(name, written)
    network = create(recipe, len(CLASSES))
    fill(network, safetensors.torch.load_file(path), str(path))
    if recipe.channels_last:
        network = network.to(memory_format=torch.channels_last)
    return Subject(
        network,
        name=f"zoo:{name}",
        input_size=card["input_size"],
        mean=card["mean"],
        std=card["std"],
        classes=card["classes"],
        card=card,
    )


def read_card(path: Path) -> dict[str, Any]:
    """The card beside weights; ``AssayError`` where it is of other weights."""
    card: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    if hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
        raise AssayError(f"{path} is not the file that its card describes (sha256 differs); fetch or train it again")
    return card


def called(spec: str) -> tuple[Any, bytes]:
    """What the user's callable ``py:package.module:function`` returns, and the file that it stands in."""
    module_name, _, attribute = spec.removeprefix("py:").partition(":")
    if not attribute:
        raise AssayError(f"{spec!r} names no function; write py:package.module:function")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise AssayError(f"{spec!r}: {error}; the module must be importable from here (PYTHONPATH)") from error
    try:
        made = factory()
    except Exception as error:  # the user's code may raise anything
        raise AssayError(f"{spec!r} raised {type(error).__name__}: {first_line(error)}") from error
    return made, Path(inspect.getfile(factory)).read_bytes()


def _own(spec: str) -> Subject:
    made, code = called(spec)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], nn.Module)):
        raise AssayError(f"{spec!r} must return (nn.Module, {{'input_size': ..., 'mean': ..., 'std': ...}})")
    network, facts = made
    missing = [key for key in ("input_size", "mean", "std") if key not in facts]
    if missing:
        raise AssayError(f"{spec!r} says nothing of {', '.join(missing)}")
    return _subject(network, spec, facts, code=code)


def _checkpoint(spec: str, name: str, path: Path) -> Subject:
    path = path.expanduser()
    if not path.exists():
        raise AssayError(f"no checkpoint at {path}")
    _check_architecture(name)
    state = _read(path)
    fitting: dict[str, Any] = {}
    classifier = timm.create_model(name).pretrained_cfg.get("classifier")
    weight = state.get(f"{classifier}.weight") if isinstance(classifier, str) else None
    if weight is not None:
        fitting["num_classes"] = len(weight)
    network = timm.create_model(name, **fitting)
    fill(network, state, str(path))
    return _subject(network, spec, network.pretrained_cfg)


def _published(spec: str, weights: bool) -> Subject:
    name, _, revision = spec.partition("@")
    _check_architecture(name)
    overlay: dict[str, Any] = {}
    if revision:
        published = timm.get_pretrained_cfg(name)
        overlay = {"pretrained_cfg_overlay": {"hf_hub_id": f"{published.hf_hub_id or f'timm/{name}'}@{revision}"}}
    try:
        network = timm.create_model(name, pretrained=weights, **overlay)
    except Exception as error:  # whatever the hub's client raises, the way out is the same
        reason = first_line(error)
        local = f"{name.split('.')[0]}=path/to/file"
        raise AssayError(
            f"the weights of {name} could not be fetched ({reason}); with a local file: {local}"
        ) from error
    return _subject(network, spec, network.pretrained_cfg)


def _subject(network: nn.Module, spec: str, facts: Mapping[str, Any], code: bytes = b"") -> Subject:
    needed = ("input_size", "mean", "std")
    optional = ("classes", "crop_pct", "crop_mode", "interpolation")
    settings = {key: facts[key] for key in (*needed, *optional) if facts.get(key) is not None}
    try:
        subject = Subject(network, name=spec, code=code, **settings)
    except AssayError:
        raise
    except Exception as error:  # a network that does not take the size it says
        size = settings["input_size"]
        raise AssayError(f"{spec} fails on images of {size}: {type(error).__name__}: {first_line(error)}") from error
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


def _read(path: Path) -> dict[str, Tensor]:
    """A state dict from safetensors or a weights-only pickle; anything that would run code is refused."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of unusual pickles, which are judged below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if path.read_bytes()[:2] != b"PK" and path.read_bytes()[:1] != pickle.PROTO:
            raise AssayError(f"{path} is no readable checkpoint") from error
        raise AssayError(
            f"{path} holds more than tensors and is refused, since loading it would run its code; "
            "save the state_dict alone, best as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise AssayError(f"{path} is no readable checkpoint: {first_line(error)}") from error
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise AssayError(f"{path} holds no state_dict (names to tensors)")
    return {key.removeprefix("module."): value for key, value in state.items()}


def fill(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    own = network.state_dict()
    missing = [key for key in own if key not in state]
    foreign = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, wanted {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        *([f"missing {_some(missing)}"] if missing else []),
        *([f"not in the model: {_some(foreign)}"] if foreign else []),
        *([f"wrong shape: {_some(shapes)}"] if shapes else []),
    ]
    if problems:
        raise AssayError(f"{source} does not fit {type(network).__name__}: {'; '.join(problems)}")
    network.load_state_dict(dict(state))


def first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def digest_of(state: Mapping[str, Tensor], code: bytes) -> str:
    digest = hashlib.sha256(code)
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
