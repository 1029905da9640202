"""Cells whose outcome is pictures: the galleries of the report, and synthesis."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from assay.attacks import Targeted, evaluate
from assay.attacks.base import Attack
from assay.bench.cells import Batch, Cell, Measured, Setup, dataset, decoded, draws_for, planned
from assay.bench.data import Example
from assay.bench.goals import attack_text, goal_for
from assay.bench.models import Subject, generators
from assay.core.borrow import counting, now
from assay.core.errors import AssayError
from assay.core.targets import Logit, Margin, Probability
from assay.explain.base import Explainer
from assay.synthesis.scores import robust_probability, spectrum_distance
from assay.synthesis.visualize import Visualize


class Drawn(NamedTuple):
    """Pictures (N, C, H, W) in [0, 1], flags for each, and what else is kept beside them."""

    images: Tensor
    flags: list[str]
    arrays: dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class GalleryCell(Cell):
    """Pictures for the report: the first images the model has right, attacked and explained."""

    kind = "gallery"
    attack: Attack
    goal: str | int
    explainers: tuple[Explainer, ...]
    count: int

    @property
    def method(self) -> str:
        return f"gallery of {self.count}: {attack_text(self.attack, self.goal)}"

    def details(self) -> dict[str, Any]:
        return {"explainers": [repr(explainer) for explainer in self.explainers], "limit": self.limit}

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        batch = first_right(self, model, setup, self.count)
        text = attack_text(self.attack, self.goal)
        wanted = goal_for(self.goal, batch.labels, batch.ids, len(model.classes), self.seed)
        streams = draws_for(self.seed, self.model_digest, text, batch.ids)  # those of the attack's own cell
        outcome = evaluate(self.attack, model, batch.images, wanted, streams)
        clean, fooled = outcome.clean_logits.softmax(1), outcome.logits.softmax(1)
        heats: dict[str, list[Tensor]] = {"clean": [], "adversarial": []}
        kept = []
        for explainer in self.explainers:
            try:
                pair = [
                    explainer(model, images, Logit(classes), self.draws(batch.ids))
                    for images, classes in (
                        (batch.images, batch.labels),
                        (outcome.adversarial, outcome.logits.argmax(1)),
                    )
                ]
            except AssayError:  # this method's own cell says why
                continue
            heats["clean"].append(pair[0])
            heats["adversarial"].append(pair[1])
            kept.append(repr(explainer))
        empty = torch.zeros(0, len(batch.ids), *batch.images.shape[-2:])
        stacked = {key: torch.stack(maps) if maps else empty for key, maps in heats.items()}
        arrays = {
            "images": to_bytes(batch.images),
            "adversarial": to_bytes(outcome.adversarial),
            "clean_heat": stacked["clean"].cpu().numpy().astype(np.float32),
            "adversarial_heat": stacked["adversarial"].cpu().numpy().astype(np.float32),
        }
        meta = {
            "images": batch.ids,
            "labels": batch.labels.tolist(),
            "predicted": clean.argmax(1).tolist(),
            "predicted_adversarial": fooled.argmax(1).tolist(),
            "confidence": clean.amax(1).tolist(),
            "confidence_adversarial": fooled.amax(1).tolist(),
            "classes": list(model.classes),
            "attack": text,
            "explainers": kept,
        }
        rows = [self.row("shown", 1.0, image=image) for image in batch.ids]
        return Measured(rows, {"gallery.npz": arrays, "meta.json": meta})


@dataclass(frozen=True, kw_only=True)
class DrawnCell(Cell):
    """A picture per class, scored by the model itself and by the other models that know the same classes."""

    classes: tuple[int, ...]
    judges: tuple[tuple[str, str], ...]  # spec and digest
    natural: tuple[str, str] = ("", "")  # spec and digest of the data whose spectrum is natural

    def details(self) -> dict[str, Any]:
        return {"judges": self.judges, "classes": self.classes, "natural": self.natural}

    @abstractmethod
    def draw(self, model: Subject, wanted: Tensor, names: Sequence[str]) -> Drawn:
        """One picture for each of the classes ``wanted`` (N,); ``names`` are the pictures' ids."""

    def measure(self, setup: Setup) -> Measured:
        model = self.subject(setup)
        wanted = torch.tensor(self.classes, device=setup.device)
        names = [f"class-{k}" for k in self.classes]
        start = now(wanted.device)
        with counting(model) as passes:
            drawn = self.draw(model, wanted, names)
        cost = {"forwards": passes.forwards / len(names), "backwards": passes.backwards / len(names)}
        cost["seconds"] = (now(wanted.device) - start) / len(names)
        with torch.no_grad():
            own = Probability(wanted)(model, drawn.images)
            others = [planned(*judge, setup)(drawn.images).softmax(1) for judge in self.judges]
        values = {"own_probability": own, "moved_probability": robust_probability(model, drawn.images, wanted)}
        if self.natural[0]:
            data = dataset(self.natural[0], self.limit, model)
            natural = torch.stack([example.image for example in decoded(data)]).to(setup.device)
            values["spectrum_distance"] = spectrum_distance(drawn.images, natural)
        if others:
            values["other_probability"] = torch.stack([p.gather(1, wanted[:, None])[:, 0] for p in others]).mean(0)
            values["other_agreement"] = torch.stack([(p.argmax(1) == wanted).float() for p in others]).mean(0)
        rows = [
            self.row(metric, value[i].item(), image=name, label=self.classes[i], flags=drawn.flags[i], **cost)
            for metric, value in values.items()
            for i, name in enumerate(names)
        ]
        meta = {
            "classes": [model.classes[k] for k in self.classes],
            "labels": list(self.classes),
            "own_probability": own.tolist(),
            "other_probability": values["other_probability"].tolist() if others else [None] * len(names),
        }
        return Measured(rows, {"pictures.npz": {"images": to_bytes(drawn.images), **drawn.arrays}, "meta.json": meta})


@dataclass(frozen=True, kw_only=True)
class SynthesisCell(DrawnCell):
    """What a model is made to draw for its classes."""

    kind = "synthesis"
    synthesis: Visualize

    @property
    def method(self) -> str:
        return repr(self.synthesis)

    def details(self) -> dict[str, Any]:
        made = self._generator()
        return {**super().details(), **({"generator": made.digest} if made else {})}

    def _generator(self) -> generators.Made | None:
        return generators.load("scenes") if self.synthesis.parametrisation == "latent" else None

    def draw(self, model: Subject, wanted: Tensor, names: Sequence[str]) -> Drawn:
        made = self._generator()
        target = Margin(wanted) if made else Logit(wanted)  # of a picture of things, the class must be the first one
        art = self.synthesis(model, target, self.draws(names), generator=made and made.to(wanted.device))
        return Drawn(art.images, [""] * len(names), {"history": art.history.cpu().numpy().astype(np.float32)})


@dataclass(frozen=True, kw_only=True)
class FoolingCell(DrawnCell):
    """What a model takes for its classes and an attack has made from nothing; people see no such thing there."""

    kind = "fooling"
    attack: Attack

    @property
    def method(self) -> str:
        return repr(self.attack)

    def draw(self, model: Subject, wanted: Tensor, names: Sequence[str]) -> Drawn:
        grey = torch.full((len(names), *model.input_size), 0.5, device=wanted.device)
        made = self.attack(model, grey, Targeted(wanted), self.draws(names))
        images = torch.where(made.isfinite(), made, grey).clamp(0, 1)
        broken = (images != made).flatten(1).any(1).tolist()
        return Drawn(images, ["out-of-range" if is_broken else "" for is_broken in broken], {})


@torch.no_grad()
def first_right(cell: Cell, model: Subject, setup: Setup, count: int) -> Batch:
    """The first images that the model has right; where it has too few, the first images."""
    examples: list[Example] = []
    spare: list[Example] = []
    for batch in cell.batches(setup):
        right = (model(batch.images).argmax(1) == batch.labels).tolist()
        for example, is_right in zip(batch.examples, right, strict=True):
            (examples if is_right else spare).append(example)
        if len(examples) >= count:
            break
    examples = (examples + spare)[:count]
    images = torch.stack([example.image for example in examples]).to(setup.device)
    labels = torch.tensor([example.label for example in examples], device=setup.device)
    return Batch([example.id for example in examples], images, labels, examples)


def to_picture(pixels: NDArray[np.uint8]) -> Image.Image:
    """The picture of (H, W, 3 or 1)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def saved(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write (H, W, 3 or 1), or (H, W), as a picture file."""
    (to_picture(pixels) if pixels.ndim == 3 else Image.fromarray(pixels)).save(path)


def to_bytes(images: Tensor) -> NDArray[np.uint8]:
    """(N, H, W, C) uint8 from (N, C, H, W) in [0, 1]."""
    array: NDArray[np.uint8] = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    return array
