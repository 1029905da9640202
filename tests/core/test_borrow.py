"""A borrowed model comes back as it was; passes are counted in samples."""

import pytest
import torch
from torch import nn

from assay.core.borrow import check_images, counting, evaluating
from assay.core.errors import AssayError
from tests.explain.models import small_cnn, state


def test_a_borrowed_model_is_frozen_and_comes_back() -> None:
    model = small_cnn()
    before = state(model)
    with torch.no_grad(), evaluating(model):
        assert not any(module.training for module in model.modules())
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert torch.is_grad_enabled()
    assert state(model) == before
    with pytest.raises(RuntimeError), evaluating(model):
        raise RuntimeError
    assert state(model) == before


def test_passes_are_counted_in_samples() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    images = torch.rand(5, 1, 2, 2, requires_grad=True)
    with counting(model) as passes:
        model(images).sum().backward()
        with torch.no_grad():
            model(images[:3])
    assert (passes.forwards, passes.backwards) == (8, 5)
    model(images)
    assert passes.forwards == 8


@pytest.mark.parametrize("images", [torch.zeros(3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)])
def test_images_must_be_float_batches(images: torch.Tensor) -> None:
    with pytest.raises(AssayError, match=r"\(N, C, H, W\)"):
        check_images(images)


def test_images_with_nan_are_refused() -> None:
    with pytest.raises(AssayError, match=r"\[0, 1\]"):
        check_images(torch.full((1, 1, 2, 2), float("nan")))


def test_gradients_work_inside_inference_mode() -> None:
    model, images = small_cnn(), torch.rand(2, 3, 8, 8)
    with torch.inference_mode(), evaluating(model):
        pixels = images.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(model(pixels).sum(), pixels)
    assert gradient.abs().sum() > 0


def test_images_made_in_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        images = torch.rand(1, 1, 2, 2)
    with pytest.raises(AssayError, match="inference_mode"):
        check_images(images)
