"""Pictures to measure on.

``load(SPEC)`` gives a ``DataSet``; ``SOURCES`` names the kinds of spec:

- ``scenes?split=test&n=1000&seed=0&shortcut=none``: embedded, generated, with masks, parts and pictures without a part
- ``digits?split=test``: scikit-learn's handwritten digits
- ``folder:PATH``: one folder per class, optionally with masks
- ``torchvision:NAME?root=PATH&split=test``: a set of torchvision that lies in PATH; nothing is downloaded
"""

from typing import TYPE_CHECKING, cast

from assay.core.tables import Table

if TYPE_CHECKING:
    from assay.bench.data.base import DataSet as DataSet
    from assay.bench.data.base import DecodeError as DecodeError
    from assay.bench.data.base import Example as Example
    from assay.bench.data.folder import Folder as Folder
    from assay.bench.data.generated import Digits as Digits
    from assay.bench.data.generated import Scenes as Scenes
    from assay.bench.data.tv import Torchvision as Torchvision

SOURCES = Table(
    "data set",
    {
        "scenes": "assay.bench.data.generated:Scenes",
        "digits": "assay.bench.data.generated:Digits",
        "folder": "assay.bench.data.folder:Folder",
        "torchvision": "assay.bench.data.tv:Torchvision",
    },
)

IN_MEMORY: "dict[str, DataSet]" = {}  # what ``assay.bench.models.in_memory`` lends

__getattr__ = SOURCES.exporter(
    {"DataSet": "assay.bench.data.base", "DecodeError": "assay.bench.data.base", "Example": "assay.bench.data.base"}
)


def load(spec: str) -> "DataSet":
    """The data set that ``spec`` names; ``AssayError`` for an unknown kind or option and for data that is not there."""
    if spec in IN_MEMORY:
        return IN_MEMORY[spec]
    kind = spec.strip().partition("?")[0].partition(":")[0]
    source = cast("type[DataSet]", SOURCES[kind])
    return source.from_spec(spec.strip()[len(kind) :])
