"""What is inspected, and how."""

from dataclasses import dataclass
from pathlib import Path

from assay.bench.commands import Words
from assay.bench.data import DataSet
from assay.bench.loading import dataset
from assay.bench.models import Subject


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to inspect.

    Parameters
    ----------
    data
        The data set that patches, codes, units and effective fields are measured on.
    n
        How many of its pictures, at most.
    layer
        A layer's dotted name, from assay layers MODEL: the one that Grad-CAM uses unless given, and many for the
        receptive field. For filters the deeper layer whose weights to show too.
    top
        How many patches a channel, or neighbours a picture; eight times as many channels of a picture.
    out
        The folder for the files.
    seed
        Of random numbers.
    beside
        Models whose codes to compare with the model's.
    """

    data: str = "scenes"
    n: int = 1000
    layer: str | None = None
    top: int = 6
    out: Path = Path("inspect")
    seed: int = 0
    beside: Words = ()


@dataclass(frozen=True, kw_only=True)
class Inspection(Options):
    """A model with the options, and a picture: a file, or DATA#NUMBER."""

    model: Subject
    image: str | None

    def pictures(self, most: int | None = None) -> DataSet:
        """The pictures of the data set, at most so many, as the model takes them."""
        return dataset(self.data, min(self.n, most or self.n), self.model)
