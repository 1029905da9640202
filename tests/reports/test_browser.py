"""The pages in a real browser, where there is one: what a reader can do with them."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.base import AXE_FILE_PATH
from numpy.typing import NDArray
from playwright.sync_api import Browser, Page, sync_playwright

from assay import reports
from assay.reports.gate import compare, load, output
from assay.reports.gate.tolerances import read
from tests.reports.builder import ATTACKS, EXPLAINERS, Builder, plain_picture

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (390, 1440)
KINDS = ("clean", "attack", "explain", "synthesis", "gallery", "transfer", "fooling", "landscape")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = ("zoo:resnet", "zoo:robust", "zoo:vit", "zoo:mlp", "zoo:linear", "zoo:convnext", "zoo:hybrid")
    few: dict[str, Any] = {"attacks": (*ATTACKS[:4], ATTACKS[-1]), "explainers": EXPLAINERS[2:5], "shown": 2}
    builder = Builder(models=models, images=8, kinds=KINDS, sources=models[:2], **few)
    return reports.write(builder.write(tmp_path_factory.mktemp("run"))).parent


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of 1440 pixels that may copy."""
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, permissions=["clipboard-read"])
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a check that found regressions in values and pictures."""
    runs = [tmp_path_factory.mktemp(name) for name in ("old", "new")]
    for run, eps in zip(runs, (0, 60), strict=True):
        Builder(models=("zoo:a", "<b>&"), images=8, kinds=("clean", "explain", "gallery"), picture=grey(eps)).write(run)
    for shard in (runs[1] / "cells").iterdir():
        rows = pd.read_parquet(shard)
        rows.assign(value=rows["value"] * np.where(rows["metric"] == "mass-accuracy", 0.5, 1)).to_parquet(shard)
    verdict = compare(load(runs[0]), load(runs[1]), read(None))
    assert not verdict.passed
    return output.write(verdict, runs[1] / "check")


def grey(brighter: int) -> Callable[[int], NDArray[np.uint8]]:
    return lambda index: (plain_picture(index) // 2 + brighter).astype(np.uint8)


def pages(folder: Path) -> list[Path]:
    """One page of each sort."""
    sorts = {path.name.partition("-")[0]: path for path in sorted(folder.glob("*.html"))}
    return list(sorts.values())


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_every_page_opens_from_disk(browser: Browser, folder: Path, width: int, script: bool) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=script)
    tab = context.new_page()
    said, asked = heard(tab)
    for path in sorted(folder.glob("*.html")):
        tab.goto(path.as_uri())
        assert tab.locator("h1").inner_text()
        if script:
            wide = tab.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path.name} is {wide} pixels wide on a screen of {width}"
    assert said == []
    assert asked
    assert [url for url in asked if not url.startswith(folder.as_uri())] == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_pages_are_accessible(browser: Browser, folder: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    for path in pages(folder):
        tab.goto(path.as_uri())
        assert serious(tab) == [], path.name
    context.close()


def heard(tab: Page) -> tuple[list[str], list[str]]:
    """What the console and errors say, and which addresses are asked for, from now on."""
    said: list[str] = []
    asked: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: asked.append(request.url))
    return said, asked


def serious(tab: Page) -> list[tuple[str, list[str]]]:
    """What axe-core finds serious or critical: the rule, and the first elements."""
    tab.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
    found = [one for one in tab.evaluate("axe.run()")["violations"] if one["impact"] in ("serious", "critical")]
    return [(one["id"], [node["html"][:120] for node in one["nodes"][:3]]) for one in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_of_a_check_opens_and_is_accessible(browser: Browser, checked: Path, width: int, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab = context.new_page()
    said, asked = heard(tab)
    tab.goto(checked.as_uri())
    assert said == []
    assert [url for url in asked if not url.startswith(checked.parent.as_uri())] == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert len([row for row in tab.locator(".beside tbody tr").all() if row.locator("img").count() == 3]) > 0
    assert all(
        tab.locator("img").evaluate_all("images => images.map(image => image.loading === 'lazy' || image.complete)")
    )
    assert serious(tab) == []
    context.close()


def column(page: Page, table: str, number: int) -> list[str]:
    cells = page.locator(f"{table} tbody tr:not([hidden]) > :nth-child({number})").all_inner_texts()
    return [" ".join(cell.split()) for cell in cells]


def test_tables_sort_by_numbers_and_by_words(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    head = page.get_by_role("button", name="Clean accuracy")
    head.click()
    values = [float(cell.split()[0]) for cell in column(page, "#overview table", 3)]
    assert len(values) == 7
    assert values == sorted(values, reverse=True)
    assert page.get_by_role("columnheader", name="Clean accuracy").get_attribute("aria-sort") == "descending"
    head.press("Enter")
    assert [float(cell.split()[0]) for cell in column(page, "#overview table", 3)] == sorted(values)
    page.get_by_role("button", name="Model", exact=True).click()
    names = [cell.split()[-1] for cell in column(page, "#overview table", 2)]
    assert names == sorted(names)


def test_what_is_unknown_stays_last(page: Page, folder: Path) -> None:
    page.goto((folder / "model-zoo-resnet.html").as_uri())
    table = page.locator("table").filter(has_text="What each attack does").first
    head = table.get_by_role("button", name="distance_l2")
    for _ in range(2):
        head.click()
        place = table.locator("thead th").all_inner_texts().index(head.inner_text())
        cells = [
            row.locator("th, td").nth(place).get_attribute("data-value") for row in table.locator("tbody tr").all()
        ]
        known = [float(cell) for cell in cells if cell]
        assert cells[len(known) :] == [""] * (len(cells) - len(known))
        assert known in (sorted(known), sorted(known, reverse=True))
        assert len(set(known)) > 1


def test_tables_filter_and_copy(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    page.get_by_role("searchbox", name="Filter rows").fill("zoo:r")
    assert sorted(cell.split()[-1] for cell in column(page, "#overview table", 2)) == ["zoo:resnet", "zoo:robust"]
    assert page.locator("#overview output").inner_text() == "2 of 7 rows"
    page.locator("#overview").get_by_role("button", name="Copy as CSV").click()
    page.locator("#overview output", has_text="copied").wait_for()
    lines = page.evaluate("navigator.clipboard.readText()").strip().splitlines()
    assert len(lines) == 3
    assert lines[0].startswith('"Place","Model","Clean accuracy"')
    for line in lines[1:]:
        place, model, accuracy, *_ = line.strip('"').split('","')
        assert 1 <= int(place) <= 7
        assert model in ("zoo:resnet", "zoo:robust")
        assert 0 <= float(accuracy) <= 1


@pytest.mark.parametrize("script", [True, False], ids=["script", "plain"])
def test_pictures_switch_in_place_with_the_keyboard(browser: Browser, folder: Path, script: bool) -> None:
    context = browser.new_context(java_script_enabled=script)
    tab = context.new_page()
    tab.goto((folder / "model-zoo-resnet.html").as_uri())
    shot = tab.locator(".shot").first
    views = shot.locator(".views figure")
    tab.get_by_role("radio", name="Original").first.focus()
    for shown in range(3):
        assert [views.nth(i).is_visible() for i in range(3)] == [i == shown for i in range(3)]
        tab.keyboard.press("ArrowRight")
    assert views.nth(0).is_visible()
    context.close()


def test_pictures_enlarge_and_give_the_focus_back(page: Page, folder: Path) -> None:
    page.goto((folder / "model-zoo-resnet.html").as_uri())
    link = page.locator("#classes .tiles a.enlarge").first
    link.focus()
    page.keyboard.press("Enter")
    viewer = page.locator("dialog")
    assert viewer.is_visible()
    first = viewer.locator("p").inner_text()
    page.keyboard.press("ArrowRight")
    assert viewer.locator("p").inner_text() != first
    page.keyboard.press("ArrowLeft")
    assert viewer.locator("p").inner_text() == first
    small, large = link.locator("img").bounding_box(), viewer.locator("img").bounding_box()
    assert small is not None
    assert large is not None
    assert large["width"] > 2 * small["width"]
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert link.evaluate("link => link === document.activeElement")


def test_without_script_a_picture_opens_by_its_link(browser: Browser, folder: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto((folder / "model-zoo-resnet.html").as_uri())
    tab.locator(".tiles a.enlarge").first.click()
    assert "/pictures/" in tab.url
    context.close()


def test_pages_print_all_three_pictures(page: Page, folder: Path) -> None:
    page.goto((folder / "model-zoo-resnet.html").as_uri())
    page.emulate_media(media="print")
    views = page.locator(".shot").first.locator(".views figure")
    assert all(views.nth(i).is_visible() for i in range(3))
    assert not page.locator("nav").first.is_visible()
    assert len(page.pdf()) > 10_000


def test_the_first_tab_leads_to_the_content(page: Page, folder: Path) -> None:
    page.goto((folder / "index.html").as_uri())
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "To the content"
    page.keyboard.press("Enter")
    assert page.url.endswith("#main")
