"""Attacks shown to other models, ensembles, and attacks made on other images."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from assay.attacks import MIFGSM, Targeted, UniversalPerturbation
from assay.bench.data import load as load_data
from assay.bench.loading import subject as loaded
from assay.bench.measurements import Options, Setup, draws_for
from assay.bench.measurements.attack import AttackCell, Pool
from assay.bench.measurements.transfer import TransferCell
from assay.bench.models import load
from assay.bench.runs.plan import Plan, plan
from assay.core.errors import AssayError, NotApplicable
from tests.bench.nets import OWN
from tests.bench.test_cells import folder

CONVOLUTIONAL, LINEAR = OWN + "convolutional", OWN + "linear"
BOTH = f"{CONVOLUTIONAL}+{LINEAR}"


def planned(models: tuple[str, ...] = (CONVOLUTIONAL, LINEAR), limit: int = 20, **more: object) -> Plan:
    return plan(Options(models=models, data=("digits",), limit=limit, gallery=0, **more))


def rows(cells: list[AttackCell] | list[TransferCell], setup: Setup = Setup()) -> pd.DataFrame:  # noqa: B008
    return pd.DataFrame([row for cell in cells for row in cell.measure(setup).rows])


def of_kind(found: Plan, kind: type) -> list:  # type: ignore[type-arg]
    return [cell for cell in found.cells if isinstance(cell, kind)]


def test_the_source_is_fooled_as_often_as_by_its_own_attack() -> None:
    found = planned(attacks=("mi-fgsm(eps=0.1)",), transfer=("mi-fgsm(eps=0.1)",))
    own, shown = rows(of_kind(found, AttackCell)), rows(of_kind(found, TransferCell))
    assert set(shown["metric"]) == {"fooling_rate", "robust_accuracy"}
    assert len(shown) == 2 * 2 * 2 * 20
    for source in (CONVOLUTIONAL, LINEAR):
        diagonal = shown[(shown["model"] == source) & (shown["source"] == source)]
        expected = own[(own["model"] == source) & own["metric"].isin(set(shown["metric"]))]
        pd.testing.assert_frame_equal(
            diagonal[["image", "metric", "value"]].sort_values(["metric", "image"], ignore_index=True),
            expected[["image", "metric", "value"]].sort_values(["metric", "image"], ignore_index=True),
        )
    methods = {cell.method.name for kind in (AttackCell, TransferCell) for cell in of_kind(found, kind)}
    assert methods == {"mi-fgsm"}


def test_victims_see_the_images_of_the_source() -> None:
    (cell,) = [c for c in of_kind(planned(transfer=("mi-fgsm(eps=0.25)",)), TransferCell) if c.model == LINEAR]
    source, victim = loaded(LINEAR, "cpu"), loaded(CONVOLUTIONAL, "cpu")
    (batch,) = cell.batches(Setup())
    attack = MIFGSM(eps=0.25)
    adversarial = attack(source, batch.images, batch.labels, draws_for(0, source.digest, repr(attack), batch.ids))
    with torch.no_grad():
        right = victim(batch.images).argmax(1) == batch.labels
        wrong = victim(adversarial).argmax(1) != batch.labels
    expected = np.where(right, wrong.float(), np.nan)
    found = rows([cell]).query("model == @CONVOLUTIONAL and metric == 'fooling_rate'")["value"]
    np.testing.assert_array_equal(found, expected)
    assert 0 < np.nanmean(expected) < 1


def test_a_wanted_class_is_counted_on_every_victim() -> None:
    found = planned(transfer=("mi-fgsm(eps=0.25, goal=3)",))
    shown = rows(of_kind(found, TransferCell))
    rates = shown[shown["metric"] == "targeted_rate"]
    for source, victim in ((CONVOLUTIONAL, LINEAR), (LINEAR, CONVOLUTIONAL)):
        (cell,) = [c for c in of_kind(found, TransferCell) if c.model == source]
        (batch,) = cell.batches(Setup())
        wanted = Targeted(torch.full_like(batch.labels, 3))
        adversarial = MIFGSM(eps=0.25)(loaded(source, "cpu"), batch.images, wanted)
        with torch.no_grad():
            before, after = (loaded(victim, "cpu")(x).argmax(1) for x in (batch.images, adversarial))
        expected = np.where(before != 3, (after == 3).float(), np.nan)
        here = rates[(rates["model"] == victim) & (rates["source"] == source)]
        np.testing.assert_array_equal(here["value"], expected)
    assert rates["value"].mean() > 0.1


def test_models_of_another_size_are_no_victims() -> None:
    found = planned((CONVOLUTIONAL, LINEAR, OWN + "large"), transfer=("fgsm",))
    assert [[spec for spec, _ in cell.victims] for cell in of_kind(found, TransferCell)] == [
        [CONVOLUTIONAL, LINEAR],
        [LINEAR, CONVOLUTIONAL],
        [OWN + "large"],
    ]


def test_broken_logits_of_a_victim_are_failed_rows() -> None:
    found = planned((LINEAR, OWN + "nan_where_dark"), transfer=("fgsm",), limit=30)
    shown = rows([cell for cell in of_kind(found, TransferCell) if cell.model == LINEAR])
    broken = shown[shown["status"] == "failed"]
    assert set(broken["model"]) == {OWN + "nan_where_dark"}
    assert 0 < broken["image"].nunique() < 30
    assert broken["value"].isna().all()


def test_an_ensemble_averages_logits() -> None:
    both, first, second = load(BOTH), load(CONVOLUTIONAL), load(LINEAR)
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(both(images), (first(images) + second(images)) / 2)
    assert (both.name, both.classes, both.fit) == (BOTH, first.classes, first.fit)
    assert len({both.digest, first.digest, second.digest, load(f"{CONVOLUTIONAL}+{CONVOLUTIONAL}").digest}) == 4
    assert load(BOTH).digest == both.digest


def test_an_ensemble_is_a_source_and_a_victim() -> None:
    found = of_kind(planned((LINEAR, CONVOLUTIONAL, BOTH), transfer=("fgsm(eps=0.1)",)), TransferCell)
    shown = rows([cell for cell in found if cell.model == BOTH])
    assert set(shown["model"]) == {LINEAR, CONVOLUTIONAL, BOTH}
    assert set(shown["source"]) == {BOTH}


def test_an_ensemble_of_models_that_do_not_go_together_is_refused() -> None:
    with pytest.raises(AssayError, match="large has another input_size than"):
        load(f"{LINEAR}+{OWN}large")
    with pytest.raises(AssayError, match="names no function"):
        load(f"{LINEAR}+py:nothing")


def test_a_plus_in_the_path_of_a_checkpoint_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a+b.pth").write_bytes(b"nothing")
    with pytest.raises(AssayError, match="is no readable checkpoint"):
        load(f"test_vit={tmp_path / 'a+b.pth'}")


def test_universal_attacks_craft_on_other_images() -> None:
    found = planned((LINEAR,), attacks=("universal-perturbation(eps=0.3, steps=8)",), training_images=30)
    (cell,) = of_kind(found, AttackCell)
    model = cell.subject(Setup())
    assert cell.pool.spec == "digits?split=train"
    others = load_data(cell.pool.spec).take(30)
    assert not set(others.ids) & set(load_data("digits").ids)
    attack = UniversalPerturbation(eps=0.3, steps=8)
    images = torch.stack([others.example(i).image for i in range(30)])
    made = attack.craft(model, images, torch.tensor(others.labels), 0)
    (batch,) = cell.batches(Setup())
    with torch.no_grad():
        wrong = model((batch.images + made).clamp(0, 1)).argmax(1) != batch.labels
    shown = rows([cell])
    errors = shown[shown["metric"] == "error_rate"]
    np.testing.assert_array_equal(errors["value"], wrong.float())
    assert wrong.float().mean() > 0.5
    assert (errors["backwards"] == 30 * 8 / 20).all()


def test_the_crafting_images_are_in_the_identity() -> None:
    texts = ("universal-perturbation",)
    ids = {of_kind(planned((LINEAR,), attacks=texts, training_images=n), AttackCell)[0].id for n in (10, 20)}
    assert len(ids) == 2
    assert (
        len({of_kind(planned((LINEAR,), attacks=("fgsm",), training_images=n), AttackCell)[0].id for n in (10, 20)})
        == 1
    )


def test_photographs_leave_the_crafting_to_those_that_are_not_measured(tmp_path: Path) -> None:
    spec = folder(tmp_path, *map(str, range(10)))
    found = Pool.of(spec, 15, 200)
    assert found is not None
    assert (found.skip, found.images) == (15, 5)
    assert Pool.of(spec, 20, 200) is None
    options = Options(models=(LINEAR,), data=(spec,), attacks=("universal-perturbation",), gallery=0)
    (cell,) = of_kind(plan(options), AttackCell)
    with pytest.raises(NotApplicable, match="no images to learn from beside the 100 measured"):
        cell.measure(Setup())


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        ("scenes", "scenes?split=train&n=50"),
        ("scenes?split=train&shortcut=lies", "scenes?split=validation&n=50&shortcut=lies"),
        ("digits?split=train", "digits"),
    ],
)
def test_generated_data_crafts_on_another_split(spec: str, other: str) -> None:
    found = Pool.of(spec, 2000, 50)
    assert found is not None
    assert (found.spec, found.skip, found.images) == (other, 0, 50)


def test_a_universal_perturbation_transfers() -> None:
    found = planned(transfer=("universal-perturbation(eps=0.3, steps=8)",), training_images=30)
    shown = rows(of_kind(found, TransferCell))
    assert len(shown) == 2 * 2 * 2 * 20
    assert shown["value"].notna().any()
