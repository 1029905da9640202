"""What a page holds, and what every page must hold to."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

VOID = {"meta", "link", "img", "input", "source", "br", "circle", "path", "hr"}


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


class Site:
    """The pages of a report by file name, checked: they are whole, and nothing leads out of the folder of the run."""

    def __init__(self, index: Path) -> None:
        self.folder = index.parent
        self.pages = {path.name: Page(path) for path in sorted(self.folder.glob("*.html"))}
        self.text = " ".join(text for page in self.pages.values() for text in page.text)
        for name, page in self.pages.items():
            self._check(name, page)

    def __getitem__(self, name: str) -> Page:
        return self.pages[name]

    def _check(self, name: str, page: Page) -> None:
        assert [script.get("src") for script in page.all("script")] == ["report.js"]
        assert "https://" not in page.source
        assert not re.search(r"""(?:src|href|srcset)\s*=\s*["']?\s*(?:https?:)?//""", page.source)
        for image in page.all("img"):
            assert image["alt"].strip()
            assert (self.folder / image["src"]).is_file()
        for source in page.all("source"):
            assert (self.folder / source["srcset"]).is_file()
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids))
        for link in page.all("a"):
            file, _, place = link["href"].partition("#")
            where = (self.folder / unquote(file)).resolve()
            assert self.folder.resolve().parent in where.parents, f"{name}: {link['href']} leads out"
            assert file == "" or where.is_file(), f"{name}: {link['href']} leads nowhere"
            if place and (not file or file in self.pages):
                target = self.pages[file] if file else page
                assert any(attributes.get("id") == place for _, attributes in target.tags), f"{name}: {link['href']}"
        assert {link["href"] for link in page.all("link")} == {"report.css"}
