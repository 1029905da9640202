"""Heatmaps: whether they point at what decides. Their scores are described by the run: bench knows the metrics."""

import pandas as pd

from assay.reports.context import Context
from assay.reports.drawing import explainer_ranks, explainer_scores
from assay.reports.drawing.grids import method_grid
from assay.reports.drawing.theme import Plot
from assay.reports.gate.tolerances import MetricRule
from assay.reports.kinds.base import Block, Kind, Section, Tables
from assay.reports.run import explainer_statistics
from assay.reports.run.reader import Run


def _tables(run: Run, _: pd.DataFrame) -> Tables:
    scores = explainer_statistics.scores(run)
    return {
        "explainers": explainer_statistics.methods(scores),
        "explainer_pairs": explainer_statistics.pairs(scores),
        "metric_agreement": explainer_statistics.agreement(scores),
    }


def _figures(context: Context, data: str, prefix: str) -> list[Plot]:
    return [*explainer_scores.figures(context, data, prefix), *explainer_ranks.figures(context, data, prefix)]


def _on_model(context: Context, model: str, data: str) -> list[Block]:
    table = method_grid(context, data, model, "explain", "Explainer")
    grid = {"title": "Every explainer", "table": table, "caption": "Whether the heatmaps point at what decides."}
    return [Block("headed_grid", grid, place=9)] if table else []


KIND = Kind(
    name="explain",
    heading="Explainers",
    flags={
        "branch": "The model's branches meet in no one layer; the map shows what the last of them sees.",
        "completeness-gap": "The map's sum misses the target's rise over the baseline by more than a twentieth of it: "
        "more steps would come nearer.",
        "gates": "Guided gradients need ReLUs; the number is the share of the model's activations that are.",
        "shared": "One pass of the model served so many explainers; the cost of each is an even share.",
    },
    tolerances=(MetricRule(absolute=0.002, relative=0.005, each=0.01, share=0.1),),
    tables=_tables,
    sections=(
        Section(
            id="explanations",
            page="explanations",
            title="Heatmaps",
            text="Whether the heatmaps of a model point at what decides, measured on images where that is known.",
            figures=_figures,
        ),
        Section(
            id="together",
            page="explanations",
            title="Both together",
            text="Robustness and saliency quality of the same models.",
            figures=explainer_scores.together,
            place=3,
            front=True,
        ),
    ),
    on_model=_on_model,
)
