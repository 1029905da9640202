"""Which images of a data set can be decoded at all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from assay.bench.data import DecodeError
from assay.bench.data import load as load_data
from assay.bench.data.pictures import thumbnail
from assay.bench.measurements.ask import Ask
from assay.bench.measurements.base import Cell, Measured, Setup
from assay.bench.method_records import metric_name
from assay.reports.run.records import Method

THUMBNAILS = 200  # images that the report can show
LARGEST = 96  # pixels: their side


@dataclass(frozen=True, kw_only=True)
class DataCell(Cell):
    """The images with their masks, and which metrics the data cannot give.

    The first ``THUMBNAILS`` are kept as small squares for the report.
    """

    kind = "data"

    unmet: tuple[tuple[str, str], ...] = ()  # a metric, and what it needs that the data has not

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        for data, source in ask.data.items():
            metrics = ask.metrics if data in ask.options.data and ask.explainers else ()
            lacks = {metric_name(m): ", ".join(sorted(set(m.data_needs()) - source.has)) for m in metrics}
            yield cls(**ask.common(data=data), unmet=tuple((name, need) for name, need in lacks.items() if need))

    @property
    def method(self) -> Method:
        return Method(text="decode")

    def details(self) -> dict[str, Any]:
        return {"unmet": self.unmet}

    def measure(self, setup: Setup) -> Measured:
        data = load_data(self.data).take(self.limit).reduced(LARGEST)
        rows = [self.row(metric, status="skipped", flags=f"the data has no {need}") for metric, need in self.unmet]
        tiles: dict[str, NDArray[np.uint8]] = {}
        side = 0
        for i, image in enumerate(data.ids):
            try:
                example = data.example(i, data.has & {"masks"})
                rows.append(self.row("decoded", 1.0, image=image, label=data.labels[i]))
                side = side or min(LARGEST, *example.image.shape[1:])
                if len(tiles) < THUMBNAILS:
                    tiles[image] = thumbnail(example.image, side)
            except DecodeError as error:
                rows.append(self.row("decoded", image=image, label=data.labels[i], status="failed", flags=str(error)))
        if not tiles:
            return Measured(rows)
        art = {"pictures.npz": {"images": np.stack(list(tiles.values()))}, "meta.json": {"images": list(tiles)}}
        return Measured(rows, art)


CELL = DataCell
