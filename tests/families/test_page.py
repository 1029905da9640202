"""``assay families`` and the page that it wrote."""

import re
from pathlib import Path

import pytest

from assay.bench.cli import main
from assay.bench.families import FAMILIES
from tests.families.test_families import QUICK

PAGE = Path(__file__).parents[2] / "docs" / "families.md"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["families", *arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def lines(text: str) -> dict[str, str]:
    """The table's rows by family."""
    return {row.split("|")[1].strip(): row for row in re.findall(r"^\|.*\|$", text, re.MULTILINE)[2:]}


def test_the_page_has_every_family() -> None:
    assert list(lines(PAGE.read_text(encoding="utf-8"))) == list(FAMILIES)


def test_the_page_says_what_the_command_finds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*QUICK, "--out", str(tmp_path / "page.md")) == 0
    assert "resnet: layer4 2x2 nchw" in capsys.readouterr().out
    written, kept = (lines(page.read_text(encoding="utf-8")) for page in (tmp_path / "page.md", PAGE))
    assert written == {name: kept[name] for name in QUICK}


def test_without_a_file_the_table_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("resnet") == 0
    (row,) = lines(capsys.readouterr().out).values()
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == ["resnet", "`test_resnet`", "64x64", "`layer4`", "nchw", "2x2", "0", "yes", "97%", "1.00"]


def test_an_unknown_family_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("resnets") == 2
    assert "unknown family 'resnets'; did you mean resnet" in capsys.readouterr().err
