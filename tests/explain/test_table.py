import pytest

from assay import explain
from assay.core.errors import AssayError
from assay.explain import DECEPTIONS, EXPLAINERS, METRICS


@pytest.mark.parametrize("name", ["Target", "Logit", "Probability", "Margin", "Channel", "Neuron"])
def test_targets_are_exported(name: str) -> None:
    assert getattr(explain, name).__module__ == "assay.core.targets"


def test_classes_are_exported() -> None:
    for table, module in ((EXPLAINERS, explain), (DECEPTIONS, explain), (METRICS, explain.metrics)):
        assert [getattr(module, cls.__name__) for cls in table.values()] == list(table.values())
    with pytest.raises(AttributeError, match="GradCAM"):
        explain.GradCam  # noqa: B018


def test_settings_are_parsed() -> None:
    assert repr(EXPLAINERS.parse("occlusion(window=8, stride=4, baseline=blur)")) == (
        "Occlusion(window=8, stride=4, baseline='blur')"
    )
    assert repr(EXPLAINERS.parse("grad-cam(layer='blocks.3')")) == "GradCAM(layer='blocks.3')"
    assert repr(METRICS.parse("insertion(steps=8)")) == "Insertion(steps=8, baseline='blur')"


@pytest.mark.parametrize(
    "text", ["occlusion(stride=20)", "occlusion(window=0)", "occlusion(batch=0)", "center-map(sigma=0)"]
)
def test_impossible_explainers_are_refused(text: str) -> None:
    with pytest.raises(AssayError, match="needs"):
        EXPLAINERS.parse(text)


@pytest.mark.parametrize("text", ["deletion(steps=0)", "single-deletion(grid=1)", "pointing-game(tolerance=-1)"])
def test_impossible_metrics_are_refused(text: str) -> None:
    with pytest.raises(AssayError, match="needs"):
        METRICS.parse(text)


def test_unknown_baseline_is_refused() -> None:
    with pytest.raises(AssayError, match="zero, mean, blur"):
        EXPLAINERS.parse("occlusion(baseline=noise)")
