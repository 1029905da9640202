"""Codes against closed forms and brute force, and what they tell of trained, random and real networks."""

import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import Tensor, nn
from torch.nn import functional as F

from assay.bench.data import Scenes
from assay.bench.data import load as load_data
from assay.bench.loading import dataset
from assay.bench.models import create, ensemble, load
from assay.bench.zoo.recipes import RECIPES
from assay.core.errors import AssayError, NotApplicable
from assay.explain.representation.codes import (
    codes,
    heads,
    linear_cka,
    nearest,
    neighbour_accuracy,
    pixels,
    probe_accuracy,
    project,
    score,
)
from tests.bench.real import REAL, mnist, needed
from tests.explain.models import SIZE, SmallCNN, in_batches, pictures, state

Array = NDArray[np.float32]
# the code of the linear one is the picture itself, and the other has a test of its own
NAMES = [name for name in RECIPES if name not in ("linear", "repvgg-shortcut")]
QUICK = ("repvgg", "vit", "mlp")


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def blobs(n: int = 60, classes: int = 3, apart: float = 20.0) -> tuple[Array, NDArray[np.int64]]:
    """Clouds of unit width in eight dimensions, one a class, and their labels."""
    labels = np.arange(n) % classes
    return noise(n, 8) + apart * noise(classes, 8, seed=1)[labels], labels


# what is read


def test_codes_are_what_the_last_layer_reads_and_the_model_is_left_as_it_was() -> None:
    model, images = SmallCNN().eval(), pictures(5)
    before = state(model)
    found = codes(model, in_batches(images, 2))
    with torch.no_grad():
        expected = model.features(images).mean((2, 3))
    np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=1e-6)
    assert state(model) == before
    assert not model.head._forward_pre_hooks


@pytest.mark.parametrize("name", ["repvgg", "vit", "hybrid", "mlp", "linear"])
def test_the_last_layer_makes_the_logits_of_the_codes(name: str) -> None:
    model = load(f"zoo:{name}")
    images = pictures(3, size=96)
    (head,) = heads(model, images)
    with torch.no_grad():
        torch.testing.assert_close(
            model.get_submodule(head)(torch.from_numpy(codes(model, [images]))), model(images), rtol=1e-5, atol=1e-5
        )


class Heads(nn.Module):
    """Averages a linear head with the mean over positions of a convolution, behind an activation in place."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.fully = nn.Conv2d(4, 5, 1)
        self.head = nn.Linear(4, 5)

    def forward(self, images: Tensor) -> Tensor:
        grid = F.relu_(self.stem(images))
        logits: Tensor = (self.fully(grid).mean((2, 3)) + self.head(grid.amax((2, 3)))) / 2
        return logits


def test_codes_of_several_heads_stand_side_by_side_and_positions_are_averaged() -> None:
    model, images = Heads(), pictures(4)
    assert heads(model, images) == ["fully", "head"]
    with torch.no_grad():
        grid = model.stem(images).relu()
        expected = torch.cat([grid.mean((2, 3)), grid.amax((2, 3))], 1)
    np.testing.assert_allclose(codes(model, [images]), expected.numpy(), rtol=1e-6, atol=1e-7)


def test_an_ensemble_has_the_codes_of_its_members() -> None:
    members = [load("zoo:repvgg"), load("zoo:resnet")]
    images = pictures(2, size=96)
    both = codes(ensemble("zoo:repvgg+zoo:resnet", members), [images])
    np.testing.assert_array_equal(both, np.concatenate([codes(each, [images]) for each in members], 1))


class Distances(SmallCNN):
    """Its logits are distances to prototypes, which no layer makes."""

    def forward(self, images: Tensor) -> Tensor:
        return -torch.cdist(self.features(images).mean((2, 3)), torch.ones(5, 12))


def test_logits_that_no_linear_layer_makes_have_no_codes() -> None:
    with pytest.raises(NotApplicable, match="5 logits are not made by linear layers"):
        codes(Distances(), [pictures(2)])


def test_no_pictures_and_codes_that_are_no_numbers_are_errors() -> None:
    broken = SmallCNN()
    with torch.no_grad():
        broken.body.bias.fill_(torch.inf)  # type: ignore[union-attr]
    with pytest.raises(AssayError, match="not finite"):
        codes(broken, [pictures(2)])
    with pytest.raises(AssayError, match="no pictures, no codes"):
        codes(SmallCNN(), [])
    with pytest.raises(AssayError, match="no pictures, no pixels"):
        pixels([])


def test_pixels_are_averaged_over_whole_squares() -> None:
    images = pictures(2, size=SIZE)
    np.testing.assert_array_equal(pixels(in_batches(images, 1)), images.flatten(1).numpy())
    blocks = images.reshape(2, 3, SIZE // 3, 3, SIZE // 3, 3).mean((3, 5))
    np.testing.assert_allclose(pixels([images], side=SIZE // 2 - 1), blocks.flatten(1).numpy(), rtol=1e-6)


# neighbours


def test_neighbours_are_those_of_brute_force() -> None:
    values, queries = noise(30, 5), noise(4, 5, seed=1)
    between = cdist(values, values)
    np.fill_diagonal(between, np.inf)
    found = nearest(values, 3)
    np.testing.assert_array_equal(found.rows, between.argsort(1)[:, :3])
    np.testing.assert_allclose(found.distance, np.sort(between, 1)[:, :3], rtol=1e-5)
    np.testing.assert_array_equal(nearest(values, 3, queries).rows, cdist(queries, values).argsort(1)[:, :3])


@pytest.mark.parametrize("k", [1, 5])
def test_accuracy_leaves_each_picture_out(k: int) -> None:
    values, labels = noise(50, 4), np.arange(50) % 3
    votes = [np.bincount(labels[row], minlength=3).argmax() for row in nearest(values, k).rows]
    assert neighbour_accuracy(values, labels, k) == pytest.approx(np.mean(votes == labels))


def test_accuracy_is_undefined_where_no_two_share_a_label() -> None:
    assert np.isnan(neighbour_accuracy(noise(6, 2), np.arange(6), k=2))


@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_pictures_are_an_error(k: int) -> None:
    with pytest.raises(AssayError, match=f"5 other pictures have no {k} nearest"):
        nearest(noise(6, 2), k)


def test_a_probe_finds_what_is_linear_and_nothing_in_noise() -> None:
    values, labels = blobs()
    assert probe_accuracy(values, labels) == 1
    assert probe_accuracy(noise(300, 8), np.arange(300) % 2) == pytest.approx(0.5, abs=0.1)
    assert np.isnan(probe_accuracy(values[:5], np.array([0, 0, 1, 1, 2])))
    assert np.isnan(probe_accuracy(values, np.zeros(60, np.int64)))


# two dimensions


def test_pca_keeps_the_two_widest_directions() -> None:
    values = noise(40, 6)
    centred = values - values.mean(0)
    left, widths, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(project(values, "pca")), np.abs(left[:, :2] * widths[:2]), rtol=1e-3, atol=1e-4)


def test_tsne_keeps_clouds_apart_and_its_seed_gives_the_same_picture() -> None:
    values, labels = blobs()
    flat = project(values, "tsne")
    assert neighbour_accuracy(flat, labels) == 1
    np.testing.assert_array_equal(flat, project(values, "tsne"))


def test_few_pictures_have_no_map() -> None:
    with pytest.raises(AssayError, match="at least 5"):
        project(noise(4, 3), "tsne")
    assert project(noise(5, 3), "tsne").shape == (5, 2)


def test_scores_gather_what_is_told_and_trust_is_that_of_its_definition() -> None:
    values, labels = blobs(apart=1.0)
    flat = project(values, "pca")
    found = score(values, labels, flat, k=4)
    assert (found.n, found.dimensions) == (60, 8)
    assert found.chance == pytest.approx(1 / 3)
    assert found.neighbours == neighbour_accuracy(values, labels, 4)
    assert found.neighbours_2d == neighbour_accuracy(flat, labels, 4)
    assert found.probe == probe_accuracy(values, labels)
    assert found.trust == pytest.approx(trust(values, flat, 4))
    assert np.isnan(score(values, labels, None)[-2:]).all()


def trust(values: Array, flat: Array, k: int) -> float:
    """Venna & Kaski 2001, eq. 1: what comes near in the map is punished by how far off it was."""
    n = len(values)
    ranks = cdist(values, values).argsort(1).argsort(1)
    wrong = sum(max(int(ranks[i, j]) - k, 0) for i, row in enumerate(nearest(flat, k).rows) for j in row)
    return 1 - 2 * wrong / (n * k * (2 * n - 3 * k - 1))


# likeness


def rotation(size: int, seed: int = 0) -> Array:
    turned: Array = np.linalg.qr(noise(size, size, seed=seed))[0].astype(np.float32)
    return turned


@pytest.mark.parametrize("debiased", [False, True])
def test_cka_is_one_up_to_rotation_scale_and_shift(debiased: bool) -> None:
    values = noise(30, 6)
    for other in (values, values @ rotation(6), 7 * values + 3, np.pad(values, ((0, 0), (0, 4)))):
        assert linear_cka(values, other, debiased=debiased) == pytest.approx(1, abs=1e-5)


def test_cka_of_codes_that_vary_at_right_angles_is_zero() -> None:
    columns = np.linalg.qr(np.pad(noise(30, 6), ((0, 0), (1, 0)), constant_values=1))[0][:, 1:].astype(np.float32)
    assert linear_cka(columns[:, :3], columns[:, 3:]) == pytest.approx(0, abs=1e-6)


def test_cka_equals_its_form_over_features() -> None:
    """Kornblith et al. 2019, eq. 5 of section 3: squared Frobenius norms of cross-covariances."""
    one, other = (values - values.mean(0) for values in (noise(30, 6), noise(30, 4, seed=1)))
    other[:, :2] += one[:, :2]
    norms = np.linalg.norm(one.T @ one) * np.linalg.norm(other.T @ other)
    assert linear_cka(one, other) == pytest.approx(np.linalg.norm(one.T @ other) ** 2 / norms, rel=1e-5)


def test_only_the_debiased_estimate_is_around_zero_for_wide_unrelated_codes() -> None:
    pairs = [(noise(20, 200, seed=2 * i), noise(20, 200, seed=2 * i + 1)) for i in range(20)]
    debiased = [linear_cka(*pair, debiased=True) for pair in pairs]
    assert abs(np.mean(debiased)) < 3 * np.std(debiased) / np.sqrt(len(pairs)) + 0.01
    assert min(linear_cka(*pair) for pair in pairs) > 0.8


def test_cka_is_undefined_for_a_constant_and_wants_the_same_pictures() -> None:
    assert np.isnan(linear_cka(noise(6, 3), np.ones((6, 2), np.float32)))
    with pytest.raises(AssayError, match="same pictures, not 6 and 5"):
        linear_cka(noise(6, 3), noise(5, 3))


# what networks have learned


class Pictures(NamedTuple):
    images: Tensor
    labels: NDArray[np.int64]
    themes: NDArray[np.int64]  # of the backgrounds


@cache
def scenes() -> Pictures:
    data = load_data("scenes?split=test&n=500")
    assert isinstance(data, Scenes)
    images, themes = zip(*((data.example(i).image, data.scene(i).theme) for i in range(len(data))), strict=True)
    return Pictures(torch.stack(images), np.array(data.labels), np.array(themes))


@cache
def scene_codes(name: str, *, trained: bool = True) -> Array:
    model = load(f"zoo:{name}")
    if not trained:
        torch.manual_seed(0)
        model.body = create(RECIPES[name], len(model.classes)).eval()
    return codes(model, in_batches(scenes().images, 100))


@cache
def pixel_accuracy() -> float:
    return neighbour_accuracy(pixels([scenes().images]), scenes().labels)


@pytest.mark.parametrize("name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NAMES])
def test_neighbours_in_the_codes_of_a_trained_network_beat_pixels_and_those_of_a_random_one_do_not(name: str) -> None:
    """By the share of pictures whose nearest others have their class; .06 is three standard errors of a difference."""
    labels = scenes().labels
    assert neighbour_accuracy(scene_codes(name), labels) > pixel_accuracy() + 0.2
    assert neighbour_accuracy(scene_codes(name, trained=False), labels) < pixel_accuracy() + 0.06


def test_neighbours_in_the_codes_of_a_network_that_learned_a_shortcut_share_the_background_and_not_the_class() -> None:
    _, labels, themes = scenes()
    sound, short = (scene_codes(name) for name in ("repvgg", "repvgg-shortcut"))
    assert neighbour_accuracy(short, labels) < pixel_accuracy() + 0.06
    assert neighbour_accuracy(short, themes) > 0.9
    assert neighbour_accuracy(sound, themes) < 0.2


def test_tsne_of_a_trained_networks_codes_separates_the_classes() -> None:
    some = slice(250)
    labels = scenes().labels[some]
    flat = project(scene_codes("repvgg")[some], "tsne")
    assert neighbour_accuracy(flat, labels) > 0.95
    assert neighbour_accuracy(project(pixels([scenes().images[some]]), "tsne"), labels) < 0.25
    np.testing.assert_array_equal(flat, project(scene_codes("repvgg")[some], "tsne"))


def test_networks_that_learned_the_same_classes_have_codes_alike_and_a_random_one_has_not() -> None:
    trained = scene_codes("repvgg")
    assert linear_cka(trained, scene_codes("resnet"), debiased=True) > 0.7
    assert linear_cka(trained, scene_codes("repvgg", trained=False), debiased=True) < 0.05


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(needed(REAL / "subjects.py").parent))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return REAL


@pytest.mark.real
@pytest.mark.slow
def test_tsne_of_lenets_codes_separates_digits(real: Path, tmp_path: Path) -> None:
    model = load("py:subjects:mnist_lenet5")
    data = dataset(mnist(tmp_path), 2000, model)
    images = [data.example(i).image[None] for i in range(len(data))]
    values, labels = codes(model, images), np.array(data.labels)
    assert neighbour_accuracy(project(values, "tsne"), labels) > 0.95
    assert neighbour_accuracy(values, labels) > neighbour_accuracy(pixels(images), labels) + 0.05


@pytest.mark.real
def test_a_published_networks_codes_tell_animals_from_things_in_photographs(real: Path) -> None:
    """There is one photograph a class, so the question is whether it shows an animal (ImageNet's classes 0 to 397)."""
    model = load("py:subjects:mobilenetv2_100")
    data = dataset(f"folder:{real / 'images' / 'imagenet'}", 100, model)
    images = [data.example(i).image[None] for i in range(len(data))]
    labels = (np.array(data.labels) < 398).astype(np.int64)
    values = codes(model, images)
    found = score(values, labels, project(values, "tsne"))
    assert min(found.neighbours, found.neighbours_2d, found.probe) > found.chance + 0.05
    assert neighbour_accuracy(pixels(images), labels) < found.chance


@pytest.mark.real
def test_a_published_networks_codes_separate_small_photographs(real: Path) -> None:
    stored = np.load(real / "images" / "cifar10_test_300.npz")
    images = torch.from_numpy(stored["images"]).permute(0, 3, 1, 2).float() / 255
    labels = stored["labels"].astype(np.int64)
    values = codes(load("py:subjects:cifar10_resnet20"), in_batches(images, 100))
    found = score(values, labels, project(values, "tsne"))
    assert min(found.neighbours, found.neighbours_2d, found.probe) > 0.85
    assert neighbour_accuracy(pixels([images]), labels) < 0.3
