"""Text of any encoding, and names that no system takes."""

import json
import os
from pathlib import Path

import pytest

from assay.core.errors import AssayError, brief
from assay.core.text import is_file, is_folder, line, parse_toml, read_text, storable, to_json, visible, write_text

BYTES = os.fsdecode(b"lat\xe9.png")  # a name that is not UTF-8, as Python has it


def test_text_that_no_encoding_has_is_escaped_everywhere(tmp_path: Path) -> None:
    assert storable(BYTES + "\ud800é") == r"lat\xe9.png\ud800é"
    assert json.loads(to_json({BYTES: [BYTES]})) == {r"lat\xe9.png": [r"lat\xe9.png"]}
    write_text(tmp_path / "a", BYTES + "é")
    assert (tmp_path / "a").read_bytes() == b"lat\\xe9.png\xc3\xa9"


def test_a_line_is_one_and_moves_no_cursor() -> None:
    assert visible("a\x1b[2J\N{RIGHT-TO-LEFT OVERRIDE}é") == r"a\x1b[2J\u202eé"
    assert line(ValueError(" a\n\tb\r")) == "a b"
    assert len(line("x" * 100_000)) < 2010


def test_long_values_and_those_without_a_repr_are_brief() -> None:
    assert brief("a" * 10) == repr("a" * 10)
    assert len(brief("a" * 100_000)) <= 80
    assert brief(10**5000) == "a int"


def test_toml_may_begin_with_a_mark(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes(b"\xef\xbb\xbfa = 1")
    assert parse_toml(read_text(file), file) == {"a": 1}


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
def test_names_that_no_system_takes_are_no_files(name: str) -> None:
    assert not is_file(name)
    assert not is_folder(Path(name))
    with pytest.raises(AssayError, match="cannot read"):
        read_text(Path(name))
