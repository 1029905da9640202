"""Folders that commands write into."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assay.core.errors import AssayError


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """The folder, which is there within; an ``OSError`` is an ``AssayError`` that names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise AssayError(f"cannot write to {folder}: {error.strerror or error}") from error
