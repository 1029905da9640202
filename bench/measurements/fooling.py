"""Images from nothing that a model takes for its classes; people see no such thing there."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from assay.attacks import Targeted
from assay.attacks.base import Attack
from assay.bench.measurements.ask import Ask
from assay.bench.measurements.synthesis import ClassPictureCell, Pictures
from assay.bench.method_records import describe
from assay.bench.models import Subject
from assay.core.errors import AssayError
from assay.reports.run.records import Method


@dataclass(frozen=True, kw_only=True)
class FoolingCell(ClassPictureCell):
    """What a model takes for its classes and an attack has made from nothing."""

    kind = "fooling"

    attack: Attack

    @classmethod
    def plan(cls, ask: Ask) -> Iterator[Self]:
        aims = [aim for aim in ask.aims if aim.attack.from_nothing]
        for aim in aims:
            if aim.goal != "untargeted":
                raise AssayError(f"{aim.text} draws every class from nothing: it takes no goal")
        return (cls(**common, attack=aim.attack) for common in cls.commons(ask) for aim in aims)

    @property
    def method(self) -> Method:
        return describe(self.attack)

    def draw(self, model: Subject, classes: Tensor, names: Sequence[str]) -> Pictures:
        grey = torch.full((len(names), *model.input_size), 0.5, device=classes.device)
        adversarial = self.attack(model, grey, Targeted(classes), self.draws(names))
        images = torch.where(adversarial.isfinite(), adversarial, grey).clamp(0, 1)
        outside = (images != adversarial).flatten(1).any(1).tolist()
        return Pictures(images, ["out-of-range" if is_outside else "" for is_outside in outside], {})


CELL = FoolingCell
