"""Which page is whose. A name from outside becomes letters, digits and dashes, so that no page leaves the report."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from assay.reports.kinds import kind_of
from assay.reports.run import labels
from assay.reports.run.reader import Run

LONGEST = 48  # letters of a name in a file's name


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """File names of pages, by the names as the run has them; methods by kind and text."""

    models: dict[str, str]
    data: dict[str, str]
    methods: dict[tuple[str, str], str]

    @classmethod
    def of(cls, run: Run) -> "Files":
        """The pages that a run needs, the same for the same run."""
        pairs = dict.fromkeys((cell.kind, cell.method) for cell in run.info.cells if kind_of(cell.kind).heading)
        brief = run.short((method for _, method in pairs), always=("norm", "eps"))
        names = [f"{kind} {brief[method]}" for kind, method in pairs]
        return cls(
            models=_files("model", run.models, labels.models(run.models).values()),
            data=_files("data", run.data, labels.data(run.data).values()),
            methods=dict(zip(pairs, _files("method", [f"{k}\x1f{m}" for k, m in pairs], names).values(), strict=True)),
        )


def _files(prefix: str, keys: Iterable[str], names: Iterable[str]) -> dict[str, str]:
    """``prefix-name.html`` for each key; names that would share a file get letters of their key's hash."""
    stems = {key: f"{prefix}-{_plain(name)}" for key, name in zip(keys, names, strict=True)}
    count = Counter(stems.values())
    return {
        key: f"{stem}.html" if count[stem] == 1 and stem != f"{prefix}-" else f"{stem}-{_hash(key)}.html"
        for key, stem in stems.items()
    }


def _plain(name: str) -> str:
    ascii_ = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_.lower())[:LONGEST].strip("-")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
