"""Training of the zoo: from a recipe and a seed to weights and a model card."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attacks import ATTACKS, Untargeted
from bench.data import scenes
from bench.models import Subject, create
from bench.zoo.recipes import RECIPES, Recipe
from core.draws import Draws
from core.errors import unknown

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
INPUT_SIZE = (3, scenes.SIZE, scenes.SIZE)
TEST_SCENES = 1000


class Progress(Protocol):
    """Told after every batch: the model, the epoch from 0, the share of it that is done, and its mean loss."""

    def __call__(self, name: str, epoch: int, epochs: int, done: float, loss: float) -> None: ...


def train(
    name: str,
    out: Path,
    *,
    cache: Path,
    epochs: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the zoo model ``name`` and write ``out/name.safetensors`` with its card; returns the card.

    After every epoch the whole state is kept in ``out/name.resume.pt``; a second call goes on from there. Scenes are
    drawn once into ``cache``.
    """
    if name not in RECIPES:
        raise unknown("zoo model", name, RECIPES)
    recipe = RECIPES[name]
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, then=())
    recipe = replace(recipe, seed=recipe.seed if seed is None else seed)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    subject = Subject(
        create(recipe, len(scenes.CLASSES)), name=f"zoo:{name}", input_size=INPUT_SIZE, mean=MEAN, std=STD
    )
    if recipe.channels_last:
        subject.body.to(memory_format=torch.channels_last)
    done = 0
    for cycle, length in enumerate((recipe.epochs, *recipe.then)):
        span = range(done, done + length)
        fit = _Fit(subject, recipe, span, out / f"{name}.resume.pt", progress)
        if not fit.restore():
            fit.run(_drawn(cache, "train", recipe.images, recipe.shortcut, cycle * recipe.images))
        done += length
    subject.eval()
    card = _save(subject, recipe, out / f"{name}.safetensors", cache)
    (out / f"{name}.resume.pt").unlink(missing_ok=True)
    return card


class _Fit:
    """One cycle of a training: network, optimiser and schedule, which together are what is resumed."""

    def __init__(
        self, subject: Subject, recipe: Recipe, epochs: range, resume: Path, progress: Progress | None
    ) -> None:
        self.subject, self.recipe, self.resume, self.progress = subject, recipe, resume, progress
        self.epochs, self.start = epochs, epochs.start
        self.batches = recipe.images // recipe.batch
        self.optimiser = torch.optim.AdamW(subject.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, recipe.lr, total_steps=len(epochs) * self.batches, pct_start=0.15
        )

    def run(self, images: NDArray[np.uint8]) -> None:
        """The epochs that are left, on (n, 96, 96, 3) pictures."""
        for epoch in range(self.start, self.epochs.stop):
            total = 0.0
            for done, (pictures, labels) in enumerate(self._epoch(epoch, images), 1):
                total += self._step(pictures, labels, epoch, done)
                if self.progress is not None:
                    of = self.recipe.epochs + sum(self.recipe.then)
                    self.progress(self.subject.name, epoch, of, done / self.batches, total / done)
            self._keep(epoch + 1)

    def restore(self) -> bool:
        """Take up what was kept of this cycle; True if nothing of it is left to do."""
        if not self.resume.exists():
            return False
        state = torch.load(self.resume, weights_only=True)
        if state["recipe"] != repr(self.recipe) or state["epoch"] <= self.epochs.start:
            return False
        self.subject.load_state_dict(state["model"])
        self.start = min(state["epoch"], self.epochs.stop)
        if state["epoch"] > self.epochs.stop or self.start == self.epochs.stop:
            return True
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        return False

    def _keep(self, epoch: int) -> None:
        state = {
            "recipe": repr(self.recipe),
            "epoch": epoch,
            "model": self.subject.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        beside = self.resume.with_suffix(".part")
        torch.save(state, beside)
        beside.replace(self.resume)

    def _epoch(self, epoch: int, images: NDArray[np.uint8]) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([self.recipe.seed, epoch])
        order = rng.permutation(len(images))
        for batch in np.split(order[: self.batches * self.recipe.batch], self.batches):
            pictures = torch.from_numpy(images[batch]).permute(0, 3, 1, 2).float() / 255
            if self.recipe.symmetries:
                turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))
                pictures = torch.rot90(pictures.flip(3) if mirrored else pictures, turns, (2, 3))
            yield pictures, torch.from_numpy(batch % len(scenes.CLASSES))

    def _step(self, pictures: Tensor, labels: Tensor, epoch: int, batch: int) -> float:
        if self.recipe.adversary is not None:
            pictures = self._attacked(pictures, labels, epoch, batch)
        if self.recipe.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        self.subject.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = self.subject(pictures)
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=self.recipe.smoothing)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.subject.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        return loss.item()

    def _attacked(self, pictures: Tensor, labels: Tensor, epoch: int, batch: int) -> Tensor:
        attack: Any = ATTACKS.parse(self.recipe.adversary or "")
        grown = (epoch + batch / self.batches) / self.recipe.warmup if self.recipe.warmup else 1.0
        if grown < 1:
            attack = replace(attack, eps=attack.eps * grown, step=attack.step and attack.step * grown)
        draws = Draws.hashed(f"train {self.recipe.seed} {epoch} {batch}", map(str, range(len(pictures))))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            images: Tensor = attack(self.subject, pictures, Untargeted(labels), draws)
        return images


def _drawn(cache: Path, split: str, n: int, shortcut: scenes.Shortcut, start: int = 0) -> NDArray[np.uint8]:
    """``n`` scenes of a split from number ``start``, (n, 96, 96, 3), drawn once and then mapped from disk."""
    memory = joblib.Memory(cache, mmap_mode="r", verbose=0)
    pictures: NDArray[np.uint8] = memory.cache(_draw)(split, start, n, shortcut, scenes.VERSION)
    return pictures


def _draw(split: str, start: int, n: int, shortcut: scenes.Shortcut, version: int) -> NDArray[np.uint8]:
    return np.stack([scenes.render(scenes.scene(i, split, 0, shortcut)) for i in range(start, start + n)])


@torch.no_grad()
def _accuracy(subject: Subject, pictures: NDArray[np.uint8]) -> float:
    right = 0
    for start in range(0, len(pictures), 100):
        images = torch.from_numpy(np.array(pictures[start : start + 100])).permute(0, 3, 1, 2).float() / 255
        labels = torch.arange(start, start + len(images)) % len(scenes.CLASSES)
        right += int((subject(images).argmax(1) == labels).sum())
    return right / len(pictures)


def _save(subject: Subject, recipe: Recipe, path: Path, cache: Path) -> dict[str, Any]:
    weights = safetensors.torch.save({key: value.contiguous() for key, value in subject.body.state_dict().items()})
    pictures = recipe.images * (1 + len(recipe.then))
    card = {
        "name": subject.name,
        **{key: value for key, value in asdict(recipe).items() if key not in ("channels_last",)},
        "data": f"scenes version {scenes.VERSION}, train split, {pictures} pictures, shortcut {recipe.shortcut}",
        "classes": list(scenes.CLASSES),
        "input_size": INPUT_SIZE,
        "mean": MEAN,
        "std": STD,
        "parameters": sum(p.numel() for p in subject.parameters()),
        "accuracy": {
            f"test, shortcut {shortcut}": _accuracy(subject, _drawn(cache, "test", TEST_SCENES, shortcut))
            for shortcut in ("none", "agrees", "lies")
        },
        "sha256": hashlib.sha256(weights).hexdigest(),
    }
    for file, content in ((path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode()), (path, weights)):
        beside = file.with_name(f"{file.name}.part")
        beside.write_bytes(content)
        beside.replace(file)
    return card
