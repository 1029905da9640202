"""One seed, one picture: by a command and in a run."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from assay.bench.commands.synthesize.files import Files
from assay.bench.loading import dataset
from assay.bench.loading import subject as load_subject
from assay.bench.measurements import Options
from assay.bench.measurements.inversion import InversionCell
from assay.bench.measurements.texture import TEXTURES, TextureCell
from assay.bench.runs.engine import run
from assay.bench.runs.plan import plan
from assay.core.draws import Draws
from assay.synthesis import SYNTHESES
from tests.bench.test_cli import MODEL, call

METHOD = "invert(steps=8)"


def test_an_inversion_is_the_same_by_the_command_and_in_a_run(tmp_path: Path) -> None:
    options = Options(models=(MODEL,), data=("digits",), limit=6, gallery=1, syntheses=(METHOD,), seed=5)
    assert run(options, tmp_path / "run").failed == 0
    (cell,) = [cell for cell in plan(options).cells if isinstance(cell, InversionCell)]
    art = tmp_path / "run" / "art" / cell.id
    meta = (art / "meta.json").read_text()
    data = dataset("digits", 500, load_subject(MODEL, "cpu"))
    (number,) = [i for i, name in enumerate(data.ids) if f'"{name}"' in meta]
    with np.load(art / "inversion.npz") as arrays:
        made = [arrays["made_0"][0, ..., 0], arrays["made_1"][0, ..., 0]]
    pictures = {}
    for seed in ("5", "6"):
        out = tmp_path / seed
        tokens = [f"digits#{number}", "input", "edges", "--method", METHOD, "--seed", seed, "--out", str(out)]
        assert call("synthesize", "invert", MODEL, *tokens) == 0
        pictures[seed] = [np.asarray(Image.open(out / f"inverted-{layer}.png")) for layer in ("input", "edges")]
    for expected, picture in zip(made, pictures["5"], strict=True):
        np.testing.assert_array_equal(expected, picture)
    assert not np.array_equal(pictures["5"][1], pictures["6"][1])


@pytest.mark.parametrize(("text", "spec"), [("image-quilting(block=9)", ""), ("texture-synthesis(steps=4)", MODEL)])
def test_a_texture_draws_the_same_by_the_command_and_in_a_run(text: str, spec: str) -> None:
    record = SYNTHESES.parse(text)
    model = load_subject(spec, "cpu") if spec else None
    cell = TextureCell(
        model=spec, model_digest=model.digest if model else "", seed=5, synthesis=record, judges=()
    )  # fmt: skip
    drawn = [numbers(draws) for draws in (Files(seed=5).draws(model, record, TEXTURES), cell.draws(TEXTURES))]
    assert torch.equal(*drawn)
    assert not torch.equal(drawn[0], numbers(Files(seed=6).draws(model, record, TEXTURES)))


def numbers(draws: Draws) -> torch.Tensor:
    return draws.uniform((4,))
