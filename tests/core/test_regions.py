"""Targets on outputs that are grids of logits, against the closed form of a network of 1x1 convolutions."""

import pytest
import torch
from torch import Tensor, nn

from assay.core.errors import AssayError, NotApplicable
from assay.core.probe import default_layer
from assay.core.targets import Logit, Region, Target, gradient
from tests.explain.models import pictures

SIZE, K = 12, 4


class Pointwise(nn.Module):
    """Logits (N, K, H, W) from two 1x1 convolutions, alone or in a dict beside other outputs."""

    def __init__(self, keys: tuple[str, ...] = ()) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features, self.classifier = nn.Conv2d(3, 6, 1), nn.Conv2d(6, K, 1)
        self.keys = keys

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        logits: Tensor = self.classifier(self.features(images))
        return {key: logits * (i + 1) for i, key in enumerate(self.keys)} if self.keys else logits

    def weights(self) -> Tensor:
        """The derivative of logit k by a pixel's colours, (K, 3)."""
        return self.classifier.weight.flatten(1) @ self.features.weight.flatten(1)


def images() -> Tensor:
    return pictures(3, size=SIZE)


def masks() -> Tensor:
    """Three rectangles, (3, H, W)."""
    found = torch.zeros(3, SIZE, SIZE, dtype=torch.bool)
    for i in range(3):
        found[i, i : 2 * i + 3, 2 : 5 + i] = True
    return found


CLASSES = torch.tensor([2, 0, 3])


@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_the_value_is_the_classs_logits_over_the_mask(reduce: str) -> None:
    model = Pointwise()
    logits = model(images())
    assert isinstance(logits, Tensor)
    found = Region(masks(), CLASSES, reduce=reduce)(model, images())  # type: ignore[arg-type]
    for i in range(3):
        inside = logits[i, CLASSES[i]][masks()[i]]
        torch.testing.assert_close(found[i], inside.sum() if reduce == "sum" else inside.mean())


def test_the_gradient_is_the_classs_weight_inside_the_mask_and_zero_outside() -> None:
    model = Pointwise()
    expected = model.weights()[CLASSES][:, :, None, None] * masks()[:, None]
    torch.testing.assert_close(gradient(Region(masks(), CLASSES), model, images()), expected)


def test_masks_may_be_weights_and_one_for_all() -> None:
    model, weights = Pointwise(), torch.linspace(0, 1, SIZE * SIZE).view(SIZE, SIZE)
    logits = model(images())
    assert isinstance(logits, Tensor)
    for one in (weights, weights[None]):
        target = Region(one, 1)
        assert target.count == 1
        torch.testing.assert_close(target(model, images()), (logits[:, 1] * weights).sum((1, 2)))


@pytest.mark.parametrize("index", [torch.tensor([True, False, True]), torch.tensor([2, 2, 0, 1])])
@pytest.mark.parametrize(
    "target",
    [Region(masks(), CLASSES), Region(masks(), 1, reduce="mean"), Region(masks()[1], CLASSES), 2 * Region(masks(), 0)],
)
def test_an_index_picks_the_images(target: Target, index: Tensor) -> None:
    assert target.count == 3
    model = Pointwise()
    torch.testing.assert_close(target[index](model, images()[index]), target(model, images())[index])


def test_an_empty_mask_has_no_mean() -> None:
    empty = torch.zeros(SIZE, SIZE)
    assert Region(empty, 0, reduce="mean")(Pointwise(), images()).isnan().all()
    assert torch.equal(Region(empty, 0)(Pointwise(), images()), torch.zeros(3))


def test_a_dict_is_read_at_the_key_and_first_without_one() -> None:
    model = Pointwise(keys=("out", "aux"))
    alone, first = (Region(masks(), CLASSES)(each, images()) for each in (Pointwise(), model))
    torch.testing.assert_close(first, alone)
    torch.testing.assert_close(Region(masks(), CLASSES, key="aux")(model, images()), 2 * alone)
    with pytest.raises(AssayError, match="unknown output 'Out'; did you mean out"):
        Region(masks(), CLASSES, key="Out")(model, images())


class Pair(Pointwise):
    def forward(self, images: Tensor) -> Tensor:
        return (images, images)  # type: ignore[return-value]


def test_other_outputs_are_refused() -> None:
    with pytest.raises(AssayError, match="gives tuple, not a tensor or a dict"):
        Region(masks(), 0)(Pair(), images())
    with pytest.raises(AssayError, match=r"masks of \(12, 12\) need an output \(N, K, H, W\) of that size"):
        Region(masks(), 0)(Pointwise(), pictures(3, size=8))
    with pytest.raises(AssayError, match=r"not \(3, 5\)"):
        Region(masks(), 0)(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5)), images())


def test_the_default_layer_is_the_last_before_the_scores() -> None:
    assert default_layer(Pointwise(), images()) == "features"
    assert default_layer(Pointwise(keys=("out", "aux")), images()) == "features"
    with pytest.raises(NotApplicable):
        default_layer(nn.Sequential(nn.Conv2d(3, K, 1)), images())


def test_a_logit_stays_for_classifiers() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 5))
    torch.testing.assert_close(Logit(2)(model, images()), model(images())[:, 2])
