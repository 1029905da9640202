"""Class visualisation: identities, settings, and pictures that are each their own."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from core.draws import Draws, as_draws
from core.errors import AssayError
from synthesis import SYNTHESES, Channel, Logit, Margin, Visualize

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


class Net(nn.Module):
    """A small network with batch normalisation and ReLUs."""

    input_size = (3, 24, 24)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(16, 5)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(images).mean((2, 3)))
        return logits


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
