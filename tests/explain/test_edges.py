"""What people type by mistake gets one line that says what would be right."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, NotApplicable
from assay.core.targets import Channel, Logit, Neuron, Region, Target
from assay.explain import (
    CAM,
    DeepLift,
    GradCAM,
    GuidedBackprop,
    IntegratedGradients,
    Occlusion,
    RandomMap,
    Saliency,
    ScoreCAM,
    SmoothGrad,
    together,
)
from assay.explain.metrics import ROAD, MassAccuracy, SensitivityMax
from tests.core.test_regions import Pointwise, masks
from tests.explain.models import CLASSES, SIZE, Pooled, pictures, small_cnn

LABELS = torch.arange(4)


def loose(cls: Any) -> Any:
    """The class as somebody without a type checker sees it."""
    return cls


class Spare(Pooled):
    """Has a layer that the forward pass leaves out."""

    def __init__(self) -> None:
        super().__init__()
        self.aux = nn.Conv2d(3, 3, 1)


class Frozen(Pooled):
    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            return super().forward(images)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "must be a Target, a class or a tensor of classes, not NoneType"),
        ([1, 2, 3], r"of shape \(4,\), one per image, not torch.int64 \(3,\)"),
        (["a"], "the target must be a Target"),
        (Logit(torch.arange(3)), "holds data for 3 images, not for 4"),
        (Logit(0) - Logit(torch.arange(3)), "holds data for 3 images, not for 4"),
        (99, "class 99 is not among the network's, 0 to 4"),
        (Logit(-1), "class -1 is not among"),
        (torch.tensor([0, 1, 5, 2]), "class 5 is not among"),
        (Channel("body", 12), r"layer 'body' has 12 x 12 x 12 channels, rows and columns, and no 12"),
        (Channel("body", -1), "and no -1"),
        (Neuron("body", 0, 0, 12), "and no 0, 0, 12"),
        (Neuron("body", 0, 0.5, 0), "and no 0, 0.5, 0"),  # type: ignore[arg-type]
        (Channel("aux", 0), "layer 'aux' is not called"),
        (Channel(nn.Conv2d(3, 3, 1), 0), r"by its dotted name, such as 'layer4\.1', not by a Conv2d"),  # type: ignore[arg-type]
    ],
)
def test_targets_that_are_none(wrong: Any, message: str) -> None:
    with pytest.raises(AssayError, match=message):
        Saliency()(small_cnn(Spare), pictures(), wrong)


@pytest.mark.parametrize("one", [3, np.int64(3), Logit(3), Logit(torch.tensor([3]))])
def test_one_class_serves_all_images(one: Any) -> None:
    model, expected = small_cnn(Pooled), torch.full((4,), 3)
    for explainer in (Saliency(), Occlusion()):
        torch.testing.assert_close(
            explainer(model, pictures(), one, np.int64(2)),  # type: ignore[arg-type]
            explainer(model, pictures(), expected, 2),
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: loose(Logit)([1, 2]), r"Logit: classes=\[1, 2\] is not"),
        (lambda: loose(Logit)(1.5), "classes=1.5 is not"),
        (lambda: Logit(torch.tensor([1.0])), r"must be integers of shape \(N,\), not torch.float32"),
        (lambda: loose(Region)(masks(), 0, reduce="avg"), "reduce='avg' is not one of sum, mean"),
        (lambda: Region(masks(), torch.arange(2)), "holds data for 2 and for 3 images"),
        (lambda: Region(masks()[0, 0], 0), r"masks must be \(H, W\) or \(N, H, W\)"),
        (lambda: Logit(torch.arange(3)) + Logit(torch.arange(2)), "holds data for 2 and for 3 images"),
        (lambda: loose(ROAD)(fractions=0.1), "fractions=0.1 is not tuple"),
    ],
)
def test_records_that_say_at_once(make: Callable[[], object], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        make()


def test_a_class_of_a_region_is_one_of_the_networks() -> None:
    with pytest.raises(AssayError, match="class 4 is not among the network's, 0 to 3"):
        Saliency()(Pointwise(), pictures(3, size=12), Region(masks(), 4))


@pytest.mark.parametrize(
    ("explainer", "images", "message"),
    [
        (IntegratedGradients(baseline=pictures()), pictures(), r"baseline=tensor\(.* \.\.\. .*is not one of zero"),  # type: ignore[arg-type]
        (GradCAM(layer=nn.Conv2d(3, 3, 1)), pictures(), r"layer=Conv2d\(.*\) is not str"),  # type: ignore[arg-type]
        (ScoreCAM(layer="aux"), pictures(), "layer 'aux' is not called"),
        (GradCAM(layer="aux"), pictures(), "does not depend on layer 'aux'"),
        (CAM(layer="aux"), pictures(), "layer 'aux' is not called"),
        (Saliency(), pictures().double(), "images are torch.float64 on cpu, the model is torch.float32 on cpu"),
        (ScoreCAM(layer="body"), pictures().half(), "images are torch.float16 on cpu, the model is torch.float32"),
        (Saliency(), pictures().numpy(), "images must be a float tensor"),
    ],
)
def test_settings_and_images_that_do_not_fit(explainer: Any, images: Any, message: str) -> None:
    with pytest.raises(AssayError, match=message) as found:
        explainer(small_cnn(Spare), images, LABELS)
    assert "\n" not in str(found.value)


def test_a_method_without_the_model_takes_any_images() -> None:
    assert RandomMap()(small_cnn(), pictures().double(), LABELS).dtype == torch.float32


def test_a_flag_of_a_setting_that_there_is_not() -> None:
    with pytest.raises(AssayError, match="activations='gelu' is not one of relu, all"):
        GuidedBackprop(activations="gelu").flags(small_cnn(), pictures())  # type: ignore[arg-type]


def test_what_is_explained_together() -> None:
    model = small_cnn(Pooled)
    wrong: Any = [Saliency(), Occlusion()]
    with pytest.raises(AssayError, match="Occlusion cannot share passes; call it alone"):
        together(wrong, model, pictures(), LABELS)
    with pytest.raises(AssayError, match="activations='gelu' is not"):
        together([GuidedBackprop(activations="gelu")], model, pictures(), LABELS)  # type: ignore[arg-type]
    with pytest.raises(AssayError, match="not for 4"):
        together([Saliency()], model, pictures(), Logit(torch.arange(3)))
    assert [heat.shape for heat in together([Saliency()] * 2, model, pictures()[:0], LABELS[:0])] == [
        (0, SIZE, SIZE)
    ] * 2


@pytest.mark.parametrize(
    "explainer", [Saliency(), GradCAM(), GradCAM(layer="last"), IntegratedGradients(), SmoothGrad(), DeepLift()]
)
def test_a_network_without_derivatives(explainer: Any) -> None:
    with pytest.raises(AssayError, match=r"the target does not depend on .*, or no derivative leads there"):
        explainer(small_cnn(Frozen), pictures(), LABELS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"heat": pictures()[:, 0].numpy()}, "heat must be a tensor, not ndarray"),
        ({"masks": [True]}, "masks must be a tensor, not list"),
        ({"draws": None}, "draws must be an int or Draws, not NoneType"),
        ({"target": Logit(torch.arange(3))}, "not for 4"),
        ({"images": pictures().double()}, None),
    ],
)
def test_what_a_metric_is_given(given: dict[str, Any], message: str | None) -> None:
    usual: dict[str, Any] = {"model": small_cnn(), "images": pictures(), "target": LABELS, "heat": pictures()[:, 0]}
    usual |= {"masks": pictures()[:, 0] > 0.5, **given}
    if message is None:
        assert MassAccuracy()(**usual).isfinite().all()
        return
    with pytest.raises(AssayError, match=message):
        MassAccuracy()(**usual)


def test_an_explainer_is_a_record() -> None:
    wrong: Any = "saliency"
    with pytest.raises(AssayError, match="needs explainer, the record"):
        SensitivityMax()(small_cnn(), pictures(), LABELS, pictures()[:, 0], explainer=wrong)


@pytest.mark.parametrize("keys", [(), ("out", "aux")])
@pytest.mark.parametrize(
    "ask",
    [
        lambda model, images, region: Saliency()(model, images, Logit(0)),
        lambda model, images, region: CAM()(model, images, region),
        lambda model, images, region: Occlusion().positions(model, images, 0),
        lambda model, images, region: SensitivityMax(search="adversarial")(
            model, images, region, Saliency()(model, images, region), explainer=Saliency()
        ),
    ],
)
def test_what_needs_logits_says_so(keys: tuple[str, ...], ask: Callable[[nn.Module, Tensor, Target], Tensor]) -> None:
    with pytest.raises(NotApplicable, match=r"needs logits \(N, K\), not \(\d, 4, 12, 12\); the target Region"):
        ask(Pointwise(keys), pictures(3, size=12), Region(masks(), 1))


def test_a_dict_of_logits_is_read() -> None:
    class Named(Pooled):
        def forward(self, images: Tensor) -> Tensor:
            return {"logits": super().forward(images)}  # type: ignore[return-value]

    torch.testing.assert_close(
        CAM()(small_cnn(Named), pictures(), LABELS % CLASSES), CAM()(small_cnn(Pooled), pictures(), LABELS % CLASSES)
    )
