"""What attacks do to models: curves, tables and checks."""

import math
from functools import cache

import pandas as pd

from assay.reports.context import Context
from assay.reports.drawing import attack_figures, model_curves, query_curves, robustness_curves
from assay.reports.drawing.grids import method_grid
from assay.reports.drawing.theme import Plot
from assay.reports.gate.tolerances import MetricRule
from assay.reports.kinds.base import Block, Kind, Part, Section, Tables, metric, plots, records
from assay.reports.kinds.clean import right, with_classes
from assay.reports.kinds.data import Tile, tile
from assay.reports.run import labels, ranking
from assay.reports.run.attack_coverage import complete, coverage
from assay.reports.run.cross_attack_checks import CHECKS, FAILED, contradictions
from assay.reports.run.curves import curves, optimality_table
from assay.reports.run.outcomes import outcomes, survivors
from assay.reports.run.reader import Run, where

EASIEST = 8  # images that a model's page shows
HARDEST = 12  # images that a data set's page shows
QUERIES = (100, 200, 500, 1000, 2000, 5000, 10000, 20000)  # at which the smallest distance so far is stored
RATES = {
    "robust_accuracy": ("higher", "share of images that the model gets right under attack"),
    "fooling_rate": ("lower", "share of the images it had right that it gets wrong under attack"),
    "error_rate": ("lower", "share of images wrong under attack, clean errors included"),
    "flip_rate": ("lower", "share of images whose predicted class changes under attack"),
    "targeted_rate": ("lower", "share of images given the class that the attack wants"),
    "success_8bit": ("lower", "share of images that fool the model after rounding to 8 bits"),
}
DISTANCES = {
    "linf": ("pixel value in [0, 1]", "largest change of a value"),
    "l2": ("L2", "Euclidean distance"),
    "l1": ("L1", "sum of absolute changes"),
    "l0": ("values", "number of changed values"),
}
METRICS = {
    **{name: metric(way, "share", meaning, interval="wilson") for name, (way, meaning) in RATES.items()},
    "confidence": metric("none", "probability", "probability of the predicted class"),
    **{
        f"distance_{norm}": metric(
            "higher",
            unit,
            f"of the images that were fooled, the {text} between original and adversarial image",
            statistic="median",
        )
        for norm, (unit, text) in DISTANCES.items()
    },
    "ssim": metric(
        "none", "SSIM", "structural similarity of original and adversarial image, of the images that were fooled"
    ),
    "queries": metric(
        "higher", "evaluations", "evaluations of the model until an image was fooled", statistic="median"
    ),
    **{
        f"distance_at_{most}": metric(
            "higher",
            "in the attack's norm",
            f"smallest distance that fools found in {most} evaluations",
            statistic="median",
        )
        for most in QUERIES
    },
}
FLAGS = {
    "attack-failed": "An attack went wrong on this model, which so has met fewer than others: it is not compared under "
    "what it has not met.",
    "batch-dependent": "An image's logits change with the images beside it: attacks in batches attack something else.",
    "boundary": "The outcome lies within float noise of the decision boundary and may differ on another machine.",
    "flat-loss": "The answer never moved on the attack's way: it may be stored or rounded, and robustness an illusion.",
    "gradient-in-forward": "The model turns gradients on inside its forward pass, so what an attack differentiates is "
    "not what it thinks.",
    "incomplete": "The loss still moved by more than a twentieth of its range in the last ten steps: more steps would "
    "find more.",
    "lost-at-8-bit": "The attacked image fools the model, but no longer once it is rounded to 8 bits, as in a file.",
    "out-of-range": "The attack left the range of images; the result was clipped before it was judged.",
    "over-budget": "The attack changed more than it may; it does not count as a success.",
    "probabilities": "The model gives probabilities, not logits: where they saturate, gradients vanish.",
    "silent-success": "The attack passed an image that fools within its budget and returned another: it is stronger "
    "than its numbers.",
    "unchanged": "The attack returned an image that it should fool as it was.",
    "wrong-gradient": "A small step along the gradient changes the answer by another amount than the gradient says, so "
    "an attack that follows it is led astray: robustness may be an illusion.",
    "zero-gradient": "Most gradients were exactly zero or no numbers, so an attack that follows them went nowhere: "
    "robustness may be an illusion.",
    **{check.flag: check.words for check in CHECKS if check.flag},
}
SHARES = MetricRule(metric=("robust_accuracy", "*_rate"), images=1, absolute=0.02, pooled=0.02)
OF_SOME = MetricRule(  # of the images that were right, or that had another target
    metric=("fooling_rate", "targeted_rate"), images=1, absolute=0.02, pooled=0.02, undefined=math.inf
)
TOLERANCES = (
    MetricRule(absolute=0.01, relative=0.1),  # attacks wander: a sign of a gradient near zero falls otherwise
    MetricRule(metric=("distance_*", "queries"), absolute=0.01, relative=0.1, undefined=math.inf),  # where fooled
    MetricRule(metric="confidence", absolute=0.04),
    MetricRule(metric="ssim", absolute=0.005, undefined=math.inf),
    SHARES,
    OF_SOME,
    MetricRule(  # nearest images lie on the boundary, and rounding decides
        metric="success_8bit", absolute=0.05, statistical=0.99, undefined=math.inf
    ),
)


def _tables(run: Run, _: pd.DataFrame) -> Tables:
    images = outcomes(run)
    methods = run.methods(images["method"])

    @cache
    def models(data: str, norm: str) -> list[str]:
        free = run.methods(where(coverage(run), data=data, kind="attack")["method"])
        return complete(run, data, [text for text, method in free.items() if method.minimal and method.norm == norm])

    return {
        "curves": curves(images, methods, lambda model, data, norm: model in models(data, norm)),
        "optimality": optimality_table(images, methods),
        "checks": contradictions(run)[0],
    }


def _figures(context: Context, data: str, prefix: str) -> list[Plot]:
    return [*robustness_curves.figures(context, data, prefix), *attack_figures.figures(context, data, prefix)]


def _checks(context: Context, data: str, _: str) -> list[Block]:
    rows = context.table("checks", data)
    models = context.ordered(rows["model"])
    if not models:
        return []
    by_model = {(row["check"], row["model"]): row for row in records(rows)}
    lines = [(check, [by_model[check, model] for model in models]) for check in rows["check"].unique()]
    failures = records(where(rows, state=FAILED))
    return [Block("checks", {"models": models, "lines": lines, "failures": failures})]


def _hardest(context: Context, data: str) -> list[Part]:
    """Images that most models have wrong, then those that most lose within the ranking's budget."""
    run = context.run
    clean = run.select("clean", "accuracy", data=data)
    wrong = (clean["value"] == 0).groupby(clean["image"]).sum()
    models = clean.groupby("image")["model"].nunique()
    attacks = ranking.within(survivors(run, data), ranking.limit_of(run, data))
    falls = attacks.groupby(["image", "model"])["value"].min() == 0
    correct = clean[clean["value"] == 1].set_index(["image", "model"]).index
    fooled = falls[falls.index.isin(correct)].groupby("image").sum()
    table = pd.DataFrame({"wrong": wrong, "fooled": fooled, "models": models}).dropna(subset="models").fillna(0)
    table = table.astype("int64").sort_values(["wrong", "fooled"], ascending=False, kind="stable").head(HARDEST)
    rows = table[(table["wrong"] > 0) | (table["fooled"] > 0)]
    tiles = [(tile(context, data, str(image)), row) for image, row in rows.iterrows()]
    text = (
        "Those that most models have wrong without any attack, then those that most lose to an attack within the "
        "ranking's budget."
    )
    return [Part("hard", "The hardest images", text, [Block("hard_tiles", tiles)])] if tiles else []


def _on_model(context: Context, model: str, data: str) -> list[Block]:
    failures = records(context.table("checks", data, model=model, state=FAILED))
    curve = model_curves.figure_of(context, data, model)
    easy = {
        "title": "The easiest to fool",
        "text": "Images that the smallest change turns into a mistake, and the attack that found it.",
        "tiles": _easiest(context, model, data),
    }
    classes = _by_class(context, model, data)
    table = method_grid(context, data, model, "attack", "Attack")
    grid = {"title": "Every attack", "table": table, "caption": "What each attack does to this model."}
    blocks = [
        Block("distrust", failures, place=0) if failures else None,
        *(block._replace(place=2) for block in plots([curve] if curve else [])),
        Block("headed_tiles", easy, place=3) if easy["tiles"] else None,
        Block("by_class", {"model": model, "lines": classes}, place=6) if len(classes) > 1 else None,
        Block("headed_grid", grid, place=7) if table else None,
    ]
    return [block for block in blocks if block]


def _easiest(context: Context, model: str, data: str) -> list[Tile]:
    """The images that the smallest change fools, in the first norm in which attacks looked for it."""
    rows = where(outcomes(context.run), data=data, model=model, fooled=True, started=True)
    norms = {text: method.norm for text, method in context.run.methods(rows["method"]).items() if method.minimal}
    rows = rows.assign(norm=rows["method"].map(norms))
    norm = next((norm for norm in labels.NORMS if norm in set(rows["norm"])), None)
    rows = where(rows, norm=norm).sort_values(["distance", "image", "method"], kind="stable")
    return [
        tile(
            context, data, row["image"], f"{labels.ball(str(norm), row['distance'])} by {context.short(row['method'])}"
        )
        for row in rows.drop_duplicates("image").head(EASIEST).to_dict("records")
    ]


def _by_class(context: Context, model: str, data: str) -> list[tuple[object, ...]]:
    """Class, images, and how many of them are right: without an attack, and in the worst case of the ranking."""
    run = context.run
    clean = with_classes(context, data, run.select("clean", "accuracy", data=data, model=model))
    rank = context.table("ranking", data, model=model).dropna(subset="eps")
    under = where(survivors(run, data), model=model)
    under = where(under, norm=rank["norm"].iloc[0], eps=rank["eps"].iloc[0]) if len(rank) else under.iloc[:0]
    worst = under.groupby("image")["value"].min()
    return [
        (name, len(group), right(group["value"]), right(worst.reindex(group["image"])))
        for name, group in clean.groupby("class", observed=True)
    ]


KIND = Kind(
    name="attack",
    heading="Attacks",
    metrics=METRICS,
    terms={
        "optimality": metric(
            "none",
            "share",
            "How close an attack without a budget comes to the smallest changes that any attack of the run "
            "found, by the area under its curve of robust accuracy: 1 where nothing lies between it and the best "
            "curve, 0 for an attack that finds nothing (Cina et al. 2024).",
            statistic="area",
            interval="",
        )
    },
    flags=FLAGS,
    label="{method}",
    adversarial=True,
    tolerances=TOLERANCES,
    tables=_tables,
    doubts=lambda run: contradictions(run)[1],
    sections=(
        Section(
            id="attacks",
            page="robustness",
            title="Attacks",
            text="How many images a model still gets right when someone changes the pixels on purpose. The worst case "
            "counts an image as lost as soon as one attack fools the model on it.",
            figures=_figures,
        ),
        Section(
            id="queries",
            page="robustness",
            title="Queries",
            text="Attacks that may only ask the model, as a stranger with an interface could: what they find, and for "
            "how many questions.",
            figures=query_curves.figures,
            place=1,
        ),
        Section(
            id="strength",
            page="robustness",
            title="Attacks compared",
            text="Which attack is worth its time on these models.",
            figures=robustness_curves.optimality,
            place=3,
        ),
        Section(
            id="checks",
            page="robustness",
            title="Checks",
            text="Whether the attacks contradict each other, which an honest evaluation does not (Carlini et al. "
            "2019). Where a check failed, the robust accuracy of that model is an upper bound at best: do not trust "
            "it. ✓ passed, ✗ failed with the number of images that speak against it, – not tested because the attacks "
            "for it are missing. A check forgives 1\N{NO-BREAK SPACE}% of the images, 5\N{NO-BREAK SPACE}% where it is "
            "about the course of single attacks.",
            blocks=_checks,
            place=4,
            note='As a table: <a href="../tables/checks.csv">checks.csv</a>. The attacks concerned carry a flag in '
            '<a href="../tables/summary.csv">summary.csv</a>.',
        ),
    ),
    on_data=_hardest,
    on_model=_on_model,
)
