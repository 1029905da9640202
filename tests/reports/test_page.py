import json
import math
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from assay import reports
from assay.core.errors import AssayError
from assay.reports.context import Context
from assay.reports.drawing import album, attack_figures
from assay.reports.drawing.theme import LIGHT, spread, themed
from tests.reports.builder import ATTACKS, EXPLAINERS, Builder
from tests.reports.site import Site

HOSTILE = "<script>alert(1)</script>\"'&{{7*7}}../../x"
NASTY = (
    HOSTILE,
    "x" * 3000,
    "\u202emodel\u202c \u05e9\u05dc\u05d5\u05dd",
    "\N{PILE OF POO}\N{ZERO WIDTH JOINER}\N{FAMILY}",
    "../../../etc/passwd",
    "..\\..\\windows",
    "a/b",
    "a-b",
    "con",
    "javascript:alert(1)",
    "bell\a and \x1b[31m",
    "zoo:\u202etsubor",
)


@pytest.fixture(scope="module")
def index(run: Path) -> Path:
    return reports.write(run)


def test_the_page_stands_alone(index: Path, run: Path) -> None:
    site = Site(index)
    assert index == run / "report" / "index.html"
    fixed = ("index", "robustness", "explanations", "methods", "problems", "glossary", "provenance")
    assert {f"{name}.html" for name in fixed} == {name for name in site.pages if "-" not in name}
    for kind, count in (("model", 3), ("data", 2), ("method", len({*ATTACKS, *EXPLAINERS}) + 1)):
        assert len([name for name in site.pages if name.startswith(f"{kind}-")]) == count
    assert "zoo:robust keeps" in " ".join(site["index.html"].text)
    assert "Share of the heat that lies on the object." in " ".join(site["glossary.html"].text)
    assert "38c935d" in " ".join(site["provenance.html"].text)
    assert "PGD L∞ 4/255" in " ".join(site["method-attack-pgd-l-4-255.html"].text)
    used = {
        Path(image[where]).name
        for page in site.pages.values()
        for tag, where in (("img", "src"), ("source", "srcset"))
        for image in page.all(tag)
    }
    assert used == {path.name for path in index.parent.rglob("*") if path.suffix in (".webp", ".svg")}


def test_a_model_has_a_page_of_its_own(index: Path) -> None:
    page = Site(index)["model-zoo-resnet.html"]
    for section in ("accuracy1", "accuracy2", "classes"):
        assert f'id="{section}"' in page.source
    assert page.source.count('id="gallery') == 2
    text = " ".join(" ".join(page.text).split())
    assert "Robust accuracy, worst case" in text
    assert "The easiest to fool" in text
    for method in ("DeepFool", "GradCAM", "SobelMap"):
        assert method in text
    assert len([button for button in page.all("input") if button["type"] == "radio"]) == 2 * 3 * 3


def test_every_model_and_method_is_reached_from_the_overview(index: Path) -> None:
    site = Site(index)
    seen, left = set(), ["index.html"]
    while left:
        page = left.pop()
        if page not in seen:
            seen.add(page)
            links = [link["href"].partition("#")[0] for link in site[page].all("a")]
            left += [link for link in links if link in site.pages]
    assert seen == set(site.pages)


def test_pictures_are_real_and_small(index: Path) -> None:
    for path in (index.parent / "pictures").iterdir():
        assert re.fullmatch(r"[0-9a-f]{16}\.webp", path.name)
        with Image.open(path) as picture:
            picture.load()
    assert sum(path.stat().st_size for path in index.parent.rglob("*") if path.is_file()) < 4e6


@pytest.mark.usefixtures("figures")
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
    site = Site(reports.write(run))
    for page in site.pages.values():
        assert "<script>" not in page.source
    assert "{{7*7}}" in site.text
    assert HOSTILE in site.text
    for figure in (run / "report" / "figures").iterdir():
        assert "<script" not in figure.read_text()
        assert re.fullmatch(r"[a-z0-9-]+\.svg", figure.name)


@pytest.mark.usefixtures("figures")
def test_any_names_give_pages_inside_the_run(tmp_path: Path) -> None:
    run = tmp_path / "deep" / "run"
    run.mkdir(parents=True)
    few: dict[str, Any] = {"images": 2, "kinds": ("clean", "gallery"), "explainers": EXPLAINERS[:1], "shown": 1}
    Builder(models=NASTY, data=NASTY[:3], classes=NASTY[:4], **few).write(run)
    site = Site(reports.write(run, jobs=1))
    assert sorted(path.name for path in tmp_path.rglob("*") if run not in path.parents) == ["deep", "run"]
    for name in site.pages:
        assert re.fullmatch(r"[a-z0-9-]{1,80}\.html", name)
    for figure in (run / "report" / "figures").iterdir():
        ElementTree.parse(figure)
    assert "zoo:\N{REPLACEMENT CHARACTER}tsubor" in site.text
    assert len([name for name in site.pages if name.startswith("model-")]) == len(NASTY)
    assert len([name for name in site.pages if name.startswith("data-")]) == 3


@pytest.mark.usefixtures("figures")
def test_the_same_shards_give_the_same_bytes(tmp_path: Path) -> None:
    kinds = ("clean", "attack", "explain", "gallery", "synthesis")
    few: dict[str, Any] = {"models": ("zoo:a", "zoo:b"), "images": 3, "shown": 1, "explainers": EXPLAINERS[3:4]}
    runs = [Builder(kinds=kinds, attacks=ATTACKS[:2], shuffle=k, **few).write(tmp_path / str(k)) for k in (0, 0, 7)]
    for run, jobs in zip(runs, (1, 2, 1), strict=True):
        reports.write(run, jobs=jobs)
    first, again, shuffled = (
        {path.relative_to(run): path.read_bytes() for path in (run / "report").rglob("*") if path.is_file()}
        for run in (runs[0], runs[1], runs[2])
    )
    assert first == again
    assert set(first) == set(shuffled)


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
        {"data": ("digits", "scenes", "folder:/x/y"), "kinds": ("clean", "attack", "gallery"), "attacks": ATTACKS[:4]},
    ],
    ids=str,
)
def test_pieces_may_be_missing(tmp_path: Path, changes: dict[str, Any]) -> None:
    few = {"images": 4, "shown": 1, "models": ("zoo:a", "zoo:b"), "explainers": EXPLAINERS[3:6], **changes}
    Site(reports.write(Builder(**few).write(tmp_path)))


def test_nothing_defined_anywhere(tmp_path: Path) -> None:
    run = Builder(images=3, models=("zoo:a", "zoo:b"), shown=1, explainers=EXPLAINERS[3:6]).write(tmp_path)
    for shard in (run / "cells").iterdir():
        pd.read_parquet(shard).assign(value=math.nan).to_parquet(shard)
    site = Site(reports.write(run))
    assert "nan" not in site.text.lower().split()


def test_lost_pictures_are_said(tmp_path: Path) -> None:
    run = Builder(images=3, shown=1, kinds=("gallery", "synthesis")).write(tmp_path)
    for path in (run / "art").rglob("*"):
        if path.name == "gallery.npz":
            path.write_bytes(b"broken")
        elif path.name == "pictures.npz":
            path.unlink()
    site = Site(reports.write(run))
    assert "Pictures that could not be shown" in site["problems.html"].source
    for name, page in site.pages.items():
        assert 'id="gallery' not in page.source
        assert name.startswith("data-") or 'id="classes"' not in page.source


def test_an_earlier_report_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Builder(images=3, models=("a",), kinds=("clean", "attack"), attacks=ATTACKS[:2]).write(tmp_path)
    index = reports.write(run)
    before = index.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("assay.reports.site.pages.draw", full)
    with pytest.raises(AssayError, match="No space left"):
        reports.write(run)
    assert index.read_bytes() == before


def test_old_figures_go(tmp_path: Path) -> None:
    run = Builder(images=3, models=("a",), kinds=("clean", "attack"), attacks=ATTACKS[:2]).write(tmp_path)
    reports.write(run)
    (run / "report" / "figures" / "d7-old.svg").write_text("old")
    reports.write(run)
    assert not (run / "report" / "figures" / "d7-old.svg").exists()


def test_curves_start_at_the_clean_accuracy(whole: Context) -> None:
    context = whole
    figures = attack_figures.figures(context, "scenes", "d0")
    plot = next(plot for plot in figures if "curves-linf" in plot.name)
    summary = context.tables["summary"].query("metric == 'accuracy' and data == 'scenes'")
    clean = summary.assign(label=summary["model"].map(context.label)).set_index("label")["value"]
    colours = {mark.label: mark.colour for mark in context.marks.values()}
    with themed(LIGHT):
        figure = plot.draw(LIGHT)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["FGSM", "PGD", "Worst case of all attacks"]
    for ax in figure.axes:
        for line in ax.lines:
            x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
            assert x.tolist() == pytest.approx([0, 1, 2, 4, 8])
            assert y[0] == clean[str(line.get_label())]
            assert line.get_color() == colours[str(line.get_label())]


def test_the_difference_is_amplified_by_what_fits() -> None:
    original = np.full((1, 2, 3), 100, np.uint8)
    adversarial = original + np.array([[[4], [0]]], np.uint8)
    shown, factor = album.amplified(original, adversarial)
    assert factor == 16
    assert shown[0, :, 0].tolist() == [128 + 64, 128]
    assert album.amplified(original, original)[1] == 0
    assert album.amplified(original, original + np.uint8(150))[1] == 1


def test_overlays_take_any_heat() -> None:
    image = np.full((4, 4, 3), 90, np.uint8)
    for heat in (np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(4), -np.eye(4), np.full((4, 4), np.inf)):
        assert album.overlay(image, heat.astype(np.float32)).shape == (4, 4, 3)


def test_spread_keeps_order_and_distance() -> None:
    moved = spread([0.5, 0.51, 0.1, 0.5], 0.1, 0.0, 1.0)
    assert moved[2] == 0.1
    assert np.diff(sorted(moved)).min() == pytest.approx(0.1)
    assert moved[0] < moved[3] < moved[1]
    crowded = spread([1.0] * 30, 0.1, 0.0, 1.0)
    assert min(crowded) >= -1e-9
    assert max(crowded) <= 1 + 1e-9


@pytest.mark.slow
def test_twenty_models_and_two_hundred_galleries_stay_small(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:224, 0:224]

    def photograph(index: int) -> Any:
        waves = [np.sin(x * rng.uniform(0.01, 0.2) + y * rng.uniform(0.01, 0.2)) for _ in range(3)]
        return np.clip(128 + 80 * np.stack(waves, 2) + rng.normal(0, 6, (224, 224, 3)), 0, 255).astype(np.uint8)

    builder = Builder(
        models=tuple(f"zoo:m{i}" for i in range(20)),
        data=tuple(f"folder:/d{i}" for i in range(10)),
        kinds=("clean", "attack", "explain", "gallery"),
        attacks=ATTACKS[:4],
        shown=1,
        picture=photograph,
    )
    folder = reports.write(builder.write(tmp_path)).parent
    assert (
        len([path for path in folder.glob("model-*.html") for _ in range(path.read_text().count('class="shot"'))])
        == 200
    )
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 30e6
