"""One method on one picture, result as files."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from torch import Tensor

from assay.attacks import evaluate
from assay.bench.cells import dataset, draws_for
from assay.bench.data import load as load_data
from assay.bench.data.base import to_image
from assay.bench.data.folder import RESAMPLING, decode, fit
from assay.bench.goals import attack_text, check_goal, goal_for, parse_attack
from assay.bench.models import Subject, load
from assay.bench.pictures import saved, to_bytes
from assay.bench.positions import draw_positions
from assay.core.errors import AssayError, unknown
from assay.core.targets import Logit
from assay.explain import EXPLAINERS, Occlusion


def attack_one(spec: str, image: str, method: str, label: str | None, out: Path, seed: int) -> Iterator[str]:
    """Attack one picture; yields the lines to tell."""
    attack, goal_name = parse_attack(method)
    model = load(spec)
    check_goal(goal_name, len(model.classes), model.name)
    picture, known, name = read_picture(image, model)
    true = class_of(label, model) if label is not None else known
    with torch.no_grad():
        before = model(picture).softmax(1)[0]
    true = int(before.argmax()) if true is None else true
    text = attack_text(attack, goal_name)
    goal = goal_for(goal_name, torch.tensor([true]), [name], len(model.classes), seed)
    outcome = evaluate(attack, model, picture, goal, draws_for(seed, model.digest, text, [name]))
    after = outcome.logits.softmax(1)[0]
    difference = outcome.adversarial - picture
    factor = 0.5 / max(outcome.distances["linf"].item(), 1e-12)
    pictures = {
        "original": picture,
        "adversarial": outcome.adversarial,
        "difference": (0.5 + difference * factor).clamp(0, 1),
    }
    result = {
        "model": model.name,
        "image": image,
        "method": text,
        "seed": seed,
        "label": model.classes[true],
        "before": _said(model, before),
        "after": _said(model, after),
        "success": bool(outcome.success[0]),
        "success_8bit": bool(outcome.success_8bit[0]),
        "distances": {norm: value.item() for norm, value in outcome.distances.items()},
        "ssim": None if outcome.ssim.isnan() else outcome.ssim.item(),
        "queries": None if outcome.queries is None else int(outcome.queries),
        "difference_factor": factor,
        "forwards": outcome.forwards,
        "backwards": outcome.backwards,
        "flags": list(outcome.flags[0]),
    }
    _write(out, {name: to_bytes(value)[0] for name, value in pictures.items()}, result)
    verdict = "fooled" if outcome.success[0] else "not fooled"
    yield f"{model.name}: {_one(model, before)} -> {_one(model, after)}: {verdict}"
    linf, l2 = (outcome.distances[norm].item() for norm in ("linf", "l2"))
    yield f"distance Linf {linf * 255:.2f}/255, L2 {l2:.3f}"
    yield f"{out}: original.png adversarial.png difference.png (x {factor:.0f}) result.json"


def explain_one(spec: str, image: str, method: str, label: str | None, out: Path, seed: int) -> Iterator[str]:
    """Explain one picture; yields the lines to tell."""
    explainer = EXPLAINERS.parse(method)
    model = load(spec)
    picture, _, name = read_picture(image, model)
    with torch.no_grad():
        before = model(picture).softmax(1)[0]
    wanted = class_of(label, model) if label is not None else int(before.argmax())
    draws = draws_for(seed, model.digest, repr(explainer), [name])
    heat = explainer(model, picture, Logit(torch.tensor([wanted])), draws)[0]
    doubts = explainer.doubts(model, picture, Logit(torch.tensor([wanted])), heat[None])
    flags = "; ".join(filter(None, [explainer.flags(model, picture), *doubts]))
    colours = _coloured(heat)
    overlay = (0.5 * to_bytes(picture)[0] + 0.5 * colours).astype(np.uint8)
    result = {
        "model": model.name,
        "image": image,
        "method": repr(explainer),
        "seed": seed,
        "explained": model.classes[wanted],
        "prediction": _said(model, before),
        "range": [heat.min().item(), heat.max().item()],
        "flags": flags,
    }
    _write(out, {"original": to_bytes(picture)[0], "heatmap": colours, "overlay": overlay}, result)
    np.save(out / "heatmap.npy", heat.numpy())
    written = "original.png heatmap.png overlay.png heatmap.npy result.json"
    if isinstance(explainer, Occlusion):
        draw_positions(explainer, model, picture, wanted).savefig(out / "positions.png", dpi=110)
        written += " positions.png"
    yield f"{model.name}: {_one(model, before)}; explained: {model.classes[wanted]}"
    yield f"{out}: {written}" + (f" ({flags})" if flags else "")


def read_picture(source: str, model: Subject) -> tuple[Tensor, int | None, str]:
    """A picture (1, C, H, W) as the model takes it, its label where the source knows it, and its id.

    ``source`` is a file, or DATA#NUMBER for a picture of a data set. Raises ``AssayError`` when there is neither.
    """
    if Path(source).is_file():
        channels, height, width = model.input_size
        resample = RESAMPLING[model.fit.interpolation]
        squash = model.fit.crop_mode == "squash"
        fitted = fit(decode(Path(source)), (height, width), model.fit.crop_pct, resample, squash)
        return to_image(np.asarray(fitted), channels)[None], None, source
    spec, sign, number = source.rpartition("#")
    if not sign:
        raise AssayError(f"no picture at {source}; give a file, or DATA#NUMBER such as scenes#3")
    data = load_data(spec)
    data = dataset(spec, len(data), model)
    if not number.isdecimal() or int(number) >= len(data):
        raise AssayError(f"{spec} has pictures 0 to {len(data) - 1}, not {number!r}")
    example = data.example(int(number))
    return example.image[None], example.label, example.id


def class_of(name: str, model: Subject) -> int:
    if name.isdecimal():
        if int(name) >= len(model.classes):
            raise AssayError(f"{model.name} has classes 0 to {len(model.classes) - 1}, not {name}")
        return int(name)
    if name not in model.classes:
        raise unknown("class", name, model.classes)
    return model.classes.index(name)


def _said(model: Subject, probabilities: Tensor) -> list[dict[str, Any]]:
    top = probabilities.topk(min(5, len(probabilities)))
    return [
        {"class": model.classes[int(k)], "probability": p}
        for p, k in zip(top.values.tolist(), top.indices, strict=True)
    ]


def _one(model: Subject, probabilities: Tensor) -> str:
    return f"{model.classes[int(probabilities.argmax())]} ({probabilities.max().item():.1%})"


def _coloured(heat: Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A heatmap as (H, W, 3) colours, from its smallest to its largest value."""
    low, high = heat.min(), heat.max()
    scaled = ((heat - low) / (high - low).clamp(min=1e-12)).cpu().numpy()
    coloured: np.ndarray[Any, np.dtype[np.uint8]] = (colormaps["inferno"](scaled)[..., :3] * 255).astype(np.uint8)
    return coloured


def _write(out: Path, pictures: dict[str, Any], result: dict[str, Any]) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, pixels in pictures.items():
            saved(pixels, out / f"{name}.png")
        (out / "result.json").write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise AssayError(f"cannot write to {out}: {error.strerror}") from error
