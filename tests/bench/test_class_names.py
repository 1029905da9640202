"""Which class of a model each class of the data is: by name, by ImageNet's numbers or by place, and never a guess."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from PIL import Image
from timm.data import ImageNetInfo
from timm.data.readers.reader_image_folder import find_images_and_targets
from torch import nn

from assay import reports
from assay.bench.data import DataSet, load
from assay.bench.data.class_names import fold, match, numbers
from assay.bench.loading import dataset
from assay.bench.measurements import Ask, Options
from assay.bench.measurements.ask import ModelFacts
from assay.bench.models import Fit, Subject, in_memory
from assay.bench.models.subject import ensemble
from assay.bench.runs.engine import run
from assay.core.errors import AssayError
from assay.reports.context import Context, gather
from assay.reports.kinds import kind_of


class Model(NamedTuple):
    classes: tuple[str, ...]
    has_names: bool = True
    name: str = "mine"
    fit: Fit = Fit((3, 8, 8))


def unnamed(count: int) -> Model:
    return Model(numbers(count), has_names=False)


def folders(root: Path, *names: str, empty: Sequence[str] = ()) -> DataSet:
    for name in names:
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "a.png")
    for name in empty:
        (root / name).mkdir(parents=True)
    return load(f"folder:{root}")


def labels(data: DataSet, model: Model) -> dict[str, int]:
    """The model's class of each folder."""
    given = dataset(data.spec, 100, model)
    return {id_.partition("/")[0]: label for id_, label in zip(given.ids, given.labels, strict=True)}


def test_names_decide_whatever_the_order(tmp_path: Path) -> None:
    data = folders(tmp_path, "ant", "bird", "cat")
    model = Model(("dog", "cat", "bird", "ant"))
    assert labels(data, model) == {"cat": 1, "bird": 2, "ant": 3}
    assert dataset(data.spec, 100, model).classes == model.classes
    assert not dataset(data.spec, 100, model).notes


def test_numbers_given_as_names_are_names(tmp_path: Path) -> None:
    data = folders(tmp_path, *map(str, range(12)))
    order = random.Random(0).sample(range(12), 12)
    assert labels(data, Model(tuple(map(str, order)))) == {str(name): k for k, name in enumerate(order)}
    assert labels(data, Model(numbers(12))) == {str(k): k for k in range(12)}
    with pytest.raises(AssayError, match="'cat' and mine such as '0': labels would not match"):
        labels(folders(tmp_path / "more", "cat", "dog"), Model(numbers(2)))


@pytest.mark.parametrize("names", [map(str, range(12)), map(str, range(1, 13)), ("b10", "b9", "B1", "a"), ("Z", "a")])
def test_without_names_folders_count_as_in_timm(names: Any, tmp_path: Path) -> None:
    names = list(names)
    data = folders(tmp_path, *names)
    assert labels(data, unnamed(len(names))) == find_images_and_targets(str(tmp_path))[1]
    (note,) = dataset(data.spec, 100, unnamed(len(names))).notes
    assert "the model's classes have no names" in note


def test_folders_named_by_index_are_these_classes(tmp_path: Path) -> None:
    data = folders(tmp_path, "3", "07", "11")
    assert labels(data, unnamed(12)) == {"3": 3, "07": 7, "11": 11}
    assert "folders are their numbers, 3 to 11" in dataset(data.spec, 100, unnamed(12)).notes[0]
    assert labels(data, unnamed(3)) == {"3": 0, "07": 1, "11": 2}
    with pytest.raises(AssayError, match="has 3 classes and mine 11: labels would not match"):
        labels(data, unnamed(11))
    twice = folders(tmp_path / "twice", "1", "01")
    with pytest.raises(AssayError, match="'01' and '1' have no order"):
        labels(twice, unnamed(2))


def test_case_and_underscores_are_no_difference_where_one_name_is_left(tmp_path: Path) -> None:
    data = folders(tmp_path, "ant", "cat", "hot_dog")
    assert labels(data, Model(("cat", "hot dog", "ant"))) == {"cat": 0, "hot_dog": 1, "ant": 2}
    (note,) = dataset(data.spec, 100, Model(("cat", "Hot Dog", "Ant"))).notes
    assert "'ant' is 'Ant', 'hot_dog' is 'Hot Dog'" in note
    with pytest.raises(AssayError, match="not one alone: 'hot_dog'"):
        labels(data, Model(("cat", "hot dog", "Hot Dog", "ant")))
    both = folders(tmp_path / "both", "cat", "Cat")
    with pytest.raises(AssayError, match="not one alone: 'Cat', 'cat'"):
        labels(both, Model(("cat", "dog")))
    assert fold("Cafe\u0301_ au  lait") == fold("caf\u00e9 au lait")


def test_names_that_do_not_match_are_said(tmp_path: Path) -> None:
    data = folders(tmp_path, "bird", "cat", "hound")
    with pytest.raises(AssayError, match=r"'hound' and mine such as 'dog': labels would not match; .*: 'hound'$"):
        labels(data, Model(("bird", "cat", "dog")))
    images = torch.zeros(2, 3, 8, 8)
    pair = in_memory.pictures("pair", images, torch.tensor([0, 1]), ["bird", "hound"])
    with pytest.raises(AssayError, match="'hound'"):
        match(pair, Model(("bird", "cat")))
    plain = in_memory.pictures("plain", images, torch.tensor([0, 1]))
    with pytest.raises(AssayError, match="'0' and mine such as 'bird'"):
        match(plain, Model(("bird", "cat")))


def test_classes_without_pictures_need_no_match(tmp_path: Path) -> None:
    data = folders(tmp_path, "bird", "cat", empty=["annotations", "dog"])
    assert labels(data, Model(("cat", "bird"))) == {"bird": 1, "cat": 0}
    assert labels(data, unnamed(4)) == {"bird": 1, "cat": 2}
    assert labels(data, unnamed(2)) == {"bird": 0, "cat": 1}
    assert data.notes == ("classes without pictures: 'annotations', 'dog'",)
    with pytest.raises(AssayError, match="has 4 classes, 2 of them without pictures, and mine 3"):
        labels(data, unnamed(3))


WNIDS = {"n01484850": "great white shark", "n01518878": "ostrich", "n02012849": "crane"}


def test_wnids_are_imagenets_where_the_model_is(tmp_path: Path) -> None:
    data = folders(tmp_path, *WNIDS)
    assert labels(data, unnamed(1000)) == {"n01484850": 2, "n01518878": 9, "n02012849": 134}
    names = dataset(data.spec, 100, unnamed(1000)).classes
    assert (names[2], names[134]) == ("great white shark", "crane (n02012849)")
    assert labels(data, unnamed(3)) == dict(zip(WNIDS, range(3), strict=True))


def test_the_names_that_an_imagenet_model_has_by_itself_are_imagenets(tmp_path: Path) -> None:
    """Where two classes are called crane, and one is in ImageNet-1k alone."""
    names = ImageNetInfo().label_descriptions()
    model = Model(tuple(name.split(",")[0] for name in names))
    data = folders(tmp_path, "n02012849", "n03126707", "n04399382")
    assert labels(data, model) == {"n02012849": 134, "n03126707": 517, "n04399382": 850}
    assert data.classes == ("crane (n02012849)", "crane (n03126707)", "teddy")


def test_wnids_are_names_where_the_model_has_others(tmp_path: Path) -> None:
    data = folders(tmp_path, *WNIDS)
    assert labels(data, Model(("n02012849", "n01518878", "n01484850"))) == dict(zip(WNIDS, (2, 1, 0), strict=True))
    assert labels(data, Model(tuple(WNIDS.values())[::-1])) == dict(zip(WNIDS, (2, 1, 0), strict=True))
    own = (*(f"class {i}" for i in range(997)), *WNIDS)
    assert labels(data, Model(own)) == dict(zip(WNIDS, (997, 998, 999), strict=True))
    with pytest.raises(AssayError, match="labels would not match"):
        labels(data, Model(tuple(f"class {i}" for i in range(1000))))


def _subject(*classes: str, count: int = 3) -> Subject:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, count))
    return Subject(network, name="mine", input_size=(3, 2, 2), mean=(0.0,), std=(1.0,), classes=classes)


def test_a_subject_knows_whether_its_classes_have_names() -> None:
    assert not _subject().has_names
    assert _subject("0", "1", "2").has_names
    assert not ensemble("two", [_subject(), _subject()]).has_names
    assert ensemble("two", [_subject("0", "1", "2")] * 2).has_names


def test_names_that_look_like_numbers_are_in_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = []
    for subject in (_subject(), _subject("0", "1", "2"), _subject("1", "0", "2")):
        monkeypatch.setattr("assay.bench.measurements.ask.subject", lambda spec, device, subject=subject: subject)
        digests.append(ModelFacts.of("mine").class_digest)
    assert len(set(digests)) == 3


def test_a_match_that_names_do_not_tell_is_in_the_ids(tmp_path: Path) -> None:
    """Earlier versions took labels for indices where some names matched: such cells are measured again."""
    data, plain = folders(tmp_path / "a", "cat", "hot_dog"), folders(tmp_path / "b", "cat", "hot dog")
    subject = _subject("hot dog", "cat", count=2)
    with in_memory.lending({"mine": subject}, {}):
        ask = Ask(Options(models=("mine",), data=(data.spec, plain.spec), attacks=("fgsm",)))
        digests = [ask.common("mine", spec)["class_digest"] for spec in (data.spec, plain.spec)]
        names = ask.models["mine"].class_digest
    assert digests[1] == names
    assert digests[0].startswith(names)
    assert digests[0] != names


def test_a_digest_tells_what_labels_hang_on(tmp_path: Path) -> None:
    """Names of classes; the order of folders where the pictures' own do not tell it."""
    images, numbered = torch.zeros(2, 3, 8, 8), torch.tensor([0, 1])
    digests = {in_memory.pictures("a", images, numbered, names).digest for names in (["a", "b"], ["b", "a"], [])}
    assert len(digests) == 3
    data = folders(tmp_path, "b", "c")
    before = data.digest
    assert folders(tmp_path, empty=["a"]).digest != before
    (tmp_path / "a").rmdir()
    assert load(data.spec).digest == before


def _context(spec: str, out: Path, *models: Subject) -> Context:
    with in_memory.lending({model.name: model for model in models}, {}):
        run(Options(models=tuple(model.name for model in models), data=(spec,), attacks=("fgsm",), gallery=0), out)
    return gather(reports.load(out), out / "report")


def _matrix(context: Context, spec: str) -> Any:
    (part,) = kind_of("clean").on_data(context, spec)
    return part.blocks[0].content


def test_pages_name_classes_as_the_pictures_are_called(tmp_path: Path) -> None:
    """A model of 1,000 classes has other numbers for three folders than the folders have."""
    data = folders(tmp_path / "data", *WNIDS)
    torch.manual_seed(0)
    context = _context(data.spec, tmp_path / "run", _subject(count=1000))
    assert [name for name, _ in _matrix(context, data.spec)["heads"]] == list(WNIDS.values())
    assert set(context.classes.values()) == set(WNIDS.values())
    rows = context.run.select("clean", "accuracy")
    assert sorted(rows["label"]) == [2, 9, 134]
    classes = kind_of("attack").on_model(context, "mine", data.spec)
    (lines,) = [block.content["lines"] for block in classes if block.macro == "by_class"]
    assert [name for name, *_ in lines] == list(WNIDS.values())


def test_models_with_other_orders_of_names_stand_in_one_table(tmp_path: Path) -> None:
    second = nn.Linear(12, 2)
    nn.init.zeros_(second.weight)
    with torch.no_grad():
        second.bias.copy_(torch.tensor([0.0, 1.0]))  # always its second class
    network = nn.Sequential(nn.Flatten(), second)
    how: Any = {"input_size": (3, 2, 2), "mean": (0.0,), "std": (1.0,)}
    spec = folders(tmp_path / "data", "cat", "dog").spec
    models = [Subject(network, name=f"{a} first", classes=(a, b), **how) for a, b in (("dog", "cat"), ("cat", "dog"))]
    matrix = _matrix(_context(spec, tmp_path / "run", *models), spec)
    assert matrix["heads"] == [("cat", 1), ("dog", 1)]
    assert [(name, *(cell.value for cell in cells)) for name, _, cells in matrix["lines"]] == [
        ("dog first", 1.0, 0.0),
        ("cat first", 0.0, 1.0),
    ]
