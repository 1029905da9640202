"""Class visualisation: identities, settings, and pictures that are each their own."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError
from assay.synthesis import SYNTHESES, Channel, LayerNorm2, Logit, Margin, Neuron, Visualize
from assay.synthesis.scores import diversity
from tests.synthesis.nets import Fixed, Net, pictures

PLAIN = {"slope": 0.0, "jitter": 0.0, "degrees": 0.0, "scale": 0.0, "blur_every": 0, "tv": 0.0, "l2": 0.0}


class Linear(nn.Module):
    """Logits w . x with small templates, one per class."""

    input_size = (1, 5, 6)

    def __init__(self) -> None:
        super().__init__()
        templates = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(0.02 * templates)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


def test_a_linear_models_picture_is_its_template() -> None:
    model = Linear()
    method = Visualize(**PLAIN | {"l2": 0.1, "steps": 600, "step_size": 0.02})  # type: ignore[arg-type]
    art = method(model, Logit(torch.arange(4)))
    wanted = model.weight.detach().view(4, 1, 5, 6) / (2 * 0.1)
    assert wanted.abs().max() < 0.5
    torch.testing.assert_close(art.images - 0.5, wanted, atol=2e-3, rtol=0)


def test_history_grows() -> None:
    art = Visualize(steps=24)(Net(), Logit(torch.arange(5)))
    assert (art.history[-4:].mean(0) > art.history[:4].mean(0)).all()


def test_the_model_prefers_its_pictures() -> None:
    model, target = Net().eval(), Margin(torch.arange(5))
    method = Visualize(steps=32)
    made, start = (dataclasses.replace(method, steps=steps)(model, target).images for steps in (32, 1))
    with torch.no_grad():
        assert (target(model, made) > target(model, start)).all()


@pytest.mark.parametrize(
    ("target", "count"), [(Logit(3), 1), (Logit(torch.tensor(2)), 1), (Logit(torch.tensor([0, 1, 2])), 3)]
)
def test_as_many_pictures_as_the_target_asks_for(target: Logit, count: int) -> None:
    for made in (target, 2.0 * target, target + Channel("body.0", 1)):
        art = Visualize(steps=2)(Net(), made)
        assert art.images.shape == (count, 3, 24, 24)
        assert art.history.shape == (2, count)


def test_streams_say_how_many_where_the_target_does_not() -> None:
    streams = Draws.hashed("seeds", "abc")
    art = Visualize(steps=2)(Net(), Logit(1), streams)
    assert len(art.images) == 3
    assert not torch.equal(art.images[0], art.images[1])
    with pytest.raises(AssayError, match="for 2 pictures and there are 3 random streams"):
        Visualize(steps=2)(Net(), Logit(torch.tensor([0, 1])), streams)


def test_a_picture_does_not_depend_on_its_neighbours() -> None:
    model, method, classes = Net(), Visualize(steps=12), torch.tensor([4, 0, 2])
    together = method(model, Logit(classes), Draws.hashed("work", map(str, range(3))))
    for i in range(3):
        alone = method(model, Logit(classes[i : i + 1]), Draws.hashed("work", [str(i)]))
        torch.testing.assert_close(alone.images[0], together.images[i], atol=2e-3, rtol=0)
        torch.testing.assert_close(alone.history[:, 0], together.history[:, i], atol=2e-3, rtol=1e-3)


def test_starts_are_grey_or_faint_noise() -> None:
    grey = torch.full((1, 3, 24, 24), 0.5)
    start = Visualize(init="grey").start(grey, as_draws(0, grey))
    assert torch.equal(start, grey)
    noise = Visualize(contrast=0.1).start(grey, as_draws(0, grey)) - 0.5
    assert noise.std().item() == pytest.approx(0.1, rel=0.1)


def test_no_steps_are_refused() -> None:
    with pytest.raises(AssayError, match="steps=0 must be at least 1"):
        Visualize(steps=0)


def test_size_is_the_models_or_the_settings() -> None:
    net = Net()
    assert Visualize(steps=1, size=(3, 30, 40))(net, Logit(1)).images.shape == (1, 3, 30, 40)
    with pytest.raises(AssayError, match=r"no input_size; write Visualize\(size=\(3, 224, 224\)\)"):
        Visualize(steps=1)(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)), Logit(1))
    with pytest.raises(AssayError, match=r"size of a picture is \(C, H, W\), not \(30, 40\)"):
        Visualize(size=(30, 40))(net, Logit(1))


@pytest.mark.parametrize("setting", [{"steps": -1}, {"jitter": -0.5}, {"blur_sigma": -0.5}, {"scale": 1.0}])
def test_impossible_settings_are_refused(setting: dict[str, float]) -> None:
    (name,) = setting
    with pytest.raises(AssayError, match=f"Visualize: {name}="):
        SYNTHESES.parse(f"visualize({name}={setting[name]})")


@pytest.mark.parametrize("parametrisation", ["pixel", "fourier", "maco", "cppn"])
def test_every_parametrisation_climbs(parametrisation: str) -> None:
    method = Visualize(parametrisation=parametrisation, steps=40)  # type: ignore[arg-type]
    art = method(Net(), Logit(torch.arange(3)))
    assert (art.history[-4:].mean(0) > art.history[:4].mean(0)).all()


def test_it_starts_at_the_given_picture() -> None:
    start = pictures(2, 24, 24)
    for method in (Visualize(steps=1, step_size=1e-6), Visualize(parametrisation="fourier", steps=1, step_size=1e-6)):
        art = method(Net(), Logit(torch.tensor([0, 1])), start=start)
        torch.testing.assert_close(art.images, start.clamp(0.005, 0.995), atol=5e-3, rtol=0)
    with pytest.raises(AssayError, match=r"start is \(3, 30, 24\), the pictures are \(3, 24, 24\)"):
        Visualize(steps=1, size=(3, 24, 24))(Net(), Logit(0), start=pictures(1, 30, 24))
    with pytest.raises(AssayError, match="3 starts for 2 pictures"):
        Visualize(steps=1)(Net(), Logit(torch.tensor([0, 1])), start=pictures(3, 24, 24))


def test_a_model_of_a_fixed_size_sees_windows_of_a_larger_picture() -> None:
    art = Visualize(steps=12, size=(3, 40, 31))(Fixed(), Logit(torch.arange(2)))
    assert art.images.shape == (2, 3, 40, 31)
    assert (art.images - 0.5).abs().amax((0, 1, 2)).min() > 0.05  # every column was seen


def test_neurons_and_channels_of_many_pictures_in_one_call() -> None:
    net, channels = Net(), torch.tensor([0, 3, 5])
    art = Visualize(steps=16)(net, Channel("body.2", channels))
    for i, c in enumerate(channels.tolist()):
        with torch.no_grad():
            values = Channel("body.2", c)(net, art.images)
        assert values.argmax() == i
    assert len(Visualize(steps=2)(net, Neuron("body.2", channels, 4, 4)).images) == 3
    assert len(Visualize(steps=2)(net, LayerNorm2("body.2", channels)).images) == 3


def test_diversity_pushes_pictures_apart() -> None:
    net, streams = Net(), [Draws.hashed("seeds", "abcd") for _ in range(2)]
    alike, diverse = (
        Visualize(steps=40, diversity=weight)(net, Logit(1), draws).images
        for weight, draws in zip((0.0, 5.0), streams, strict=True)
    )
    assert diversity(net, diverse, "body.4") > diversity(net, alike, "body.4")
    with pytest.raises(AssayError, match="ask for two or more"):
        Visualize(steps=2, diversity=1.0)(net, Logit(1))


def test_the_tricks_of_yosinski_grey_what_does_not_matter() -> None:
    plain, clipped = (
        Visualize(steps=24, clip_every=4, clip_norm=norm, clip_contribution=norm)(Net(), Logit(1)).images
        for norm in (0.0, 0.4)
    )
    assert (clipped - 0.5).abs().mean() < 0.8 * (plain - 0.5).abs().mean()
