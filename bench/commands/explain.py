"""``assay explain``."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from assay.bench.commands import ModelSpec, PictureSpec
from assay.bench.measurements import draws_for
from assay.bench.measurements.base import to_bytes
from assay.bench.models import load
from assay.bench.one_image import Answer, class_of, read_picture, save_pictures
from assay.bench.positions import draw_positions
from assay.bench.writing import numbered, writing
from assay.core.targets import Logit
from assay.explain import EXPLAINERS, Occlusion


def explain(
    model: ModelSpec,
    image: PictureSpec,
    /,
    *,
    method: str = "grad-cam",
    label: str | None = None,
    out: Path = Path("explain"),
    seed: int = 0,
) -> Iterator[str]:
    """Explain MODEL on one IMAGE; writes the heatmap as PNG, overlay and array, and result.json.

    Parameters
    ----------
    method
        An explainer with settings, as in "occlusion(stride=4)".
    label
        The class to explain, index or name; the prediction unless given.
    out
        The folder for the files.
    seed
        Of the method's random numbers.
    """
    explainer = EXPLAINERS.parse(method)
    subject = load(model)
    picture, _, name = read_picture(image, subject)
    answer = Answer.of(subject, picture)
    target = class_of(label, subject) if label is not None else answer.best
    logit = Logit(torch.tensor([target]))
    heat = explainer(subject, picture, logit, draws_for(seed, subject.digest, repr(explainer), [name]))[0]
    doubts = explainer.doubts(subject, picture, logit, heat[None])
    flags = "; ".join(filter(None, [explainer.flags(subject, picture), *doubts]))
    pixels, colours = to_bytes(picture)[0], _colours(heat)
    result = {
        "model": subject.name,
        "image": image,
        "method": repr(explainer),
        "seed": seed,
        "explained": subject.classes[target],
        "prediction": answer.as_json(),
        "range": [heat.min().item(), heat.max().item()],
        "flags": flags,
    }
    overlay = (0.5 * pixels + 0.5 * colours).astype(np.uint8)
    pictures = {"original": pixels, "heatmap": colours, "overlay": overlay}
    others = ["heatmap.npy", *(["positions.png"] if isinstance(explainer, Occlusion) else [])]
    number = save_pictures(out, pictures, result, others)
    with writing(out):
        np.save(out / numbered("heatmap.npy", number), heat.numpy())
        if isinstance(explainer, Occlusion):
            figure = draw_positions(explainer, subject, picture, target)
            figure.savefig(out / numbered("positions.png", number), dpi=110)
    files = [f"{name}.png" for name in pictures] + ["heatmap.npy", "result.json", *others[1:]]
    yield f"{subject.name}: {answer}; explained: {subject.classes[target]}"
    yield f"{out}: {' '.join(numbered(file, number) for file in files)}" + (f" ({flags})" if flags else "")


def _colours(heat: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A heatmap as (H, W, 3) colours, from its smallest to its largest value."""
    low, high = heat.min(), heat.max()
    shares = ((heat - low) / (high - low).clamp(min=1e-12)).cpu().numpy()
    colours: np.ndarray[Any, np.dtype[np.uint8]] = (colormaps["inferno"](shares)[..., :3] * 255).astype(np.uint8)
    return colours
