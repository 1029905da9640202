"""Paths as they are typed, of which none raises: too long, with NUL, of a user who is not there."""

from contextlib import suppress
from pathlib import Path


def typed(text: str) -> Path:
    """The path, ``~`` expanded where that means something."""
    with suppress(RuntimeError):
        return Path(text).expanduser()
    return Path(text)


def is_file(path: Path) -> bool:
    """Whether there is a regular file: no folder, no pipe, no device."""
    with suppress(OSError, ValueError):
        return path.is_file()
    return False


def exists(path: Path) -> bool:
    """Whether there is anything."""
    with suppress(OSError, ValueError):
        return path.exists()
    return False
