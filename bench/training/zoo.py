"""Training of the zoo: from a recipe and a seed to weights and a model card."""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from assay.attacks import ATTACKS, FGSM, PGD
from assay.attacks.balls import Ball, BoundedNorm
from assay.attacks.base import Attack
from assay.attacks.goals import Goal
from assay.bench.data import scenes
from assay.bench.models import Subject, create
from assay.bench.training.base import Progress, Training, scene_pictures, write
from assay.bench.zoo.recipes import RECIPES, Recipe, Trades
from assay.core.borrow import evaluating
from assay.core.draws import Draws
from assay.core.errors import AssayError, unknown

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
INPUT_SIZE = (3, scenes.SIZE, scenes.SIZE)
TEST_SCENES = 1000
WATCH_SCENES = 200  # of validation, which are attacked after every epoch of an adversarial training
FALL = 0.2  # of their robust accuracy from one epoch to the next: catastrophic overfitting
NEAR = 0.001  # standard deviation of the start of a search for large KL, at which the KL itself has no gradient


def train(
    name: str,
    out: Path,
    *,
    cache: Path,
    recipe: Recipe | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train the zoo model ``name``, or ``recipe`` under that name, to ``out/name.safetensors``; returns its card.

    After every epoch the whole state is kept in ``out/name.resume.pt``; a second call goes on from there. Scenes are
    drawn once into ``cache``. The ``history`` of an adversarial training tells after every epoch the mean loss, and
    the accuracy on validation scenes and under PGD of 10 steps. Where one step of gradient makes the images, that last
    falling by more than ``FALL`` ends the training with the weights of the epoch before (Wong et al. 2020, section 5).
    """
    recipe = recipe_of(name) if recipe is None else recipe
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, then=())
    recipe = replace(recipe, seed=recipe.seed if seed is None else seed)
    adversary = adversary_of(recipe)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    subject = Subject(
        create(recipe, len(scenes.CLASSES)), name=f"zoo:{name}", input_size=INPUT_SIZE, mean=MEAN, std=STD
    )
    if recipe.channels_last:
        subject.body.to(memory_format=torch.channels_last)
    start = 0
    history: list[dict[str, Any]] = []
    watch = None
    if adversary is not None:
        watch = _Watch(adversary, scene_pictures(cache, "validation", WATCH_SCENES, recipe.shortcut))
    for cycle, length in enumerate((recipe.epochs, *recipe.then)):
        epochs_of_cycle = range(start, start + length)
        fit = _Fit(subject, recipe, adversary, epochs_of_cycle, out / f"{name}.resume.pt", history, watch)
        if (first := fit.restore(start)) < epochs_of_cycle.stop:
            pictures = scene_pictures(cache, "train", recipe.images, recipe.shortcut, cycle * recipe.images)
            fit.run(first, pictures, progress)
        if history and not history[-1]["kept"]:
            break
        start += length
    subject.eval()
    card = _save(subject, recipe, history, out / f"{name}.safetensors", cache)
    fit.path.unlink(missing_ok=True)
    return card


def recipe_of(name: str) -> Recipe:
    """The recipe of that name; raises ``AssayError`` with near names."""
    if name not in RECIPES:
        raise unknown("zoo model", name, RECIPES)
    return RECIPES[name]


def variant(
    base: str, out: Path, *, adversary: str | None, trades: float | None, epochs: int | None, name: str | None
) -> tuple[str, Recipe]:
    """The recipe ``base`` trained against ``adversary``, after its name: ``base-adversarial`` unless ``name``.

    The adversary's eps grows over the first quarter of the epochs where the recipe names no time. Raises
    ``AssayError`` for the name of a recipe and for a model that is there.
    """
    recipe, name = recipe_of(base), name or f"{base}-adversarial"
    if name in RECIPES:
        raise AssayError(f"{name} is the name of a recipe of its own; choose another with --name")
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise AssayError(f"--name {name!r} must be letters, digits, dots and dashes")
    if (out / f"{name}.safetensors").exists():
        raise AssayError(f"{out / name}.safetensors is there; choose another --name or --out")
    if epochs is not None:
        recipe = replace(recipe, epochs=epochs, then=())
    adversary = adversary or recipe.adversary
    recipe = replace(recipe, adversary=adversary, warmup=recipe.warmup or recipe.epochs / 4)
    if trades is not None:
        recipe = Trades(**{**vars(recipe), "trades": trades})
    adversary_of(recipe)
    return name, recipe


def adversary_of(recipe: Recipe) -> Any:
    """The attack that makes a recipe's training images, None for none; every image at full strength unless it says
    ``early_stop=True``. Raises ``AssayError`` for an attack that cannot.
    """
    if recipe.adversary is None:
        return None
    attack = ATTACKS.parse(recipe.adversary, early_stop=False)
    if not getattr(attack, "eps", 0) > 0:
        raise AssayError(f"{recipe.adversary} cannot train a model: an adversary keeps to a radius eps above 0")
    if isinstance(recipe, Trades) and not (isinstance(attack, FGSM | PGD) and getattr(attack, "loss", "ce") == "ce"):
        raise AssayError(
            f"TRADES climbs the KL divergence with fgsm, bim or pgd and loss=ce, not with {recipe.adversary}"
        )
    return attack


def divergence(clean: Tensor, adversarial: Tensor) -> Tensor:
    """KL(clean || adversarial) of the softmax of two logits (N, K), in nats, (N,)."""
    log_p, log_q = clean.log_softmax(1), adversarial.log_softmax(1)
    return F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(1)


def trades_loss(clean: Tensor, adversarial: Tensor, labels: Tensor, beta: float, smoothing: float = 0.0) -> Tensor:
    """Equation 5 of Zhang et al. 2019 from the logits (N, K) of clean and adversarial images; both get a gradient."""
    natural = F.cross_entropy(clean, labels, label_smoothing=smoothing)
    return natural + beta * divergence(clean, adversarial).mean()


@dataclass(frozen=True, eq=False)
class Divergence(Goal):
    """Away from what the model says of the clean images; never reached, so that an attack spends all its steps."""

    clean: Tensor  # logits (N, K)

    def reached(self, logits: Tensor) -> Tensor:
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)

    def cross_entropy(self, logits: Tensor) -> Tensor:
        return divergence(self.clean, logits.float())

    def __getitem__(self, index: Tensor) -> "Divergence":
        return Divergence(self.clean[index])


def maximise_divergence(attack: Any, model: nn.Module, images: Tensor, draws: Draws) -> Tensor:
    """Images in the attack's ball whose answers are far from the clean ones, the inner maximum of TRADES.

    Model in eval mode: the answer to an image must not hang on the others of its batch. ``attack`` starts ``NEAR``
    the images instead of anywhere in the ball.
    """
    with evaluating(model), torch.no_grad():
        goal = Divergence(model(images).float())
    near = (images + NEAR * draws.normal(images.shape[1:])).clamp(0, 1)
    adversarial = replace(attack, random_start=False)(model, near, goal, draws)
    return Ball(getattr(attack, "norm", "linf"), attack.eps).inside(images, adversarial)


class _Watch:
    """Validation scenes, attacked with more steps than the training's adversary may have."""

    def __init__(self, adversary: Any, pictures: NDArray[np.uint8]) -> None:
        norm: BoundedNorm = getattr(adversary, "norm", "linf")
        self.attack, self.pictures = PGD(norm=norm, eps=adversary.eps, steps=10), pictures

    def __call__(self, subject: Subject) -> dict[str, float]:
        subject.eval()
        return {
            "accuracy": _accuracy(subject, self.pictures),
            "robust": _accuracy(subject, self.pictures, self.attack),
        }


class _Fit(Training):
    """One cycle of a training, with ``watch`` after every epoch of an adversarial one."""

    def __init__(
        self,
        subject: Subject,
        recipe: Recipe,
        adversary: Any,
        epochs: range,
        path: Path,
        history: list[dict[str, Any]],
        watch: _Watch | None,
    ) -> None:
        self.subject, self.recipe, self.adversary, self.epochs, self.watch = subject, recipe, adversary, epochs, watch
        self.batches = recipe.images // recipe.batch
        optimiser = torch.optim.AdamW(subject.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
        super().__init__(subject, optimiser, steps=len(epochs) * self.batches, rise=0.15, key=repr(recipe), path=path)
        self.history = history

    def run(self, start: int, images: NDArray[np.uint8], progress: Progress | None) -> None:
        """The epochs from ``start`` on, on (n, 96, 96, 3) pictures."""
        for epoch in range(start, self.epochs.stop):
            total = 0.0
            for count, (pictures, labels) in enumerate(self._epoch(epoch, images), 1):
                total += self._step(pictures, labels, epoch, count)
                if progress is not None:
                    epochs = self.recipe.epochs + sum(self.recipe.then)
                    progress(self.subject.name, epoch, epochs, count / self.batches, total / count)
            if self.watch is not None:
                row = {"epoch": epoch + 1, "loss": total / self.batches, **self.watch(self.subject)}
                before = self.history[-1]["robust"] if self.history and self.adversary.single else 0.0
                self.history.append({**row, "kept": before - row["robust"] <= FALL})
                if not self.history[-1]["kept"]:
                    self.subject.load_state_dict(torch.load(self.path, weights_only=True)["network"])
                    return
            self.store(epoch + 1)

    def _epoch(self, epoch: int, images: NDArray[np.uint8]) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng([self.recipe.seed, epoch])
        order = rng.permutation(len(images))
        for batch in np.split(order[: self.batches * self.recipe.batch], self.batches):
            pictures = _images(images[batch])
            if self.recipe.symmetries:
                turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
                pictures = torch.rot90(pictures.flip(3) if mirror else pictures, turns, (2, 3))
            yield pictures, torch.from_numpy(batch % len(scenes.CLASSES))

    def _step(self, pictures: Tensor, labels: Tensor, epoch: int, batch: int) -> float:
        clean = pictures
        if self.adversary is not None:
            pictures = self._adversarial(pictures, labels, epoch, batch)
        if isinstance(self.recipe, Trades):
            pictures = torch.cat([clean, pictures])
        if self.recipe.channels_last:
            pictures = pictures.contiguous(memory_format=torch.channels_last)
        self.subject.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = self.subject(pictures).float()
        if isinstance(self.recipe, Trades):
            natural, adversarial = logits.chunk(2)
            loss = trades_loss(natural, adversarial, labels, self.recipe.trades, self.recipe.smoothing)
        else:
            loss = F.cross_entropy(logits, labels, label_smoothing=self.recipe.smoothing)
        self.descend(loss)
        return loss.item()

    def _adversarial(self, pictures: Tensor, labels: Tensor, epoch: int, batch: int) -> Tensor:
        attack: Any = self.adversary
        strength = (epoch + batch / self.batches) / self.recipe.warmup if self.recipe.warmup else 1.0
        if strength < 1:
            lengths = {key: getattr(attack, key, None) for key in ("eps", "step")}
            attack = replace(attack, **{key: value * strength for key, value in lengths.items() if value})
        draws = Draws.hashed(f"train {self.recipe.seed} {epoch} {batch}", map(str, range(len(pictures))))
        with torch.autocast("cpu", torch.bfloat16, enabled=self.recipe.bfloat16):
            if isinstance(self.recipe, Trades):
                return maximise_divergence(attack, self.subject, pictures, draws)
            images: Tensor = attack(self.subject, pictures, labels, draws)
        return images


def _images(pictures: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def _accuracy(subject: Subject, pictures: NDArray[np.uint8], attack: Attack | None = None) -> float:
    right = 0
    for start in range(0, len(pictures), 100):
        images = _images(pictures[start : start + 100])
        labels = torch.arange(start, start + len(images)) % len(scenes.CLASSES)
        if attack is not None:
            images = attack(subject, images, labels, Draws.hashed("watch", map(str, range(start, start + len(images)))))
        right += int((subject(images).argmax(1) == labels).sum())
    return right / len(pictures)


def _save(subject: Subject, recipe: Recipe, history: list[dict[str, Any]], path: Path, cache: Path) -> dict[str, Any]:
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
            f"test, shortcut {shortcut}": _accuracy(subject, scene_pictures(cache, "test", TEST_SCENES, shortcut))
            for shortcut in ("none", "agrees", "lies")
        },
        **({"history": history} if history else {}),
    }
    return write(card, subject.body.state_dict(), path)
