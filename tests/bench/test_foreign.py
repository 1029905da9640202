"""Data sets of torch and of Hugging Face, as they are."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
)

from assay import Subject, run
from assay.bench.models import in_memory
from assay.core.errors import AssayError

NAMES = ("red", "green", "blue")


class ClassLabel:
    """As ``datasets.ClassLabel``: what the numbers of a column are called."""

    names = NAMES


class Table:
    """As ``datasets.Dataset``: rows by number, columns by name, decoded pictures."""

    def __init__(self, pixels: Sequence[NDArray[np.uint8]], labels: Sequence[int], columns: tuple[str, str]) -> None:
        self.pixels, self.labels = pixels, list(labels)
        self.column_names = list(columns)
        self.features: dict[str, object] = {columns[0]: object(), columns[1]: ClassLabel()}
        self.reads = 0

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: int | str) -> Any:
        if isinstance(key, str):
            return self.labels
        self.reads += 1
        return {self.column_names[0]: Image.fromarray(self.pixels[key]), self.column_names[1]: self.labels[key]}


class Items(Dataset[tuple[Any, int]]):
    """As an ImageFolder of torchvision: an item is an image and its class."""

    def __init__(self, images: Sequence[Any], labels: Sequence[int]) -> None:
        self.images, self.labels, self.classes = images, labels, list(NAMES)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        return self.images[i], self.labels[i]


LABELS = [0, 1, 2, 2, 1, 0]
PIXELS = [np.full((8, 8, 3), np.eye(3)[label] * 200, np.uint8) for label in LABELS]
IMAGES = torch.stack([torch.from_numpy(each).permute(2, 0, 1) for each in PIXELS]) / 255


def model(*names: str) -> Subject:
    """Right by the largest mean of red, green and blue."""
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Subject(net, name="mine", input_size=(3, 8, 8), mean=(0.0,) * 3, std=(1.0,) * 3, classes=names)


def accuracy(source: Any, *names: str) -> float:
    summary = run([model(*names)], source, attacks="fgsm", limit=10).summary
    rows = summary[summary["metric"] == "accuracy"]
    assert rows["n"].item() == len(LABELS)
    return float(rows["value"].item())


def sources() -> Iterator[Any]:
    tensors = TensorDataset(IMAGES, torch.tensor(LABELS))
    pictures = Items([Image.fromarray(each) for each in PIXELS], LABELS)
    yield tensors
    yield DataLoader(tensors, batch_size=4, shuffle=True)
    yield DataLoader(pictures, batch_size=4, collate_fn=_batch)
    yield pictures
    yield Items([torch.from_numpy(each).permute(2, 0, 1) for each in PIXELS], LABELS)
    yield Items(PIXELS, LABELS)
    yield Items(list(IMAGES), LABELS)
    yield ConcatDataset([Subset(pictures, range(3)), Subset(pictures, range(3, 6))])
    for columns in (("image", "label"), ("img", "label"), ("image", "labels")):
        yield Table(PIXELS, LABELS, columns)


def _batch(items: list[tuple[Any, int]]) -> tuple[Tensor, Tensor]:
    pixels = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in items])
    return pixels / 255, torch.tensor([label for _, label in items])


@pytest.mark.parametrize("place", range(11))
def test_data_sets_of_others_are_taken_as_they_are(place: int) -> None:
    source = list(sources())[place]
    assert accuracy(source) == 1
    assert accuracy({"named": source}) == 1


def test_names_of_their_classes_are_matched() -> None:
    table = Table(PIXELS, LABELS, ("image", "label"))
    for source in (table, Items(PIXELS, LABELS), Subset(Items(PIXELS, LABELS), range(6))):
        assert accuracy(source, "red", "green", "blue") == 1
        assert accuracy(source, "green", "red", "blue") == pytest.approx(1 / 3)
        with pytest.raises(AssayError, match="'red' and mine such as 'rouge'"):
            accuracy(source, "rouge", "vert", "bleu")
    digests = [in_memory.data("a", source).digest for source in (table, Table(PIXELS, LABELS, ("img", "labels")))]
    assert digests[0] == digests[1]
    assert in_memory.data("a", Table([*PIXELS[1:], PIXELS[0]], LABELS, ("image", "label"))).digest != digests[0]


def test_pictures_are_decoded_when_they_are_needed_and_fitted() -> None:
    table = Table([np.zeros((40, 60, 3), np.uint8)] * 4, [0, 1, 2, 0], ("image", "label"))
    data = in_memory.data("a", table)
    assert table.reads == 1  # to see what it holds
    assert data.at((3, 8, 8)).example(3).image.shape == (3, 8, 8)
    assert table.reads == 2
    assert data.classes == NAMES


def test_a_sampler_says_which_and_leaves_random_numbers_alone() -> None:
    tensors = TensorDataset(IMAGES, torch.tensor(LABELS))
    state = torch.random.get_rng_state()
    data = in_memory.data("a", DataLoader(tensors, sampler=SubsetRandomSampler([4, 1])))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert data.labels == [1, 1]
    assert len(in_memory.data("a", DataLoader(tensors, batch_sampler=[[0, 2], [2, 5]]))) == 3


class Stream(IterableDataset[tuple[Tensor, int]]):
    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return zip(IMAGES, LABELS, strict=True)


def test_a_loader_of_a_stream_is_read_to_its_end() -> None:
    assert accuracy(DataLoader(Stream(), batch_size=4)) == 1


class Broken(Table):
    def __getitem__(self, key: int | str) -> Any:
        if key == 2:
            raise OSError("cannot identify image file")
        return super().__getitem__(key)


def test_a_picture_that_another_library_cannot_read_is_a_row() -> None:
    with pytest.warns(UserWarning, match="1 cells or images failed"):
        tables = run([model()], cast(Any, Broken(PIXELS, LABELS, ("image", "label"))), attacks="fgsm", limit=10)
    assert tables.failures["reason"].tolist() == ["images 000002 cannot be decoded: cannot identify image file"]


@pytest.mark.parametrize(
    ("told", "source"),
    [
        ("no column image or img among pixels, label", Table(PIXELS, LABELS, ("pixels", "label"))),
        ("no column label or labels among image, fine_label", Table(PIXELS, LABELS, ("image", "fine_label"))),
        ("labels run from -1 to -1", Table(PIXELS, [-1] * 6, ("image", "label"))),
        ("labels run from 0 to 7", Table(PIXELS, [7, *LABELS[1:]], ("image", "label"))),
        ("there is no image", Table([], [], ("image", "label"))),
        ("Stream has no length", Stream()),
        ("an item is (image, label, ...) or a dict with both, not tuple", TensorDataset(IMAGES)),
        ("str is no picture", Items(["a"] * 6, LABELS)),
        ("ndarray uint8 (3, 8, 9) is no picture", Items([np.zeros((3, 8, 9), np.uint8)] * 6, LABELS)),
        ("are not tensors of one size", Items([torch.zeros(3, i, 8) for i in range(6)], LABELS)),
        ("normalisation belongs in the model", Items(list(IMAGES * 2 - 1), LABELS)),
        ("labels are class indices, not 0.5", Items(PIXELS, cast(Any, [0.5, *LABELS[1:]]))),
        ("labels are class indices", Items(PIXELS, cast(Any, ["cat"] * 6))),
    ],
)
def test_what_cannot_be_taken_is_one_line(told: str, source: Any) -> None:
    with pytest.raises(AssayError) as refused:
        run([model()], source)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_image_folder_of_torchvision(tmp_path: Path) -> None:
    from torchvision.datasets import ImageFolder

    for label, name in enumerate(NAMES):
        (tmp_path / name).mkdir()
        Image.fromarray(PIXELS[label]).save(tmp_path / name / "a.png")
    data = in_memory.data("a", ImageFolder(str(tmp_path)))
    assert data.classes == ("blue", "green", "red")
    assert [data.classes[label] for label in data.labels] == ["blue", "green", "red"]
