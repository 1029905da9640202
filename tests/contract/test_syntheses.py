"""Every synthesis of the table keeps the contract; a new one is tested by being listed."""

import dataclasses
import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

import synthesis
from core import targets
from core.draws import Draws
from core.targets import Logit
from synthesis import SYNTHESES
from synthesis.base import Synthesis

CLASSES = torch.tensor([2, 0, 1])


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


@pytest.fixture(params=list(SYNTHESES))
def method(request: pytest.FixtureRequest) -> Synthesis:
    record = SYNTHESES.parse(request.param, steps=6)
    assert isinstance(record, Synthesis)
    return record


def test_a_record_of_settings(method: Synthesis) -> None:
    assert dataclasses.is_dataclass(method)
    assert eval(repr(method), vars(sys.modules[type(method).__module__])) == method
    assert SYNTHESES.parse(SYNTHESES.name_of(method), steps=6) == method
    assert not hasattr(method, "__dict__")
    assert (type(method).__doc__ or "").count("20")  # a paper and its year
    with pytest.raises(dataclasses.FrozenInstanceError):
        method.size = (1, 2, 3)  # type: ignore[misc]


def test_pictures_are_in_range(method: Synthesis) -> None:
    images, history = method(Tiny(), Logit(CLASSES))
    assert images.shape == (3, 3, 20, 16)
    assert images.dtype == history.dtype == torch.float32
    assert images.isfinite().all()
    assert history.isfinite().all()
    assert 0 <= images.min() <= images.max() <= 1
    assert history.ndim == 2
    assert history.shape[1] == 3
    assert not images.requires_grad
    assert not history.requires_grad


def test_same_draws_same_pictures(method: Synthesis) -> None:
    model = Tiny()
    first, again, other = (method(model, Logit(CLASSES), seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.history, again.history)
    assert not torch.equal(first.images, other.images)


def test_batch_equals_one_by_one(method: Synthesis) -> None:
    model = Tiny()
    batch = method(model, Logit(CLASSES), Draws.hashed("work", "abc"))
    for i, name in enumerate("abc"):
        alone = method(model, Logit(CLASSES[i : i + 1]), Draws.hashed("work", [name]))
        torch.testing.assert_close(alone.images[0], batch.images[i], atol=2e-3, rtol=0)


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_given_back_as_it_was(method: Synthesis, fails: bool) -> None:
    class Broken(targets.Target):
        def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
            model(images)
            raise RuntimeError("broken")

    model = Tiny().train()
    model.norm.eval()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    if fails:
        with pytest.raises(RuntimeError, match="broken"):
            method(model, Broken())
    else:
        method(model, Logit(CLASSES))
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in model.modules())


def test_listing_imports_no_torch() -> None:
    code = "import synthesis, sys; print(*synthesis.SYNTHESES); assert 'torch' not in sys.modules"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.split() == list(SYNTHESES)


def test_everything_is_importable_from_the_package() -> None:
    for name in SYNTHESES:
        assert getattr(synthesis, SYNTHESES[name].__name__) is SYNTHESES[name]
    for name in ("Channel", "CodeDistance", "GramDistance", "LayerNorm2", "Logit", "Margin", "Neuron", "Probability"):
        assert getattr(synthesis, name) is getattr(targets, name)
    with pytest.raises(AttributeError, match="no 'Dream' here"):
        _ = synthesis.Dream
