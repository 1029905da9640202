"""Whether confidences tell how often models are right: reliability diagrams, calibration error and Brier score."""

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from assay.reports.drawing.charts import panels
from assay.reports.drawing.grids import model_grid
from assay.reports.drawing.theme import Look, Plot, percents
from assay.reports.gate.tolerances import MetricRule
from assay.reports.kinds.base import Block, Kind, Section, Tables, metric, plots
from assay.reports.run.intervals import LEVEL, RESAMPLES, wilson
from assay.reports.run.reader import Run

if TYPE_CHECKING:
    from assay.reports.context import Context

SUMMARY = ["data", "model", "bins", "ece", "ece_low", "ece_high", "confidence", "accuracy", "brier", "n"]
BINS = ["data", "model", "low", "high", "n", "confidence", "accuracy", "accuracy_low", "accuracy_high"]
Floats = NDArray[np.float64]


class Predictions(NamedTuple):
    """What a model says of images, (n,): its confidence in the class that it predicts, and whether that is right."""

    confidence: Floats
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, overconfidence: ArrayLike) -> "Predictions":
        """From confidence less 1 where the image is right: no more than 0 there, and more elsewhere."""
        gaps = np.asarray(overconfidence, np.float64)
        return cls(gaps + (gaps <= 0), gaps <= 0)

    def bins(self, count: int) -> NDArray[np.intp]:
        """Which of ``count`` bins of equal width each image is in, (n,); a bin holds its upper end, not its lower."""
        return np.clip(np.ceil((self.confidence * count).round(9)).astype(np.intp) - 1, 0, count - 1)


def expected_calibration_error(overconfidence: ArrayLike, bins: int) -> float:
    """Sum over bins of |mean confidence - accuracy| times their share of images (Guo et al. 2017, arXiv:1706.04599).

    ``overconfidence`` (n,) is an image's confidence in [0, 1], less 1 where it is right. In [0, 1]; NaN without images.
    Few images a bin raise it: with accuracy p, that of a calibrated model is about 0.8 sqrt(p (1 - p) bins / n).
    """
    return float(_errors(np.asarray(overconfidence, np.float64), bins, np.ones((1, np.size(overconfidence))))[0])


def _errors(overconfidence: Floats, bins: int, weights: Floats) -> Floats:
    """The error under each of several weights of the images, (resamples,)."""
    if not len(overconfidence):
        return np.full(len(weights), np.nan)
    place = Predictions.of(overconfidence).bins(bins)
    gaps = np.where(place[:, None] == np.unique(place), overconfidence[:, None], 0.0)
    errors: Floats = np.abs(weights @ gaps).sum(1) / weights.sum(1)
    return errors


def _tables(run: Run, summary: pd.DataFrame) -> Tables:
    records, bins = [], []
    rows = run.select("calibration", "overconfidence").dropna(subset="value")
    brier = summary[summary["metric"] == "brier"].set_index(["data", "model"])["value"]
    for (data, model, method), group in rows.groupby(["data", "model", "method"]):
        count, values = int(run.method(str(method)).settings["bins"]), group["value"].to_numpy(np.float64)
        known = Predictions.of(values)
        seed = int.from_bytes(hashlib.sha256(f"{data}\x1f{model}".encode()).digest()[:8])
        chosen = np.random.default_rng(seed).multinomial(len(values), np.full(len(values), 1 / len(values)), RESAMPLES)
        ends = np.quantile(_errors(values, count, chosen.astype(np.float64)), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        error = expected_calibration_error(values, count)
        means = float(known.confidence.mean()), float(known.right.mean())
        records.append((data, model, count, error, *ends, *means, brier.get((data, model)), len(values)))
        bins += [(data, model, *line) for line in _bins(known, count)]
    return {"calibration": pd.DataFrame(records, columns=SUMMARY), "calibration_bins": pd.DataFrame(bins, columns=BINS)}


def _bins(predictions: Predictions, count: int) -> Iterator[tuple[float, ...]]:
    """Ends, size, mean confidence and accuracy with its interval of each bin that holds images."""
    place = predictions.bins(count)
    for i in np.unique(place).tolist():
        right, confidence = (values[place == i] for values in (predictions.right, predictions.confidence))
        accuracy = wilson(int(right.sum()), len(right))
        yield i / count, (i + 1) / count, len(right), float(confidence.mean()), *accuracy[:3]


def _figures(context: "Context", data: str, prefix: str) -> list[Plot]:
    bins, errors = context.table("calibration_bins", data), context.table("calibration", data).set_index("model")
    models = context.ordered(errors.index)
    return [_diagrams(context, bins, errors, models, f"{prefix}-calibration")] if models else []


def _diagrams(context: "Context", bins: pd.DataFrame, errors: pd.DataFrame, models: list[str], name: str) -> Plot:
    largest = int(bins["n"].max())

    def draw(look: Look) -> Figure:
        shown = panels(len(models), 2.6, 0.3, narrow=4.2, sharex=True, sharey=True)
        for axes, model in zip(shown.axes, models, strict=True):
            mark, own = context.marks[model], bins[bins["model"] == model]
            axes.plot([0, 1], [0, 1], color=look.soft, lw=1, ls=(0, (4, 3)), zorder=1)
            axes.vlines(
                own["confidence"], own["accuracy_low"], own["accuracy_high"], color=mark.colour, lw=1.6, alpha=0.5
            )
            sizes = 12 + 70 * own["n"] / largest
            dots = axes.scatter(
                own["confidence"], own["accuracy"], sizes, mark.colour, marker=mark.marker, zorder=4, lw=0
            )
            dots.set_clip_on(False)
            axes.set_title(mark.label)
            axes.set_title(
                f"ECE {errors['ece'].to_dict()[model]:.2f}", loc="right", fontweight="normal", color=look.soft
            )
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
            percents(axes, "x")
            percents(axes, "y")
            axes.set_xlabel("Confidence")
        for axes in shown.left:
            axes.set_ylabel("Images right")
        return shown.figure

    return Plot(
        name,
        "Does confidence tell how often a model is right?",
        "A point is a bin of confidence, larger where it holds more images, with a 95 % Wilson interval. On the dashed "
        "line 80 % sure means 80 % right; below it the model is too sure. ECE is the mean distance to the line.",
        f"Reliability diagrams of {len(models)} models.",
        draw,
    )


def _blocks(context: "Context", data: str, prefix: str) -> list[Block]:
    rows = context.table("summary", data, kind="calibration")
    if not len(rows):
        return []
    grid = {"table": model_grid(context, rows), "caption": "Of unattacked images. Brier and ECE: 0 is best."}
    return [*plots(_figures(context, data, prefix)), Block("headed_grid", grid)]


KIND = Kind(
    name="calibration",
    metrics={
        "ece": metric(
            "lower",
            "share",
            "expected calibration error: mean distance of confidence and accuracy over bins",
            interval="",
        ),
        "brier": metric("lower", "squared error", "Brier score: squared distance of all probabilities to the label's"),
        "overconfidence": metric("none", "share", "by how much the mean confidence is above the accuracy"),
    },
    label="{method}",
    tolerances=(
        MetricRule(absolute=0.002, relative=0.005, each=0.01, share=0.1),
        MetricRule(metric="ece", absolute=0.02),
    ),
    tables=_tables,
    sections=(
        Section(
            id="calibration",
            page="robustness",
            title="Calibration",
            text="Whether the probability that a model gives its answer is the share of such answers that are right, "
            "on unattacked images.",
            blocks=_blocks,
            place=6,
        ),
    ),
)
