"""The figures of explainers: ranks, agreement of metrics, moved maps and shortcuts show what the tables hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from assay.reports.context import Context
from assay.reports.drawing import explainer_ranks
from assay.reports.drawing.album import Album
from assay.reports.drawing.theme import LIGHT, themed
from assay.reports.kinds import shortcut
from assay.reports.run import explainer_statistics as methods
from tests.reports.test_explainer_statistics import frame, made, results


def context(scores: dict[str, np.ndarray]) -> Context:
    other = {name: values + np.random.default_rng(3).normal(0, 0.1, len(values)) for name, values in scores.items()}
    third = {name: -values for name, values in scores.items()}
    frames = frame(scores), frame(other, "part-effect"), frame(third, "deletion")
    run = results(*frames, mass_accuracy="higher", part_effect="higher", deletion="higher")
    scored = methods.scores(run)
    tables = {"explainers": methods.methods(scored), "metric_agreement": methods.agreement(scored)}
    return Context(run=run, tables=tables, album=Album(Path()))


def test_ranks_stand_in_the_cells_and_dashes_where_controls_are_not_beaten() -> None:
    ranks, agreement = explainer_ranks.figures(context(made()), "d", "x")
    with themed(LIGHT):
        ax = ranks.draw(LIGHT).axes[0]
        shown = [text.get_text() for text in ax.texts]
        rows = [label.get_text() for label in ax.get_yticklabels()]
        assert rows == ["Good", "Fair", "Poor"]
        assert shown.count("1") == 2  # of Good by the two metrics in which more is better
        assert shown.count("–") >= 3  # Poor, and all by the metric that is turned round
        cells = agreement.draw(LIGHT).axes[0]
    values = {text.get_text() for text in cells.texts}
    assert {"1.0", "-1.0"} <= values


def test_nothing_is_ranked_without_a_method_that_beats_the_controls() -> None:
    rng = np.random.default_rng(0)
    same = {name: rng.normal(size=20) for name in ("A()", "B()", "RandomMap()")}
    assert [plot.name for plot in explainer_ranks.figures(context(same), "d", "x")] == ["x-metrics-agreement"]


def test_a_shortcut_that_one_method_shows_is_told() -> None:
    rng = np.random.default_rng(0)
    rows = [
        {
            "kind": "shortcut",
            "metric": shortcut.SHARE,
            "method": method,
            "model": model,
            "image": f"{i}",
            "value": v,
            "data": "d",
        }
        for method, gap in (("Seeing()", 0.5), ("Blind()", 0.0))
        for model, base in (("bad", 0.3 + gap), ("good", 0.3))
        for i, v in enumerate(base + rng.normal(0, 0.05, 30))
    ]
    found = shortcut.detection(pd.DataFrame(rows), "bad", "good").assign(
        data="d", suspect_model="bad", sound_model="good"
    )
    assert found.set_index("method")["auc"].to_dict() == pytest.approx({"Seeing()": 1.0, "Blind()": 0.5}, abs=0.15)
    run = results(pd.DataFrame(rows), shortcut_share="none")
    shown = Context(run=run, tables={"shortcut": found}, album=Album(Path()))
    (plot,) = shortcut.figures(shown, "d", "x")
    assert "Seeing detects it best" in plot.how
    with themed(LIGHT):
        labels = [label.get_text() for label in plot.draw(LIGHT).axes[0].get_yticklabels()]
    assert labels == ["Blind", "Seeing"]
    assert shortcut.figures(shown, "other", "x") == []
