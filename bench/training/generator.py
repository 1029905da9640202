"""Training of the generator: it learns to draw a scene from a code of its record (Dosovitskiy et al. 2015)."""

import colorsys
import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import joblib
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata
from torch import Tensor, nn

from assay.bench import models
from assay.bench.data import scenes
from assay.bench.training.base import Progress, Training, scene_pictures, write
from assay.bench.zoo.generator import Generator, GeneratorRecipe

TEXTURES = ("stripes", "checks", "dots")
TEST_SCENES = 500
SAMPLES = 500
SURE = 0.9  # probability of a class from which a picture counts as clear
JUDGES = ("resnet", "efficientnet", "convnext", "vit", "hybrid", "repvgg", "repvgg-robust")

Array = NDArray[np.float64]


class Records(NamedTuple):
    """What scenes are made of, without distractors and noise."""

    angles: Array  # (n, 5), of body and mark, and hues
    numbers: Array  # (n, 14) of any distribution
    kinds: NDArray[np.int64]  # (n, 3): body, texture, mark


def train(
    out: Path,
    *,
    cache: Path,
    recipe: GeneratorRecipe | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the generator to ``out/scenes.safetensors``; returns its card. Resumed as a model's training is.

    Each step draws the same few places of a batch of scenes, half of them near the middle. The loss is the mean
    absolute error, so that what the code does not tell, distractors and noise, becomes its median: plain background.
    """
    recipe = recipe or GeneratorRecipe()
    recipe = replace(recipe, epochs=epochs or recipe.epochs, seed=recipe.seed if seed is None else seed)
    out.mkdir(parents=True, exist_ok=True)
    fit = _Fit(recipe, out / "scenes.resume.pt", cache)
    fit.run(progress)
    card = _save(fit.network, recipe, out / "scenes.safetensors", cache)
    fit.path.unlink(missing_ok=True)
    return card


def records(cache: Path, split: str, n: int) -> Records:
    """The first ``n`` scenes of a split."""
    of_split: Records = joblib.Memory(cache, verbose=0).cache(_records)(split, n, scenes.VERSION)
    return of_split


def codes(of: Records, rng: np.random.Generator) -> Tensor:
    """Codes (n, 33) that tell the records and are standard normal over the data.

    An angle becomes the direction of two normal numbers; a number its rank's quantile; a kind which of several normal
    numbers is the largest, or the sign where there are two.
    """
    n = len(of.numbers)
    radii = np.sqrt(2 * rng.standard_exponential(of.angles.shape))
    pairs = radii[..., None] * np.stack([np.cos(of.angles), np.sin(of.angles)], 2)
    parts = [pairs.reshape(n, -1), ndtri(rankdata(of.numbers, axis=0) / (n + 1))]
    body, texture, mark = of.kinds.T
    for kind, count in ((body, len(scenes.BODIES)), (texture, len(TEXTURES))):
        normal, row = rng.standard_normal((n, count)), np.arange(n)
        largest = normal.argmax(1)
        normal[row, kind], normal[row, largest] = normal[row, largest], normal[row, kind]
        parts.append(normal)
    parts.append(np.abs(rng.standard_normal((n, 1))) * np.where(mark, 1, -1)[:, None])
    return torch.from_numpy(np.concatenate(parts, 1)).float()


def _records(split: str, n: int, version: int) -> Records:
    numbers, angles, kinds = [], [], []
    for i in range(n):
        scene = scenes.scene(i, split)
        body, mark = scene.body, scene.mark
        hue, saturation, value = colorsys.rgb_to_hsv(*body.colour)
        hue_2, saturation_2, value_2 = colorsys.rgb_to_hsv(*body.second)
        hue_mark, saturation_mark, value_mark = colorsys.rgb_to_hsv(*mark.colour)
        numbers.append(
            (
                *(body.x, body.y, body.radius, body.period, saturation, value),
                *(mark.x - body.x, mark.y - body.y, mark.radius, saturation_mark, abs(value_mark - value)),
                *((hue_2 - hue + 0.5) % 1, saturation_2, abs(value_2 - value)),
            )
        )
        hues = np.array([hue, hue_mark, scene.theme / scenes.THEMES]) * 2 * math.pi
        angles.append((body.angle, mark.angle, *hues))
        kinds.append((scenes.BODIES.index(body.kind), TEXTURES.index(body.texture), scenes.MARKS.index(mark.kind)))
    return Records(np.array(angles), np.array(numbers), np.array(kinds))


class _Fit(Training):
    """The training of the network."""

    def __init__(self, recipe: GeneratorRecipe, path: Path, cache: Path) -> None:
        self.recipe = recipe
        self.records = records(cache, "train", recipe.images)
        self.pictures = scene_pictures(cache, "train", recipe.images, "none").reshape(recipe.images, -1, 3)
        torch.manual_seed(recipe.seed)
        self.network = Generator(self._codes(0).shape[1], **recipe.settings)
        self.batches = recipe.images // recipe.batch
        optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.lr, betas=(0.9, 0.99), weight_decay=recipe.weight_decay
        )
        steps = recipe.epochs * self.batches
        super().__init__(self.network, optimiser, steps=steps, rise=0.1, key=repr(recipe), path=path)

    def run(self, progress: Progress | None) -> None:
        """The epochs that are left."""
        for epoch in range(self.restore(), self.recipe.epochs):
            total = 0.0
            for count, (batch, places, latents) in enumerate(self._epoch(epoch), 1):
                total += self._step(batch, places, latents)
                if progress is not None:
                    progress("generator", epoch, self.recipe.epochs, count / self.batches, total / count)
            self.store(epoch + 1)

    def _codes(self, epoch: int) -> Tensor:
        return codes(self.records, np.random.default_rng([self.recipe.seed, epoch, 0]))

    def _epoch(self, epoch: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], Tensor]]:
        rng, latents = np.random.default_rng([self.recipe.seed, epoch, 1]), self._codes(epoch)
        order = rng.permutation(self.recipe.images)[: self.batches * self.recipe.batch]
        half, size = self.recipe.pixels // 2, scenes.SIZE
        for batch in np.split(order, self.batches):
            y, x = rng.normal(size / 2, size / 7, (2, half)).clip(0, size - 1).astype(np.int64)
            anywhere = rng.integers(size * size, size=self.recipe.pixels - half)
            yield batch, np.concatenate([y * size + x, anywhere]), latents[batch]

    def _step(self, batch: NDArray[np.int64], places: NDArray[np.int64], latents: Tensor) -> float:
        scene_colours = torch.from_numpy(self.pictures[batch[:, None], places]).float() / 255
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            colours = self.network.draw(latents, self.network.places[places])
        loss = (colours - scene_colours).abs().mean()
        self.descend(loss)
        return loss.item()


@torch.no_grad()
def _judge(network: nn.Module, latent: int, cache: Path) -> dict[str, Any]:
    """What zoo models, which had no part in the training, say of redrawn test scenes and of pictures of random codes.

    ``kept`` is the share of redrawn scenes of which a model says the right class, ``clear`` the share of random
    pictures of which it is sure.
    """
    of_scenes = codes(records(cache, "test", TEST_SCENES), np.random.default_rng(0))
    random = torch.randn(SAMPLES, latent, generator=torch.Generator().manual_seed(0))
    redrawn, samples = (torch.cat([network(part) for part in torch.split(of, 50)]) for of in (of_scenes, random))
    labels = torch.arange(len(redrawn)) % len(scenes.CLASSES)
    class_kept, clear = {}, {}
    for name in JUDGES:
        judge = models.load(f"zoo:{name}")
        class_kept[name] = round((judge(redrawn).argmax(1) == labels).float().mean().item(), 3)
        clear[name] = round((judge(samples).softmax(1).amax(1) > SURE).float().mean().item(), 3)
    return {"kept": class_kept, "clear": clear}


def _save(network: Generator, recipe: GeneratorRecipe, path: Path, cache: Path) -> dict[str, Any]:
    state = {key: value.half().contiguous() for key, value in network.state_dict().items()}
    network.load_state_dict(state)
    card = {
        "name": "scenes",
        **asdict(recipe),
        "latent": network.latent,
        "data": f"scenes version {scenes.VERSION}, train split, {recipe.images} pictures and their records",
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        **_judge(network.eval(), network.latent, cache),
    }
    return write(card, state, path)
