"""Files that commands write."""

import errno
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay.core.errors import AssayError
from assay.core.text import is_file, to_json


@contextmanager
def writing(folder: Path) -> Iterator[Path]:
    """The folder, which is there within; an ``OSError`` is an ``AssayError`` that names it."""
    try:
        if "\0" in str(folder):
            raise OSError(errno.EINVAL, "its name holds a NUL")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> AssayError:
    """What to say of a folder that cannot be written."""
    reason = "it is a file" if is_file(folder) else error.strerror or error
    return AssayError(f"cannot write to {folder}: {reason}; --out names another folder")


def free_number(folder: Path, facts: Mapping[str, Any], index: str, others: Sequence[str] = ()) -> str:
    """What stands before the endings of the file ``index`` (JSON) and ``others``: "", or "-1", "-2", ...

    It is the first with which no file is there, or with which ``index`` tells the same ``facts``: those of a model and
    a picture replace their earlier ones, whatever the settings, and leave those of another.
    """
    plain = json.loads(to_json(facts))

    def is_free(number: str) -> bool:
        paths = [folder / numbered(file, number) for file in (index, *others)]
        return _tells(paths[0], plain) or not any(map(os.path.lexists, paths))

    return next(filter(is_free, itertools.chain([""], (f"_{i}" for i in itertools.count(2)))))


def numbered(file: str, number: str) -> str:
    """``dream.png`` and ``_2`` are ``dream_2.png``."""
    stem, dot, ending = file.rpartition(".")
    return f"{stem}{number}{dot}{ending}"


def _tells(path: Path, facts: Mapping[str, Any]) -> bool:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(stored, dict) and all(key in stored and stored[key] == fact for key, fact in facts.items())
