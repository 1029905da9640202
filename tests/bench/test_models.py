"""Models by spec, and what is said of those that cannot be loaded."""

import pickle
import re
import shutil
import sys
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch

from assay.bench.models import ZOO, load, zoo_names
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
        ("f = lambda: (nn.Flatten(), {'input_size': 8, 'mean': 0, 'std': 1})", "lists of numbers"),
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
    with pytest.raises(AssayError, match="code of os, which is not run"):
        load(f"zoo:{tmp_path}/mine.safetensors")
