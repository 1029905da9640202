"""Made-up outcomes of attacks, transfer, fooling images and landscapes, which a sound run could have."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.reports.run import schema1

Array = NDArray[np.float64]
Q = (100, 200, 500, 1000, 2000, 5000)
NORMS = {"linf": 1.0, "l2": 30.0, "l1": 3000.0, "l0": 2000.0}  # a norm's distance for one of Linf
METRICS = {
    name: {"direction": direction, "unit": unit, "statistic": statistic, "interval": "bootstrap", "meaning": meaning}
    for name, direction, unit, statistic, meaning in [
        ("distance_l1", "higher", "pixel value", "median", "Sum of all changes, where fooled."),
        ("distance_l0", "higher", "pixels", "median", "Number of changed pixels, where fooled."),
        ("ssim", "none", "similarity", "mean", "Structural similarity of the fooled image to the clean one."),
        ("queries", "higher", "queries", "median", "Evaluations of the model until the image was fooled."),
        ("linearity", "none", "R²", "mean", "How straight the label's lead is along the gradient's sign."),
        *(
            (f"distance_at_{q}", "higher", "pixel value", "median", f"Smallest distance after at most {q} queries.")
            for q in Q
        ),
    ]
}
RADII = tuple(k / 255 for k in (1, 2, 4, 8))
# attack: table name, access, single, norm, eps
STRONG: dict[str, tuple[str, str, bool, str, float | None]] = {
    **{f"FGSM(eps={eps!r})": ("fgsm", "gradient", True, "linf", eps) for eps in RADII},
    **{
        f"PGD(norm='linf', eps={eps!r}, steps=40, restarts=1)": ("pgd", "gradient", False, "linf", eps)
        for eps in RADII
    },
    f"PGD(norm='linf', eps={RADII[2]!r}, steps=80, restarts=1)": ("pgd", "gradient", False, "linf", RADII[2]),
    f"WorstCase(attacks=('fgsm', 'pgd', 'apgd(loss=dlr)'), norm='linf', eps={RADII[2]!r})": (
        "worst-case", "gradient", False, "linf", RADII[2],
    ),
    "PGD(norm='l2', eps=0.5, steps=40, restarts=1)": ("pgd", "gradient", False, "l2", 0.5),
    f"Square(norm='linf', eps={RADII[2]!r}, queries=5000)": ("square", "score", False, "linf", RADII[2]),
    f"RandomNoise(norm='linf', eps={RADII[2]!r}, tries=10)": ("random-noise", "none", False, "linf", RADII[2]),
    "FMN(norm='linf', steps=100)": ("fmn", "gradient", False, "linf", None),
    "FAB(norm='linf', steps=100)": ("fab", "gradient", False, "linf", None),
    "DDN(steps=100)": ("ddn", "gradient", False, "l2", None),
    "DeepFool(norm='l2', steps=50)": ("deepfool", "gradient", False, "l2", None),
    "HopSkipJump(norm='l2', queries=5000)": ("hop-skip-jump", "decision", False, "l2", None),
    "JSMA(theta=1.0)": ("jsma", "gradient", False, "l0", None),
    "AdversarialPatch(size=0.2)": ("adversarial-patch", "gradient", False, "", None),
}  # fmt: skip
REACH = {"PGD": 1.0, "FGSM": 0.6, "RandomNoise": 0.02, "WorstCase": 1.12, "Square": 0.8}
LOOSE = {"DeepFool": 1.3, "FAB": 1.15, "FMN": 1.02, "DDN": 1.02, "HopSkipJump": 1.5, "JSMA": 1.4}


def described() -> dict[str, dict[str, Any]]:
    """``run.json``'s record of the strong attacks."""
    return {
        method: {
            "name": name,
            "access": access,
            "single": single,
            "universal": False,
            "norm": norm,
            "eps": eps,
            "goal": "untargeted",
            "settings": {key: value for key, value in schema1.method(method).settings.items() if key != "norm"},
        }
        for method, (name, access, single, norm, eps) in STRONG.items()
    }


def attack(method: str, margin: Array, rng: np.random.Generator) -> dict[str, Array]:
    """What an attack does to images whose Linf distance to the boundary is ``margin``; below 0 they are wrong."""
    parsed = schema1.method(method, {})
    _, access, _, norm, eps = STRONG.get(method, ("", "", False, parsed.norm, parsed.eps))
    limit = 9.0 if eps is None else eps / NORMS[norm]
    reach = REACH.get(parsed.title, 0.5) * (0.3 if parsed.goal else 1) * limit * rng.uniform(0.95, 1.05, len(margin))
    right = margin > 0
    fooled = right & (margin <= (limit if eps is None else reach))
    found = LOOSE.get(parsed.title, 1.0) * rng.uniform(1, 1.05, len(margin)) * margin
    distance = np.where(fooled, found if eps is None else limit, np.nan)
    values = {
        "robust_accuracy": (right & ~fooled).astype(float),
        "fooling_rate": np.where(right, fooled, np.nan),
        **{f"distance_{name}": scale * distance for name, scale in NORMS.items()},
        "confidence": rng.uniform(0.5, 1, len(margin)),
    }
    if access:
        values["ssim"] = np.where(fooled, 1 - np.minimum(1, 3 * distance), np.nan)
    if access in ("score", "decision"):
        effort = np.exp(rng.normal(5, 1, len(margin))) * np.maximum(margin, 0.001) / limit * (90 if eps is None else 1)
        values["queries"] = np.where(fooled, np.clip(np.round(effort), 1, 5000), np.nan)
    if access == "decision":
        start = rng.uniform(4, 8, len(margin))
        for q in Q:
            near = NORMS[norm] * np.maximum(found, start / (q / 100) ** 1.2)
            values[f"distance_at_{q}"] = np.where(right & (rng.random(len(margin)) > 30 / q), near, np.nan)
    return values


def transferred(margin: Array, travel: float) -> dict[str, Array]:
    """What images made on another model do to one, where ``travel`` of the attack's strength arrives."""
    right = margin > 0
    fooled = right & (margin < 4 / 255 * travel)
    return {"fooling_rate": np.where(right, fooled, np.nan), "robust_accuracy": (right & ~fooled).astype(float)}


def landscape(n: int, classes: int, lead: float, rng: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
    """``line.npz`` and ``surface.npz``: logits that bend a little, and a boundary ``lead`` logits away."""
    radii, axis = np.linspace(-16, 16, 65) / 255, np.linspace(-16, 16, 33) / 255
    labels = np.arange(n) % classes
    slopes = rng.normal(0, 60, (n, 1, classes))
    slopes[np.arange(n), 0, labels] = -120
    logits = slopes * radii[None, :, None] + rng.normal(0, 1, (n, 1, classes)) - 400 * radii[None, :, None] ** 2
    logits[np.arange(n), :, labels] += lead + 2
    y, x = np.meshgrid(axis, axis)
    bumps = rng.normal(0, 1, (n, 1, 1)) * np.sin(70 * x + rng.uniform(0, 6, (n, 1, 1))) * np.cos(60 * y)
    margin = lead - 130 * x[None] + 8 * y[None] + bumps
    line = {"radii": radii, "logits": logits.astype(np.float32), "labels": labels}
    return line, {"axis": axis, "loss": np.log1p(np.exp(-margin)), "margin": margin}
