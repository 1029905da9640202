"""The first page: findings, and the models side by side."""

from typing import Any, NamedTuple

import pandas as pd

from assay.reports.context import Context
from assay.reports.kinds.base import Block, records
from assay.reports.run import labels
from assay.reports.run.cross_attack_checks import FAILED
from assay.reports.run.findings import APART, DOUBT, UNANSWERED, Finding, findings
from assay.reports.run.intervals import Estimate
from assay.reports.run.places import Place
from assay.reports.run.reader import where


class Overview(NamedTuple):
    """What the first page says of one data set."""

    label: str
    spec: str
    n: object
    findings: list[Finding]
    table: list[dict[str, Any]]
    limit: str  # the ranking's budget
    metric: str  # the ranking's quality
    blocks: list[Block]
    warnings: tuple[str, ...] = (APART, UNANSWERED, DOUBT)  # topics of findings that speak against a model


def overview(context: Context, data: str, blocks: list[Block]) -> Overview:
    """The overview of a data set, with blocks of the pages that compare models."""
    rows = context.table("ranking", data)
    budget = rows.dropna(subset="eps")
    return Overview(
        label=context.specs[data],
        spec=data,
        n=context.run.info.data.get(data, {}).get("n"),
        findings=findings(context.run, context.tables, data, {name: m.label for name, m in context.marks.items()}),
        table=_ranking(context, rows),
        limit=labels.ball(str(budget["norm"].iloc[0]), float(budget["eps"].iloc[0])) if len(budget) else "",
        metric=next((metric for metric in rows["quality_metric"] if metric), ""),
        blocks=blocks,
    )


def _ranking(context: Context, rows: pd.DataFrame) -> list[dict[str, Any]]:
    run = context.run
    failures = where(context.tables["checks"], state=FAILED).groupby(["data", "model"]).size().to_dict()
    brief = run.short(pd.concat([rows["best_explainer"], rows["best_control"]]))
    return [
        {
            "mark": context.marks[row["model"]],
            "name": row["model"],
            "place": "" if pd.isna(row["place_best"]) else Place(row["place_best"], row["place_worst"]),
            "failures": failures.get((row["data"], row["model"]), 0),
            "parameters": run.info.models.get(row["model"], {}).get("parameters"),
            "clean": _estimate(row, "clean_accuracy", "clean"),
            "robust": _estimate(row, "robust_accuracy", "robust"),
            "attacks": row["attacks"],
            "flags": row["flags"],
            "unmet": row["unmet"].count("; ") + 1 if row["unmet"] else 0,
            "quality": _estimate(row, "quality", "quality"),
            "explainer": brief[row["best_explainer"]],
            "control": brief[row["best_control"]],
            "control_quality": row["control_quality"],
            "share": run.metric(row["quality_metric"]).unit == "share",
        }
        for row in records(rows)
    ]


def _estimate(row: dict[str, Any], column: str, prefix: str) -> Estimate:
    return Estimate(row[column], row[f"{prefix}_low"], row[f"{prefix}_high"], 0)
