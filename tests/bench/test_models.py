"""Models by spec, and what is said of those that cannot be loaded."""

import argparse
import logging
import pickle
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import safetensors.torch
import timm
import torch
from timm.models import save_for_hf
from torch import Tensor, nn

from assay.attacks import FMN, PGD, evaluate
from assay.bench.models import ZOO, Subject, load, zoo_names
from assay.bench.models.cards import SETTINGS
from assay.bench.zoo.recipes import RECIPES
from assay.core.errors import AssayError

OWN = "py:tests.bench.nets:"


def refusal(spec: str) -> str:
    with pytest.raises(AssayError) as error:
        load(spec)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_subject_normalises_inside() -> None:
    model = load("test_resnet", weights=False)
    config = timm.create_model("test_resnet").pretrained_cfg
    images = torch.rand(2, *model.input_size)
    mean, std = (torch.tensor(config[key]).view(-1, 1, 1) for key in ("mean", "std"))
    torch.testing.assert_close(model(images), model.body((images - mean) / std))
    assert not model.training
    assert len(model.classes) == 1000
    assert model.classes[282] == "tiger cat"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_checkpoint_fills_its_architecture(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(1)
    network = timm.create_model("test_vit", num_classes=7).eval()
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}}, path)
    else:
        safetensors.torch.save_file(network.state_dict(), path)
    model = load(f"test_vit={path}")
    images = torch.rand(1, *model.input_size)
    torch.testing.assert_close(model(images), network((images - model.mean) / model.std))
    assert len(model.classes) == 7


def test_the_digest_sees_weights_and_normalisation(tmp_path: Path) -> None:
    network = timm.create_model("test_vit", num_classes=7)
    path = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(network.state_dict(), path)
    first = load(f"test_vit={path}").digest
    assert load(f"test_vit={path}").digest == first
    state = network.state_dict()
    state["head.bias"] = state["head.bias"] + 1e-6
    safetensors.torch.save_file(state, path)
    assert load(f"test_vit={path}").digest != first


def test_keys_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    state = timm.create_model("test_vit").state_dict()
    state["stranger"] = state.pop("blocks.0.norm1.weight")
    torch.save(state, path)
    said = refusal(f"test_vit={path}")
    assert "missing blocks.0.norm1.weight" in said
    assert "not in the model: stranger" in said
    torch.save({**timm.create_model("test_vit").state_dict(), "norm.bias": torch.zeros(3)}, path)
    assert "norm.bias is (3,), wanted (64,)" in refusal(f"test_vit={path}")


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path, ran = tmp_path / "weights.pth", tmp_path / "ran"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(ran),)

    path.write_bytes(pickle.dumps({"state_dict": Trap()}))
    assert "refused" in refusal(f"test_vit={path}")
    torch.save({"model": Trap()}, path)
    assert "refused" in refusal(f"test_vit={path}")
    assert not ran.exists()


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    assert "no checkpoint at" in refusal("test_vit=nowhere.pth")
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"noise{suffix}"
        path.write_bytes(b"not weights at all")
        assert str(path) in refusal(f"test_vit={path}")
    torch.save([1, 2], tmp_path / "list.pth")
    assert "no state_dict" in refusal(f"test_vit={tmp_path / 'list.pth'}")


def test_unknown_names_come_with_near_ones() -> None:
    assert "did you mean resnet50" in refusal("resnet5O")
    assert "resnet50.a1_in1k" in refusal("resnet50.a1_in2k")
    assert "did you mean repvgg" in refusal("zoo:repvg")


def test_own_callables_are_checked() -> None:
    assert load(OWN + "linear").classes == tuple(map(str, range(10)))
    assert "no function" in refusal("py:tests.bench.nets")
    assert "nowhere" in refusal(OWN + "nowhere")
    assert "No module" in refusal("py:no_such_module:f")
    assert "must return" in refusal(OWN + "not_a_pair")
    assert "logits (N, K)" in refusal(OWN + "no_logits")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(:", "its module raised SyntaxError"),
        ("1 / 0", "its module raised ZeroDivisionError"),
        ("f = lambda: (nn.Flatten(), None)", "must return"),
        ("f = lambda: (nn.Flatten(), {'input_size': 8, 'mean': 0, 'std': 1})", "input_size is (1 or 3, H, W)"),
    ],
)
def test_mistakes_in_own_modules_are_one_line(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mistaken.py").write_text(f"from torch import nn\n{code}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "mistaken", raising=False)
    line = refusal("py:mistaken:f")
    assert said in line
    assert "\n" not in line


def test_the_zoo_is_small_and_described() -> None:
    names = zoo_names()
    assert len(names) >= 10
    assert sum(path.stat().st_size for path in ZOO.glob("*.safetensors")) <= 25e6
    assert {name.removeprefix("zoo:") for name in names} == set(RECIPES)
    for name in names:
        model = load(name)
        assert {"seed", "epochs", "data", "accuracy", "sha256"} <= set(model.card)
        assert model.input_size == (3, 96, 96)


def test_a_zoo_file_must_be_the_one_of_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for suffix in (".json", ".safetensors"):
        (tmp_path / f"linear{suffix}").write_bytes((ZOO / f"linear{suffix}").read_bytes())
    monkeypatch.setattr("assay.bench.models.weights.ZOO", tmp_path)
    assert load("zoo:linear").name == "zoo:linear"
    whole = (tmp_path / "linear.safetensors").read_bytes()
    (tmp_path / "linear.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert re.search("sha256", refusal("zoo:linear"))
    (tmp_path / "linear.safetensors").unlink()
    assert "assay train linear" in refusal("zoo:linear")


def test_a_model_trained_elsewhere_is_loaded_by_its_file(tmp_path: Path) -> None:
    for suffix in (".safetensors", ".json"):
        shutil.copy(ZOO / f"linear{suffix}", tmp_path / f"mine{suffix}")
    mine = load(f"zoo:{tmp_path}/mine.safetensors")
    images = torch.rand(2, *mine.input_size)
    assert torch.equal(mine(images), load("zoo:linear")(images))
    with pytest.raises(AssayError, match="no weights with a card"):
        load(f"zoo:{tmp_path}/other.safetensors")
    card = tmp_path / "mine.json"
    card.write_text(card.read_text().replace("assay.bench.zoo.nets:", "os:"))
    with pytest.raises(AssayError, match="code of os:Linear, which is not run"):
        load(f"zoo:{tmp_path}/mine.safetensors")


def tiny(seed: int = 1) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = timm.create_model("test_resnet", num_classes=3)
    return network.eval()


State = dict[str, Tensor]
SCRIPTS: dict[str, Callable[[State], object]] = {
    "timm": lambda s: {"epoch": 3, "state_dict": s, "args": argparse.Namespace(lr=0.1), "metric": 0.7},
    "compiled": lambda s: {f"_orig_mod.{k}": v for k, v in s.items()},
    "compiled and distributed": lambda s: {"model": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
    "distributed and compiled": lambda s: {"model": {f"module._orig_mod.{k}": v for k, v in s.items()}},
    "a compiled block": lambda s: {k.replace("layer1.0.", "layer1.0._orig_mod."): v for k, v in s.items()},
    "lightning": lambda s: {"state_dict": {f"model.{k}": v for k, v in s.items()}, "hyper_parameters": {"lr": 1}},
    "lightning, compiled": lambda s: {"state_dict": {f"net._orig_mod.{k}": v for k, v in s.items()}},
    "net": lambda s: {"net": s, "acc": 95.1, "epoch": 200},
    "averaged": lambda s: {"model_ema": {"n_averaged": torch.tensor(9), **{f"module.{k}": v for k, v in s.items()}}},
    "nested": lambda s: {"model": {"state_dict": s}},
    "parameters": lambda s: {k: nn.Parameter(v) if v.is_floating_point() else v for k, v in s.items()},
    "before counters": lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")},
    "half": lambda s: {k: v.bfloat16() if v.is_floating_point() else v for k, v in s.items()},
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_checkpoints_are_read_as_scripts_leave_them(script: str, tmp_path: Path) -> None:
    network = tiny()
    if script == "half":
        network = network.bfloat16().float()
    torch.save(SCRIPTS[script](network.state_dict()), tmp_path / "w.pth.tar")
    model = load(f"test_resnet={tmp_path / 'w.pth.tar'}")
    images = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(model.body(images), network(images), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("averaged", "raw"), [("state_dict_ema", "state_dict"), ("model_ema", "model"), ("state_dict_ema", "model")]
)
def test_averaged_weights_are_taken_as_timm_takes_them_and_it_is_said(
    averaged: str, raw: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.pth"
    torch.save({raw: tiny(1).state_dict(), averaged: tiny(2).state_dict()}, path)
    model = load(f"test_resnet={path}")
    timms = timm.create_model("test_resnet", num_classes=3, checkpoint_path=path).eval()
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.body(images), timms(images))
    note = f"the weights are those of {averaged}, not of {raw}"
    assert caplog.record_tuples == [("assay", logging.WARNING, f"{path}: {note}")]
    assert model.card == {"checkpoint": note}


def test_tensors_beside_the_network_are_left_out_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "w.ckpt"
    state = {f"model.{key}": value for key, value in tiny().state_dict().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(3)}}, path)
    load(f"test_resnet={path}")
    assert caplog.messages == [f"{path}: loss.weight is left out"]


@pytest.mark.parametrize("arch", ["deit_tiny_distilled_patch16_224", "levit_128s"])
def test_fine_tuned_networks_with_several_heads(arch: str, tmp_path: Path) -> None:
    torch.save(timm.create_model(arch, num_classes=7).state_dict(), tmp_path / "w.pth")
    assert len(load(f"{arch}={tmp_path / 'w.pth'}").classes) == 7


def test_a_local_folder_is_what_timm_makes_of_it(tmp_path: Path) -> None:
    save_for_hf(tiny(), tmp_path, model_config={"label_names": ["cat", "dog", "hen"]})
    model = load(f"local-dir:{tmp_path}")
    timms = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.body(images), timms(images))
    assert model.classes == ("cat", "dog", "hen")
    assert model.fit.crop_pct == timms.pretrained_cfg["crop_pct"]
    assert "state_dict" not in model.body.pretrained_cfg  # type: ignore[operator]


def test_a_repository_of_the_hub_is_read_like_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(owner: str, name: str, revision: str | None) -> str:
        asked.append((owner, name, revision))
        if name == "model.safetensors":
            raise huggingface_hub.errors.EntryNotFoundError("404")
        return str(tmp_path / name)

    save_for_hf(tiny(), tmp_path)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    model = load("hf_hub:owner/name@v2")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(model.body(images), tiny()(images))
    names = ("config.json", "model.safetensors", "pytorch_model.bin")
    assert asked == [("owner/name", name, "v2") for name in names]
    (tmp_path / "config.json").unlink()
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: 1 / 0)
    assert "could not be fetched (division by zero)" in refusal("hf-hub:owner/name")


class Small(nn.Module):
    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, classes)

    def forward(self, images: Tensor) -> Any:
        return self.head(20 * self.stem(images).relu().mean((2, 3)))


def subject(network: nn.Module) -> Subject:
    return Subject(network, name="m", input_size=(3, 8, 8), mean=(0.5,), std=(0.25,))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_any_floating_type_are_attacked(kind: torch.dtype) -> None:
    plain, other = subject(Small()), subject(Small().to(kind))
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = plain(images).argmax(1)
    assert other(images).dtype == other(images.double()).dtype == torch.float32
    torch.testing.assert_close(other(images), plain(images), rtol=0.05, atol=0.1)
    for attack in (PGD(eps=0.2, steps=5), FMN(steps=20)):
        outcome = evaluate(attack, other, images, labels)
        assert outcome.success.tolist() == evaluate(attack, plain, images, labels).success.tolist()
        assert outcome.success.any()


@pytest.mark.parametrize("wrap", [lambda z: {"loss": None, "logits": z}, lambda z: SimpleNamespace(logits=z)])
def test_logits_may_lie_in_a_record(wrap: Callable[[Tensor], object]) -> None:
    class Wrapped(Small):
        def forward(self, images: Tensor) -> Any:
            return wrap(super().forward(images))

    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(subject(Wrapped())(images), subject(Small())(images))
    assert evaluate(PGD(eps=0.3, steps=5), subject(Wrapped()), images, subject(Small())(images).argmax(1)).success.any()


def test_one_logit_is_refused_with_the_way_out() -> None:
    with pytest.raises(AssayError, match=r"one logit z; .* \[0, z\]: torch.cat"):
        subject(Small(1))


def test_facts_of_timm_are_taken_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "whole.py").write_text(
        "import timm\ndef f():\n    m = timm.create_model('test_resnet')\n    return m, m.pretrained_cfg\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load("py:whole:f").fit == load("test_resnet", weights=False).fit


def test_cards_may_say_what_recipes_say() -> None:
    assert {name for recipe in RECIPES.values() for name in recipe.settings} <= SETTINGS
    assert not [name for name in SETTINGS if re.search("pretrained|file|path$|url|dir|state|cfg|block$|layers_", name)]
