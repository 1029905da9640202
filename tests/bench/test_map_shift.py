"""How far heatmaps move under noise, attacks on the class and attacks on the map."""

from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from assay.bench.measurements import Options, Setup
from assay.bench.measurements.ask import RunOptions
from assay.bench.measurements.map_shift import MapShiftCell
from assay.bench.measurements.shortcut import ShortcutCell
from assay.bench.runs.plan import plan
from assay.core.draws import as_draws
from assay.core.errors import AssayError
from assay.core.targets import Logit
from assay.explain import EXPLAINERS
from assay.explain.deception import Deception, coldest_corner, heat_share, rank_correlation
from assay.reports.kinds import kind_of
from tests.bench.zoo import subject, zoo_cell


def test_a_corner_is_the_coldest_quarter() -> None:
    heat = torch.ones(2, 6, 8)
    heat[0, 3:, 4:] = 0.1
    heat[1, :3, :4] = -5.0
    heat[1, :3, 4:] = 0.5
    corner = coldest_corner(heat)
    assert corner.sum((1, 2)).tolist() == [12, 12]
    assert corner[0, 3:, 4:].all()
    assert corner[1, :3, 4:].all()
    torch.testing.assert_close(heat_share(heat, corner)[0].item(), 0.1 * 12 / (36 + 1.2))


def test_similarity_is_a_rank_correlation() -> None:
    heat = torch.rand(3, 5, 5)
    others = torch.stack([heat[0].exp(), -heat[1], torch.ones(5, 5)])
    found = rank_correlation(heat, others)
    torch.testing.assert_close(found[:2], torch.tensor([1.0, -1.0]))
    assert found[2].isnan()


class Bent(nn.Module):
    """Logit 0 is a sum of squares, so its gradient can be moved; the others are far below it."""

    def forward(self, images: Tensor) -> Tensor:
        value = images.square().sum((1, 2, 3))
        return torch.stack([value, value - 50, value - 60], 1)


def test_the_heat_goes_where_it_is_wanted_and_the_class_stays() -> None:
    model, images = Bent(), torch.full((2, 1, 8, 8), 0.5)
    images[:, :, :4, :4] = 0.45
    saliency, target = EXPLAINERS.parse("saliency"), Logit(torch.zeros(2, dtype=torch.int64))
    found = Deception(eps=0.2)(saliency, model, images, target, as_draws(0, images))
    clean = saliency(model, images, target)
    assert found.corner[:, :4, :4].all()
    # saliency is 2 x: at best .65 inside and .3 outside
    torch.testing.assert_close(
        heat_share(found.heat, found.corner),
        torch.full((2,), 16 * 0.65 / (16 * 0.65 + 48 * 0.3)).double(),
        atol=0.02,
        rtol=0,
    )
    assert (heat_share(found.heat, found.corner) > heat_share(clean, found.corner) + 0.15).all()
    assert (found.images - images).abs().max() <= 0.2 + 1e-6
    torch.testing.assert_close(found.heat, saliency(model, found.images, target))


def test_a_map_that_knows_nothing_of_the_model_stays() -> None:
    model, images = Bent(), torch.rand(2, 1, 8, 8)
    target = Logit(torch.zeros(2, dtype=torch.int64))
    found = Deception()(EXPLAINERS.parse("center-map"), model, images, target, as_draws(0, images))
    assert torch.equal(found.images, images)
    assert not found.derivable
    with pytest.raises(AssayError, match="eps > 0"):
        Deception(eps=0)


def test_a_cell_measures_and_keeps_pictures() -> None:
    cell = zoo_cell(MapShiftCell, "zoo:repvgg", limit=3, explainer=EXPLAINERS.parse("grad-cam"), eps=4 / 255, count=2)
    measured = cell.measure(Setup())
    rows = pd.DataFrame(measured.rows)
    assert set(rows["metric"]) == set(kind_of("map_shift").metrics)
    table = rows.pivot(index="image", columns="metric", values="value")
    assert table["map_similarity_noise"].min() > 0.9
    assert (table["corner_mass_deceived"] >= table["corner_mass_clean"] - 1e-6).all()
    assert table["corner_mass_deceived"].mean() > table["corner_mass_clean"].mean() + 0.05
    art = measured.art["moved.npz"]
    assert art["images"].shape == art["deceived"].shape == (2, 96, 96, 3)
    assert art["deceived_heat"].shape == (2, 96, 96)
    model, labels = subject("zoo:repvgg"), torch.tensor(measured.art["meta.json"]["labels"])
    said = {}
    for name in ("images", "fooled", "deceived"):
        with torch.no_grad():
            said[name] = model(torch.from_numpy(art[name]).permute(0, 3, 1, 2) / 255).argmax(1)
    assert torch.equal(said["images"], labels)
    assert torch.equal(said["deceived"], labels)
    assert (said["fooled"] != labels).all()


def test_explainers_are_compared_on_the_same_images_and_blind_ones_are_not_called_stable() -> None:
    cells = [
        zoo_cell(MapShiftCell, "zoo:repvgg", limit=2, explainer=EXPLAINERS.parse(text), eps=8 / 255, count=2)
        for text in ("random-map", "occlusion(window=48, stride=48)")
    ]
    one, other = (cell.measure(Setup()) for cell in cells)
    assert (one.art["moved.npz"]["fooled"] == other.art["moved.npz"]["fooled"]).all()
    for measured in (one, other):
        rows = pd.DataFrame(measured.rows)
        deceived = rows[rows["metric"].str.contains("deceived")]
        assert deceived["value"].isna().all()
        assert set(deceived["flags"]) == {"no-derivative"}
    noise = {row["image"]: row["value"] for row in one.rows if row["metric"] == "map_similarity_noise"}
    assert all(value == pytest.approx(1) for value in noise.values())  # the same random map


def asked(**more: Any) -> RunOptions:
    given: Any = {"models": ("zoo:repvgg",), "data": ("scenes",), "limit": 8, "gallery": 0, **more}
    options: RunOptions = Options(**given)
    return options


def test_a_run_attacks_maps_of_some_images() -> None:
    few, more = (
        [
            c
            for c in plan(asked(attacked_explainers=("grad-cam", "saliency"), attacked_images=n)).cells
            if isinstance(c, MapShiftCell)
        ]
        for n in (3, 4)
    )
    assert [cell.limit for cell in (*few, *more)] == [3, 3, 4, 4]
    assert len({cell.id for cell in (*few, *more)}) == 4
    with pytest.raises(AssayError, match="attacked_images=0"):
        plan(asked(attacked_images=0))


def test_twins_are_shown_data_whose_shortcut_agrees() -> None:
    twins = ("zoo:repvgg-shortcut", "zoo:repvgg")
    both = {
        "explainers": ("saliency",),
        "metrics": ("gini",),
        "accuracy_data": ("scenes?shortcut=lies", "scenes?shortcut=agrees"),
    }
    cells = [c for c in plan(asked(shortcut_pair=twins, **both)).cells if isinstance(c, ShortcutCell)]
    assert {(c.model, c.sound[0], c.data) for c in cells} == {(*twins, "scenes?shortcut=agrees")}
    assert len(cells) == 2  # the true effect, and saliency
    with pytest.raises(AssayError, match="two models"):
        plan(asked(shortcut_pair=twins[:1], **both))
    with pytest.raises(AssayError, match="shortcut=agrees"):
        plan(asked(shortcut_pair=twins))
