"""Pictures of classes and channels by every zoo network: that class for itself and for the others."""

import pytest
import torch

from assay.bench.layer_views import usual_layer
from assay.bench.loading import dataset
from assay.bench.models import generators, zoo_names
from assay.core.errors import AssayError
from assay.core.layers import activations
from assay.core.targets import Channel, Margin, Probability
from assay.synthesis import Visualize
from tests.bench.zoo import subject

NAMES = zoo_names()
CLASSES = torch.arange(10)


@pytest.mark.slow
@pytest.mark.parametrize("spec", NAMES)
def test_a_class_picture_is_that_class_for_the_network_and_for_half_of_the_others(spec: str) -> None:
    method, generator = Visualize(parametrisation="latent", steps=20), generators.load("scenes")
    images = method(subject(spec), Margin(CLASSES), generator=generator).images
    others = [name for name in NAMES if name != spec]
    with torch.no_grad():
        own = Probability(CLASSES)(subject(spec), images)
        agree = torch.stack([(subject(name)(images).argmax(1) == CLASSES).float().mean() for name in others])
    if spec not in ("zoo:linear", "zoo:mlp", "zoo:repvgg-shortcut"):  # at chance, at 54 %, and by the background
        assert own.min() > 0.9
        assert agree.mean() >= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("spec", NAMES)
def test_a_channel_answers_more_to_its_picture_than_to_any_thousandth_scene(spec: str) -> None:
    model = subject(spec)
    try:
        layer = usual_layer(model)
    except AssayError:
        pytest.skip(f"{spec} has no layer with a grid")
    data = dataset("scenes", 1000, model)
    with torch.no_grad():
        batches = [torch.stack([data.example(i).image for i in range(at, at + 100)]) for at in range(0, 1000, 100)]
        natural = torch.cat([activations(model, batch, layer).mean((2, 3)) for batch in batches])
        channels = natural.std(0).topk(8).indices
        method = Visualize(contrast=0.2, degrees=5.0, scale=0.05, jitter=0.03)
        target = Channel(layer, channels)
        values = target(model, method(model, target).images)
    limit = natural[:, channels].quantile(0.999, dim=0)
    reached = 6 if spec == "zoo:repvgg-shortcut" else 8  # backgrounds show two of its channels at their strongest
    assert (values > limit).sum() >= reached
