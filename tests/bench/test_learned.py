"""What a learned cell measures and keeps, against the measurements taken one by one; what has no meaning is said."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay import reports
from assay.bench.data import load as load_data
from assay.bench.loading import dataset
from assay.bench.measurements import Measured, Options, Setup
from assay.bench.measurements.learned import LearnedCell, compact, readable_pictures
from assay.bench.runs.engine import run
from assay.bench.runs.plan import plan
from assay.bench.scene_parts import part_maps
from assay.core.alignment import linear_cka
from assay.core.errors import AssayError
from assay.explain.representation.codes import codes, neighbour_accuracy, pixels
from assay.explain.representation.filters import gabors
from assay.explain.representation.units import dissect
from assay.reports.kinds import kind_of
from tests.bench.nets import OWN
from tests.bench.zoo import subject, zoo_cell

N = 40


def measured(spec: str) -> Measured:
    return zoo_cell(LearnedCell, spec, N).measure(Setup())


def of(rows: list[dict[str, Any]], metric: str) -> list[float]:
    return [row["value"] for row in rows if row["metric"] == metric and row["status"] == "ok"]


@pytest.fixture(scope="module")
def vit() -> Measured:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("assay.bench.measurements.learned.FILTERS", 4)
        patch.setattr("assay.bench.measurements.learned.weights.gabors", partial(gabors, noise=4))
        return measured("zoo:vit")


def test_every_number_is_described_and_there(vit: Measured) -> None:
    found = {row["metric"] for row in vit.rows}
    metrics = kind_of("learned").metrics
    assert found == set(metrics)
    single = {row["metric"] for row in vit.rows if not row["image"]}
    assert {name for name, metric in metrics.items() if metric.interval == "wilson"} == found - single


def test_neighbours_are_those_of_the_codes(vit: Measured) -> None:
    model = subject("zoo:vit")
    data, images = readable_pictures(dataset("scenes", N, model))
    labels = np.array(data.labels)
    assert np.mean(of(vit.rows, "neighbours_codes")) == neighbour_accuracy(codes(model, [images]), labels)
    assert np.mean(of(vit.rows, "neighbours_pixels")) == neighbour_accuracy(pixels([images]), labels)
    kept = vit.art["learned.npz"]
    tiles = kept["near_tiles"][kept["near_query"]]
    assert tiles.shape == (4, 48, 48, 3)
    assert (kept["near_labels"][kept["near_query"]] == labels[:4]).all()
    hits = kept["near_labels"][kept["near"][0]] == labels[:4, None]
    assert hits.shape == (4, 5)


def test_units_are_those_of_the_dissection(vit: Measured) -> None:
    model = subject("zoo:vit")
    maps = part_maps(dataset("scenes", N, model))
    (found,) = dissect(model, maps, ["body.blocks"], len(maps.names))
    assert of(vit.rows, "unit_iou") == [pytest.approx(np.nanmax(found.iou))]
    assert of(vit.rows, "units_over_30") == [(found.iou.max(1) > 0.3).sum()]
    kept = vit.art["learned.npz"]
    assert sum(vit.art["meta.json"]["units"]["counts"]) == len(kept["unit_pictures"]) == len(kept["unit_parts"])


def test_parts_without_a_meaning_say_why_and_the_others_stay() -> None:
    found = measured("zoo:linear")
    skipped = {row["metric"]: row["flags"] for row in found.rows if row["status"] == "skipped"}
    assert set(skipped) == {"gabor_share", "dead_channels", "", "field_effective", "unit_iou"}
    assert all(skipped.values())
    assert of(found.rows, "first_kernel") == [96]
    assert len(of(found.rows, "neighbours_codes")) == N
    assert set(found.art["meta.json"]["missing"]) == {"channels", "patches", "fields", "units"}


@pytest.mark.parametrize("shape", [(12, 40), (40, 12)])
def test_compact_codes_are_the_same_up_to_rotation_scale_and_shift(shape: tuple[int, int]) -> None:
    values = 3 + 7 * np.random.default_rng(0).standard_normal(shape)
    small = compact(values)
    assert small.shape == (shape[0], min(shape))
    assert linear_cka(values, small, debiased=True) == pytest.approx(1, abs=1e-5)
    far = [np.linalg.norm(each[:, None] - each[None], axis=-1) for each in (values, small.astype(np.float64))]
    np.testing.assert_allclose(far[1] / far[1].max(), far[0] / far[0].max(), atol=2e-3)


def test_pictures_that_cannot_be_read_are_left_to_the_datas_own_cell(tmp_path: Path) -> None:
    for i, name in enumerate(["one", "two"]):
        (tmp_path / name).mkdir()
        for k in range(2):
            Image.new("RGB", (8, 8), (90 * i, 40 * k, 0)).save(tmp_path / name / f"{k}.png")
    (tmp_path / "one" / "0.png").write_bytes(b"no picture")
    data = load_data(f"folder:{tmp_path}").at((3, 8, 8))
    fine, images = readable_pictures(data)
    assert len(data) == 4
    assert fine.ids == [id_ for id_ in data.ids if id_ != "one/0.png"]
    assert images.shape == (3, 3, 8, 8)


@pytest.mark.usefixtures("undrawn")
def test_a_run_has_the_table_the_figures_and_the_reasons(tmp_path: Path) -> None:
    one, other = (f"{OWN}{name}" for name in ("convolutional", "linear"))
    options = Options(models=(one, other), data=("digits",), limit=4, gallery=0, learned=30)
    assert run(options, tmp_path).failed == 0
    reports.write(tmp_path)
    table = pd.read_csv(tmp_path / "tables" / "learned.csv").set_index("model")
    assert list(table.index) == [one, other]
    assert table["first_layer"].tolist() == ["Conv2d, 12 of 3 × 3", "Linear, 10 of 8 × 8"]
    assert table["unit_iou"].isna().all(), "digits have no parts"
    assert table["field_arithmetic"].isna().tolist() == [False, True]
    summary = pd.read_csv(tmp_path / "tables" / "summary.csv").set_index(["model", "metric"])
    assert summary.loc[(one, "neighbours_codes"), "n"] == 30
    assert summary.loc[(one, "neighbours_codes"), "value"] == table["neighbours_codes"][one]
    page = (tmp_path / "report" / "learned.html").read_text(encoding="utf-8")
    for text in ("What it has learned", "Do all first layers look alike?", "the same codes?"):
        assert text in page
    own = [path.read_text(encoding="utf-8") for path in (tmp_path / "report").glob("model-*.html")]
    assert ["Left out: Strongest" in text for text in own].count(True) >= 1


def test_nothing_is_measured_unless_asked_and_less_than_nothing_is_an_error() -> None:
    asked = Options(models=("zoo:mlp",), data=("scenes",), limit=2, gallery=0)
    assert not [cell for cell in plan(asked).cells if cell.kind == "learned"]
    (cell,) = [cell for cell in plan(replace(asked, learned=7)).cells if cell.kind == "learned"]
    assert cell.limit == 7
    with pytest.raises(AssayError, match="learned=-1"):
        plan(replace(asked, learned=-1))
