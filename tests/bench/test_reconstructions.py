"""Inversions and dreams in a run: rows for every layer and image, and the pictures that were made."""

import math
from typing import Any

import pandas as pd
import pytest
import torch

from assay.bench.measurements import Setup
from assay.bench.measurements.dream import DreamCell, dream_scores
from assay.bench.measurements.inversion import InversionCell, inversion_scores
from assay.bench.measurements.style import StyleCell
from assay.bench.measurements.texture import TEXTURES, TextureCell
from assay.core.errors import NotApplicable
from assay.reports.kinds import kind_of
from assay.synthesis import DeepDream, ImageQuilting, Invert, StyleTransfer, TextureSynthesis
from assay.synthesis.base import Art
from tests.bench.zoo import subject, zoo_cell


def frame(cell: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    measured = cell.measure(Setup())
    return pd.DataFrame(measured.rows), measured.art


def test_an_inversion_at_every_depth() -> None:
    cell = zoo_cell(InversionCell, "zoo:resnet", synthesis=Invert(steps=30), count=2, limit=4)
    rows, art = frame(cell)
    layers = [layer["layer"] for layer in art["meta.json"]["layers"]]
    assert layers[0] == "input"
    assert len(layers) == 6
    assert set(rows["metric"]) == set(kind_of("inversion").metrics)
    assert rows["variant"].unique().tolist() == layers
    assert len(rows) == 6 * 4 * 2
    by_layer = rows.pivot_table(index="variant", columns="metric", values="value", sort=False)
    first, last = by_layer.iloc[0], by_layer.iloc[-1]
    assert first["inversion_error"] == 0
    assert first["inversion_ssim"] == 1
    assert first["inversion_psnr"] == 100  # infinite, bounded so that means exist
    assert last["inversion_ssim"] < by_layer["inversion_ssim"].iloc[1]
    assert art["inversion.npz"]["made_5"].shape == art["inversion.npz"]["images"].shape == (2, 96, 96, 3)
    assert (rows.loc[rows["variant"].str.startswith("layer4"), "backwards"] == 30).all()


def test_a_dream_is_scored_and_kept() -> None:
    cell = zoo_cell(DreamCell, "zoo:resnet", synthesis=DeepDream(octaves=2, steps=3), count=2, limit=4)
    rows, art = frame(cell)
    assert set(rows["metric"]) == {"dream_growth", "dream_clipped"}
    assert (rows.loc[rows["metric"] == "dream_growth", "value"] > 1).all()
    assert art["dream.npz"]["made_0"].shape == (2, 96, 96, 3)


def test_a_model_without_a_grid_has_no_dream_and_keeps_the_input_alone() -> None:
    with pytest.raises(NotApplicable, match="no layer with a live grid"):
        zoo_cell(DreamCell, "zoo:linear", synthesis=DeepDream(steps=1), count=1, limit=2).measure(Setup())
    _, art = frame(zoo_cell(InversionCell, "zoo:linear", synthesis=Invert(steps=1), count=1, limit=2))
    assert [layer["layer"] for layer in art["meta.json"]["layers"]] == ["input"]


def test_scores_in_closed_form() -> None:
    model = subject("zoo:resnet")
    images = torch.rand(2, *model.input_size, generator=torch.Generator().manual_seed(0))
    same = inversion_scores(model, images, "layer1", images)
    assert same["inversion_error"].tolist() == [0, 0]
    assert same["inversion_class"].tolist() == [1, 1]
    made = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    found = dream_scores(Art(made, torch.tensor([[9.0], [8.0], [2.0], [3.0]])), 2)
    assert found["dream_growth"].item() == 1.5
    assert found["dream_clipped"].item() == 0.5
    assert math.isclose(inversion_scores(model, images, "input", images)["inversion_psnr"][0].item(), 100)


def test_a_classical_texture_is_judged_by_models() -> None:
    judged = ("zoo:resnet", subject("zoo:resnet").digest)
    cell = TextureCell(judges=(judged,), synthesis=ImageQuilting(block=16))
    rows, art = frame(cell)
    means = rows.groupby("metric")["value"].mean()
    assert set(means.index) == {"texture_distance", "texture_copy", "texture_seams"}
    assert means["texture_copy"] > 8
    assert art["texture.npz"]["made_0"].shape == (3, 128, 128, 3)
    assert rows["image"].unique().tolist() == list(TEXTURES)


def test_a_model_has_no_part_in_judging_its_own_texture() -> None:
    judges = tuple((spec, subject(spec).digest) for spec in ("zoo:resnet", "zoo:vit"))
    method = TextureSynthesis(steps=3)
    alone, both = (
        frame(zoo_cell(TextureCell, "zoo:resnet", 4, synthesis=method, judges=given))[0]
        for given in (judges[:1], judges)
    )
    assert "texture_distance" not in set(alone["metric"])
    assert (both.loc[both["metric"] == "texture_distance", "value"] > 0).sum() == 3
    assert (both["backwards"] >= 3).all()  # the steps, and a probe for the layers


def test_a_style_against_its_budget() -> None:
    rows, art = frame(zoo_cell(StyleCell, "zoo:resnet", 4, synthesis=StyleTransfer(steps=16)))
    styles = rows[rows["metric"] == "style_loss"]
    assert styles["variant"].nunique() == 3
    assert styles["value"].iloc[-1] < styles["value"].iloc[0]
    assert [layer["layer"] for layer in art["meta.json"]["layers"]] == ["style", "4 steps", "8 steps", "16 steps"]
