"""What was flagged in a run, counted."""

from collections.abc import Mapping, Sequence

import pandas as pd

SHARED = "shared"  # of costs alone


def raised(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Each flag of the rows once for each value of the columns ``by``, as column ``flag``."""
    flags = rows.loc[rows["flags"] != "", [*by, "flags"]].drop_duplicates()
    flags = flags.assign(flag=flags["flags"].str.split(";")).explode("flag").drop(columns="flags")
    flags["flag"] = flags["flag"].astype("str").str.strip()
    return flags[flags["flag"] != ""].drop_duplicates()


def name_of(flag: str) -> str:
    """A flag without the number that stands behind it."""
    return flag.partition("=")[0]


def counted(rows: pd.DataFrame, doubts: "Doubts") -> pd.DataFrame:
    """``flag, count, models, methods``: how often each was raised, and by how many models and methods."""
    cell = ["model", "data", "method"]
    counts = raised(rows, [*cell, "image"]).groupby(["flag", *cell]).size().rename("count").reset_index()
    across = [(flag, m, d, method, n) for (m, d, _, method), flags in doubts.items() for flag, n in flags.items()]
    both = pd.concat([counts, pd.DataFrame(across, columns=counts.columns)]) if across else counts
    groups = both.groupby("flag")
    columns = {"count": ("count", "sum"), "models": ("model", "nunique"), "methods": ("method", "nunique")}
    return groups.agg(**columns).reset_index()


Doubts = Mapping[tuple[str, str, str, str], Mapping[str, int]]  # of a cell (model, data, kind, method): images by flag
