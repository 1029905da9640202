"""Checkpoints that are none, that would run code, or that ask for more memory than they have."""

import gzip
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from assay.bench.models import load
from assay.core.errors import AssayError
from tests.hostile.kit import Hostile, broken, within, write

ARCH = "test_resnet"
FILES = 12  # damaged copies in one test of a fuzzer


class Trap:
    """Its pickle touches a file."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, ("ran",)


def saved(content: object, **how: Any) -> Callable[[], object]:
    return lambda: torch.save(content, "w.pth", **how)


def state() -> dict[str, Tensor]:
    weights: dict[str, Tensor] = timm.create_model(ARCH, num_classes=3).state_dict()
    return weights


def changed(**tensors: Tensor) -> Callable[[], object]:
    return lambda: torch.save(state() | {key.replace("_", "."): tensor for key, tensor in tensors.items()}, "w.pth")


def itself() -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, "w.pth")


def archive(entries: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile("w.pth", "w", how) as file:
        for name, content in entries.items():
            file.writestr(name, content)


def compressed() -> None:
    torch.save({"fc.weight": torch.zeros(10**6)}, "plain.pth")
    with zipfile.ZipFile("plain.pth") as file:
        archive({name: file.read(name) for name in file.namelist()}, zipfile.ZIP_DEFLATED)


def many_bytes() -> None:
    """A pickle that asks for a bytearray of a terabyte, in an archive of torch's."""
    torch.save({"a": torch.zeros(1)}, "plain.pth")
    with zipfile.ZipFile("plain.pth") as file:
        entries = {name: file.read(name) for name in file.namelist()}
    bomb = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85R."
    archive({name: bomb if name.endswith("data.pkl") else content for name, content in entries.items()})


def header(text: str, length: int | None = None) -> Callable[[], object]:
    content = text.encode()
    return lambda: write("w.safetensors", (length or len(content)).to_bytes(8, "little") + content)


def scripted() -> None:
    torch.jit.script(nn.Linear(2, 2)).save("w.pth")  # type: ignore[no-untyped-call]


def row(name: str, line: str, make: Callable[[], object] | None = None, file: str = "w.pth") -> Hostile:
    return Hostile(name, ["layers", f"{ARCH}={file}"], line, make)


UNREADABLE = r"w\.\w+ is no readable checkpoint: \S"
NO_STATE = r"w\.pth holds no state_dict \(names to (plain )?tensors\), but "
CASES = (
    row("absent", r"no checkpoint at w\.pth"),
    row("folder", r"w\.pth is no file", lambda: Path("w.pth").mkdir()),
    row("pipe", r"w\.pth is no file", lambda: os.mkfifo("w.pth")),
    row("pipe-safetensors", r"w\.safetensors is no file", lambda: os.mkfifo("w.safetensors"), "w.safetensors"),
    row("device", r"/dev/zero is no file", file="/dev/zero"),
    row("loop-of-links", r"no checkpoint at w\.pth", lambda: Path("w.pth").symlink_to("w.pth")),
    row("nul", "holds a NUL", file="w\0.pth"),
    row("too-long", r"no checkpoint at wwww", file="w" * 5000),
    row("no-such-user", r"no checkpoint at ~nobody-is-here/w", file="~nobody-is-here/w"),
    row("no-name", r"is no file", file=""),
    row("empty", UNREADABLE, lambda: write("w.pth")),
    row("text", UNREADABLE, lambda: write("w.pth", "not weights at all\n")),
    row("page", UNREADABLE, lambda: write("w.pth", "<!doctype html><title>404</title>")),
    row("pointer", UNREADABLE, lambda: write("w.pth", "version https://git-lfs.github.com/spec/v1\nsize 9\n")),
    row("zeros", UNREADABLE, lambda: write("w.pth", bytes(5000))),
    row("start-of-an-archive", UNREADABLE, lambda: write("w.pth", b"PK\3\4")),
    row("other-archive", UNREADABLE, lambda: archive({"a.txt": b"a"})),
    row("arrays", "is no readable checkpoint", lambda: np.savez("w.pth.npz", a=np.zeros(3)), "w.pth.npz"),
    row("gzip", UNREADABLE, lambda: write("w.pth", gzip.compress(b"a"))),
    row("program", r"w\.pth is a TorchScript program", scripted),
    row("compressed", r"w\.pth is a compressed archive", compressed),
    row("bomb", r"is a compressed archive", lambda: archive({"a/data.pkl": bytes(10**7)}, zipfile.ZIP_DEFLATED)),
    row("text-safetensors", UNREADABLE, lambda: write("w.safetensors", "not weights"), "w.safetensors"),
    row("empty-safetensors", UNREADABLE, lambda: write("w.safetensors"), "w.safetensors"),
    row("header-of-exabytes", UNREADABLE, header("{}", 2**62), "w.safetensors"),
    row("header-is-no-json", UNREADABLE, header("{{{{"), "w.safetensors"),
    row(
        "tensor-of-terabytes",
        UNREADABLE,
        header(json.dumps({"a": {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}})),
        "w.safetensors",
    ),
    row("code", r"w\.pth holds more than tensors \(\S+\) and is refused", saved({"model": Trap()})),
    row("code-of-old-format", r"and is refused", saved({"a": Trap()}, _use_new_zipfile_serialization=False)),
    row("code-of-python", r"and is refused", lambda: write("w.pth", pickle.dumps({"state_dict": Trap()}))),
    row("code-of-system", r"\(os\.system|\(posix\.system|is refused", saved({"a": os.system})),
    row("path", r"more than tensors \(pathlib\S+\) and is refused", saved({"args": Path("a")})),
    row("number-of-numpy", r"more than tensors \(numpy\S+\) and is refused", saved({"best": np.float64(1)})),
    row("network", r"more than tensors \(torch\.nn\S+\) and is refused", saved(nn.Linear(2, 2))),
    row("bytes-of-any-size", r"is refused, since it asks for builtins\.bytearray of any size", many_bytes),
    row("list", NO_STATE + "a list", saved([1, 2])),
    row("tensor", NO_STATE + "a tensor", saved(torch.zeros(3))),
    row("number", NO_STATE + "a int", saved(3)),
    row("nothing", NO_STATE + "a NoneType", saved(None)),
    row("no-entries", NO_STATE + "nothing", saved({})),
    row("no-weights", NO_STATE + r"'epoch': a int", saved({"epoch": 3, "lr": 0.1})),
    row("weights-under-none", NO_STATE + r"'state_dict': a NoneType", saved({"state_dict": None})),
    row("weights-under-a-list", NO_STATE + r"'state_dict': a list", saved({"state_dict": [torch.zeros(1)]})),
    row("unknown-container", NO_STATE + r"'generator': a dict", saved({"generator": {"a": torch.zeros(1)}})),
    row("itself", NO_STATE + r"'model': a dict", itself),
    row("keys-of-numbers", NO_STATE + "1: a tensor", saved({1: torch.zeros(1)})),
    row("key-of-nothing", NO_STATE + "None: a tensor", saved({None: torch.zeros(1)})),
    row("key-of-pairs", NO_STATE + r"\(1, 2\): a tensor", saved({(1, 2): torch.zeros(1)})),
    row("endless-key", NO_STATE + r"'a\.a\.", saved({"a." * 10**5: torch.zeros(1)})),
    row("sparse", NO_STATE + "'a': a sparse tensor", saved({"a": torch.eye(3).to_sparse()})),
    row("complex", NO_STATE + "'a': a complex tensor", saved({"a": torch.zeros(2, dtype=torch.complex64)})),
    row("without-values", NO_STATE + "'a': a meta tensor", saved({"a": torch.empty(10**6, 10**6, device="meta")})),
    row("zero-strides", r"need [\d,]{15,} bytes", saved({"fc.weight": torch.zeros(1).expand(10**6, 10**6)})),
    row("classes-of-gigabytes", r"need [\d,]{11,} bytes", changed(fc_weight=torch.zeros(1, 96).expand(10**8, 96))),
    row("bytes-for-weights", r"wrong type: fc\.weight is torch\.int8, wanted torch\.float32", changed(
        fc_weight=torch.zeros(3, 96, dtype=torch.int8)
    )),
    row("one-head-wrong", r"wrong shape: fc\.bias is \(4,\), wanted \(3,\)", changed(fc_bias=torch.zeros(4))),
    row("no-characters", r"not in the model: '\\ud800\\x1b'", changed(**{"\ud800\x1b": torch.zeros(1)})),
    row("of-another", r"missing conv1\.0\.weight", saved({"a.b": torch.zeros(1)})),
    row(
        "student",
        r"without the prefix 'student\.backbone\.' \d+ of \d+ names would fit",
        lambda: torch.save({f"student.backbone.{key}": value for key, value in state().items()}, "w.pth"),
    ),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore")  # of what makes the files
@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case: Hostile) -> None:
    case.check()
    assert not Path("ran").exists()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantised", ["tensor", "channel"])
def test_quantised_tensors_are_refused(quantised: str) -> None:
    ones = torch.ones(2, 2)
    tensor = (
        torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8)
        if quantised == "tensor"
        else torch.quantize_per_channel(ones, ones[0], ones[0], 0, torch.qint8)
    )
    row("quantised", NO_STATE + "'a': a quantised tensor", saved({"a": tensor})).check()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["archive", "old", "safetensors"])
@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_checkpoint_is_refused(form: str, seed: int) -> None:
    """In one line, at once, and memory stays as it was."""
    tensors = {key: value for key, value in state().items() if key.startswith(("conv1", "fc"))}
    buffer, suffix = BytesIO(), "safetensors" if form == "safetensors" else "pth"
    if form == "safetensors":
        buffer.write(safetensors.torch.save(tensors))
    else:
        torch.save({"state_dict": tensors}, buffer, _use_new_zipfile_serialization=form == "archive")
    content = buffer.getvalue()
    start = max(content.find(b"data.pkl"), 0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for piece in broken(content[start : start + 2000], FILES, seed):  # where names and shapes are
        path = write(f"w.{suffix}", content[:start] + piece + content[start + 2000 :])
        with within(5), pytest.raises(AssayError) as error:
            load(f"{ARCH}={path}")
        assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19, "KiB"
