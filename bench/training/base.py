"""What all trainings share: scenes drawn once, steps, a state to go on from, and weights with a card."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assay.bench.data import scenes


class Progress(Protocol):
    """Called after every batch: the model, the epoch from 0, the share of it that is over, and its mean loss."""

    def __call__(self, name: str, epoch: int, epochs: int, share: float, loss: float, /) -> None: ...


class Training:
    """Network, optimiser and one-cycle schedule: what is stored in ``path``, and resumed where ``key`` is the same."""

    def __init__(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, *,
        steps: int, rise: float, key: str, path: Path, clip: float = 1.0,
    ) -> None:  # fmt: skip
        self.optimiser, self.key, self.path, self.clip = optimiser, key, path, clip
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, optimiser.defaults["lr"], total_steps=steps, pct_start=rise
        )
        self.history: list[Any] = []
        self._parts: dict[str, Any] = {"network": network, "optimiser": optimiser, "schedule": self.schedule}

    def descend(self, loss: Tensor) -> None:
        """One step against the gradient, whose norm is at most ``clip``."""
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._parts["network"].parameters(), self.clip)
        self.optimiser.step()
        self.schedule.step()

    def store(self, count: int) -> None:
        """Write the state after ``count`` epochs or steps, whole or not at all."""
        state = {"key": self.key, "count": count, "history": self.history}
        beside = self.path.with_suffix(".part")
        torch.save(state | {name: part.state_dict() for name, part in self._parts.items()}, beside)
        beside.replace(self.path)

    def restore(self, start: int = 0) -> int:
        """Take up the state that was stored after more than ``start`` epochs or steps; the number to go on with."""
        state = torch.load(self.path, weights_only=True) if self.path.exists() else {}
        if state.get("key") != self.key or state["count"] <= start:
            return start
        self.history[:] = state["history"]
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        count: int = state["count"]
        return count


def scene_pictures(cache: Path, split: str, n: int, shortcut: scenes.Shortcut, start: int = 0) -> NDArray[np.uint8]:
    """``n`` scenes of a split from number ``start``, (n, 96, 96, 3), drawn once and then mapped from disk."""
    memory = joblib.Memory(cache, mmap_mode="r", verbose=0)
    pictures: NDArray[np.uint8] = memory.cache(_draw)(split, start, n, shortcut, scenes.VERSION)
    return pictures


def _draw(split: str, start: int, n: int, shortcut: scenes.Shortcut, version: int) -> NDArray[np.uint8]:
    return np.stack([scenes.render(scenes.scene(i, split, 0, shortcut)) for i in range(start, start + n)])


def write(card: dict[str, Any], state: Mapping[str, Tensor], path: Path) -> dict[str, Any]:
    """Weights to ``path`` and, with their sha256, the card beside them, which is returned."""
    weights = safetensors.torch.save({key: value.contiguous() for key, value in state.items()})
    card = {**card, "sha256": hashlib.sha256(weights).hexdigest()}
    for file, content in ((path.with_suffix(".json"), (json.dumps(card, indent=2) + "\n").encode()), (path, weights)):
        beside = file.with_name(f"{file.name}.part")
        beside.write_bytes(content)
        beside.replace(file)
    return card
