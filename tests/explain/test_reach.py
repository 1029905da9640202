"""Networks whose code runs otherwise than it is written: compiled, checkpointed, scripted, side by side."""

import random
import subprocess
import sys
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from assay.bench.models import Averaged
from assay.core.errors import NotApplicable
from assay.core.probe import default_layer
from assay.core.targets import Channel, Logit
from assay.explain import (
    CAM,
    EXPLAINERS,
    AblationCAM,
    AttentionRollout,
    DeepLift,
    EigenCAM,
    Explainer,
    GrabCut,
    GradCAM,
    GuidedBackprop,
    ScoreCAM,
    TransformerAttribution,
)
from tests.explain.models import Pooled, built, pictures, small_cnn, small_vit

RULES = ("guided-backprop", "deconvnet", "deep-lift", "guided-grad-cam")


def network(*activations: nn.Module, size: int = 8) -> nn.Module:
    torch.manual_seed(0)
    layers = [layer for activation in activations for layer in (nn.Conv2d(3, 3, 3, padding=1), activation)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(3 * size * size, 5))


@pytest.mark.parametrize("name", [*RULES, "grad-cam", "ablation-cam", "cam"])
def test_a_compiled_network_is_explained_as_it_was_written(name: str) -> None:
    model, images = small_cnn(Pooled).eval(), pictures(2)
    compiled = torch.compile(model, backend="eager")
    compiled(images)
    explainer = EXPLAINERS.parse(name)
    want = explainer(model, images, 1)
    assert torch.equal(explainer(compiled, images, 1), want)
    assert explainer.flags(compiled, images) == explainer.flags(model, images) == ""


def test_a_layer_of_a_compiled_network_has_its_own_name() -> None:
    model, images = small_cnn(Pooled).eval(), pictures(2)
    assert torch.equal(
        GradCAM(layer="last")(cast(nn.Module, torch.compile(model, backend="eager")), images, 1),
        GradCAM()(model, images, 1),
    )


class Checkpointed(nn.Module):
    """Keeps nothing of its middle for the backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.on = small_cnn(Pooled), True

    def forward(self, images: Tensor) -> Tensor:
        if not self.on:
            return self.inner(images)  # type: ignore[no-any-return]
        grid = checkpoint(self.inner.features, images, use_reentrant=False)
        return self.inner.head(grid.mean((2, 3)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "explainer",
    [*map(EXPLAINERS.parse, RULES), *(GradCAM(layer=f"inner.{name}") for name in ("last", "body", "stem.1"))],
    ids=repr,
)
def test_gradient_checkpointing_changes_no_map(explainer: Explainer) -> None:
    model, images = Checkpointed().eval(), pictures(2)
    through = explainer(model, images, 1)
    model.on = False
    torch.testing.assert_close(through, explainer(model, images, 1))
    assert through.any()


@pytest.mark.parametrize("explainer", [AttentionRollout(), TransformerAttribution(), DeepLift()], ids=repr)
def test_gradient_checkpointing_changes_no_map_of_attention(explainer: Explainer) -> None:
    model, images = small_vit().eval(), pictures(2)
    want = explainer(model, images, 1)
    model.set_grad_checkpointing(True)  # type: ignore[operator]
    torch.testing.assert_close(explainer(model, images, 1), want)


def test_what_is_modified_after_it_was_saved_is_still_refused() -> None:
    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            curved = images.exp()
            curved.add_(1)
            return curved.relu().flatten(1)

    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        GuidedBackprop()(Wrong(), pictures(1), 1)


class Behind(torch.autograd.Function):
    """A rectifier out of sight."""

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.relu()

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return gradients[0]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_what_scripted_code_does_is_counted() -> None:
    model, images = network(nn.ReLU(), nn.ReLU()), pictures(1, size=8)
    assert GuidedBackprop().flags(model, images) == ""
    model[1] = torch.jit.script(nn.Sequential(nn.ReLU()))  # type: ignore[operator]
    assert GuidedBackprop().flags(model, images) == "gates=0.50"
    model[1] = torch.jit.script(nn.Sequential(nn.GELU()))  # type: ignore[operator]
    assert GuidedBackprop().flags(model, images) == "gates=0.50"


def test_limits_of_pixels_and_of_divisors_are_no_rectifiers() -> None:
    class Careful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network(nn.ReLU())

        def forward(self, images: Tensor) -> Tensor:
            return F.normalize(self.inner(images.clamp(0, 1)).clamp(min=-5))

    assert GuidedBackprop().flags(Careful(), pictures(1, size=8)) == ""


@pytest.mark.parametrize(
    "spelling",
    [lambda x: x.clamp(min=0), lambda x: torch.maximum(x, torch.zeros(())), lambda x: torch.where(x > 0, x, 0.0)],
)
def test_deep_lift_follows_a_rectifier_however_it_is_written(spelling: Callable[[Tensor], Tensor]) -> None:
    class Written(nn.Module):
        def forward(self, values: Tensor) -> Tensor:
            return spelling(values)

    images = pictures(2, size=8)
    torch.testing.assert_close(DeepLift()(network(Written()), images, 1), DeepLift()(network(nn.ReLU()), images, 1))


def test_deep_lift_where_an_activation_overwrites_what_was_pooled() -> None:
    images = pictures(2, size=8)
    own, other = (
        nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.ReLU(inplace), nn.Flatten(), nn.Linear(36, 5))
        for inplace in (False, True)
    )
    other.load_state_dict(own.state_dict())
    assert torch.equal(DeepLift()(other, images, 1), DeepLift()(own, images, 1))


@pytest.mark.parametrize("explainer", [AttentionRollout(), TransformerAttribution()], ids=repr)
def test_attention_of_networks_side_by_side_is_no_chain(explainer: Explainer) -> None:
    members = [small_vit().eval(), small_vit().eval()]
    with pytest.raises(NotApplicable, match="Averaged has attentions beside each other, not one behind the other"):
        explainer(Averaged(members), pictures(1), 1)


def test_a_sum_of_targets_of_several_depths_is_one_chain() -> None:
    model, images = small_vit().eval(), pictures(1)
    both = AttentionRollout()(model, images, Channel("blocks.0", 1) + Logit(1))
    assert both.isfinite().all()


@pytest.mark.parametrize("explainer", [GradCAM(), ScoreCAM(), EigenCAM(), AblationCAM()], ids=repr)
def test_no_layer_of_one_member_speaks_for_an_ensemble(explainer: Explainer) -> None:
    ensemble = Averaged([small_cnn(Pooled).eval(), small_cnn(Pooled).eval()])
    with pytest.raises(NotApplicable, match="Averaged puts networks beside each other"):
        explainer(ensemble, pictures(1), 1)
    named = GradCAM(layer="members.1.last")
    assert named(ensemble, pictures(1), 1).any()
    assert default_layer(Averaged([small_cnn(Pooled)]), pictures(1)) == "members.0.last"


def test_a_map_of_one_branch_says_so() -> None:
    tiny = {"img_size": 64, "embed_dim": 48, "inner_dim": 12, "depth": 2, "num_heads_outer": 2, "num_heads_inner": 2}
    assert GradCAM().flags(built("tnt_s_patch16_224", **tiny), pictures(1, size=64)) == "branch"
    assert GradCAM().flags(small_cnn(Pooled), pictures(1)) == ""
    assert GradCAM(layer="stem.0").flags(small_cnn(Pooled), pictures(1)) == ""


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_head_of_cam_is_judged_by_the_spread_of_the_logits(scale: float) -> None:
    model, images = small_cnn(Pooled).eval(), pictures(2)
    want = CAM()(model, images, 1)
    with torch.no_grad():
        model.head.weight.mul_(scale)
        model.head.bias.mul_(scale)
    torch.testing.assert_close(CAM()(model, images, 1), want * scale, rtol=1e-4, atol=0.0)
    with torch.no_grad():
        model.head.bias.add_(1e6 * scale)
    assert CAM()(model, images, 1).any()
    model.head = nn.Sequential(nn.Linear(12, 5), nn.Tanh())  # type: ignore[assignment]
    with torch.no_grad():
        model.head[0].weight.mul_(scale)  # type: ignore[index]
        model.head[0].bias.mul_(scale)  # type: ignore[index]
    if scale == 1:  # a tanh of tiny numbers is linear, and that of large ones has no slope
        with pytest.raises(NotApplicable, match="no linear function of the mean"):
            CAM()(model, images, 1)


def test_cam_of_tiny_logits_needs_its_head_too() -> None:
    model, images = small_cnn(Pooled).eval(), pictures(2)
    model.head = nn.Sequential(nn.Linear(12, 5), nn.Softmax(1), nn.Linear(5, 5))  # type: ignore[assignment]
    with torch.no_grad():
        for parameter in model.head[2].parameters():  # type: ignore[index]
            parameter.mul_(1e-6)
        model.head[0].weight.mul_(1e-6)  # type: ignore[index]
        model.head[0].bias.zero_()  # type: ignore[index]
    with pytest.raises(NotApplicable, match="no linear function of the mean"):
        CAM()(model, images, 1)


@pytest.mark.parametrize("channels", [2, 5])
def test_grab_cut_reads_colours(channels: int) -> None:
    model = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(NotApplicable, match=f"needs images of 1 or 3 channels, not {channels}"):
        GrabCut()(model, torch.rand(1, channels, 16, 16), 0)


FIRST = """
import random, torch
from assay.explain import EXPLAINERS
net, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)), torch.rand(1, 3, 8, 8)
random.seed(0)
EXPLAINERS.parse("{name}")(net, images, 0)
print(random.random())
"""


@pytest.mark.parametrize("name", ["lime(samples=8, count=4)", "kernel-shap(samples=8, count=4)"])
def test_the_first_surrogate_leaves_the_callers_random_numbers(name: str) -> None:
    code = FIRST.format(name=name.replace('"', ""))
    drawn = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(drawn) == random.Random(0).random()
