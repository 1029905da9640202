"""What holds for every member of ``METRICS``."""

import dataclasses
import random
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from assay.core.draws import Draws
from assay.core.errors import AssayError
from assay.core.targets import Logit, Probability, Target
from assay.explain import EXPLAINERS
from assay.explain.base import Explainer
from assay.explain.metrics import METRICS, Metric
from tests.explain.models import CLASSES, Tripping, choices_of, pictures, small_cnn, state


@pytest.fixture(params=list(METRICS))
def metric(request: pytest.FixtureRequest) -> Metric:
    record: Metric = METRICS.parse(request.param)
    return record


def data(order: Tensor | None = None) -> dict[str, Tensor]:
    """Images, heat and all that data offers; four quadrants are the parts, the last image has three."""
    images = pictures()
    heat = torch.randn(4, 24, 24, generator=torch.Generator().manual_seed(5))
    parts = torch.zeros(4, 24, 24, dtype=torch.uint8)
    without = images[:, None].repeat(1, 4, 1, 1, 1)
    for number in range(4):
        rows, columns = (slice(12 * bit + 1, 12 * bit + 11) for bit in divmod(number, 2))
        shown = slice(0, 3 if number == 3 else 4)
        parts[shown, rows, columns] = number + 1
        without[shown, number, :, rows, columns] = 0.1 * number
    everything = {"images": images, "heat": heat, "masks": parts == 1, "parts": parts, "without": without}
    everything["shortcut"] = parts == 0
    everything["redrawn"] = torch.stack([images * 0.9, images.flip(1)], 1).where(
        parts[:, None, None] == 0, images[:, None]
    )
    everything["classes"] = torch.arange(4) % CLASSES
    everything["ids"] = torch.arange(4)
    return {key: value[order] for key, value in everything.items()} if order is not None else everything


OFFERED = ("masks", "parts", "without", "shortcut", "redrawn")


def extra(metric: Metric, given: dict[str, Tensor]) -> dict[str, Any]:
    """What the metric needs: a method whose maps add up, where it asks for the explainer."""
    data: dict[str, Any] = {need: given[need] for need in metric.data_needs()}
    return data | ({"explainer": explainer()} if "explainer" in metric.needs else {})


def explainer() -> Explainer:
    record: Explainer = EXPLAINERS.parse("integrated-gradients(steps=4)")
    return record


def score(metric: Metric, model: nn.Module, given: dict[str, Tensor], target: Target | None = None) -> Tensor:
    offered: Any = {key: given[key] for key in OFFERED}
    offered |= {"explainer": explainer(), "draws": streams(given)}
    return metric(model, given["images"], target or Probability(given["classes"]), given["heat"], **offered)


def streams(given: dict[str, Tensor]) -> Draws:
    return Draws.hashed("contract", map(str, given["ids"].tolist()))


def test_says_what_it_means(metric: Metric) -> None:
    cls = type(metric)
    assert set(cls.needs) <= {*OFFERED, "explainer"}
    assert cls.direction in ("higher", "lower", "none")
    assert cls.statistic in ("mean", "median")
    assert cls.interval in ("wilson", "bootstrap")
    assert cls.scale in ("logit", "probability")
    assert cls.unit
    assert cls.version >= 1
    assert cls.meaning.endswith(".")


def test_is_a_frozen_record(metric: Metric) -> None:
    record: Any = metric
    assert "batch" not in repr(record)
    assert not hasattr(record, "__dict__")
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        record.anything = 1
    assert METRICS.parse(METRICS.name_of(record)) == record


def test_scores_each_image(metric: Metric) -> None:
    values = score(metric, small_cnn(), data())
    assert values.shape == (4,)
    assert values.dtype == torch.float32
    assert values.isfinite().all()
    assert not values.requires_grad


def test_batch_equals_one_by_one(metric: Metric) -> None:
    model = small_cnn()
    apart = [score(metric, model, data(torch.tensor([i]))) for i in range(4)]
    torch.testing.assert_close(torch.cat(apart), score(metric, model, data()), rtol=1e-4, atol=1e-6)


def test_order_only_permutes(metric: Metric) -> None:
    model, order = small_cnn(), torch.tensor([3, 1, 0, 2])
    straight = score(metric, model, data())
    torch.testing.assert_close(score(metric, model, data(order)), straight[order], rtol=1e-4, atol=1e-6)


def test_batch_setting_changes_no_result(metric: Metric) -> None:
    if "batch" not in {field.name for field in dataclasses.fields(metric)}:  # type: ignore[arg-type]
        pytest.skip("makes no batches")
    small: Metric = dataclasses.replace(metric, batch=3)  # type: ignore[type-var]
    assert repr(small) == repr(metric)
    model = small_cnn()
    torch.testing.assert_close(score(small, model, data()), score(metric, model, data()), rtol=1e-4, atol=1e-6)
    with pytest.raises(AssayError, match="batch >= 1"):
        dataclasses.replace(metric, batch=0)  # type: ignore[type-var]


def test_same_input_same_output(metric: Metric) -> None:
    model = small_cnn()
    assert torch.equal(score(metric, model, data()), score(metric, model, data()))


def test_accepts_plain_classes_as_logit(metric: Metric) -> None:
    model, given = small_cnn(), data()
    plain = metric(
        model, given["images"], given["classes"], given["heat"], **extra(metric, given), draws=streams(given)
    )
    assert torch.equal(plain, score(metric, model, given, Logit(given["classes"])))


def test_draws_from_no_global_stream(metric: Metric) -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    model = small_cnn()
    before = global_streams()
    score(metric, model, data())
    assert global_streams() == before


def global_streams() -> list[str]:
    numpy: Any = np.random.get_state()  # noqa: NPY002
    return [str(random.getstate()), str(numpy[1].tolist()), str(torch.get_rng_state().tolist())]


def test_nothing_to_look_for_is_undefined(metric: Metric) -> None:
    """An empty mask, no part, no shortcut."""
    looked_for = {"masks", "parts", "shortcut"} & set(metric.needs)
    if not looked_for:
        pytest.skip("looks for nothing in particular")
    given = data()
    for need in looked_for:
        given[need] = torch.zeros_like(given[need])
    assert score(metric, small_cnn(), given).isnan().all()


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_a_constant_map_has_a_score_or_none(metric: Metric, level: float) -> None:
    """Never infinite; the other images' scores are untouched."""
    model, given = small_cnn(), data()
    expected = score(metric, model, given)
    given["heat"][1] = level
    values = score(metric, model, given)
    assert not values.isinf().any()
    torch.testing.assert_close(values[[0, 2, 3]], expected[[0, 2, 3]])


def test_leaves_the_model_and_the_arguments_as_they_were(metric: Metric) -> None:
    model, given = small_cnn(), data()
    before = state(model)
    score(metric, model, given)
    assert state(model) == before
    assert all(torch.equal(given[key], value) for key, value in data().items())


def test_gives_the_model_back_after_an_error(metric: Metric) -> None:
    model = small_cnn(Tripping)
    before = state(model)
    with suppress(RuntimeError):
        score(metric, model, data())
    assert state(model) == before


def test_a_map_that_is_not_finite_has_no_score(metric: Metric) -> None:
    model, given = small_cnn(), data()
    expected = score(metric, model, given)
    given["heat"][1, 3, 3] = torch.nan
    given["heat"][2, 0, 0] = torch.inf
    values = score(metric, model, given)
    assert values.isnan().tolist() == [False, True, True, False]
    torch.testing.assert_close(values[[0, 3]], expected[[0, 3]])


def test_asks_for_what_it_needs(metric: Metric) -> None:
    given = data()
    for need in metric.needs:
        rest = {other: value for other, value in extra(metric, given).items() if other != need}
        with pytest.raises(AssayError, match=f"needs {need}"):
            metric(small_cnn(), given["images"], given["classes"], given["heat"], **rest)
        if need in metric.data_needs():
            rest[need] = given[need][..., :3]
            with pytest.raises(AssayError, match=f"{need} do not fit"):
                metric(small_cnn(), given["images"], given["classes"], given["heat"], **rest)


def test_no_images_give_no_scores(metric: Metric) -> None:
    values = score(metric, small_cnn(), data(torch.zeros(0, dtype=torch.int64)))
    assert (values.shape, values.dtype) == ((0,), torch.float32)


def test_refuses_settings_that_it_does_not_have(metric: Metric) -> None:
    record: Any = metric
    for field, choices in choices_of(record):
        with pytest.raises(AssayError, match=f"{field}='nonsense' is not one of {choices[0]}"):
            score(dataclasses.replace(record, **{field: "nonsense"}), small_cnn(), data())


def test_refuses_a_target_for_other_images(metric: Metric) -> None:
    with pytest.raises(AssayError, match="holds data for 3 images, not for 4"):
        score(metric, small_cnn(), data(), Probability(torch.arange(3)))


def test_refuses_a_map_of_another_size(metric: Metric) -> None:
    given = data()
    given["heat"] = given["heat"][:, :12]
    with pytest.raises(AssayError, match="heat must be float"):
        score(metric, small_cnn(), given)
