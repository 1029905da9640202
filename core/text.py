"""Names of files, and text that goes to files and terminals, whatever their encoding."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError

LONGEST = 2000  # letters of a line
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character: a byte of a file's name that is not UTF-8, or nonsense


def storable(text: str) -> str:
    """Text that every encoding of Unicode has: a byte that is not UTF-8 stands as its hexadecimal escape."""
    return _SURROGATE.sub(_escape, text)


def visible(text: str) -> str:
    """Text that a terminal shows and does not obey: controls, marks of direction and lone surrogates as escapes."""
    return "".join(sign if sign.isprintable() else _ascii(sign) for sign in storable(text))


def line(text: object) -> str:
    """A message on one visible line, of at most ``LONGEST`` letters."""
    flat = visible(" ".join(str(text).split()))
    return flat if len(flat) <= LONGEST else f"{flat[: LONGEST // 2]} ... {flat[-LONGEST // 2 :]}"


def to_json(value: Any, **how: Any) -> str:
    """As ``json.dumps``, in plain letters and as ``storable`` has them."""
    return _SURROGATE.sub(lambda match: "\\" + _escape(match), json.dumps(value, ensure_ascii=False, **how))


def write_text(path: Path, text: str) -> None:
    """Write a file in UTF-8."""
    path.write_text(storable(text), encoding="utf-8")


def is_file(path: str | Path) -> bool:
    """Whether a file of that name is there; none is of a name that the system does not take."""
    try:
        return Path(path).is_file()
    except OSError:
        return False


def read_text(path: Path) -> str:
    """What a file in UTF-8 holds, but for a byte-order mark. Raises ``AssayError`` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise AssayError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def parse_toml(text: str, where: object) -> dict[str, Any]:
    """TOML from a place. Raises ``AssayError`` for what is none."""
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise AssayError(f"{where} is no TOML: it is nested too deeply") from None
    except ValueError as error:
        raise AssayError(f"{where} is no TOML: {error}") from error


def _escape(match: "re.Match[str]") -> str:
    code = ord(match[0])
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _ascii(sign: str) -> str:
    return sign.encode("unicode_escape").decode()
