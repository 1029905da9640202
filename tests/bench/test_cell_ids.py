"""Ids of cells: what is measured again, and what is not."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from assay.attacks import FGSM
from assay.bench import loading
from assay.bench.data import load as load_data
from assay.bench.measurements import CELLS, Cell, Options
from assay.bench.measurements.clean import CleanCell
from assay.bench.measurements.shortcut import ShortcutCell
from assay.bench.models import Fit, Subject, in_memory
from assay.bench.runs.plan import plan
from assay.explain import Saliency
from assay.explain.metrics import Deletion
from tests.bench.nets import OWN, linear

OPTIONS = Options(
    models=(OWN + "linear", OWN + "convolutional"),
    data=("digits",),
    attacks=(
        "pgd(eps=4/255, steps=5, goal=random)",
        "universal-perturbation(eps=0.2, steps=5)",
        "gradient-fooling(start=noise, steps=5)",
    ),
    transfer=("fgsm(eps=0.1)",),
    explainers=("saliency", "occlusion(window=3, stride=2)"),
    metrics=("deletion(steps=4)", "part-effect"),
    syntheses=(
        "visualize(steps=4)",
        "invert(steps=4)",
        "deep-dream(steps=2)",
        "image-quilting(block=9)",
        "texture-synthesis(steps=4)",
        "style-transfer(steps=4)",
    ),
    limit=4,
    gallery=2,
    landscapes=2,
    learned=3,
    attacked_explainers=("saliency",),
    attacked_images=3,
    calibration_bins=5,
)
FROZEN: dict[str, tuple[str, ...]] = {
    "data": ("9be9ea99f848f040",),
    "texture": ("a20f119fae96e50f", "4e118cf0cdc10ff0"),
    "clean": ("707da987a4250c45",),
    "attack": ("29c509ae975f97bc", "fa5b59b916f266bb"),
    "transfer": ("06c978372940f9ce",),
    "explain": ("7cfc314922035aba", "1c9c155a6f12c437"),
    "gallery": ("4d277539440260b1",),
    "landscape": ("13d328fff9c7c8fc",),
    "learned": ("dfc3a197fd1a3a4f",),
    "inversion": ("12ca7ab4e59b16a9",),
    "dream": ("9260739889bdf1fe",),
    "map_shift": ("07a400922e6e230d",),
    "synthesis": ("e069dce4fa1f23a3",),
    "fooling": ("11012e2363ab17b9",),
    "style": ("e40d451a3c98eca3",),
    "calibration": ("a325b28b94eaa182",),
    "shortcut": ("7cdace52d9db208f", "632f1027a9c3954f"),
}


@pytest.fixture(autouse=True)
def fixed_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fitted weights may differ in their last bits from machine to machine."""
    monkeypatch.setattr("assay.bench.models.subject.digest_of", lambda model, size: f"a model of {tuple(size)}")
    loading.forget()


def planned(model: str = OWN + "linear", **changes: Any) -> list[Cell]:
    """The cells of a model, and those without one."""
    return [cell for cell in plan(replace(OPTIONS, **changes)).cells if cell.model in (model, "")]


def shortcut(**changes: Any) -> list[Cell]:
    """The one kind that needs data with a shortcut."""
    digests = {"model_digest": "a model", "class_digest": "its classes", "data_digest": "the data"}
    known = {"model": "zoo:repvgg-shortcut", "data": "scenes?shortcut=agrees", "limit": 4, "fit": Fit((3, 96, 96))}
    sound = ("zoo:repvgg", "another model")
    return [ShortcutCell(**{**digests, **known, **changes}, sound=sound, explainer=e) for e in (None, Saliency())]


def ids(cells: list[Cell]) -> dict[str, tuple[str, ...]]:
    """By kind, in the order of the plan."""
    table: dict[str, tuple[str, ...]] = {}
    for cell in cells:
        table[cell.kind] = (*table.get(cell.kind, ()), cell.id)
    return table


def test_ids_are_those_of_earlier_releases() -> None:
    """Another id here means that runs of earlier releases are measured again. If their numbers stand, mend the id."""
    assert ids([*planned(), *shortcut()]) == FROZEN


def changed(before: dict[str, tuple[str, ...]], after: dict[str, tuple[str, ...]]) -> set[str]:
    """Kinds with an id that is not as it was."""
    assert before.keys() == after.keys()
    return {kind for kind in before if before[kind] != after[kind]}


def test_the_release_is_not_in_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(planned())
    monkeypatch.setattr("assay.bench.runs.provenance.version", lambda: "99.0")
    assert ids(planned()) == before


def test_images_of_galleries_are_in_the_ids_of_what_shows_them_alone() -> None:
    assert changed(ids(planned()), ids(planned(gallery=1))) == {"gallery", "inversion", "dream", "map_shift"}


def test_every_kind_is_among_them() -> None:
    assert FROZEN.keys() == set(CELLS)


def test_a_version_of_a_method_is_in_the_ids_of_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(planned())
    monkeypatch.setattr(FGSM, "version", 2)
    assert changed(before, ids(planned())) == {"transfer"}
    monkeypatch.setattr(Deletion, "version", 2)
    assert changed(before, ids(planned())) == {"transfer", "explain"}
    monkeypatch.setattr(Saliency, "version", 2)
    after = ids(planned())
    assert changed(before, after) == {"transfer", "explain", "gallery", "map_shift"}


def test_a_version_of_a_kind_is_in_the_ids_of_its_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(planned())
    monkeypatch.setattr(CleanCell, "version", 2)
    assert changed(before, ids(planned())) == {"clean"}


def test_the_seed_is_in_every_id() -> None:
    before, after = (ids(planned(seed=seed)) for seed in (0, 1))
    assert not {each for kind in before.values() for each in kind} & {each for kind in after.values() for each in kind}


def test_a_model_is_in_the_ids_of_what_it_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    before = ids(planned())
    monkeypatch.setattr("assay.bench.models.subject.digest_of", lambda model, size: "another model")
    loading.forget()
    after = ids(planned())
    assert changed(before, after) == before.keys() - {"data"}
    assert not {each for kind in before if kind != "data" for each in before[kind]} & {
        each for kind in after.values() for each in kind
    }


NAMES = tuple("abcdefghij")


@pytest.mark.parametrize("classes", [NAMES[::-1], (*NAMES[:-1], "k"), ()], ids=["reordered", "renamed", "dropped"])
def test_names_of_classes_are_in_the_ids_of_what_the_model_measures(classes: tuple[str, ...]) -> None:
    network, facts = linear()
    data = load_data("digits").take(4)
    images = torch.stack([data.example(i).image for i in range(4)])
    letters = in_memory.pictures("letters", images, data.labels, NAMES)
    tables = []
    for names in (NAMES, classes):
        subject = Subject(network, name="own", classes=names, **facts)
        with in_memory.lending({"own": subject}, {"letters": letters}):
            tables.append(ids(planned("own", models=("own",), data=("letters",), attacks=("fgsm",))))
    assert changed(*tables) == tables[0].keys() - {"data"}
