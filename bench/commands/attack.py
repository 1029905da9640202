"""``assay attack``."""

from collections.abc import Iterator
from pathlib import Path

import torch

from assay.attacks import evaluate
from assay.attacks.judge import Outcome
from assay.bench.commands import ModelSpec, PictureSpec
from assay.bench.measurements import draws_for
from assay.bench.measurements.base import to_bytes
from assay.bench.method_records import parse_attack
from assay.bench.models import load
from assay.bench.one_image import Answer, class_of, read_picture, save_pictures
from assay.bench.writing import numbered


def attack(
    model: ModelSpec,
    image: PictureSpec,
    /,
    *,
    method: str = "pgd",
    label: str | None = None,
    out: Path = Path("attack"),
    seed: int = 0,
) -> Iterator[str]:
    """Attack MODEL on one IMAGE; writes original, adversarial and difference as PNG, and result.json.

    Parameters
    ----------
    method
        An attack with settings, as in "fgsm(eps=8/255, goal=least_likely)".
    label
        Class index or name; the data's label, else the prediction, unless given.
    out
        The folder for the files.
    seed
        Of the attack's random numbers.
    """
    aim = parse_attack(method)
    subject = load(model)
    aim.check(len(subject.classes), subject.name)
    picture, data_label, name = read_picture(image, subject)
    before = Answer.of(subject, picture)
    true = class_of(label, subject) if label is not None else data_label
    true = before.best if true is None else true
    goal = aim.goals(torch.tensor([true]), [name], len(subject.classes), seed)
    outcome = evaluate(aim.attack, subject, picture, goal, draws_for(seed, subject.digest, aim.text, [name]))
    after = Answer(subject, outcome.logits.softmax(1)[0])
    difference = outcome.adversarial - picture
    factor = 0.5 / max(outcome.distances["linf"].item(), 1e-12)
    pictures = {
        "original": picture,
        "adversarial": outcome.adversarial,
        "difference": (0.5 + difference * factor).clamp(0, 1),
    }
    result = {
        "model": subject.name,
        "image": image,
        "method": aim.text,
        "seed": seed,
        "label": subject.classes[true],
        "before": before.as_json(),
        "after": after.as_json(),
        "difference_factor": factor,
        **_verdict(outcome),
    }
    number = save_pictures(out, {name: to_bytes(value)[0] for name, value in pictures.items()}, result)
    was_met = goal.settle(subject, picture).reached(before.probabilities[None])[0]
    told = "its goal was met before the attack" if was_met else "fooled"
    yield f"{subject.name}: {before} -> {after}: {told if outcome.success[0] else 'not fooled'}"
    linf, l2 = (outcome.distances[norm].item() for norm in ("linf", "l2"))
    yield f"distance Linf {linf * 255:.2f}/255, L2 {l2:.3f}"
    files = [numbered(file, number) for file in (*(f"{name}.png" for name in pictures), "result.json")]
    yield f"{out}: {' '.join(files[:3])} (x {factor:.0f}) {files[3]}"


def _verdict(outcome: Outcome) -> dict[str, object]:
    """The judge's verdict of one image as JSON."""
    return {
        "success": bool(outcome.success[0]),
        "success_8bit": bool(outcome.success_8bit[0]),
        "distances": {norm: value.item() for norm, value in outcome.distances.items()},
        "ssim": None if outcome.ssim.isnan() else outcome.ssim.item(),
        "queries": None if outcome.queries is None else int(outcome.queries),
        "forwards": outcome.forwards,
        "backwards": outcome.backwards,
        "flags": list(outcome.flags[0]),
    }
