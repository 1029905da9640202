import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import reports
from reports import figures, pictures
from reports.look import DARK, LIGHT, identities, spread, themed
from tests.reports.builder import ATTACKS, EXPLAINERS, Builder

VOID = {"meta", "link", "img", "source", "br", "circle", "path", "hr"}
HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}../../x"


class Page(HTMLParser):
    """Collects what a test wants to know of a page and checks that tags are balanced."""

    def __init__(self, index: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []
        self.source = index.read_text(encoding="utf-8")
        self.feed(self.source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def checked(index: Path) -> Page:
    """A page that stands alone: every picture is there and described, every link leads somewhere, no script."""
    page = Page(index)
    assert not page.all("script")
    assert "https://" not in page.source
    assert not re.search(r"""(?:src|href|srcset)\s*=\s*["']?\s*(?:https?:)?//""", page.source)
    for image in page.all("img"):
        assert image["alt"].strip()
        assert (index.parent / image["src"]).is_file()
    for source in page.all("source"):
        assert (index.parent / source["srcset"]).is_file()
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for link in page.all("a"):
        where = link["href"]
        assert where[1:] in ids if where.startswith("#") else (index.parent / where).is_file()
    return page


@pytest.fixture(scope="module")
def index(run: Path) -> Path:
    return reports.write(run)


def test_the_page_stands_alone(index: Path, run: Path) -> None:
    page = checked(index)
    assert index == run / "report" / "index.html"
    for section in (
        "overview",
        "robustness",
        "explanations",
        "together",
        "gallery",
        "classes",
        "problems",
        "glossary",
        "provenance",
    ):
        assert f'id="{section}"' in page.source
    text = " ".join(page.text)
    assert "zoo:robust keeps" in text
    assert "Share of the heat that lies on the object." in text
    assert "38c935d" in text
    assert "PGD L∞ 4/255" in text
    used = {Path(image["src"]).name for image in page.all("img")} | {
        Path(image["srcset"]).name for image in page.all("source")
    }
    assert used == {path.name for path in index.parent.rglob("*") if path.suffix in (".webp", ".svg")}


def test_pictures_are_real_and_small(index: Path) -> None:
    for path in (index.parent / "pictures").iterdir():
        assert re.fullmatch(r"[0-9a-f]{16}\.webp", path.name)
        with Image.open(path) as picture:
            picture.load()
    assert sum(path.stat().st_size for path in index.parent.rglob("*") if path.is_file()) < 4e6


def test_hostile_names_are_only_text(tmp_path: Path) -> None:
    builder = Builder(
        models=(HOSTILE, "zoo:b"),
        data=(HOSTILE,),
        classes=(HOSTILE, "b"),
        attacks=(f"A(eps=0.1, text={HOSTILE!r})", *ATTACKS[:2]),
        explainers=(f"E(text={HOSTILE!r})", EXPLAINERS[0]),
        images=6,
    )
    run = builder.write(tmp_path)
    rows: list[dict[str, Any]] = [
        {"image": HOSTILE, "metric": "", "value": math.nan, "status": "failed", "flags": HOSTILE}
    ]
    builder.add(run, "data", "", HOSTILE, "", rows, "failed")
    (run / "run.json").write_text(json.dumps({**builder.info(builder.cells), "argv": [HOSTILE], "preset": HOSTILE}))
    page = checked(reports.write(run))
    assert "<script" not in page.source
    assert "{{7*7}}" in page.source
    assert HOSTILE in " ".join(page.text)
    for figure in (run / "report" / "figures").iterdir():
        assert "<script" not in figure.read_text()
        assert re.fullmatch(r"[a-z0-9-]+\.svg", figure.name)


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds": ()},
        {"kinds": ("clean",)},
        {"kinds": ("attack",)},
        {"kinds": ("explain",)},
        {"kinds": ("gallery",)},
        {"kinds": ("synthesis",)},
        {"kinds": ("clean", "attack"), "attacks": ATTACKS[-1:]},
        {"kinds": ("clean", "attack"), "attacks": ATTACKS[:1]},
        {"models": ("zoo:one",)},
        {"models": ("zoo:one",), "images": 1, "shown": 1},
        {"models": (), "data": ()},
        {"explainers": EXPLAINERS[-2:]},
        {"explainers": ()},
        {"data": ("digits", "scenes", "folder:/x/y"), "kinds": ("clean", "attack", "gallery")},
    ],
    ids=str,
)
def test_pieces_may_be_missing(tmp_path: Path, changes: dict[str, Any]) -> None:
    checked(
        reports.write(Builder(**{"images": 4, "shown": 2, "models": ("zoo:a", "zoo:b"), **changes}).write(tmp_path))
    )


def test_nothing_defined_anywhere(tmp_path: Path) -> None:
    run = Builder(images=3).write(tmp_path)
    for shard in (run / "cells").iterdir():
        pd.read_parquet(shard).assign(value=math.nan).to_parquet(shard)
    page = checked(reports.write(run))
    assert "nan" not in " ".join(page.text).lower().split()


def test_lost_pictures_are_said(tmp_path: Path) -> None:
    run = Builder(images=3, kinds=("gallery", "synthesis")).write(tmp_path)
    for path in (run / "art").rglob("*"):
        if path.name == "gallery.npz":
            path.write_bytes(b"broken")
        elif path.name == "pictures.npz":
            path.unlink()
    page = checked(reports.write(run))
    assert "Pictures that could not be shown" in page.source
    assert 'id="gallery"' not in page.source
    assert 'id="classes"' not in page.source


def test_old_figures_go(tmp_path: Path) -> None:
    run = Builder(images=3, models=("a",), kinds=("clean", "attack"), attacks=ATTACKS[:2]).write(tmp_path)
    reports.write(run)
    (run / "report" / "figures" / "d7-old.svg").write_text("old")
    reports.write(run)
    assert not (run / "report" / "figures" / "d7-old.svg").exists()


def test_curves_start_at_the_clean_accuracy(run: Path) -> None:
    results = reports.load(run)
    summary = reports.tables(results)["summary"]
    marks = identities({model: model for model in results.models})
    plot = next(plot for plot in figures.figures(results, summary, "scenes", marks, "d0") if "curves-linf" in plot.name)
    clean = summary[(summary["metric"] == "accuracy") & (summary["data"] == "scenes")].set_index("model")["value"]
    with themed(LIGHT):
        figure = plot.draw(LIGHT)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["FGSM", "PGD", "Worst case of all attacks"]
    for ax in figure.axes:
        for line in ax.lines:
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            assert x.tolist() == pytest.approx([0, 1, 2, 4, 8])
            assert y[0] == clean[str(line.get_label())]
            assert line.get_color() == marks[str(line.get_label())].colour


def test_the_difference_is_amplified_by_what_fits() -> None:
    original = np.full((1, 2, 3), 100, np.uint8)
    adversarial = original + np.array([[[4], [0]]], np.uint8)
    shown, factor = pictures.amplified(original, adversarial)
    assert factor == 16
    assert shown[0, :, 0].tolist() == [128 + 64, 128]
    assert pictures.amplified(original, original)[1] == 0
    assert pictures.amplified(original, original + np.uint8(150))[1] == 1


def test_overlays_take_any_heat() -> None:
    image = np.full((4, 4, 3), 90, np.uint8)
    for heat in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(4), -np.eye(4), np.full((4, 4), np.inf)):
        assert pictures.overlay(image, heat.astype(np.float32)).shape == (4, 4, 3)


def test_spread_keeps_order_and_distance() -> None:
    moved = spread([0.5, 0.51, 0.1, 0.5], 0.1, 0.0, 1.0)
    assert moved[2] == 0.1
    assert np.diff(sorted(moved)).min() == pytest.approx(0.1)
    assert moved[0] < moved[3] < moved[1]
    crowded = spread([1.0] * 30, 0.1, 0.0, 1.0)
    assert min(crowded) >= -1e-9
    assert max(crowded) <= 1 + 1e-9


def test_reports_load_no_torch_and_open_no_figure_window() -> None:
    code = "import sys, reports, matplotlib.pyplot as p; sys.exit('torch' in sys.modules or len(p.get_fignums()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert LIGHT.paper != DARK.paper
