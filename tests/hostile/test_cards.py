"""Cards of strangers beside weights reach nothing but known classes and plain settings."""

import hashlib
import json
import os
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
from timm.models import _builder

from assay.bench.models import load
from assay.bench.zoo.nets import Linear
from assay.core.errors import AssayError
from assay.synthesis import fast
from tests.hostile.kit import Hostile, broken, within, write

NETS = "assay.bench.zoo.nets"
CARD: dict[str, Any] = {
    "about": "one template a class",
    "arch": f"{NETS}:Linear",
    "settings": {"size": 8},
    "input_size": [3, 8, 8],
    "mean": [0.5, 0.5, 0.5],
    "std": [0.25, 0.25, 0.25],
    "classes": [f"class {i}" for i in range(10)],
}
SPEC = "zoo:w.safetensors"
REFUSED = r"w\.safetensors: .*"


def beside(card: object) -> None:
    """Sound weights and a card, as JSON unless it is text; an object gets the right sha256, unless it says one."""
    weights = safetensors.torch.save(Linear(10, 8).state_dict())
    write("w.safetensors", weights)
    if isinstance(card, dict):
        card = {"sha256": hashlib.sha256(weights).hexdigest(), **card}
    write("w.json", card if isinstance(card, bytes) else json.dumps(card))


def row(name: str, line: str, card: object) -> Hostile:
    return Hostile(name, ["layers", SPEC], line, lambda: beside(card))


def saying(name: str, line: str, **facts: object) -> Hostile:
    return row(name, line, {**CARD, **facts})


def setting(line: str, name: str, value: object, arch: str = "resnet14t") -> Hostile:
    return saying(f"setting-{name}", line, arch=arch, settings={name: value})


def without(key: str) -> Hostile:
    return row(f"without-{key}", rf"w\.json says nothing of {key}", {k: v for k, v in CARD.items() if k != key})


def pipe() -> None:
    beside(CARD)
    Path("w.json").unlink()
    os.mkfifo("w.json")


def folder() -> None:
    beside(CARD)
    Path("w.json").unlink()
    Path("w.json").mkdir()


def other_weights() -> None:
    beside(CARD)
    write("w.safetensors", Path("w.safetensors").read_bytes()[:-1] + b"\1")


UNKNOWN = REFUSED + "unknown setting"
CASES = (
    row("empty", r"w\.json is no JSON: ", b""),
    row("text", r"w\.json is no JSON: ", b"a card"),
    row("bytes", r"w\.json is no JSON: ", b"\xff\xfe\x00{}"),
    row("deep", r"w\.json is no JSON: ", b"[" * 10**5),
    row("digits", r"w\.json is no JSON: ", b'{"a": ' + b"9" * 5000 + b"}"),
    row("large", r"w\.json is larger than a card can be", b" " * (2**24 + 1)),
    row("list", r"w\.json is no JSON object, but a list", []),
    row("string", r"w\.json is no JSON object, but a str", "card"),
    row("number", r"w\.json is no JSON object, but a int", 3),
    row("null", r"w\.json is no JSON object, but a NoneType", None),
    Hostile("pipe", ["layers", SPEC], "no weights with a card beside them", pipe),
    Hostile("folder", ["layers", SPEC], "no weights with a card beside them", folder),
    Hostile("alone", ["layers", SPEC], "no weights with a card beside them", lambda: write("w.safetensors")),
    Hostile("other-weights", ["layers", SPEC], r"sha256 differs", other_weights),
    *map(without, CARD),
    row("no-sha256", r"w\.json says nothing of sha256", json.dumps(CARD).encode()),
    saying("sha256-of-a-number", "sha256 differs", sha256=3),
    # architectures
    saying("arch-none", REFUSED + "no architecture of timm", arch=None),
    saying("arch-list", REFUSED + "no architecture of timm", arch=["resnet14t"]),
    saying("arch-unknown", REFUSED + "no architecture of timm", arch="resnet14q"),
    saying("arch-with-a-tag", REFUSED + "no architecture of timm", arch="resnet14t.c3_in1k"),
    saying("arch-of-the-hub", REFUSED + "code of hf-hub:a/b, which is not run", arch="hf-hub:a/b"),
    saying("arch-of-a-folder", REFUSED + "code of local-dir:/tmp, which", arch="local-dir:/tmp"),
    saying("arch-of-a-path", REFUSED + "no architecture of timm", arch="../resnet14t"),
    saying("arch-of-a-system", REFUSED + "code of os:system, which is not run", arch="os:system"),
    saying("arch-of-another-attribute", REFUSED + rf"code of {NETS}:F, which", arch=f"{NETS}:F"),
    saying("arch-of-a-base", REFUSED + rf"code of {NETS}:nn\.Linear, which", arch=f"{NETS}:nn.Linear"),
    saying("arch-of-a-tensor", REFUSED + rf"code of {NETS}:Tensor, which", arch=f"{NETS}:Tensor"),
    saying("arch-of-dunder", REFUSED + rf"code of {NETS}:__builtins__, which", arch=f"{NETS}:__builtins__"),
    # settings that name files, places, functions
    setting(UNKNOWN, "pretrained", True),
    setting(UNKNOWN, "pretrained_cfg", {"file": "/etc/passwd"}),
    setting(UNKNOWN, "pretrained_cfg_overlay", {"url": "https://example.com/w.pth"}),
    setting(UNKNOWN, "checkpoint_path", "/etc/passwd"),
    setting(UNKNOWN, "cache_dir", "/tmp/elsewhere"),
    setting(UNKNOWN, "file", "/etc/passwd"),
    setting(UNKNOWN, "url", "https://example.com/w.pth"),
    setting(UNKNOWN, "state_dict", {}),
    setting(UNKNOWN, "features_only", True),
    setting(UNKNOWN, "scriptable", True),
    setting(UNKNOWN, "block", "Bottleneck"),
    setting(UNKNOWN, "__class__", "a"),
    setting(UNKNOWN, "", 1),
    setting(REFUSED + "setting channels is a number, a word or a list", "channels", {"a": 1}),
    setting(REFUSED + "setting channels is a number, a word or a list", "channels", [[1]]),
    setting(REFUSED + "setting layers is a number, a word or a list", "layers", [1] * 65),
    setting(REFUSED + "no network of its settings can be built", "num_classes", 4),
    setting(REFUSED + "no network of its settings can be built", "norm_layer", "os.system"),
    setting(REFUSED + "no network of its settings can be built", "act_layer", "__import__('os')"),
    setting(REFUSED + "no network of its settings can be built", "stem_width", "wide"),
    setting(REFUSED + "no network of its settings can be built", "reg_tokens", 4),
    saying("settings-list", REFUSED + "settings are an object", settings=["size", 8]),
    saying("settings-none", REFUSED + "settings are an object", settings=None),
    # sizes
    saying("size-of-terabytes", REFUSED + "exceed", settings={"size": 10**6}),
    saying("size-of-gigabytes", REFUSED + r"takes [\d,]+ bytes, its weights are", settings={"size": 16000}),
    saying("size-without-end", REFUSED + "exceed", settings={"size": 10**400}),
    saying("size-nan", REFUSED + "exceed", settings={"size": float("nan")}),
    saying("size-infinite", REFUSED + "exceed", settings={"size": float("inf")}),
    saying("depth", REFUSED + "exceed", arch="test_vit", settings={"depth": 10**8}),
    saying("other-size", "wrong shape: 1.weight", settings={"size": 9}),
    saying("other-arch", "does not fit MLP", arch=f"{NETS}:MLP", settings={"size": 64}),
    # facts
    *(
        saying(f"input_size-{i}", r"input_size is \(1 or 3, H, W\)", input_size=value)
        for i, value in enumerate(
            [None, "3x8x8", 8, [3, 8], [3, 8, 8, 1], [3, 8.5, 8], [5, 8, 8], [3, 0, 8], [3, -8, 8]]
        )
    ),
    saying("input_size-of-gigapixels", "of 1 to 4096 pixels", input_size=[3, 10**5, 10**5]),
    saying("input_size-other", r"fails on images of \(3, 9, 9\)", input_size=[3, 9, 9]),
    *(
        saying(f"mean-{i}", "mean is one number a channel", mean=value)
        for i, value in enumerate([None, "a", {"r": 0.5}, [], [0.5, 0.5], [[0.5, 0.5, 0.5, 0.5]], [None] * 3])
    ),
    saying("mean-of-bytes", r"mean is of pixels in \[0, 1\].*divide", mean=[123.7, 116.3, 103.5]),
    saying("mean-nan", r"mean is of pixels in \[0, 1\]", mean=[float("nan")] * 3),
    saying("mean-without-end", r"mean is ", mean=[10**400] * 3),
    saying("std-of-nothing", r"std is of pixels in \[0, 1\] and above 0", std=[0.2, 0.0, 0.2]),
    saying("std-negative", r"std is of pixels in \[0, 1\] and above 0", std=[-0.2] * 3),
    saying("classes-nine", "9 class names for 10 logits", classes=CARD["classes"][:9]),
    saying("classes-none", "classes are names", classes=None),
    saying("classes-indices", "classes are names", classes=list(range(10))),
    saying("classes-object", "classes is a list of names .*not a dict", classes={str(i): "a" for i in range(10)}),
    saying("classes-text", "classes is a list of names .*not a str", classes="abcdefghij"),
    saying("classes-no-characters", "classes are names", classes=["\ud800"] * 10),
)


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timm's own loading is out of reach."""

    def reached(*_: object, **__: object) -> None:
        pytest.fail("a card reached timm's loading of weights")

    monkeypatch.setattr(_builder, "load_pretrained", reached)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", reached)


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case: Hostile) -> None:
    case.check()


def test_the_card_is_sound_otherwise() -> None:
    beside(CARD)
    assert load(SPEC).classes == tuple(CARD["classes"])


def test_a_setting_of_a_known_architecture_is_taken() -> None:
    network = timm.create_model("resnet14t", num_classes=10, stem_width=8)
    weights = safetensors.torch.save(network.state_dict())
    write("w.safetensors", weights)
    card = {**CARD, "arch": "resnet14t", "settings": {"stem_width": 8}, "input_size": [3, 32, 32]}
    write("w.json", json.dumps({**card, "sha256": hashlib.sha256(weights).hexdigest()}))
    assert load(SPEC).input_size == (3, 32, 32)


def value(rng: random.Random, depth: int = 0) -> Any:
    """Any JSON."""
    plain = (
        None,
        True,
        0,
        -1,
        10**30,
        0.5,
        float("nan"),
        "",
        "a",
        "\x00",
        "os:system",
        "https://example.com",
        "resnet14t",
    )
    kind = rng.randrange(4 if depth < 3 else 2)
    if kind < 2:
        return rng.choice(plain)
    parts = [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return parts if kind == 2 else dict(zip(map(str, map(rng.choice, [plain] * 3)), parts, strict=False))


def read_or_refused() -> None:
    with within(5), suppress(AssayError):
        assert isinstance(load(SPEC).body, Linear)


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("seed", range(4))
def test_random_cards_are_read_or_refused(seed: int) -> None:
    """One or two entries of a sound card are anything."""
    rng = random.Random(seed)
    for _ in range(30):
        keys = rng.sample([key for key in CARD if key != "about"], rng.choice((1, 2)))
        beside({**CARD, **{key: value(rng) for key in keys}})
        read_or_refused()


@pytest.mark.usefixtures("closed")
@pytest.mark.parametrize("seed", range(2))
def test_damaged_cards_are_read_or_refused(seed: int) -> None:
    beside(CARD)
    for content in broken(Path("w.json").read_bytes(), 30, seed):
        write("w.json", content)
        read_or_refused()


STYLE = {"kind": "style", "styles": ["a"], "width": 2, "blocks": 1}


@pytest.mark.parametrize(
    ("facts", "line"),
    [
        ({"kind": "zoo"}, "is not the style network"),
        ({"styles": None}, "is no style network"),
        ({"styles": [1]}, "names of styles"),
        ({"styles": ["a", "b"]}, "size mismatch"),
        ({"width": 10**6}, "size mismatch"),
        ({"width": "wide"}, "is no style network"),
        ({"width": 10**400}, "is no style network"),
        ({"blocks": 10**9}, "at most 256 blocks"),
        ({"blocks": 2}, "Missing key"),
        ([], "is no style network"),
    ],
)
def test_style_cards_take_no_memory(facts: Any, line: str) -> None:
    network = fast.StyleNet(["a"], 2, 1)
    fast.save(network, Path("w.safetensors"), {})
    card = {**json.loads(Path("w.json").read_text()), **facts} if facts else facts
    write("w.json", json.dumps(card))
    with pytest.raises(AssayError, match=line) as error:
        fast.load(Path("w.safetensors"))
    assert "\n" not in str(error.value)


def config(**facts: object) -> Callable[[], object]:
    """A folder as timm's ``save_for_hf`` writes it, with other facts."""

    def make() -> None:
        network = timm.create_model("test_resnet", num_classes=3)
        Path("place").mkdir()
        torch.save(network.state_dict(), "place/pytorch_model.bin")
        sound = {"architecture": "test_resnet", "num_classes": 3, "pretrained_cfg": {"input_size": [3, 32, 32]}}
        write("place/config.json", json.dumps({**sound, **facts}))

    return make


def place(name: str, line: str, make: Callable[[], object] | None) -> Hostile:
    return Hostile(name, ["layers", "local-dir:place"], line, make)


PLACES = (
    place("absent", r"place/config\.json is no file", None),
    place("no-weights", "place has no weights", lambda: write("place/config.json", "{}") and None),
    place("list", "is no JSON object", lambda: write("place/config.json", "[]")),
    place("arch", "no architecture of timm", config(architecture="os")),
    place("arch-of-a-place", "no architecture of timm", config(architecture="hf-hub:a/b")),
    place("arch-none", "no architecture of timm", config(architecture=None)),
    place("facts", r"is no config of timm", config(pretrained_cfg="a")),
    place("args", r"is no config of timm", config(model_args=3)),
    place("overlay", "unknown setting", config(model_args={"pretrained_cfg_overlay": {"file": "/etc/passwd"}})),
    place("checkpoint", "unknown setting", config(model_args={"checkpoint_path": "/etc/passwd"})),
    place("features", "unknown setting", config(model_args={"features_only": True})),
    place("classes-of-terabytes", r"takes [\d,]+ bytes", config(num_classes=10**9)),
    place("classes-other", "does not fit test_resnet", config(num_classes=4)),
    place("size", "can be built", config(pretrained_cfg={"input_size": 3})),
)


@pytest.mark.parametrize("case", PLACES, ids=str)
def test_hostile_places(case: Hostile) -> None:
    case.check()
