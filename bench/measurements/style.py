"""A photograph in a style, on pictures that scikit-image ships."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

from assay.bench.data.pictures import scikit_image
from assay.bench.measurements.ask import Ask
from assay.bench.measurements.base import Cell, Measured, Row, Setup, draws_for, meter, to_bytes
from assay.bench.measurements.texture import in_colour
from assay.bench.method_records import describe
from assay.core.errors import AssayError
from assay.reports.run.records import Method
from assay.synthesis import FastStyle
from assay.synthesis.scores_style import against_budget
from assay.synthesis.style_transfer import StyleTransfer

CONTENT, STYLE = "coffee.png", "ihc.png"
LONGER = 128  # pixels: the content's longer side


@dataclass(frozen=True, kw_only=True)
class StyleCell(Cell):
    """A photograph in a style, for a quarter, a half and all of the steps; a row's variant is their number."""

    kind = "style"

    synthesis: StyleTransfer

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        if ask.syntheses(FastStyle):
            raise AssayError(
                "fast-style paints with a network of its own, not in a run: assay synthesize style --network"
            )
        records = ask.syntheses(StyleTransfer)
        return (cls(**ask.common(model), synthesis=each) for model in ask.models for each in records)

    @property
    def method(self) -> Method:
        return describe(self.synthesis)

    def measure(self, setup: Setup) -> Measured:
        model = in_colour(self.subject(setup))
        image = scikit_image(CONTENT, 3, longer=LONGER)[None].to(setup.device)
        style = scikit_image(STYLE, 3, longer=LONGER)[None].to(setup.device)
        rows: list[Row] = []
        arrays: dict[str, Any] = {"images": to_bytes(image), "made_0": to_bytes(style)}
        layers: list[dict[str, Any]] = [{"layer": "style"}]
        for steps in dict.fromkeys(max(self.synthesis.steps // by, 1) for by in (4, 2, 1)):
            record = replace(self.synthesis, steps=steps)
            with meter(model, 1, setup.device) as cost:
                draws = draws_for(self.seed, self.model_digest, repr(record), [CONTENT])
                (transfer,) = against_budget(record, model, image, [style], [steps], draws=draws)
            values = {"content_loss": transfer.content, "style_loss": transfer.style}
            variant = f"{steps} steps" if steps != self.synthesis.steps else ""
            rows += self.per_image([CONTENT], None, values, {**cost, "seconds": transfer.seconds}, variant=variant)
            arrays[f"made_{len(layers)}"] = to_bytes(transfer.images)
            layers.append({"layer": f"{steps} steps", **{name: value.tolist() for name, value in values.items()}})
        return Measured(rows, {"style.npz": arrays, "meta.json": {"layers": layers, "images": [CONTENT]}})


CELL = StyleCell
