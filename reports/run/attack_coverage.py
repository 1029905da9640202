"""What each model has met. Models are compared under the same attacks alone, on the same images."""

from collections.abc import Collection
from functools import lru_cache

import pandas as pd

from assay.reports.run.reader import Run, where

MET, FAILED, SKIPPED, MISSING = "met", "failed", "skipped", "missing"
COLUMNS = ["data", "model", "kind", "method", "state", "reason"]
KINDS = ("clean", "attack")  # that the ranking stands on


@lru_cache(maxsize=1)
def coverage(run: Run) -> pd.DataFrame:
    """What became of every listed cell of ``KINDS``, with the ``COLUMNS``; ``reason`` is of what failed or was skipped.

    Every model has a row for each method on its data, ``missing`` where it has no cell.
    """
    whole = run.failures[run.failures["image"] == ""].drop_duplicates("cell").set_index("cell")
    waiting = {cell.id for cell in run.missing}
    rows = []
    for cell in (cell for cell in run.info.cells if cell.kind in KINDS):
        state, reason = MISSING if cell.id in waiting else MET, ""
        if cell.id in whole.index:
            state, reason = (str(whole.at[cell.id, name]) for name in ("status", "flags"))
        rows.append((cell.data, cell.model, cell.kind, cell.method, state, reason))
    table = pd.DataFrame(rows, columns=COLUMNS).drop_duplicates(COLUMNS[:4])
    subjects = table[["data", "model"]].drop_duplicates()
    methods = table[["data", "kind", "method"]].drop_duplicates()
    whole_table = subjects.merge(methods, on="data").merge(table, "left")
    return whole_table.fillna({"state": MISSING, "reason": ""})[COLUMNS]


def gaps(run: Run, data: str, attacks: Collection[str]) -> pd.DataFrame:
    """The rows of ``coverage`` that keep a model from being compared under ``attacks`` on a data set.

    An attack that no model met and none failed has no meaning here, or was not run yet: it keeps nobody. Images as they
    are belong to what a model must have met.
    """
    table = where(coverage(run), data=data)
    table = table[(table["kind"] == "clean") | table["method"].isin(list(attacks))]
    tried = set(table.loc[table["state"].isin([MET, FAILED]), "method"])
    return table[table["method"].isin(tried) & (table["state"] != MET)]


def compared(run: Run, data: str, attacks: Collection[str]) -> list[str]:
    """Those of ``attacks`` that models are compared under: some model met them, or failed."""
    table = where(coverage(run), data=data, kind="attack")
    tried = set(table.loc[table["state"].isin([MET, FAILED]), "method"])
    return [method for method in attacks if method in tried]


def complete(run: Run, data: str, attacks: Collection[str]) -> list[str]:
    """The models that have met all that ``gaps`` asks for, in the order of the run."""
    lacking, measured = set(gaps(run, data, attacks)["model"]), set(where(coverage(run), data=data)["model"])
    return [model for model in run.models if model in measured - lacking]
