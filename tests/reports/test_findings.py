from typing import Any

import pandas as pd
import pytest

from assay import reports
from assay.reports.run.attack_findings import listed
from assay.reports.run.findings import findings
from assay.reports.run.ranking import COLUMNS
from tests.reports.builder import Builder


def finding(tmp_path_factory: pytest.TempPathFactory, topic: str, records: list[dict[str, Any]], data: str) -> str:
    """The finding on a topic for rows of the ranking."""
    run = reports.load(Builder(models=(), data=()).write(tmp_path_factory.mktemp("empty")))
    table = pd.DataFrame(records, columns=COLUMNS).assign(unmet="", flags="")
    label = {str(name): str(name) for name in table["model"].unique()}
    answers = {each.topic: each.text for each in findings(run, {"ranking": table}, data, label)}
    return answers.get(topic, "").replace("\N{NO-BREAK SPACE}", " ")


def robustness(tmp_path_factory: pytest.TempPathFactory, **estimates: tuple[float, float, float]) -> str:
    """The sentence for models with these robust accuracies and intervals."""
    records = [
        {"data": "d", "model": name, "norm": "linf", "eps": 4 / 255, "attacks": 3, "quality_metric": ""}
        | dict(zip(("robust_accuracy", "robust_low", "robust_high"), estimate, strict=True))
        for name, estimate in estimates.items()
    ]
    return finding(tmp_path_factory, "Robustness", records, "d")


def test_a_clear_leader(tmp_path_factory: pytest.TempPathFactory) -> None:
    text = robustness(tmp_path_factory, a=(0.62, 0.52, 0.71), b=(0.1, 0.05, 0.2), c=(0.04, 0.01, 0.1))
    assert text == (
        "Within L∞ 4/255, under the worst of 3 attacks for each image, a keeps 62 % [52, 71] of the images; "
        "every other model keeps at most 10 % [5, 20]."
    )


def test_overlapping_intervals_are_ties(tmp_path_factory: pytest.TempPathFactory) -> None:
    text = robustness(tmp_path_factory, a=(0.62, 0.52, 0.71), b=(0.6, 0.5, 0.69), c=(0.04, 0.01, 0.1))
    assert "b (60 % [50, 69]) overlaps with it, so their order is open; c keeps 4 % [1, 10]." in text


def test_nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> None:
    nothing = (0.0, 0.0, 0.04)
    assert robustness(tmp_path_factory, a=nothing, b=nothing).endswith("no model keeps a single image.")
    assert robustness(tmp_path_factory, a=nothing).endswith("a does not keep a single image.")


def test_lists_are_counted_past_six() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(list("abcdefgh")) == "a, b, c, d, e and 3 more"


@pytest.mark.parametrize(
    ("metric", "falling", "verdict"),
    [
        ("mass-accuracy", False, "go together"),
        ("mass-accuracy", True, "run against each other"),
        ("deletion", True, "go together"),
    ],
)
def test_a_relation_has_a_direction(
    tmp_path_factory: pytest.TempPathFactory, metric: str, falling: bool, verdict: str
) -> None:
    records: list[dict[str, object]] = [
        {"data": "d", "model": str(i), "norm": "linf", "eps": 0.1, "attacks": 1, "quality_metric": metric}
        | {"robust_accuracy": i / 10, "quality": (9 - i if falling else i) / 10}
        for i in range(8)
    ]
    assert verdict in finding(tmp_path_factory, "Both together", records, "d")


def test_a_changed_setting_names_a_model_that_clearly_lost(tmp_path_factory: pytest.TempPathFactory) -> None:
    accuracies = {
        ("s", "unsure"): (1.0, 0.7, 1.0),
        ("s?x=1", "unsure"): (0.8, 0.6, 0.9),
        ("s", "sure"): (1.0, 0.98, 1.0),
        ("s?x=1", "sure"): (0.95, 0.93, 0.97),
    }
    records: list[dict[str, object]] = [
        {"data": data, "model": model, "quality_metric": ""}
        | dict(zip(("clean_accuracy", "clean_low", "clean_high"), found, strict=True))
        for (data, model), found in accuracies.items()
    ]
    text = finding(tmp_path_factory, "Changed setting", records, "s?x=1")
    assert text.startswith("sure loses most")
    assert "100 % [98, 100] right on s and 95 % [93, 97] here" in text
    calm = [record for record in records if record["model"] == "unsure"]
    assert "does not lose" in finding(tmp_path_factory, "Changed setting", calm, "s?x=1")
