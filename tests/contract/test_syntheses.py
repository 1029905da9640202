"""Every synthesis of the table keeps the contract; a new one is tested by being listed."""

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay import synthesis
from assay.core import targets
from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Logit
from assay.synthesis import SYNTHESES
from assay.synthesis.base import Art, Synthesis
from assay.synthesis.fast import FastStyle, StyleNet

CLASSES = torch.tensor([2, 0, 1])
QUICK = {"steps": 6, "window": 5, "levels": 1, "block": 8, "octaves": 2, "scales": 1}  # settings that one may have
ANSWERS = {"target": (3, 20, 16), "images": (3, 20, 16), "styles": (3, 20, 16), "sample": (3, 40, 32)}
NOT_RANDOM = {"StyleTransfer"}  # it starts at the picture


class Tiny(nn.Module):
    """Dropout, batch normalisation, a frozen layer: state that a careless synthesis would change."""

    input_size = (3, 20, 16)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.drop = nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.Dropout(0.5)
        self.head = nn.Linear(6, 3)
        self.head.bias.requires_grad_(False)
        self.norm.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.drop(self.norm(self.conv(images)).tanh()).mean((2, 3)))
        return logits


class Broken(targets.Target):
    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        model(images)
        raise RuntimeError("broken")


def pictures() -> Tensor:
    """Three smooth pictures, so that textures have something to continue."""
    rough = torch.rand(3, 3, 5, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.interpolate(rough, (20, 16), mode="bilinear").clamp(0, 1)


def model_of(method: Any) -> nn.Module:
    """What the method works on: a classifier, or the network that learned styles."""
    torch.manual_seed(0)
    return StyleNet(("waves",), 2, 1) if isinstance(method, FastStyle) else Tiny()


def made(method: Any, draws: Draws | int = 0, model: nn.Module | None = None, at: slice = slice(None)) -> Art:
    """What ``method`` makes for three classes, of three images or samples; or for those of them ``at``."""
    model, given, classes = model_of(method) if model is None else model, pictures()[at], CLASSES[at]
    ways: dict[str, Callable[[], Art]] = {
        "target": lambda: method(model, Logit(classes), draws),
        "images": lambda: method(model, given, draws),
        "styles": lambda: method(model, given, [pictures()[:1]], draws),
        "sample": lambda: method(given, draws),
    }
    return ways[method.takes]()


@pytest.fixture(params=list(SYNTHESES))
def method(request: pytest.FixtureRequest) -> Synthesis:
    record = SYNTHESES.parse(request.param, **QUICK)
    assert isinstance(record, Synthesis)
    return record


def test_a_record_of_settings(method: Synthesis) -> None:
    assert dataclasses.is_dataclass(method)
    assert eval(repr(method), vars(sys.modules[type(method).__module__])) == method
    assert SYNTHESES.parse(SYNTHESES.name_of(method), **QUICK) == method
    assert not hasattr(method, "__dict__")
    assert type(method).version >= 1
    assert "version" not in {field.name for field in dataclasses.fields(method)}  # no setting
    assert any(year in (type(method).__doc__ or "") for year in ("19", "20"))  # a paper and its year
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(method, dataclasses.fields(method)[0].name, None)


def test_pictures_are_in_range(method: Synthesis) -> None:
    images, history = made(method)
    assert images.shape == (3, *ANSWERS[method.takes])
    assert images.dtype == history.dtype == torch.float32
    assert images.isfinite().all()
    assert history.isfinite().all()
    assert 0 <= images.min() <= images.max() <= 1
    assert history.ndim == 2
    assert history.shape[1] == 3
    assert not images.requires_grad
    assert not history.requires_grad


def test_same_draws_same_pictures(method: Synthesis) -> None:
    first, again, other = (made(method, seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.history, again.history)
    assert torch.equal(first.images, other.images) == (type(method).__name__ in NOT_RANDOM)


def test_batch_equals_one_by_one(method: Synthesis) -> None:
    batch = made(method, Draws.hashed("work", "abc"))
    for i, name in enumerate("abc"):
        alone = made(method, Draws.hashed("work", [name]), at=slice(i, i + 1))
        torch.testing.assert_close(alone.images[0], batch.images[i], atol=2e-3, rtol=0)


def test_what_is_given_stays_as_it_was(method: Any) -> None:
    given, sample = pictures(), pictures()[:1].clone()
    kept = given.clone()
    ways: dict[str, Callable[[], Art]] = {
        "target": lambda: method(Tiny(), Logit(CLASSES), start=given),
        "images": lambda: method(model_of(method), given),
        "styles": lambda: method(Tiny(), given, [sample]),
        "sample": lambda: method(given),
    }
    ways[method.takes]()
    assert torch.equal(given, kept)
    assert torch.equal(sample, kept[:1])


def test_wrong_images_are_refused(method: Any) -> None:
    wrong = 2 * pictures()
    ways: dict[str, Callable[[], Art]] = {
        "target": lambda: method(Tiny(), Logit(1), start=wrong[:1]),
        "images": lambda: method(model_of(method), wrong),
        "styles": lambda: method(Tiny(), wrong, [pictures()[:1]]),
        "sample": lambda: method(wrong),
    }
    with pytest.raises(AssayError, match=r"must lie in \[0, 1\]"):
        ways[method.takes]()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_given_back_as_it_was(method: Any, fails: bool) -> None:
    if method.takes == "sample":
        pytest.skip("takes no model")
    model = model_of(method).train()
    part = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d | nn.Conv2d))
    part.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    if fails and method.takes == "target":
        with pytest.raises(RuntimeError, match="broken"):
            method(model, Broken())
    elif fails:
        handle = part.register_forward_pre_hook(_break)
        with pytest.raises(RuntimeError, match="broken"):
            made(method, model=model)
        handle.remove()
    else:
        made(method, model=model)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


def _break(module: nn.Module, inputs: Any) -> None:
    raise RuntimeError("broken")


def test_everything_is_importable_from_the_package() -> None:
    for name in SYNTHESES:
        assert getattr(synthesis, SYNTHESES[name].__name__) is SYNTHESES[name]
    for name in ("Channel", "CodeDistance", "GramDistance", "LayerNorm2", "Logit", "Margin", "Neuron", "Probability"):
        assert getattr(synthesis, name) is getattr(targets, name)
    with pytest.raises(AttributeError, match="no 'Nightmare' here"):
        _ = synthesis.Nightmare
