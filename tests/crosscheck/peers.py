"""Other libraries' attacks, called as the judge calls ours."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from assay.attacks import Goal, Untargeted
from assay.core.draws import Draws

ORDERS = {"l0": 0, "l1": 1, "l2": 2, "linf": float("inf")}
Run = Callable[[nn.Module, Tensor, Tensor], Tensor]  # model, images, labels


@dataclass(frozen=True)
class Peer:
    """Another library's attack; the radius bounds it, an infinite one where it looks for the nearest image."""

    run: Run
    norm: str
    eps: float = float("inf")

    def __call__(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor:
        assert isinstance(goal, Untargeted)
        assert isinstance(draws, Draws)
        with torch.random.fork_rng():
            torch.manual_seed(int(draws.uniform(())[0] * 2**24))
            return self.run(model, images.clone(), goal.labels.clone()).detach()


def torchattacks(kind: str, **settings: Any) -> Run:
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        attack = getattr(pytest.importorskip("torchattacks"), kind)(model, **settings)
        attack.seed = torch.initial_seed()  # some take their own, 0 by default
        handle = model.register_forward_pre_hook(_contiguous)
        try:
            found: Tensor = attack(images, labels)
        finally:
            handle.remove()
        return found

    return run


def _contiguous(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """It looks at gradients with ``view``, which a transformer's do not allow."""
    if inputs[0].requires_grad:
        inputs[0].register_hook(Tensor.contiguous)  # type: ignore[no-untyped-call]


def foolbox(kind: str, eps: float | None = None, **settings: Any) -> Run:
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        library = pytest.importorskip("foolbox")
        attack = getattr(library.attacks, kind)(**settings)
        found: Tensor = attack(library.PyTorchModel(model, bounds=(0, 1)), images, labels, epsilons=eps)[1]
        return found

    return run


def adv_lib(kind: str, **settings: Any) -> Run:
    def run(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        library = pytest.importorskip("adv_lib.attacks")
        found: Tensor = getattr(library, kind)(model, images, labels, **settings)
        return found

    return run
