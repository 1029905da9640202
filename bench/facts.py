"""What ``run.json`` tells of models, attacks and metrics."""

import inspect
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from assay.attacks import ATTACKS
from assay.attacks.base import Attack
from assay.attacks.metrics import RATES
from assay.bench import learned, moved, painted, remade
from assay.bench.attacked import QUERIES
from assay.bench.cells import Cell, metric_name
from assay.bench.models import Subject
from assay.reports.kinds.shortcut import SHARE


def attack_facts(attack: Attack, goal: str | int) -> dict[str, Any]:
    """What an attack asks of the model, what bounds it, and its settings; ``eps`` is None without a budget."""
    record: Any = attack
    settings = {field.name: getattr(record, field.name) for field in fields(record)}
    eps = settings.get("eps")
    return {
        "name": ATTACKS.name_of(attack),
        "access": attack.access,
        "single": attack.single,
        "universal": attack.universal,
        "norm": getattr(attack, "norm", "" if eps is None else "linf"),
        "eps": eps,
        "goal": str(goal),
        "settings": {name: _plain(value) for name, value in settings.items()},
    }


def method_facts(cells: Sequence[Cell]) -> dict[str, str]:
    """What each class of methods does: the first sentence of its documentation, by the name in its repr."""
    records = [
        getattr(cell, what) for cell in cells for what in ("attack", "explainer", "synthesis") if hasattr(cell, what)
    ]
    kinds = {type(record).__name__: type(record) for record in records}
    return {name: (inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " ") for name, kind in kinds.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)


def model_facts(spec: str, model: Subject) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {
        "digest": model.digest,
        "spec": spec,
        "input_size": list(model.input_size),
        "parameters": parameters,
        "card": model.card,
    }


def metric_facts(metrics: Sequence[Any]) -> dict[str, dict[str, str]]:
    """Direction, unit, statistic, interval and meaning of every metric name that rows may carry."""

    def fact(direction: str, unit: str, meaning: str, statistic: str = "mean", interval: str = "bootstrap") -> Any:
        return {
            "direction": direction,
            "unit": unit,
            "statistic": statistic,
            "interval": interval,
            "meaning": meaning,
        }

    distance = "of the images that were fooled, the {} between original and adversarial image"
    sizes = {
        "linf": "largest change of a value",
        "l2": "Euclidean distance",
        "l1": "sum of absolute changes",
        "l0": "number of changed values",
    }
    units = {"linf": "pixel value in [0, 1]", "l2": "L2", "l1": "L1", "l0": "values"}
    return {
        "decoded": fact("higher", "share", "share of images that can be decoded", interval="wilson"),
        "accuracy": fact("higher", "share", "share of unattacked images classified right", interval="wilson"),
        "confidence": fact("none", "probability", "probability of the predicted class"),
        **{name: fact(r.direction, "share", r.meaning, interval="wilson") for name, r in RATES.items()},
        "success_8bit": fact(
            "lower", "share", "share of images that fool the model after rounding to 8 bits", interval="wilson"
        ),
        **{
            f"distance_{norm}": fact("higher", units[norm], distance.format(text), "median")
            for norm, text in sizes.items()
        },
        "ssim": fact(
            "none", "SSIM", "structural similarity of original and adversarial image, of the images that were fooled"
        ),
        "queries": fact("higher", "evaluations", "evaluations of the model until an image was fooled", "median"),
        **{
            f"distance_at_{most}": fact(
                "higher", "in the attack's norm", f"smallest distance that fools found in {most} evaluations", "median"
            )
            for most in QUERIES
        },
        "linearity": fact(
            "none", "R\u00b2", "how straight the margin runs along the gradient's sign, 16/255 to both sides"
        ),
        **{
            name: fact("higher", "rank correlation", text)
            for name, text in moved.METRICS.items()
            if "similarity" in name
        },
        **{name: fact("none", "share", text) for name, text in moved.METRICS.items() if "mass" in name},
        **{
            name: fact(direction, unit, meaning, interval=interval)
            for name, (direction, unit, interval, meaning) in learned.METRICS.items()
        },
        SHARE: fact("none", "share", "share of the heat that lies on the planted shortcut"),
        "own_probability": fact("higher", "probability", "what the model itself gives the class in its picture"),
        "moved_probability": fact(
            "higher", "probability", "the same, mean over rolls, turns and scalings of the picture"
        ),
        "spectrum_distance": fact("lower", "dB", "how far the picture's spectrum is from that of the data's images"),
        **{
            name: fact(direction, unit, meaning)
            for name, (direction, unit, meaning) in {**remade.METRICS, **painted.METRICS}.items()
        },
        "other_probability": fact("higher", "probability", "mean of what the other models give the class"),
        "other_agreement": fact("higher", "share", "share of the other models that see the class in the picture"),
        **{
            metric_name(m): {**fact(m.direction, m.unit, m.meaning, m.statistic, m.interval), "gate": m.gate}
            for m in metrics
        },
    }
