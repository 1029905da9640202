"""A model's digest changes with what the model does, and with nothing else."""

import importlib
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn

from assay.bench.models import Subject, digest_of, in_memory, load, zoo_names

ROOT = Path(__file__).parents[2]
SIZE = (1, 8, 8)

CALLABLE = """
from model_of_it import Net
from helper_of_it import MEAN, STD

def net():
    return Net(), {"input_size": (1, 8, 8), "mean": (MEAN,), "std": (STD,)}
"""

MODULE = """# A network.
from pathlib import Path

import torch
from torch import nn

import helper_of_it


class Table:
    def __init__(self, values):
        self.values = values


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values):
        return values.clone()

    @staticmethod
    def backward(ctx, slope):
        return helper_of_it.SLOPE * slope


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(64, 5)
        self.scale = helper_of_it.SCALE
        self.shift = float((Path(__file__).parent / "number.txt").read_text())
        self.rows = [torch.ones(5), torch.full((5,), helper_of_it.ROW)]
        self.table = Table({"a": torch.full((5,), helper_of_it.TABLE)})
        self.register_buffer("gain", torch.full((5,), helper_of_it.GAIN), persistent=False)
        self.unused = {"deep": (torch.full((5,), helper_of_it.UNUSED),)}

    def forward(self, images):
        logits = helper_of_it.bend(self.head(Slope.apply(images.float().flatten(1)))) * self.scale + self.shift
        return logits * self.rows[1] * self.table.values["a"] * self.gain
"""

HELPER = """
SLOPE = SCALE = ROW = TABLE = GAIN = STD = 1.0
UNUSED = MEAN = 0.0

def bend(logits):
    return logits.tanh()
"""

MODULES = ("callable_of_it", "model_of_it", "helper_of_it")
Digest = Callable[..., str]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Digest]:
    """The digest of the network above, as it is on disk after ``old`` became ``new`` in one of its files."""
    texts = dict(
        zip((*(f"{name}.py" for name in MODULES), "number.txt"), (CALLABLE, MODULE, HELPER, "0.25"), strict=True)
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def digest(file: str = "", old: str = "", new: str = "") -> str:
        for name, text in texts.items():
            assert name != file or old in text
            (tmp_path / name).write_text(text.replace(old, new) if name == file else text)
        forget()
        importlib.invalidate_caches()
        return load("py:callable_of_it:net").digest

    def forget() -> None:
        for name in MODULES:
            sys.modules.pop(name, None)

    yield digest
    forget()


@pytest.mark.parametrize(
    ("old", "new"),
    [("tanh", "sigmoid"), *((f"{name} =", f"{name} = 0.999; _ =") for name in HELPER.split() if name.isupper())],
)
def test_what_another_file_changes_is_seen(own: Digest, old: str, new: str) -> None:
    """A function, the backward pass, an attribute, tensors in containers, objects and buffers, the normalisation."""
    before = own()
    assert own("helper_of_it.py", old, new) != before
    assert own() == before


def test_a_number_read_from_a_file_and_a_class_are_seen(own: Digest) -> None:
    digests = [own(), own("number.txt", "0.25", "0.2500001"), own("model_of_it.py", "clone()", "clone() + 1e-4")]
    assert len(set(digests)) == 3


def test_what_stands_outside_the_classes_is_judged_by_what_it_does(own: Digest) -> None:
    before = own()
    assert own("model_of_it.py", "# A network.", "# The same network.") == before
    assert own("helper_of_it.py", "return logits.tanh()", "import torch; return torch.tanh(logits)  # alike") == before


def digest(network: nn.Module, size: tuple[int, ...] = SIZE) -> str:
    return digest_of(network.eval(), size)


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 10))


class Bounds(nn.Module):
    """Leaves all but the darkest and the brightest pixels as they are."""

    def forward(self, images: Tensor) -> Tensor:
        return cut(images)


def test_what_is_done_to_black_and_white_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    before = digest(nn.Sequential(Bounds(), small()))
    monkeypatch.setattr(sys.modules[__name__], "cut", lambda images: images.clamp(0.05, 0.95))
    assert digest(nn.Sequential(Bounds(), small())) != before


def cut(images: Tensor) -> Tensor:
    return images


def test_another_kind_of_layer_is_another_model() -> None:
    network = small()
    before = digest(network)
    network[2] = nn.ReLU6()
    assert digest(network) != before


SPECS = [
    "zoo:mlp",
    "zoo:vit",
    "zoo:convnext",
    "py:tests.bench.nets:convolutional",
    "py:tests.bench.nets:nan_where_dark",
]
SAY = "import sys; from assay.bench.models import load; print(*[load(spec).digest for spec in sys.argv[1:]])"


def test_another_process_gives_the_same_digest() -> None:
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = ['src', '.']; {SAY}", *SPECS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [load(spec).digest for spec in SPECS]


def test_the_zoo_has_the_same_digests_again_by_more_threads() -> None:
    threads = torch.get_num_threads()
    digests = {}
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            digests[count] = [load(name).digest for name in zoo_names()]
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(threads)
    assert digests[1] == digests[2]
    assert len(set(digests[1])) == len(zoo_names()) == 12


@pytest.mark.parametrize("spec", ["zoo:resnet", "py:tests.bench.nets:convolutional"])
def test_lent_and_loaded_it_is_the_same_model(spec: str) -> None:
    model = load(spec)
    assert in_memory.subject("mine", model).digest == model.digest
    assert in_memory.subject("mine", model.body, **facts(model)).digest == model.digest


def facts(model: Subject) -> dict[str, Any]:
    return {"input_size": model.input_size, "mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}


def test_hooks_modes_and_a_forward_pass_leave_nothing() -> None:
    network = small()
    before = digest(network)
    handles = [module.register_forward_hook(lambda *_: None) for module in network]
    handles += [network[4].register_full_backward_hook(lambda *_: None)]
    network(torch.rand(2, *SIZE)).sum().backward()
    for handle in handles:
        handle.remove()
    network.train().eval()
    assert digest(network.double().float().to("cpu").to(memory_format=torch.channels_last)) == before
    assert digest(network.requires_grad_(False)) == before


def twice(module: nn.Module, inputs: Any, outputs: Any) -> tuple[Tensor]:
    return (2 * inputs[0],)


def test_a_hook_that_stays_is_part_of_the_model() -> None:
    network = small()
    before = digest(network)
    network[3].register_forward_hook(lambda module, inputs, outputs: 1.001 * outputs)
    outward = digest(network)
    network = small()
    network[2].register_full_backward_hook(twice)
    assert len({before, outward, digest(network)}) == 3


class AtRandom(nn.Module):
    """Answers that random numbers change: of torch, of numpy and Python, or of the network's own generator."""

    def __init__(self, kind: str, body: nn.Module) -> None:
        super().__init__()
        self.kind, self.body = kind, body
        self.generator = np.random.default_rng(0)

    def forward(self, images: Tensor) -> Tensor:
        noises: dict[str, Callable[[], Any]] = {
            "torch": lambda: torch.rand(10),
            "dropout": lambda: nn.functional.dropout(torch.ones(10)),
            "global": lambda: np.random.rand() + random.random(),  # noqa: NPY002
            "own": lambda: torch.from_numpy(self.generator.random(10, np.float32)),
        }
        logits: Tensor = self.body(images) + noises[self.kind]()
        return logits


@pytest.mark.parametrize("kind", ["torch", "dropout", "global", "own"])
def test_a_model_of_random_answers_has_one_digest_too(kind: str) -> None:
    digests = [digest(AtRandom(kind, small(seed))) for seed in (0, 0, 1)]
    assert digests[0] == digests[1] != digests[2]
    other = small()
    other[2] = nn.GELU()
    assert digest(AtRandom(kind, other)) != digests[0]


def test_nothing_of_the_caller_is_changed() -> None:
    network = AtRandom("global", small()).eval()
    torch.manual_seed(3)
    random.seed(3)
    np.random.seed(3)  # noqa: NPY002
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    threads = torch.get_num_threads()
    with torch.inference_mode():
        inner = digest(network)
        assert torch.is_inference_mode_enabled()
        assert not torch.is_grad_enabled()
    assert inner == digest(network)
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())  # type: ignore[index]  # noqa: NPY002
    assert torch.get_num_threads() == threads
    assert all(parameter.grad is None for parameter in network.parameters())


class Half(nn.Module):
    """Weights in half precision behind a cast, or built into a script that no copy in double precision reaches."""

    def __init__(self, dtype: torch.dtype, scripted: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).to(dtype)
        trace: Any = torch.jit.trace
        self.body = trace(body, torch.rand(1, *SIZE).to(dtype)) if scripted else body
        self.dtype = dtype

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images.to(self.dtype)).float()
        return logits


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("scripted", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype, scripted: bool) -> None:
    first, same, other = (Half(dtype, scripted) for _ in range(3))
    with torch.no_grad():
        next(other.parameters()).mul_(1.01)
    assert digest(first) == digest(same) != digest(other)


class Wrapped(nn.Module):
    def __init__(self, **more: Any) -> None:
        super().__init__()
        self.body = small()
        self.__dict__.update(more)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits


def test_what_a_network_holds_is_in_whatever_it_is_held_in() -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    held: list[dict[str, Any]] = [
        {},
        {"a": np.arange(3)}, {"a": np.arange(3) + 1}, {"a": np.array([{"x": 1}], dtype=object)},
        {"a": {"x": {1, 2}}}, {"a": {"x": {1, 3}}}, {"a": {2: torch.zeros(2)}}, {"a": {2: torch.zeros(2).half()}},
        {"a": circle}, {"a": torch.zeros(1, dtype=torch.complex64)}, {"a": torch.zeros(2).to_sparse()},
        {"a": np.float32(1)}, {"a": "text"}, {"a": torch.float16},
    ]  # fmt: skip
    digests = [digest(Wrapped(**more)) for more in held]
    assert len(set(digests)) == len(held)
    assert digests == [digest(Wrapped(**more)) for more in held]
    quiet: list[Any] = [len, AtRandom, torch.device("cpu"), torch.Generator(), lambda: 3]
    assert len({digest(Wrapped(a=value)) for value in quiet}) == 1
    assert digest(Wrapped(a=sys)) == digest(Wrapped(a=Lock()))  # which cannot be copied


def test_activations_that_a_pass_leaves_behind_are_not_the_model() -> None:
    class Remembering(Wrapped):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.body(images)
            self.last = logits
            return logits

    one, two = (Subject(Remembering(), name="x", input_size=SIZE, mean=(0.0,), std=(1.0,)) for _ in range(2))
    assert one.digest == two.digest


def test_a_framework_that_calculates_its_tables_otherwise_in_the_last_bit_gives_the_same_model() -> None:
    size = (3, 256, 256)
    torch.manual_seed(0)
    network = timm.create_model("vit_base_patch16_rope_reg1_gap_256", num_classes=5, depth=1)
    with torch.no_grad():
        network.get_parameter("blocks.0.gamma_1").fill_(1)  # attention counts
        network.get_parameter("blocks.0.attn.qkv.weight").mul_(10)
    before = digest(network, size)
    table = network.get_buffer("rope.pos_embed")
    table.copy_(torch.nextafter(table, torch.ones(())))
    assert digest(network, size) == before
    table.mul_(1.1)
    assert digest(network, size) != before
