"""Model specs that name nothing, and callables that raise, exit, or say what is not so."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile.kit import Hostile, write

HEAD = """
import functools, sys, torch
from torch import nn
class Net(nn.Module):
    def __init__(self, k=2): super().__init__(); self.k = k; self.f = nn.Linear(12, k)
    def forward(self, x): return self.f(x.flatten(1))
FACTS = {"input_size": (3, 2, 2), "mean": (0,) * 3, "std": (1,) * 3}
def sound(): return Net(), FACTS
"""


@pytest.fixture(autouse=True)
def module() -> Iterator[None]:
    """``hostile_models`` is imported anew in each test."""
    before = list(sys.path)
    importlib.invalidate_caches()
    yield
    sys.path[:] = before
    sys.modules.pop("hostile_models", None)


def spec(text: str, line: str) -> Hostile:
    return Hostile(text[:40] or "nothing", ["layers", text], line)


def code(name: str, line: str, text: str, status: int = 2, head: str = HEAD) -> Hostile:
    make = lambda: write("hostile_models.py", f"{head}\n{text}\n")  # noqa: E731
    return Hostile(name, ["layers", "py:hostile_models:f"], line, make, status)


def facts(name: str, line: str, entries: str, net: str = "Net()") -> Hostile:
    return code(name, line, f"f = lambda: ({net}, {{**FACTS, {entries}}})")


def forward(name: str, line: str, body: str) -> Hostile:
    text = f"class Bad(Net):\n    def forward(self, x): {body}\nf = lambda: (Bad(), FACTS)"
    return code(name, line, text)


UNKNOWN = "unknown model"
CASES = (
    spec("", UNKNOWN),
    spec("+", UNKNOWN),
    spec("resnet5O", "did you mean resnet50"),
    spec("resnet*", UNKNOWN),
    spec("resnet50.*", "unknown weights of resnet50|unknown model|fetched"),
    spec("weights.pth", UNKNOWN),
    spec("timm/resnet50.a1_in1k", "hf-hub:OWNER/NAME or local-dir:PATH"),
    spec("/etc/passwd", "hf-hub:OWNER/NAME or local-dir:PATH"),
    spec("res\0net", "holds a NUL"),
    spec("r" * 5000, UNKNOWN),
    spec("=w.pth", UNKNOWN),
    spec("nothing=w.pth", UNKNOWN),
    spec("test_resnet.nothing=w.pth", "unknown weights of test_resnet"),
    spec("zoo:", "unknown zoo model ''"),
    spec("zoo:repvg", "did you mean repvgg"),
    spec("zoo:../zoo/linear", "unknown zoo model"),
    spec("zoo:/etc/passwd", "unknown zoo model"),
    spec("zoo:nothing.safetensors", "no weights with a card beside them"),
    spec("zoo:a\0.safetensors", "holds a NUL"),
    spec("zoo:" + "a" * 5000 + ".safetensors", "no weights with a card beside them"),
    spec("zoo:~nobody-is-here/a.safetensors", "no weights with a card beside them"),
    spec("zoo:linear+", "unknown zoo model"),
    spec("+zoo:linear", UNKNOWN),
    spec("zoo:linear+zoo:vti", "did you mean vit"),
    spec("zoo:linear+resnet5O", "did you mean resnet50"),
    spec("zoo:linear+py:tests.bench.nets:linear", "does not go together"),
    spec("zoo:c++/linear.safetensors", r"zoo:c\+\+/linear\.safetensors: no weights"),
    spec("test_resnet=c++/missing.pth", r"no checkpoint at c\+\+/missing\.pth"),
    spec("test_resnet=a+b.pth+zoo:linear", r"no checkpoint at a\+b\.pth"),
    spec("local-dir:", "names no place"),
    spec("local-dir:a+b/c", r"a\+b/c/config\.json is no file"),
    spec("LOCAL-DIR:nothing", r"nothing/config\.json is no file"),
    spec("local-dir:a\0b", "holds a NUL"),
    spec("local-dir:" + "a" * 5000, "config.json is no file"),
    spec("hf-hub:", "names no place"),
    spec("py:", "names no function"),
    spec("py::x", "names no function"),
    spec("py:x", "names no function"),
    spec("py:.rel:x", "names no function"),
    spec("py:a..b:x", "names no function"),
    spec("py:no_such_module:x", "No module named 'no_such_module'"),
    spec("py:os.nothing:x", "'os' is not a package"),
    spec("py:os:nothing", "has no attribute 'nothing'"),
    spec("py:os:sep", "is a str, no function"),
    spec("py:os:getcwd", "must return"),
    spec("py:../a:x", "names no function|No module named"),
    spec("py:a\0b:x", "holds a NUL"),
    # modules
    code("no-python", "its module raised SyntaxError", "def f(:"),
    code("no-text", "its module raised SyntaxError", "\0"),
    code("raises", "its module raised ZeroDivisionError: division by zero", "1 / 0"),
    code("exits", "its module raised SystemExit: 0", "sys.exit(0)"),
    code("exits-with-words", "its module raised SystemExit: bye", "sys.exit('bye')"),
    code("needs-another", "No module named 'nothing_like_it'", "import nothing_like_it"),
    code("imports-itself", "cannot import name 'f'", "from hostile_models import f"),
    # callables
    code("partial", "layer|^f ", "f = functools.partial(sound)", status=0),
    code("cached", "layer|^f ", "f = functools.lru_cache(sound)", status=0),
    code("object", "layer|^f ", "class F:\n    def __call__(self): return sound()\nf = F()", status=0),
    code("network", "is a network, no function", "f = Net()"),
    code("class-of-a-network", "must return", "f = Net"),
    code("number", "is a int, no function", "f = 3"),
    code("none", "is a NoneType, no function", "f = None"),
    code("generator", "must return", "def f(): yield sound()"),
    code("arguments", "raised TypeError: .*missing 1 required", "def f(x): return sound()"),
    code("error", "raised ValueError: first$", "def f(): raise ValueError('first\\nsecond')"),
    code("error-without-words", "raised ValueError: ValueError$", "def f(): raise ValueError"),
    code(
        "error-that-cannot-speak",
        "raised Mute: Mute$",
        "class Mute(Exception):\n    def __str__(self): 1 / 0\ndef f(): raise Mute",
    ),
    code("error-that-speaks-long", "raised ValueError: a{500}$", "def f(): raise ValueError('a' * 10**6)"),
    code("exit", "raised SystemExit: 0", "def f(): sys.exit(0)"),
    code("exit-of-nothing", "raised SystemExit: SystemExit|raised SystemExit: None", "def f(): sys.exit()"),
    code("recursion", "raised RecursionError", "def f(): return f()"),
    code("returns-nothing", "must return", "def f(): pass"),
    code("returns-three", "must return", "def f(): return (*sound(), 1)"),
    code("returns-list", "must return", "def f(): return list(sound())"),
    code("other-way-round", "must return", "def f(): return sound()[::-1]"),
    # facts
    code("no-facts", "says nothing of input_size, mean, std", "f = lambda: (Net(), {})"),
    facts("typo", "unknown fact 'class_names'; .*known: .*classes", "'class_names': ['a', 'b']"),
    facts("number-as-key", "unknown fact '3'", "3: 4"),
    facts("nothing", "says nothing of mean", "'mean': None"),
    facts("index-to-class", "classes is a list of names .*not a dict", "'classes': {0: 'a', 1: 'b'}"),
    facts("set", "classes is a list of names .*not a set", "'classes': {'a', 'b'}"),
    facts("word", "classes is a list of names .*not a str", "'classes': 'ab'"),
    facts("indices", "classes are names", "'classes': [0, 1]"),
    facts("one-name", "1 class names for 2 logits", "'classes': ['a']"),
    facts(
        "mean-of-bytes", r"mean is of pixels in \[0, 1\]", "'mean': (123.7, 116.3, 103.5), 'std': (58.4, 57.1, 57.4)"
    ),
    facts("std-of-bytes", r"std is of pixels in \[0, 1\]", "'std': (255,) * 3"),
    facts("two-means", "mean is one number a channel, not 2 for 3", "'mean': (0.5, 0.5)"),
    facts("crop", "crop_pct is a number above 0", "'crop_pct': '0.9'"),
    facts("no-crop", "crop_pct is a number above 0", "'crop_pct': 0"),
    facts("interpolation", "interpolation is a word", "'interpolation': 3"),
    facts("size", r"input_size is \(1 or 3, H, W\)", "'input_size': 224"),
    facts("two-sides", r"input_size is \(1 or 3, H, W\)", "'input_size': (2, 2)"),
    facts("two-channels", r"input_size is \(1 or 3, H, W\)", "'input_size': (2, 2, 2), 'mean': (0, 0), 'std': (1, 1)"),
    facts("halves", r"input_size is \(1 or 3, H, W\)", "'input_size': (3, 2.5, 2)"),
    facts("other-size", r"fails on images of \(3, 4, 4\)", "'input_size': (3, 4, 4)"),
    # networks
    facts("one-logit", r"gives one logit z; .*\[0, z\]", "", "Net(1)"),
    forward("no-logit", r"gives logits \(N, K\), this gives \(1, 0\)", "return super().forward(x)[:, :0]"),
    facts("no-batch", r"gives one logit z", "", "nn.Sequential(Net(1), nn.Flatten(0))"),
    forward("tuple", "gives logits .*this gives tuple", "return super().forward(x), x"),
    forward("nothing-out", "gives logits .*this gives NoneType", "return None"),
    forward("dict-without-logits", "this gives dict", "return {'out': super().forward(x)}"),
    forward("grid", r"this gives \(1, 3, 2, 2\)", "return x"),
    forward("error-in-forward", r"fails on images of \(3, 2, 2\): ZeroDivisionError", "1 / 0"),
    forward("exit-in-forward", r"fails on images of \(3, 2, 2\): SystemExit: 0", "sys.exit(0)"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case: Hostile) -> None:
    case.check()


def test_a_plus_in_a_path_joins_nothing() -> None:
    from assay.bench.models import ZOO, load

    for suffix in (".safetensors", ".json"):
        write(f"c++/linear{suffix}", (ZOO / f"linear{suffix}").read_bytes())
    assert load("zoo:c++/linear.safetensors").name == "zoo:c++/linear.safetensors"
    assert len(load("zoo:c++/linear.safetensors+zoo:linear").body.members) == 2  # type: ignore[arg-type]
    assert Path("c++").is_dir()
