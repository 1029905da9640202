"""Explainers of one model that share their passes in a run."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from assay import reports
from assay.bench.measurements import Cell, Options, Setup
from assay.bench.measurements.ask import RunOptions
from assay.bench.runs.engine import run
from assay.bench.runs.plan import plan
from assay.bench.runs.store import Store, read_rows
from assay.explain.gradients import Deconvnet
from assay.explain.passes import LayerValues
from tests.bench.nets import OWN

OPTIONS = Options(
    models=(OWN + "convolutional", OWN + "linear"),
    data=("digits",),
    explainers=("saliency", "occlusion(window=3, stride=2)", "input-x-gradient", "guided-backprop", "deconvnet"),
    metrics=("single-deletion",),
    limit=8,
    gallery=0,
)
COSTS = ["forwards", "backwards", "seconds"]


def cells(options: RunOptions = OPTIONS) -> list[Cell]:
    return [cell for cell in plan(options).cells if cell.kind == "explain"]


def stored(out: Path, options: RunOptions = OPTIONS) -> dict[str, pd.DataFrame]:
    return {cell.id: read_rows(out / "cells" / f"{cell.id}.parquet") for cell in cells(options)}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("shared") / "run"
    assert run(OPTIONS, out, setup=Setup(batch_size=5)).failed == 0
    return out


def test_rows_are_those_of_each_cell_alone(shared: Path) -> None:
    for cell in cells():
        alone = pd.DataFrame(cell.measure(Setup(batch_size=5)).rows)
        rows = read_rows(shared / "cells" / f"{cell.id}.parquet")
        plain = rows["flags"].str.replace(r"(; )?shared=4", "", regex=True)
        pd.testing.assert_frame_equal(
            rows.assign(flags=plain).drop(columns=[*COSTS, "value"]),
            alone.drop(columns=[*COSTS, "value"]),
            check_like=True,
        )
        np.testing.assert_allclose(rows["value"], alone["value"], rtol=1e-4, atol=1e-5)


def test_costs_of_shared_passes_are_split_evenly_and_the_rows_say_so(shared: Path) -> None:
    """One forward and three backward passes (plain, guided, deconvnet) for four methods; occlusion pays its own."""
    for cell, rows in zip(cells(), stored(shared).values(), strict=True):
        said = rows["flags"].str.contains("shared=4")
        if cell.method.class_name == "Occlusion":
            assert not said.any()
            assert (rows["forwards"] > 10).all()
        else:
            assert said.all()
            assert rows["forwards"].eq(1 / 4).all()
            assert rows["backwards"].eq(3 / 4).all()
            assert rows["seconds"].gt(0).all()


@pytest.mark.usefixtures("undrawn")
def test_the_summary_does_not_tell_who_shared(shared: Path) -> None:
    reports.write(shared)
    assert "shared=" not in (shared / "tables" / "summary.csv").read_text()
    assert "served so many explainers" in (shared / "report" / "problems.html").read_text()


def test_what_is_stored_is_not_measured_again(shared: Path, tmp_path: Path) -> None:
    """One cell of four is there; the other three share, and the one stays as it was."""
    first = cells()[0]
    store = Store(tmp_path)
    store.open()
    store.keep(first.id, first.measure(Setup()).rows)
    before = (tmp_path / "cells" / f"{first.id}.parquet").read_bytes()
    assert run(OPTIONS, tmp_path, setup=Setup(batch_size=5)).stored == 1
    assert (tmp_path / "cells" / f"{first.id}.parquet").read_bytes() == before
    own = [cell.id for cell in cells() if cell.model == first.model and cell.method.class_name != "Occlusion"]
    rows = stored(tmp_path)
    assert [rows[cell]["flags"].str.contains("shared=3").all() for cell in own] == [False, True, True, True]


def test_one_that_fails_or_has_no_meaning_takes_nobody_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Deconvnet, images: torch.Tensor, *found: LayerValues) -> Any:
        raise RuntimeError("no map today")

    monkeypatch.setattr(Deconvnet, "read", broken)
    options = Options(**{**OPTIONS.__dict__, "explainers": (*OPTIONS.explainers, "grad-cam")})
    result = run(options, tmp_path)
    assert (result.failed, result.skipped) == (2, 1)  # Deconvnet on both, Grad-CAM on the linear model
    for cell in cells(options):
        place = "failed" if cell.method.class_name == "Deconvnet" else "cells"
        rows = read_rows(tmp_path / place / f"{cell.id}.parquet")
        if place == "failed":
            assert rows["flags"].tolist() == ["RuntimeError: no map today"]
        elif cell.method.class_name == "GradCAM" and "linear" in cell.model:
            assert rows["status"].tolist() == ["skipped"]
        else:
            assert rows["status"].eq("ok").all()
            assert len(rows) == 8


def test_cells_of_other_images_or_models_do_not_share() -> None:
    more = Options(**{**OPTIONS.__dict__, "limit": 7})
    groups = {cell.shares for cell in [*cells(), *cells(more)] if cell.shares}
    assert len(groups) == 4
    assert cells()[0].measure(Setup()).rows[0]["flags"] == ""


def test_a_method_without_meaning_on_the_model_costs_the_others_no_sharing(tmp_path: Path) -> None:
    options = replace(OPTIONS, models=(OWN + "linear",), explainers=("saliency", "grad-cam", "input-x-gradient"))
    result = run(options, tmp_path, setup=Setup(batch_size=8))
    assert (result.failed, result.skipped) == (0, 1)
    for cell, rows in zip(cells(options), stored(tmp_path, options).values(), strict=True):
        assert set(rows["status"]) == {"skipped" if cell.method.class_name == "GradCAM" else "ok"}
        assert rows["flags"].str.contains("shared=2").all() == (cell.method.class_name != "GradCAM")
