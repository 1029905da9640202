"""Heat against masks and parts, by hand and by brute force."""

import pytest
import torch
from torch import Tensor

from assay.core.errors import AssayError
from assay.core.targets import Logit, Target
from assay.explain.metrics import MassAccuracy, Metric, PartEffect, PointingGame, RankAccuracy
from tests.explain.models import Linear, pictures

SIZE = 8


def score(metric: Metric, heat: Tensor, masks: Tensor) -> list[float]:
    n = len(heat)
    values: list[float] = metric(Linear(), pictures(n, size=SIZE), Logit(0), heat, masks=masks).tolist()
    return values


def square(n: int = 1) -> Tensor:
    """Rows 2 to 4, columns 2 to 5: 12 of 64 pixels."""
    masks = torch.zeros(n, SIZE, SIZE, dtype=torch.bool)
    masks[:, 2:5, 2:6] = True
    return masks


@pytest.mark.parametrize("metric", [PointingGame(), MassAccuracy(), RankAccuracy()])
def test_heat_on_the_object_is_perfect_and_beside_it_worst(metric: Metric) -> None:
    noise = torch.rand(1, SIZE, SIZE) + 0.1
    assert score(metric, noise * square(), square()) == pytest.approx([1])
    assert score(metric, noise * ~square(), square()) == pytest.approx([0])


@pytest.mark.parametrize("metric", [PointingGame(), PointingGame(tolerance=2), MassAccuracy(), RankAccuracy()])
def test_an_empty_mask_is_undefined_and_a_full_one_perfect(metric: Metric) -> None:
    heat, full = torch.rand(1, SIZE, SIZE), torch.ones(1, SIZE, SIZE, dtype=torch.bool)
    assert torch.tensor(score(metric, heat, ~full)).isnan().all()
    assert score(metric, heat, full) == pytest.approx([1])


@pytest.mark.parametrize("metric", [PointingGame(), MassAccuracy(), RankAccuracy()])
def test_flat_heat_scores_chance(metric: Metric) -> None:
    assert score(metric, torch.full((1, SIZE, SIZE), 0.5), square()) == pytest.approx([12 / 64])


def test_heat_without_a_positive_part() -> None:
    heat = -torch.rand(1, SIZE, SIZE) - 0.1
    assert score(PointingGame(), heat, square()) == pytest.approx([12 / 64])
    assert score(RankAccuracy(), heat, square()) == pytest.approx([12 / 64])
    assert score(MassAccuracy(), heat, square()) == pytest.approx([12 / 64])


@pytest.mark.parametrize(
    ("tolerance", "hits"), [(0, [1, 0, 0, 0]), (1, [1, 1, 0, 0]), (2, [1, 1, 1, 0]), (3, [1, 1, 1, 1])]
)
def test_pointing_game_measures_euclidean_distance(tolerance: int, hits: list[float]) -> None:
    """Hottest pixels on the object, one beside it, one beyond the corner (1.41 away), two and a bit away."""
    heat = torch.zeros(4, SIZE, SIZE)
    for i, (y, x) in enumerate([(4, 5), (5, 5), (5, 6), (6, 7)]):
        heat[i, y, x] = 1
    assert score(PointingGame(tolerance=tolerance), heat, square(4)) == hits


def test_mass_accuracy_reads_the_positive_part() -> None:
    heat = torch.zeros(1, SIZE, SIZE)
    heat[0, 3, 3], heat[0, 0, 0], heat[0, 3, 4], heat[0, 7, 7] = 3, 1, -5, -5
    assert score(MassAccuracy(), heat, square()) == pytest.approx([0.75])


def test_rank_accuracy_equals_brute_force() -> None:
    heat = torch.rand(5, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    expected = [square()[0].flatten()[row.flatten().topk(12).indices].float().mean().item() for row in heat]
    assert score(RankAccuracy(), heat, square(5)) == pytest.approx(expected)


def test_rank_accuracy_shares_out_ties() -> None:
    """8 pixels lead, 2 of them inside; 8 tie for the 4 places left, 6 of them inside: (2 + 4 * 6 / 8) / 12."""
    heat = torch.zeros(1, SIZE, SIZE)
    heat[0, 2, 2:4] = 2
    heat[0, 0, :6] = 2
    heat[0, 3, 2:6] = heat[0, 4, 2:4] = heat[0, 7, :2] = 1
    assert score(RankAccuracy(), heat, square()) == pytest.approx([5 / 12])


class Bars:
    """Four vertical bars as parts; bar i adds ``(i + 1) * gain`` to the logit of a linear model."""

    def __init__(self, shown: int = 4, effects: tuple[float, ...] = (1, 2, 3, 4)) -> None:
        self.model = Linear(classes=1)
        self.images = torch.full((1, 3, SIZE, SIZE), 0.5)
        self.parts = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
        self.without = self.images[:, None].repeat(1, 4, 1, 1, 1)
        torch.nn.init.zeros_(self.model.w)
        for i in range(shown):
            columns = slice(2 * i, 2 * i + 2)
            self.parts[..., columns] = i + 1
            self.without[:, i, ..., columns] = 0
            with torch.no_grad():
                self.model.w[..., columns] = effects[i] / (3 * SIZE * 2 * 0.5)

    def score(self, heat: list[float], target: Target | None = None) -> float:
        bars = torch.tensor(heat, dtype=torch.float32).repeat_interleave(2).expand(1, SIZE, SIZE)
        data = {"parts": self.parts, "without": self.without}
        return PartEffect()(self.model, self.images, target or Logit(0), bars, **data).item()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("heat", "expected"),
    [([1, 2, 3, 4], 1), ([4, 3, 2, 1], -1), ([1, 3, 2, 4], 0.8), ([0, -7, 3, 4], 0.9486833)],
)
def test_part_effect_by_hand(heat: list[float], expected: float) -> None:
    """The last case: the positive part ties the first two bars, ranks 1.5, 1.5, 3, 4 against 1, 2, 3, 4."""
    assert Bars().score(heat) == pytest.approx(expected)


def test_part_effect_follows_the_sign_of_the_target() -> None:
    assert Bars().score([1, 2, 3, 4], -Logit(0)) == pytest.approx(-1)


def test_part_effect_counts_only_parts_that_show() -> None:
    assert Bars(shown=3).score([1, 3, 2, 9]) == pytest.approx(0.5)
    assert torch.tensor(Bars(shown=2).score([1, 2, 0, 0])).isnan()
    assert torch.tensor(Bars(shown=0).score([1, 2, 0, 0])).isnan()


def test_part_effect_is_undefined_where_nothing_differs() -> None:
    assert torch.tensor(Bars().score([1, 1, 1, 1])).isnan()
    assert torch.tensor(Bars().score([-1, -2, -3, -4])).isnan()
    assert torch.tensor(Bars(effects=(2, 2, 2, 2)).score([1, 2, 3, 4])).isnan()
    assert torch.tensor(Bars(effects=(0, 0, 0, 0)).score([1, 2, 3, 4])).isnan()


def test_part_effect_weighs_mass_not_density() -> None:
    """A part of twice the area with the same heat has twice the mass."""
    bars = Bars()
    bars.parts[..., :2] = 4
    assert bars.score([5, 2, 3, 4]) == pytest.approx(1)


def test_part_effect_refuses_pictures_of_another_size() -> None:
    bars = Bars()
    bars.without = bars.without[..., :4]
    with pytest.raises(AssayError, match="without do not fit"):
        bars.score([1, 2, 3, 4])
