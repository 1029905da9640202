"""What people's models, images and labels are like: types, records of logits, things written in place, threads."""

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import ATTACKS, CPPNFooling, Targeted, evaluate
from assay.core.errors import AssayError, NotApplicable
from assay.explain import EXPLAINERS, GradCAM, Saliency
from tests.attacks.models import Affine, near_grey

TEXTS = [
    "fgsm", "pgd(steps=3)", "apgd(steps=4)", "ti-fgsm", "di-fgsm", "fmn(norm=l0, steps=5)", "fmn(norm=l1, steps=5)",
    "sigma-zero(steps=5)", "jsma", "one-pixel(generations=1)", "spatial-attack(angles=3)", "adversarial-patch(steps=2)",
    "simba(queries=5)", "square(queries=5)", "nes(queries=60)", "hop-skip-jump(queries=50)",
    "boundary-attack(queries=50)",
    "gradient-fooling(start=noise, steps=2)", "cppn-fooling(generations=1)", "deepfool", "fab(steps=2)",
    "lbfgs(steps=2)", "auto-attack(steps=3, queries=5)", "universal-perturbation(steps=2)",
]  # fmt: skip


def network(channels: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)
    ).eval()


class Body(nn.Module):
    """A network around another."""

    def __init__(self, change: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.change = network(), change

    def forward(self, images: Tensor) -> Any:
        return self.change(self.inner, images)


def autocast(net: nn.Module, images: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits: Tensor = net(images)
        return logits


PICTURES = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1])
NETS: dict[str, tuple[nn.Module, torch.dtype]] = {
    "double": (network().double(), torch.float64),
    "bfloat16": (network().bfloat16(), torch.bfloat16),
    "autocast": (Body(autocast), torch.float32),
    "record": (Body(lambda net, x: {"loss": x.mean(), "logits": net(x)}), torch.float32),
}
with warnings.catch_warnings():
    warnings.simplefilter("ignore", FutureWarning)
    NETS["scripted"] = torch.jit.script(network()), torch.float32


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("kind", NETS)
def test_every_type_of_model_is_attacked_as_one_of_float32(kind: str, text: str) -> None:
    net, dtype = NETS[kind]
    images = PICTURES.to(dtype)
    try:
        outcome = evaluate(ATTACKS.parse(text), net, images, LABELS)
    except NotApplicable:
        pytest.skip("not for images of this size")
    assert outcome.adversarial.dtype == dtype
    assert outcome.logits.dtype == torch.float32
    assert not {"out-of-range", "non-finite", "wrong-shape"} & {flag for row in outcome.flags for flag in row}
    if dtype == torch.float64 or kind == "scripted":  # rounding apart, float32's images
        want = evaluate(ATTACKS.parse(text), network(), PICTURES, LABELS)
        assert outcome.success.tolist() == want.success.tolist()


@pytest.mark.parametrize("text", ["square(queries=3)", "simba(queries=3)"])
def test_a_model_without_gradients_is_attacked_as_a_black_box(text: str) -> None:
    frozen = Body(lambda net, x: net(x).detach())
    assert evaluate(ATTACKS.parse(text), frozen, PICTURES, LABELS).valid.all()
    with pytest.raises(AssayError, match="no derivative leads there"):
        ATTACKS.parse("pgd")(frozen, PICTURES, LABELS)


@pytest.mark.parametrize("shape", ["column", "row"])
@pytest.mark.parametrize("text", ["pgd", "fmn", "square", "simba"])
def test_one_logit_is_refused_with_the_way_out(text: str, shape: str) -> None:
    binary = Body(lambda net, x: net(x)[:, :1] if shape == "column" else net(x)[:, 0])
    with pytest.raises(AssayError, match="one logit an image; a binary classifier needs two"):
        ATTACKS.parse(text)(binary, PICTURES, LABELS * 0)
    with pytest.raises(AssayError, match="one logit an image"):
        Saliency()(binary, PICTURES, 0)


@pytest.mark.parametrize("label", [-1, 5, -100])
@pytest.mark.parametrize("text", TEXTS)
def test_a_class_that_the_model_does_not_have_is_refused(text: str, label: int) -> None:
    with pytest.raises(AssayError):
        ATTACKS.parse(text)(network(), PICTURES, torch.tensor([0, label]))


@pytest.mark.parametrize("text", ["rise(samples=8)", "eigen-cam", "cam", "grad-cam", "saliency", "score-cam"])
@pytest.mark.parametrize("kind", ["double", "bfloat16", "autocast", "record"])
def test_every_type_of_model_is_explained(kind: str, text: str) -> None:
    net, dtype = NETS[kind]
    heat = EXPLAINERS.parse(text)(net, PICTURES.to(dtype), LABELS)
    assert heat.dtype == torch.float32
    assert heat.isfinite().all()


def test_labels_may_come_from_inference_mode() -> None:
    with torch.inference_mode():
        labels = network()(PICTURES).argmax(1)
    assert ATTACKS.parse("pgd(steps=2)")(network(), PICTURES, labels).shape == PICTURES.shape
    assert GradCAM()(network(), PICTURES, labels).isfinite().all()


@pytest.mark.parametrize("text", ["saliency", "rise(samples=4)", "grad-cam"])
def test_explainers_take_classes_as_attacks_do(text: str) -> None:
    explainer = EXPLAINERS.parse(text)
    want = explainer(network(), PICTURES, LABELS)
    for classes in ([0, 1], (0, 1), LABELS.numpy()):
        assert torch.equal(explainer(network(), PICTURES, classes), want)


@pytest.mark.parametrize("text", ["square(eps=0.1, queries=20)", "mi-fgsm(eps=0.1)", "simba(queries=20)", "pgd", "fmn"])
def test_a_model_that_normalises_in_place_is_as_one_that_does_not(text: str) -> None:
    in_place = Body(lambda net, x: net(x.sub_(0.5).div_(0.25)))
    sound = Body(lambda net, x: net((x - 0.5) / 0.25))
    images = PICTURES.clone()
    outcomes = [evaluate(ATTACKS.parse(text), net, images, LABELS) for net in (in_place, sound)]
    assert torch.equal(images, PICTURES)
    assert torch.equal(outcomes[0].adversarial, outcomes[1].adversarial)
    assert outcomes[0].flags == outcomes[1].flags
    assert torch.equal(Saliency()(in_place, images, LABELS), Saliency()(sound, images, LABELS))


@pytest.mark.parametrize("text", ["fmn(norm=l1, steps=5)", "pgd(norm=l2)", "deepfool", "ddn(steps=5)", "fgsm"])
def test_infinite_slopes_give_images(text: str) -> None:
    images = PICTURES.clone()
    images[:, :, :4] = 0
    outcome = evaluate(ATTACKS.parse(text), Body(lambda net, x: net(x ** (1 / 2.2))), images, LABELS)
    assert outcome.adversarial.isfinite().all()
    assert "non-finite" not in {flag for row in outcome.flags for flag in row}


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pattern_networks_draw_any_number_of_channels(channels: int) -> None:
    attack, images = CPPNFooling(population=4, generations=1), torch.rand(1, channels, 16, 16)
    assert attack(network(channels), images, Targeted(torch.tensor([1]))).shape == images.shape


@pytest.mark.parametrize("text", ["fmn", "ddn", "alma", "carlini-wagner", "ead", "lbfgs", "fab", "deepfool"])
@pytest.mark.parametrize("value", [-1e4, -1e9, -float("inf")])
def test_a_masked_class_changes_nothing(text: str, value: float) -> None:
    mask = torch.tensor([0.0, 0, 0, value, value])
    nets = Body(lambda net, x: 60 * net(x)[:, :3]), Body(lambda net, x: 60 * net(x) + mask)
    labels = nets[0](PICTURES).argmax(1)
    three, masked = (evaluate(ATTACKS.parse(text), net, PICTURES, labels) for net in nets)
    norm = "l1" if text == "ead" else "l2"
    assert masked.success.tolist() == three.success.tolist()
    torch.testing.assert_close(masked.distances[norm], three.distances[norm], rtol=0.02, atol=1e-4)
    assert masked.flags == three.flags


def test_equal_images_have_the_flags_that_they_have_alone() -> None:
    model, images = Affine(6), near_grey(1)
    wanted = torch.tensor([c for c in range(6) if c != model(images).argmax().item()])
    attack = ATTACKS.parse("bim(eps=0.003, steps=25)")
    whole = evaluate(attack, model, images.repeat(5, 1, 1, 1), Targeted(wanted))
    alone = [evaluate(attack, model, images, Targeted(wanted[[i]])) for i in range(5)]
    assert whole.flags == [each.flags[0] for each in alone]
    assert torch.equal(whole.adversarial, torch.cat([each.adversarial for each in alone]))


def test_the_last_of_two_threads_gives_the_model_back_as_it_was() -> None:
    entered, left = threading.Event(), threading.Event()
    modes = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.drop = network(), nn.Dropout(0.5)

        def forward(self, images: Tensor) -> Any:
            modes.append(self.training)
            if threading.current_thread().name == "second":
                entered.set()
                left.wait(20)
            else:
                entered.wait(20)
            return self.drop(self.inner(images))

    net = Net().train()

    def first() -> None:
        Saliency()(net, PICTURES, 0)
        left.set()

    threads = [
        threading.Thread(target=first),
        threading.Thread(target=Saliency(), args=(net, PICTURES, 0), name="second"),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert net.training
    assert net.drop.training
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert not any(modes)
