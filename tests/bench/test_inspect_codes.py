"""``assay inspect MODEL codes units``: files, tables and what they say."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from assay.bench.commands.inspect import inspect
from assay.bench.commands.inspect.base import Options
from assay.bench.commands.inspect.codes import PIXELS, RANDOM
from assay.bench.data import load as load_data
from assay.bench.models import load
from assay.bench.scene_parts import part_maps, randomized
from assay.core.errors import AssayError


def test_codes_write_maps_neighbours_scores_and_likeness(tmp_path: Path) -> None:
    said = list(inspect("zoo:mlp", "codes", "scenes#3", options=Options(n=40, out=tmp_path, beside=("zoo:linear",))))
    names = ["map", "thumbnails", "neighbours", "accuracy", "similarity"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "codes.csv",
        "codes-scores.csv",
        *(f"codes-{name}.png" for name in names),
    }
    assert [line.partition(":")[0] for line in said] == [
        str(tmp_path / name)
        for name in ("codes.csv", "codes-map.png", "codes-thumbnails.png", "codes-neighbours.png", "codes-scores.csv",
                     "codes-accuracy.png", "codes-similarity.png")
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "codes.csv")
    assert list(table["image"][:2]) == ["test-00000", "test-00001"]
    assert np.isfinite(table[["pca_x", "pca_y", "tsne_x", "tsne_y"]]).all(axis=None)
    scores = pd.read_csv(tmp_path / "codes-scores.csv").set_index("codes")
    assert list(scores.index) == ["zoo:mlp", "zoo:linear", RANDOM, PIXELS]
    assert (scores["n"] == 40).all()
    assert scores.loc[PIXELS, "dimensions"] == 3 * 48 * 48
    for name in names:
        Image.open(tmp_path / f"codes-{name}.png").verify()


def test_pictures_that_share_no_class_have_maps_and_no_accuracies(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    for i, name in enumerate(load("zoo:mlp").classes):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (96, 96), (20 * i, 10, 200 - 20 * i)).save(folder / name / "one.png")
    said = list(inspect("zoo:mlp", "codes", options=Options(data=f"folder:{folder}", out=tmp_path / "out")))
    assert "no two pictures share a class" in said[4]
    assert not (tmp_path / "out" / "codes-accuracy.png").exists()
    assert (tmp_path / "out" / "codes-map.png").exists()


def test_units_write_every_units_iou_beside_what_random_weights_and_the_place_score(tmp_path: Path) -> None:
    said = list(inspect("zoo:vit", "units", options=Options(n=20, out=tmp_path, layer="blocks.1")))
    assert {path.name for path in tmp_path.iterdir()} == {"units.csv", "parts.csv", "units.png"}
    assert "64 units of blocks.1 over 20 pictures" in said[0]
    units, parts = (pd.read_csv(tmp_path / name) for name in ("units.csv", "parts.csv"))
    assert set(parts["part"]) == {
        "disc", "square", "triangle", "star", "crescent", "ring", "cross", "distractor"
    }  # fmt: skip
    for row in parts.itertuples():
        assert units[f"iou_{row.part}"].max() == pytest.approx(row.iou, rel=1e-4)
        assert units[f"iou_{row.part}"].idxmax() == row.unit
    assert parts["iou"].is_monotonic_decreasing
    assert ((parts[["iou_random_weights", "iou_place"]] >= 0) & (parts[["iou_random_weights", "iou_place"]] < 1)).all(
        axis=None
    )


def test_masks_of_a_folder_are_a_part_called_object(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "one" / "a.png")
    Image.new("RGB", (8, 8), (9, 9, 9)).save(tmp_path / "one" / "b.png")
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(tmp_path / "one" / "a_mask.png")
    maps = part_maps(load_data(f"folder:{tmp_path}"))
    assert maps.names == ["object"]
    ((_, numbers),) = maps
    assert torch.equal(numbers, torch.stack([torch.eye(8), torch.zeros(8, 8)]).to(torch.uint8))


def test_data_without_parts_is_said() -> None:
    with pytest.raises(AssayError, match="digits says nothing of parts"):
        part_maps(load_data("digits"))


def test_random_weights_are_a_copy_and_the_model_stays() -> None:
    model = load("zoo:mlp")
    digest = {name: value.clone() for name, value in model.state_dict().items()}
    changed = randomized(model, 0)
    assert all(torch.equal(value, digest[name]) for name, value in model.state_dict().items())
    assert not any(torch.equal(value, digest[name]) for name, value in changed.named_parameters())
