"""What was flagged in a run, counted."""

import pandas as pd

from assay.reports.run import cross_attack_checks as checks
from assay.reports.run.reader import Run
from assay.reports.run.glossary import FLAGS


def counted(run: Run, summary: pd.DataFrame) -> list[dict[str, object]]:
    """One line for each flag: how often it was raised, by how many models and methods, and what it means."""
    words = {**FLAGS, **(run.info.get("flags") or {})}
    raised = run.rows.loc[
        run.rows["flags"] != "", ["model", "data", "method", "image", "flags"]
    ].drop_duplicates()
    raised = raised.assign(flags=raised["flags"].str.split(";")).explode("flags")
    raised["flags"] = raised["flags"].str.strip()
    raised = raised[raised["flags"] != ""].drop_duplicates()
    raised = raised.groupby(["flags", "model", "data", "method"]).size().rename("count").reset_index()
    both = pd.concat([frame for frame in (raised, _contradicted(summary)) if len(frame)] or [raised])
    return [
        {
            "flag": flag,
            "count": int(group["count"].sum()),
            "models": group["model"].nunique(),
            "methods": group["method"].nunique(),
            "words": words.get(str(flag).partition("=")[0], ""),
        }
        for flag, group in both.groupby("flags")
    ]


def _contradicted(summary: pd.DataFrame) -> pd.DataFrame:
    """Flags that come from the checks across attacks, read back from the summary."""
    keys = ["model", "data", "method"]
    rows = summary.loc[summary["kind"] == "attack", [*keys, "flags"]]
    rows = rows.assign(flags=rows["flags"].str.split(";")).explode("flags")
    parts = rows["flags"].str.extract(r"^(?P<flags>.*):(?P<count>\d+)$")
    found = pd.concat([rows[keys], parts], axis=1)
    found = found[found["flags"].isin([check.flag for check in checks.CHECKS if check.flag])].drop_duplicates()
    return found.astype({"count": "int64"})
