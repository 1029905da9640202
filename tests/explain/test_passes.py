"""Several explanations from shared passes."""

import pytest
import torch
from torch import nn

from assay.core.borrow import counting
from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Channel, Logit
from assay.explain import (
    EXPLAINERS,
    Deconvnet,
    Derived,
    EigenCAM,
    GradCAM,
    GuidedBackprop,
    GuidedGradCAM,
    Saliency,
    together,
)
from tests.explain.models import Linear, Pooled, Tripping, pictures, small_cnn, state

FAMILY = [name for name in EXPLAINERS if issubclass(EXPLAINERS[name], Derived)]
LABELS = torch.tensor([0, 1, 2, 3])


def family() -> list[Derived]:
    return [EXPLAINERS.parse(name) for name in FAMILY]


def test_the_family() -> None:
    assert len(FAMILY) == 12
    assert {"saliency", "input-x-gradient", "guided-backprop", "deconvnet", "grad-cam", "cam"} < set(FAMILY)


def test_together_is_each_alone() -> None:
    model, more = small_cnn(Pooled), [GradCAM(layer="body"), GuidedBackprop(activations="all")]
    before = state(model)
    heats = together([*family(), *more], model, pictures(), LABELS)
    assert state(model) == before
    for explainer, heat in zip([*family(), *more], heats, strict=True):
        torch.testing.assert_close(heat, explainer(model, pictures(), LABELS), rtol=1e-5, atol=1e-7)
        assert heat.dtype == torch.float32
        assert not heat.requires_grad


@pytest.mark.parametrize(
    ("explainers", "backwards"),
    [
        ([EigenCAM()], 0),
        ([Saliency(), GradCAM(), Saliency()], 1),
        ([Saliency(), GuidedBackprop(), Deconvnet(), GradCAM(), GuidedGradCAM()], 3),
    ],
)
def test_one_forward_and_one_backward_per_rule(explainers: list[Derived], backwards: int) -> None:
    model = small_cnn(Pooled)
    GradCAM()(model, pictures(), LABELS)  # finds the layer, once
    with counting(model) as passes:
        together(explainers, model, pictures(), LABELS)
    assert (passes.forwards, passes.backwards) == (4, 4 * backwards)


def test_the_backward_pass_ends_at_the_layer() -> None:
    model = small_cnn(Pooled)
    reached: list[str] = []
    for name in ("stem", "last"):
        model.get_submodule(name).register_full_backward_hook(lambda *_, name=name: reached.append(name))
    GradCAM(layer="body")(model, pictures(), LABELS)
    assert reached == ["last"]


def test_a_sum_of_targets_is_summed_for_all() -> None:
    model, target = small_cnn(Pooled), Logit(3) - Logit(1)
    saliency, cam = together([Saliency(), GradCAM()], model, pictures(), target)
    with torch.no_grad():
        model.head.weight[3] -= model.head.weight[1]
    torch.testing.assert_close(saliency, Saliency()(model, pictures(), Logit(3)))
    torch.testing.assert_close(cam, GradCAM()(model, pictures(), Logit(3)))


def test_what_one_raises_all_raise() -> None:
    with pytest.raises(NotApplicable, match="no layer"):
        together([Saliency(), GradCAM()], Linear(), pictures(2, size=8), torch.tensor([0, 1]))
    with pytest.raises(AssayError, match="does not depend on layer 'body'"):
        together([Saliency(), GradCAM(layer="body")], small_cnn(), pictures(), Channel("stem", 0))
    with pytest.raises(AssayError, match="does not depend on the pixels"):
        together([Saliency()], nn.Sequential(Blind(), Linear()), pictures(2, size=8), torch.tensor([0, 1]))
    with pytest.raises(AssayError, match="images must"):
        together([Saliency()], small_cnn(), pictures() * 2, LABELS)


class Blind(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.detach()


def test_the_model_comes_back_after_an_error() -> None:
    model = small_cnn(Tripping)
    before = state(model)
    with pytest.raises(RuntimeError, match="tripped"):
        together([Saliency(), GradCAM(layer="last"), GuidedBackprop()], model, pictures(), LABELS)
    assert state(model) == before
