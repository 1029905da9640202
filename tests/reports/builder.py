"""A made-up run on disk, in the documented layout, with outcomes that hang together."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from assay.reports.run import schema1
from tests.reports import made

METRICS: dict[str, dict[str, str]] = {
    name: {"direction": direction, "unit": unit, "statistic": statistic, "interval": interval, "meaning": meaning}
    for name, direction, unit, statistic, interval, meaning in [
        ("accuracy", "higher", "share", "mean", "wilson", "Share of images whose top class is the label."),
        ("confidence", "none", "probability", "mean", "bootstrap", "Probability of the predicted class."),
        ("robust_accuracy", "higher", "share", "mean", "wilson", "Share of images still right under the attack."),
        ("fooling_rate", "lower", "share", "mean", "wilson", "Share of the images that were right and are now wrong."),
        ("distance_linf", "higher", "pixel value", "median", "bootstrap", "Largest change of a pixel, where fooled."),
        (
            "distance_l2",
            "higher",
            "pixel value",
            "median",
            "bootstrap",
            "Euclidean length of the change, where fooled.",
        ),
        ("mass-accuracy", "higher", "share", "mean", "bootstrap", "Share of the heat that lies on the object."),
        ("pointing-game", "higher", "share", "mean", "wilson", "Whether the hottest pixel lies on the object."),
        (
            "part-effect",
            "higher",
            "correlation",
            "mean",
            "bootstrap",
            "Rank correlation of heat and effect, over parts.",
        ),
        (
            "deletion",
            "lower",
            "probability",
            "mean",
            "bootstrap",
            "Mean probability while the hottest pixels go first.",
        ),
        (
            "insertion",
            "higher",
            "probability",
            "mean",
            "bootstrap",
            "Mean probability while the hottest pixels come first.",
        ),
        (
            "own_probability",
            "none",
            "probability",
            "mean",
            "bootstrap",
            "What the model says of its own class picture.",
        ),
        ("other_probability", "higher", "probability", "mean", "bootstrap", "What another model says of the picture."),
        ("other_agreement", "higher", "share", "mean", "wilson", "Whether another model sees the same class."),
    ]
} | made.METRICS
EPS = tuple(k / 255 for k in (1, 2, 4, 8))
ATTACKS = (
    *(f"PGD(norm='linf', eps={eps!r}, steps=40, step=None, restarts=1, random_start=True)" for eps in EPS),
    *(f"FGSM(eps={eps!r})" for eps in EPS),
    f"FGSM(eps={EPS[2]!r}) goal=least-likely",
    f"RandomNoise(norm='linf', eps={EPS[2]!r}, tries=10)",
    "PGD(norm='l2', eps=0.5, steps=40, step=None, restarts=1, random_start=True)",
    "DeepFool(overshoot=0.02, steps=50)",
)
EXPLAINERS = (
    "Saliency()",
    "GuidedBackprop()",
    "Occlusion(window=16, stride=8, baseline='mean')",
    "GradCAM(layer=None)",
    "RandomMap()",
    "SobelMap(sigma=1.0)",
    "CenterMap(sigma=0.25)",
)
SYNTHESES = ("Visualize(steps=256)",)
QUALITIES = {
    "Saliency": 0.45,
    "GuidedBackprop": 0.55,
    "Occlusion": 0.62,
    "GradCAM": 0.7,
    "CenterMap": 0.42,
    "SobelMap": 0.35,
}

Array = NDArray[np.float64]


def plain_picture(index: int) -> NDArray[np.uint8]:
    """A 16 x 16 gradient."""
    y, x = np.mgrid[0:16, 0:16]
    return np.stack([x * 15, y * 15, np.full_like(x, 40 * index % 255)], axis=-1).astype(np.uint8)


@dataclass(kw_only=True)
class Builder:
    """What the run is to hold; ``write`` puts it on disk."""

    models: Sequence[str] = ("zoo:resnet", "zoo:robust", "py:subjects:mobilenetv2_100")
    data: Sequence[str] = ("scenes",)
    attacks: Sequence[str] = ATTACKS
    explainers: Sequence[str] = EXPLAINERS
    syntheses: Sequence[str] = SYNTHESES
    kinds: Sequence[str] = ("clean", "attack", "explain", "synthesis", "gallery")
    classes: Sequence[str] = ("disc-ring", "disc-cross", "star-ring", "star-cross")
    images: int = 20
    shown: int = 3
    picture: Callable[[int], NDArray[np.uint8]] = plain_picture
    shuffle: int = 0  # another number is another order of rows and cells
    described: dict[str, Any] | None = None  # run.json's record of the attacks; runs of old have none
    sources: Sequence[str] = ()  # of images that are shown to every model
    cells: list[dict[str, str]] = field(default_factory=list)
    transfers: dict[tuple[str, str], list[dict[str, Any]]] = field(default_factory=dict)

    def write(self, run: Path) -> Path:
        """Write the run into the folder and return it."""
        for folder in ("cells", "failed", "art"):
            (run / folder).mkdir(parents=True, exist_ok=True)
        for m, model in enumerate(self.models):
            for data in self.data:
                self._model(run, m, model, data)
        for (source, data), rows in self.transfers.items():
            attack = next((each for each in self.attacks if f"(eps={4 / 255!r}" in each), self.attacks[0])
            method = f"{attack} from {source}"
            self.add(run, "transfer", source, data, method, [{**row, "method": method} for row in rows])
        order = np.random.default_rng(self.shuffle).permutation(len(self.cells))
        cells = [self.cells[i] for i in order] if self.shuffle else self.cells
        (run / "run.json").write_text(json.dumps(self.info(cells)), encoding="utf-8")
        return run

    def info(self, cells: list[dict[str, str]]) -> dict[str, Any]:
        """The content of ``run.json``."""
        return {
            "schema": 1,
            "created": "2025-11-20T10:00:00+00:00",
            "argv": ["assay", "run", "--preset", "quick"],
            "seed": 0,
            "preset": "quick",
            "code": {"commit": "38c935d" + 33 * "0", "dirty": True},
            "packages": {"torch": "2.9.0", "timm": "1.0.31"},
            "hardware": {"cpu": "4 cores", "gpu": None},
            "models": {
                name: {
                    "digest": _id(name) * 4,
                    "spec": name,
                    "input_size": [3, 96, 96],
                    "parameters": 1_200_000 + 10_000 * i,
                    "card": {"architecture": "resnet10t"},
                }
                for i, name in enumerate(self.models)
            },
            "data": {
                spec: {"digest": _id(spec) * 4, "n": self.images, "classes": list(self.classes)} for spec in self.data
            },
            "metrics": METRICS,
            "cells": cells,
            **({} if self.described is None else {"attacks": self.described}),
        }

    def add(
        self,
        run: Path,
        kind: str,
        model: str,
        data: str,
        method: str,
        rows: list[dict[str, Any]],
        folder: str = "cells",
    ) -> str:
        """Store a cell and list it; returns its id."""
        name = _id(kind, model, data, method)
        base = {"model": model, "data": data, "kind": kind, "method": method, "status": "ok", "flags": "", "label": 0}
        cost = {"forwards": 40.0, "backwards": 40.0, "seconds": 0.01}
        frame = pd.DataFrame([{**base, **cost, **row} for row in rows])
        if self.shuffle:
            frame = frame.sample(frac=1, random_state=self.shuffle)
        (run / folder).mkdir(parents=True, exist_ok=True)
        frame.to_parquet(run / folder / f"{name}.parquet", index=False)
        self.cells.append({"id": name, "kind": kind, "model": model, "data": data, "method": method})
        return name

    def _model(self, run: Path, place: int, model: str, data: str) -> None:
        rng = np.random.default_rng(int(_id(model, data), 16))
        margin = rng.normal(0.02 + 0.06 * (place == 1), 0.012 + 0.02 * (place == 1), self.images)
        margin -= 0.03 * ("lies" in data) * (place != 1)
        if "clean" in self.kinds:
            self.add(
                run,
                "clean",
                model,
                data,
                "none",
                self._rows(
                    {"accuracy": np.where(margin > 0, 1.0, 0.0), "confidence": 0.5 + np.clip(margin * 8, -0.3, 0.49)}
                ),
            )
        if "attack" in self.kinds:
            for method in self.attacks:
                self.add(run, "attack", model, data, method, self._rows(made.attack(method, margin, rng), "boundary"))
        if "explain" in self.kinds:
            for method in self.explainers:
                self.add(run, "explain", model, data, method, self._rows(_explain(method, place, self.images, rng)))
        if "synthesis" in self.kinds:
            for method in self.syntheses:
                if data == self.data[0]:
                    self._synthesis(run, "synthesis", model, "", method, rng)
        if "fooling" in self.kinds:
            for method in ("GradientFooling(start='noise', steps=100)", "CPPNFooling(generations=100)"):
                self._synthesis(run, "fooling", model, data, method, rng)
        if "transfer" in self.kinds:
            for source in self.sources:
                travel = 1.0 if model in source.split("+") else rng.uniform(0.2, 0.8)
                rows = [{**row, "model": model} for row in self._rows(made.transferred(margin, travel))]
                self.transfers.setdefault((source, data), []).extend(rows)
        if "landscape" in self.kinds:
            self._landscape(run, model, data, float(np.median(margin)), rng)
        if "gallery" in self.kinds:
            self._gallery(run, model, data, rng)

    def _rows(self, metrics: dict[str, Array], flag: str = "") -> list[dict[str, Any]]:
        return [
            {
                "image": f"test-{i:04}",
                "label": i % len(self.classes),
                "metric": metric,
                "value": float(value),
                "flags": flag * (i % 7 == 3),
            }
            for metric, values in metrics.items()
            for i, value in enumerate(values)
        ]

    def _synthesis(self, run: Path, kind: str, model: str, data: str, method: str, rng: np.random.Generator) -> None:
        k = len(self.classes)
        own, other = rng.uniform(0.9, 1, k), rng.uniform(0, 0.9, k)
        values = {"own_probability": own, "other_probability": other, "other_agreement": other > 0.5}
        rows = [
            {"image": f"class-{c}", "label": c, "metric": name, "value": float(column[c])}
            for name, column in values.items()
            for c in range(k)
        ]
        art = _art(run, self.add(run, kind, model, data, method, rows))
        size = len(self.picture(0))
        smooth = rng.uniform(0, 255, (k, size // 8, size // 8, 3)).repeat(8, 1).repeat(8, 2)
        np.savez(art / "pictures.npz", images=smooth.astype(np.uint8), history=rng.uniform(0, 9, (16, k)))
        meta = {
            "classes": list(self.classes),
            "labels": list(range(k)),
            "own_probability": own.tolist(),
            "other_probability": other.tolist(),
        }
        (art / "meta.json").write_text(json.dumps(meta), encoding="utf-8")

    def _landscape(self, run: Path, model: str, data: str, lead: float, rng: np.random.Generator) -> None:
        n = self.shown
        straight = self._rows({"linearity": rng.uniform(0.7, 1, n)})
        art = _art(run, self.add(run, "landscape", model, data, f"landscape of {n} images", straight))
        line, surface = made.landscape(n, len(self.classes), 110 * lead, rng)
        np.savez(art / "line.npz", **line)
        np.savez(art / "surface.npz", **surface)
        ids, labels = [f"test-{i:04}" for i in range(n)], [int(label) for label in line["labels"]]
        meta = {"ids": ids, "labels": labels, "classes": list(self.classes)}
        (art / "meta.json").write_text(json.dumps(meta), encoding="utf-8")

    def _gallery(self, run: Path, model: str, data: str, rng: np.random.Generator) -> None:
        g, e = self.shown, len(self.explainers)
        art = _art(run, self.add(run, "gallery", model, data, "none", [{"image": "", "metric": "", "value": np.nan}]))
        images = np.stack([self.picture(i) for i in range(g)])
        height, width = images.shape[1:3]
        noise = rng.choice([-4, 4], images.shape)
        adversarial = np.clip(images.astype(int) + noise, 0, 255).astype(np.uint8)
        y, x = np.mgrid[0:height, 0:width] / height
        heat = np.zeros((e, 2 * g, height, width), np.float16)
        for i, k in np.ndindex(e, 2 * g):
            distance = (y - rng.uniform(0.3, 0.7)) ** 2 + (x - rng.uniform(0.3, 0.7)) ** 2
            heat[i, k] = np.exp(-distance / 0.03) - 0.2 * (i == 1)
        np.savez(
            art / "gallery.npz",
            images=images,
            adversarial=adversarial,
            clean_heat=heat[:, :g],
            adversarial_heat=heat[:, g:],
        )
        labels = [i % len(self.classes) for i in range(g)]
        meta = {
            "images": [f"test-{i:04}" for i in range(g)],
            "labels": labels,
            "predicted": labels,
            "predicted_adversarial": [(label + i % 2) % len(self.classes) for i, label in enumerate(labels)],
            "confidence": rng.uniform(0.6, 1, g).tolist(),
            "confidence_adversarial": rng.uniform(0.6, 1, g).tolist(),
            "classes": list(self.classes),
            "attack": ATTACKS[2],
            "explainers": list(self.explainers),
        }
        (art / "meta.json").write_text(json.dumps(meta), encoding="utf-8")


def _explain(method: str, place: int, n: int, rng: np.random.Generator) -> dict[str, Array]:
    record = schema1.method(method)
    level = QUALITIES.get(record.title, 0.2)
    if not record.control:
        level += 0.03 * (place % 5 - 2)
    mass = np.clip(rng.normal(level, 0.12, n), 0, 1)
    return {
        "mass-accuracy": mass,
        "pointing-game": (mass > 0.45).astype(float),
        "part-effect": np.where(np.arange(n) % 5 == 4, np.nan, np.clip(2 * mass - 0.6 + rng.normal(0, 0.2, n), -1, 1)),
        "deletion": np.clip(0.6 - 0.4 * mass + rng.normal(0, 0.1, n), 0, 1),
        "insertion": np.clip(0.3 + 0.5 * mass + rng.normal(0, 0.1, n), 0, 1),
    }


def _id(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _art(run: Path, cell: str) -> Path:
    folder = run / "art" / cell
    folder.mkdir(parents=True, exist_ok=True)
    return folder
