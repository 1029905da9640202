"""Data that needs no files: the embedded scenes, and scikit-learn's digits."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from assay.bench.data import scenes
from assay.bench.data.base import (
    DataSet,
    Example,
    Size,
    canonical,
    lines_sha256,
    one_of,
    options,
    pixels_sha256,
    to_image,
    whole,
)
from assay.core.errors import AssayError
from assay.core.tables import load_module

MOST = 1_000_000  # scenes
MOST_PARTS = 5  # body, mark and up to three distractors
DIGITS_TRAIN = 1297  # of 1797; the other 500 are the test split


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes(DataSet):
    """The embedded scenes (``assay.bench.data.scenes``), (3, 96, 96), with all that can be drawn again.

    The mask is what decides the class: body or mark. ``without`` has five entries for every picture, so that
    pictures stack; a scene with fewer parts repeats itself unchanged. The shortcut is the background, whether or not
    its theme tells the class; ``redrawn`` shows it in the nine other themes.
    """

    split: str = "test"
    seed: int = 0
    shortcut: scenes.Shortcut = "none"
    channels: int = 3

    @classmethod
    def from_spec(cls, rest: str) -> "Scenes":
        defaults = {"split": "test", "n": "1000", "seed": "0", "shortcut": "none"}
        values = options(rest, defaults, "scenes")
        n, seed = whole(values, "n", 1, MOST), whole(values, "seed", 0)
        split = one_of(values, "split", scenes.SPLITS)
        shortcut = cast(scenes.Shortcut, one_of(values, "shortcut", ("none", "agrees", "lies")))
        return cls(
            spec=canonical("scenes", {**values, "n": str(n), "seed": str(seed)}, defaults),
            classes=scenes.CLASSES,
            ids=[f"{split}-{i:05d}" for i in range(n)],
            labels=[i % len(scenes.CLASSES) for i in range(n)],
            rows=list(range(n)),
            has=frozenset({"masks", "parts", "without", "shortcut", "redrawn"}),
            split=split,
            seed=seed,
            shortcut=shortcut,
        )

    def scene(self, i: int) -> scenes.Scene:
        """The record behind picture ``i``."""
        return scenes.scene(self.rows[i], self.split, self.seed, self.shortcut)

    def part_names(self, i: int) -> tuple[str, ...]:
        scene = self.scene(i)
        return scene.body.kind, scene.mark.kind, *["distractor"] * len(scene.distractors)

    def others(self, n: int) -> str | None:
        split = "validation" if self.split == "train" else "train"
        return f"scenes?split={split}&n={n}&seed={self.seed}&shortcut={self.shortcut}"

    def example(self, i: int, needs: Collection[str] = ()) -> Example:
        scene = self.scene(i)
        example = Example(self.ids[i], to_image(scenes.render(scene), self.channels), self.labels[i])
        if {"masks", "parts", "shortcut"} & set(needs):
            parts = torch.from_numpy(scenes.part_map(scene))
            mask = (parts == 1) | (parts == 2)
            example = example._replace(
                mask=mask if "masks" in needs else None,
                parts=parts if "parts" in needs else None,
                shortcut=parts == 0 if "shortcut" in needs else None,
            )
        if "without" in needs:
            alternatives = [to_image(scenes.render(scene, name), self.channels) for name in scene.parts]
            alternatives += [example.image] * (MOST_PARTS - len(alternatives))
            example = example._replace(without=torch.stack(alternatives))
        if "redrawn" in needs:
            backgrounds = [to_image(scenes.render(theme), self.channels) for theme in scenes.other_themes(scene)]
            example = example._replace(redrawn=torch.stack(backgrounds))
        return example

    def sha256(self, i: int) -> str:
        return pixels_sha256(scenes.render(self.scene(i)))

    @cached_property
    def digest(self) -> str:
        """sha256 of the recipe and the ids (docs/decisions/0001): pixels are a pure function of both."""
        recipe = f"scenes/{scenes.VERSION}/{self.seed}/{self.split}/{self.shortcut}"
        return lines_sha256([recipe, *self.ids])

    def _resize(self, size: Size, crop_pct: float, interpolation: str, crop_mode: str) -> Self:
        channels, height, width = size
        if (height, width) != (scenes.SIZE, scenes.SIZE):
            raise AssayError(f"scenes are drawn at {scenes.SIZE}x{scenes.SIZE} only; this model takes {height}x{width}")
        return replace(self, channels=channels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Digits(DataSet):
    """scikit-learn's 8x8 handwritten digits (Alpaydin & Kaynak 1998), levels 0 to 16 divided by 16.

    A fixed permutation makes 1297 train and 500 test pictures. Other sizes are interpolated bilinearly, without
    aligned corners and antialiased where they shrink, whatever interpolation a model names.
    """

    size: Size = (1, 8, 8)

    @classmethod
    def from_spec(cls, rest: str) -> "Digits":
        defaults = {"split": "test"}
        values = options(rest, defaults, "digits")
        levels, labels = _digits()
        order = np.random.default_rng(0).permutation(len(levels))
        train = one_of(values, "split", ("train", "test")) == "train"
        rows = sorted((order[:DIGITS_TRAIN] if train else order[DIGITS_TRAIN:]).tolist())
        return cls(
            spec=canonical("digits", values, defaults),
            classes=tuple(map(str, range(10))),
            ids=[f"digit-{row:04d}" for row in rows],
            labels=[int(labels[row]) for row in rows],
            rows=rows,
        )

    def others(self, n: int) -> str | None:
        return "digits" if "split=train" in self.spec else "digits?split=train"

    def example(self, i: int, needs: Collection[str] = ()) -> Example:
        return Example(self.ids[i], self._image(self.rows[i]), self.labels[i])

    def sha256(self, i: int) -> str:
        return pixels_sha256(_digits()[0][self.rows[i]])

    def _image(self, row: int) -> Tensor:
        channels, height, width = self.size
        image = torch.from_numpy(_digits()[0][row].astype(np.float32))[None] / 16
        if (height, width) != (8, 8):
            image = F.interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0].clamp(0, 1)
        return image.repeat(channels, 1, 1)

    def _resize(self, size: Size, crop_pct: float, interpolation: str, crop_mode: str) -> Self:
        return replace(self, size=size)


@cache
def _digits() -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """All pictures (1797, 8, 8) with levels 0 to 16, and their labels."""
    load_module("sklearn.datasets")
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images.astype(np.uint8), bunch.target
