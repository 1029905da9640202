"""What a cell measures on, and what it says of data that lacks something."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from assay.bench.loading import dataset
from assay.bench.loading import subject as loaded
from assay.bench.measurements import Options, Setup
from assay.bench.method_records import metric_name
from assay.bench.models import Subject
from assay.bench.runs.plan import plan
from assay.core.errors import AssayError
from assay.explain.metrics import Deletion, Insertion
from tests.bench.nets import OWN


def folder(root: Path, *classes: str, masks: int = 0) -> str:
    """Two pictures a class, ``masks`` of them with a mask; returns the spec."""
    rng = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(root / name / f"{i}.png")
            if masks:
                Image.fromarray(np.eye(8, dtype=np.uint8) * 255).save(root / name / f"{i}_mask.png")
                masks -= 1
    return f"folder:{root}"


def subject(*classes: str) -> Subject:
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, len(classes)))
    return Subject(network, name="mine", input_size=(1, 8, 8), mean=(0.0,), std=(1.0,), classes=classes)


def test_labels_follow_the_models_order_of_names(tmp_path: Path) -> None:
    spec = folder(tmp_path, "cat", "dog")
    data = dataset(spec, 4, subject("dog", "cat"))
    assert {i.partition("/")[0]: label for i, label in zip(data.ids, data.labels, strict=True)} == {"cat": 1, "dog": 0}
    assert data.example(0).label == data.labels[0]


def test_other_names_are_refused(tmp_path: Path) -> None:
    spec = folder(tmp_path, "cat", "dog")
    with pytest.raises(AssayError, match="'cat' and mine such as 'fish': labels would not match"):
        dataset(spec, 4, subject("fish", "bird"))


def test_a_model_that_changes_between_loads_is_refused() -> None:
    (cell,) = [
        cell for cell in plan(Options(models=(OWN + "different_each_time",), data=("digits",))).cells if cell.model
    ]
    assert cell.subject(Setup()).name == cell.model
    loaded.cache_clear()
    with pytest.raises(AssayError, match="another model each time"):
        cell.measure(Setup())


def test_names_of_metrics_say_what_differs() -> None:
    assert metric_name(Deletion()) == "deletion"
    assert metric_name(Insertion(steps=8, baseline="mean")) == "insertion(steps=8, baseline='mean')"


def test_a_metric_that_the_data_cannot_give_is_a_skipped_row(tmp_path: Path) -> None:
    spec = folder(tmp_path, *map(str, range(10)))
    options = Options(
        models=(OWN + "linear",), data=(spec,), explainers=("saliency",), metrics=("deletion", "part-effect"), limit=4
    )
    planned = plan(options)
    (data_cell,) = [cell for cell in planned.cells if cell.kind == "data"]
    skipped = [row for row in data_cell.measure(Setup()).rows if row["status"] == "skipped"]
    assert [(row["metric"], row["flags"]) for row in skipped] == [("part-effect", "the data has no parts, without")]


def test_a_picture_without_a_mask_is_nan_and_the_others_are_scored(tmp_path: Path) -> None:
    spec = folder(tmp_path, *map(str, range(10)), masks=3)
    options = Options(
        models=(OWN + "linear",), data=(spec,), explainers=("saliency",), metrics=("mass-accuracy",), limit=20
    )
    (cell,) = [cell for cell in plan(options).cells if cell.kind == "explain"]
    values = torch.tensor([row["value"] for row in cell.measure(Setup()).rows])
    assert len(values) == 20
    assert int(values.isfinite().sum()) == 3
