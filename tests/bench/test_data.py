"""What every data set promises, and the two that need no files."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from assay.bench.data import load, scenes
from assay.bench.data.base import to_image
from assay.core.errors import AssayError


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("scene", "did you mean scenes"),
        ("", "known: scenes, digits, folder, torchvision"),
        ("scenes?noise=1", "unknown option of scenes 'noise'; .*known: split, n, seed, shortcut"),
        ("scenes?split=tset", "unknown split 'tset'; did you mean test"),
        ("scenes?shortcut=maybe", "known: none, agrees, lies"),
        ("scenes?n=0", "n=0 is not a whole number of at least 1"),
        ("scenes?n=ten", "n=ten is not a whole number"),
        ("scenes?n=1&n=2", "'n' needs one value"),
        ("scenes?split=", "'split' needs one value"),
        ("scenes:test", "options follow a question mark"),
        ("digits?n=3", "known: split"),
        ("folder:", "write folder:PATH"),
        ("folder:/no/such/place", "/no/such/place is not a folder"),
        ("torchvision:CIFR10?root=/x", "did you mean CIFAR10"),
        ("torchvision:MNIST", r"write torchvision:MNIST\?root=PATH"),
        ("torchvision:MNIST?root=/no/such", "nothing is downloaded"),
        ("torchvision:MNIST?root=/x&split=validation", "known: train, test"),
        ("torchvision:EuroSAT?root=/x&split=test", "has no splits"),
    ],
)
def test_a_wrong_spec_says_what_would_be_right(spec: str, message: str) -> None:
    with pytest.raises(AssayError, match=message) as caught:
        load(spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("scenes", "scenes"),
        (" scenes?split=test&seed=0 ", "scenes"),
        ("scenes?shortcut=lies&n=007&split=train", "scenes?split=train&n=7&shortcut=lies"),
        ("digits?split=test", "digits"),
    ],
)
def test_spec_is_canonical(spec: str, canonical: str) -> None:
    assert load(spec).spec == canonical
    assert load(canonical).spec == canonical


@pytest.mark.parametrize("spec", ["scenes?n=40", "digits"])
def test_examples_and_labels(spec: str) -> None:
    data = load(spec)
    assert len(data) == len(data.ids) == len(set(data.ids)) == len(data.labels)
    example = data[3]
    assert (example.id, example.label) == (data.ids[3], data.labels[3])
    assert example.image.dtype == torch.float32
    assert 0 <= example.image.min() <= example.image.max() <= 1
    assert torch.equal(example.image, data.example(3).image)
    assert set(data.labels) == set(range(len(data.classes)))


def test_take_is_balanced_and_keeps_ids() -> None:
    data = load("digits")
    few = data.take(25)
    assert len(few) == 25
    counts = np.bincount(few.labels, minlength=10)
    assert counts.max() - counts.min() <= 1
    for i in (0, 24):
        assert few.labels[i] == data.labels[data.ids.index(few.ids[i])]
        assert torch.equal(few[i].image, data[data.ids.index(few.ids[i])].image)
    assert few.ids == data.take(400).take(25).ids
    assert sorted(data.take(10_000).ids) == sorted(data.ids)
    with pytest.raises(AssayError, match="at least 1"):
        data.take(0)


def test_digest_is_of_the_data_alone() -> None:
    data = load("scenes?n=50")
    assert data.digest == load("scenes?n=50").digest == load("scenes").take(50).digest
    assert data.at((1, 96, 96)).digest == data.digest
    others = ["scenes?n=49", "scenes?n=50&seed=1", "scenes?n=50&split=train", "scenes?n=50&shortcut=lies"]
    assert len({data.digest, *(load(spec).digest for spec in others)}) == 5
    digits = load("digits").take(20)
    assert digits.digest == digits.at((3, 16, 16)).digest != load("digits").take(21).digest


def test_every_picture_has_a_hash_of_its_own() -> None:
    for data in (load("scenes").take(12), load("digits").take(12)):
        assert len({data.sha256(i) for i in range(12)}) == 12


def test_scenes_give_masks_parts_and_pictures_without() -> None:
    data = load("scenes?n=4")
    assert data.has == {"masks", "parts", "without", "shortcut", "redrawn"}
    for i in range(4):
        example = data[i]
        assert example.mask is not None
        assert example.parts is not None
        assert example.without is not None
        assert (example.mask.shape, example.mask.dtype) == ((96, 96), torch.bool)
        assert example.parts.dtype == torch.uint8
        assert torch.equal(example.mask, (example.parts == 1) | (example.parts == 2))
        assert example.without.shape == (5, 3, 96, 96)
        record = scenes.scene(i)
        for part in range(5):
            same = torch.equal(example.without[part], example.image)
            assert same == (part >= len(record.parts))
        drawn = torch.from_numpy(scenes.render(record, "mark")).permute(2, 0, 1) / 255
        assert torch.equal(example.without[1], drawn)


def test_scenes_give_the_shortcut_and_its_other_contents() -> None:
    """Every other theme once; all but the background stays, up to the half-covered rim of what lies before it."""
    data = load("scenes?n=4&shortcut=agrees")
    for i in range(4):
        example = data[i]
        assert example.shortcut is not None
        assert example.redrawn is not None
        assert example.parts is not None
        assert torch.equal(example.shortcut, example.parts == 0)
        assert example.redrawn.shape == (9, 3, 96, 96)
        themes = [scene.theme for scene in scenes.other_themes(scenes.scene(i, shortcut="agrees"))]
        assert sorted([*themes, i]) == list(range(10))
        changed = (example.redrawn != example.image).any(1)
        assert changed[:, example.shortcut].double().mean(1).min() > 0.99
        assert changed[:, ~example.shortcut].double().mean(1).max() < 0.1


def test_only_what_is_needed_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str | None] = []
    render = scenes.render

    def counted(scene: scenes.Scene, without: str | None = None) -> NDArray[np.uint8]:
        drawn.append(without)
        return render(scene, without)

    monkeypatch.setattr(scenes, "render", counted)
    data = load("scenes?n=2")
    example = data.example(0, {"masks"})
    assert drawn == [None]
    assert example.mask is not None
    assert example.parts is None
    assert example.without is None


def test_scenes_at_a_models_size() -> None:
    data = load("scenes?n=3")
    assert torch.equal(data.at((3, 96, 96))[0].image, data[0].image)
    grey = data.at((1, 96, 96))[0]
    assert grey.without is not None
    assert grey.image.shape == (1, 96, 96)
    assert grey.without.shape == (5, 1, 96, 96)
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert (grey.image - (data[0].image * weights).sum(0, keepdim=True)).abs().max() <= 0.5 / 255 + 1e-6
    with pytest.raises(AssayError, match="drawn at 96x96 only; this model takes 224x224"):
        data.at((3, 224, 224))


def test_classes_must_match_the_model() -> None:
    data = load("scenes?n=3")
    assert data.at((3, 96, 96), num_classes=10).labels == [0, 1, 2]
    with pytest.raises(AssayError, match="has 10 classes and the model 1000"):
        data.at((3, 96, 96), num_classes=1000)


@pytest.mark.parametrize("size", [(4, 96, 96), (96, 96), (3, 0, 96)])
def test_impossible_sizes_are_refused(size: tuple[int, ...]) -> None:
    with pytest.raises(AssayError, match="input size is"):
        load("scenes").at(size)
    with pytest.raises(AssayError, match="crop_pct"):
        load("scenes").at((3, 96, 96), crop_pct=1.5)


def test_digits_are_scikit_learns() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    train, test = load("digits?split=train"), load("digits")
    assert (len(train), len(test)) == (1297, 500)
    assert not set(train.ids) & set(test.ids)
    row = int(test.ids[5].removeprefix("digit-"))
    assert np.array_equal(test[5].image[0].numpy() * 16, bunch.images[row])
    assert test.labels[5] == bunch.target[row]


def test_digits_are_enlarged_bilinearly() -> None:
    data = load("digits")
    large = data.at((3, 16, 24))[0].image
    assert large.shape == (3, 16, 24)
    assert torch.equal(large[0], large[2])
    small = data[0].image
    # doubling the height: the second and third row of the picture are 1/4 and 3/4 on the way between the first two
    doubled = data.at((1, 16, 8))[0].image
    torch.testing.assert_close(doubled[0, 1], 0.75 * small[0, 0] + 0.25 * small[0, 1])
    torch.testing.assert_close(doubled[0, 2], 0.25 * small[0, 0] + 0.75 * small[0, 1])
    assert torch.equal(data.at((1, 8, 8))[0].image, small)


def test_luminance_leaves_grey_as_it_was() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    colour = np.repeat(levels[..., None], 3, 2)
    assert torch.equal(to_image(colour, 1), to_image(levels))
    assert torch.equal(to_image(levels, 3), to_image(colour))
