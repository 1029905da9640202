"""Which page is whose. A name from outside becomes letters, digits and dashes, so that no page leaves the report."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from assay.reports.run import labels as names
from assay.reports.run.reader import Run
from assay.reports.kinds.transfer import split

LONGEST = 48  # letters of a name in a file's name
KINDS = {
    "attack": "Attacks",
    "fooling": "Fooling images",
    "transfer": "Attacks shown to other models",
    "explain": "Explainers",
    "synthesis": "Class pictures",
    "inversion": "Inversions",
    "dream": "Dreams",
    "texture": "Textures",
    "style": "Styles",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """File names of pages, by the names as the run has them; methods by kind and text."""

    models: dict[str, str]
    data: dict[str, str]
    methods: dict[tuple[str, str], str]

    @classmethod
    def of(cls, run: Run) -> "Files":
        """The pages that a run needs, the same for the same run."""
        used = dict.fromkeys(
            (cell["kind"], method_of(run, cell["kind"], cell["method"]))
            for cell in run.info["cells"]
            if cell["kind"] in KINDS
        )
        brief = names.short((method for _, method in used), always=("norm", "eps"))
        labels = [f"{kind} {brief[method]}" for kind, method in used]
        return cls(
            models=_files("model", run.models, names.models(run.models).values()),
            data=_files("data", run.data, names.data(run.data).values()),
            methods=dict(zip(used, _files("method", [f"{k}\x1f{m}" for k, m in used], labels).values(), strict=True)),
        )


def method_of(run: Run, kind: str, method: str) -> str:
    """The method that a row's text is of.

    What an attack did to other models is the attack's. Where rows fill in a layer or a number of steps, it is the
    method of a cell of that kind and class that differs in the fewest settings.
    """
    if kind == "transfer":
        return split(method, list(run.info.get("attacks") or {}))[0]
    cells = dict.fromkeys(cell["method"] for cell in run.info["cells"] if cell["kind"] == kind)
    if method in cells:
        return method
    mine = names.read(method)
    near = {text: names.read(text) for text in cells}
    differ = {
        text: sum(mine.settings.get(key) != value for key, value in other.settings.items())
        for text, other in near.items()
        if other.name == mine.name
    }
    return min(differ, key=lambda text: differ[text], default=method)


def _files(prefix: str, keys: Iterable[str], labels: Iterable[str]) -> dict[str, str]:
    """``prefix-label.html`` for each key; labels that would share a file get letters of their key's hash."""
    stems = {key: f"{prefix}-{_plain(label)}" for key, label in zip(keys, labels, strict=True)}
    count = Counter(stems.values())
    return {
        key: f"{stem}.html" if count[stem] == 1 and stem != f"{prefix}-" else f"{stem}-{_hash(key)}.html"
        for key, stem in stems.items()
    }


def _plain(label: str) -> str:
    ascii_ = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", ascii_.lower())[:LONGEST].strip("-")


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
