"""The generator keeps what its users rely on: purity, causality of parts, disjoint splits, comparable variants."""

import hashlib

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, binary_erosion

from assay.bench.data import scenes
from assay.bench.data.scenes import part_map, render, scene

GOLDEN = {
    (0, "test", 0, "none"): "543035d1abea170f",
    (7, "train", 3, "lies"): "7d5e288e302ba3b5",
    (13, "validation", 0, "agrees"): "11fd2e9201d34ae7",
}


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def test_pixels_are_those_of_this_version() -> None:
    assert scenes.VERSION == 1
    assert {key: _digest(render(scene(*key)))[:16] for key in GOLDEN} == GOLDEN  # type: ignore[arg-type]


def test_a_scene_is_a_pure_function_of_its_number() -> None:
    first = [scene(i) for i in (3, 4)]
    assert [scene(4), scene(3)] == first[::-1]
    assert np.array_equal(render(first[0]), render(first[0]))
    assert scene(3, seed=1) != first[0]


def test_splits_share_no_picture() -> None:
    digests = {split: {_digest(render(scene(i, split))) for i in range(150)} for split in scenes.SPLITS}
    assert all(len(found) == 150 for found in digests.values())
    assert len(set.union(*digests.values())) == 450


def test_labels_are_balanced_and_need_both_parts() -> None:
    made = [scene(i) for i in range(20)]
    assert [s.label for s in made] == [*range(10)] * 2
    assert all(scenes.CLASSES[s.label] == f"{s.body.kind}-{s.mark.kind}" for s in made)
    pairs = {(s.body.kind, s.mark.kind) for s in made}
    assert len(pairs) == len({b for b, _ in pairs}) * len({m for _, m in pairs}) == 10


@pytest.mark.parametrize("index", range(12))
def test_leaving_a_part_out_changes_that_part_only(index: int) -> None:
    made = scene(index)
    picture, parts = render(made), part_map(made)
    assert set(np.unique(parts)) <= set(range(len(made.parts) + 1))
    for i, name in enumerate(made.parts):
        changed = (render(made, name) != picture).any(2)
        shown = parts == i + 1
        # the tip of a star is thinner than half a pixel for up to three pixels
        rim = binary_dilation(shown, np.ones((3, 3), bool), iterations=3)
        assert not (changed & ~rim).any(), name
        inside = binary_erosion(shown)
        assert not inside.any() or changed[inside].mean() > 0.9, name


@pytest.mark.parametrize("index", range(10))
def test_object_is_in_sight(index: int) -> None:
    parts = part_map(scene(index))
    assert (parts == 1).sum() > 300
    assert (parts == 2).sum() > 60
    assert not (parts[[0, -1]] == 1).any()


def test_shortcut_variants_share_all_but_the_theme() -> None:
    for i in range(30):
        plain, agrees, lies = (scene(i, shortcut=kind) for kind in ("none", "agrees", "lies"))
        assert agrees.theme == agrees.label
        assert lies.theme != lies.label
        for variant in (agrees, lies):
            assert (variant.body, variant.mark, variant.distractors) == (plain.body, plain.mark, plain.distractors)
        if i < 3:
            grey = [render(variant, "background") for variant in (plain, agrees, lies)]
            assert np.array_equal(grey[0], grey[1])
            assert np.array_equal(grey[0], grey[2])
            object_ = (part_map(plain) == 1) | (part_map(plain) == 2)
            inside = binary_erosion(object_, iterations=2)
            assert np.array_equal(render(agrees)[inside], render(lies)[inside])


def test_a_lying_theme_names_every_other_class() -> None:
    themes = {(s.theme - s.label) % 10 for s in (scene(i, shortcut="lies") for i in range(200))}
    assert themes == set(range(1, 10))


def test_unknown_part_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown part 'wheel'; this scene has background, body, mark"):
        render(scene(0), without="wheel")
