"""Gini and entropy against their definitions; what GrabCut cuts out against masks."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from assay.core.targets import Logit
from assay.explain.metrics import Entropy, Gini, GrabCutIoU, Metric
from assay.explain.segmentation import segment
from tests.explain.models import Linear, pictures

SIZE = 8


def score(metric: Metric, heat: Tensor) -> list[float]:
    values: list[float] = metric(Linear(), pictures(len(heat), size=SIZE), Logit(0), heat).tolist()
    return values


def test_extremes() -> None:
    heat = torch.ones(2, SIZE, SIZE)
    heat[1] = 0
    heat[1, 3, 4] = -2
    assert score(Gini(), heat) == pytest.approx([0, 1 - 1 / 64])
    assert score(Entropy(), heat) == pytest.approx([1, 0])


def test_definitions() -> None:
    """Gini is half the mean absolute difference of all pairs, relative to the mean."""
    heat = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    heat[2].clamp_(min=0)
    for i, values in enumerate(heat.double().abs().flatten(1).numpy()):
        pairs = np.abs(values[:, None] - values).mean()
        assert score(Gini(), heat)[i] == pytest.approx(pairs / (2 * values.mean()))
        shares = [value / values.sum() for value in values if value > 0]
        assert score(Entropy(), heat)[i] == pytest.approx(-sum(p * math.log(p) for p in shares) / math.log(64))


@pytest.mark.parametrize("metric", [Gini(), Entropy()])
def test_scale_and_sign_do_not_matter_and_zeros_are_undefined(metric: Metric) -> None:
    heat = torch.rand(1, SIZE, SIZE)
    assert score(metric, -7 * heat) == pytest.approx(score(metric, heat))
    assert torch.tensor(score(metric, 0 * heat)).isnan().all()


def test_grab_cut_finds_an_object_that_stands_out() -> None:
    images = torch.full((1, 3, 32, 32), 0.2)
    images[:, :, 8:20, 10:24] = 0.9
    masks = images[:, 0] > 0.5
    spot = torch.zeros(1, 32, 32)
    spot[:, 12:16, 14:20] = 1
    metric = GrabCutIoU()
    assert metric(Linear((3, 32, 32)), images, Logit(0), spot, masks=masks).item() > 0.9
    away = torch.zeros(1, 32, 32)
    away[:, 26:30, 2:8] = 1
    assert metric(Linear((3, 32, 32)), images, Logit(0), away, masks=masks).item() < 0.2


def test_grab_cut_iou_counts_pixels() -> None:
    images, heat = pictures(3, size=24), torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(3, 24, 24, dtype=torch.bool)
    masks[:2, 4:15, 3:12] = True
    ours = GrabCutIoU()(Linear((3, 24, 24)), images, Logit(0), heat, masks=masks)
    cut = segment(images, heat.clamp(min=0))
    for i in range(2):
        inside, other = set(map(tuple, masks[i].nonzero().tolist())), set(map(tuple, cut[i].nonzero().tolist()))
        assert ours[i].item() == pytest.approx(len(inside & other) / len(inside | other))
    assert ours[2].isnan()
