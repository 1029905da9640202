"""The one judge of what an attack returns: budget, range, finiteness and success are decided here."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from assay.attacks.balls import distance
from assay.attacks.base import BlackBox
from assay.attacks.checks import NOISE, SLACK, Watch, inspect
from assay.attacks.goals import Goal, as_goal
from assay.attacks.metrics import ssim
from assay.core.borrow import check_images, counting, evaluating, now
from assay.core.draws import Draws, as_draws
from assay.core.errors import AssayError

NORMS = ("linf", "l2", "l1", "l0")


class AttackLike(Protocol):
    """What the judge needs of an attack; ``eps`` and ``norm`` bound it where it has them."""

    def __call__(self, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Outcome:
    """One entry an image, N in all.

    ``adversarial`` (N, C, H, W) is finite and in [0, 1]. ``success`` and ``success_8bit`` (N,) bool: the goal is
    reached within the budget, also after rounding to 8 bits. ``valid`` (N,) bool: the attack's image and the logits
    could be judged at all. ``distances`` maps each norm to (N,); ``ssim`` (N,) is the similarity to the clean image.
    ``clean_logits`` and ``logits`` (N, K). ``goal`` names the classes. ``forwards``, ``backwards`` (samples) and
    ``seconds`` are the attack's, shared evenly; finding the least likely class is not counted. ``queries`` (N,) and
    ``history`` are a black box attack's own (see ``Trace``). ``flags`` names the checks that did not hold.
    """

    adversarial: Tensor
    success: Tensor
    success_8bit: Tensor
    valid: Tensor
    goal: Goal
    distances: dict[str, Tensor]
    ssim: Tensor
    clean_logits: Tensor
    logits: Tensor
    forwards: float
    backwards: float
    seconds: float
    queries: Tensor | None
    history: tuple[tuple[Tensor, Tensor], ...]
    flags: list[tuple[str, ...]]


def evaluate(
    attack: AttackLike, model: nn.Module, images: Tensor, goal: Goal | Tensor, draws: Draws | int = 0
) -> Outcome:
    """Run ``attack`` and judge what it returns, image by image.

    Flags: ``wrong-shape``, ``non-finite``, ``out-of-range`` and ``over-budget`` (the image counts as not fooled and the
    clean image stands in for what cannot be used), ``non-finite-logits``, ``not-repeatable`` (the same images give
    other logits), ``boundary`` (decided within float noise), ``lost-at-8-bit``, ``unchanged`` (the attack left an
    image that it should fool as it was), and those of ``checks``.
    """
    check_images(images)
    draws = as_draws(draws, images)
    with evaluating(model):
        with torch.no_grad():
            clean_logits = model(images)
            settled = as_goal(goal, images).settle(model, images)
        _check_classes(settled, clean_logits)
        suspect = inspect(model, images, clean_logits)
        norm, eps = budget(attack)
        watch = Watch(images, settled, norm, eps)
        start = now(images.device)
        with counting(model) as passes, watch.on(model):
            if isinstance(attack, BlackBox):
                trace = attack.trace(model, images, settled, draws)
                returned, queries, history = trace.images, trace.queries, trace.history
            else:
                returned, queries, history = attack(model, images, settled, draws), None, ()
        seconds = now(images.device) - start - watch.seconds
        adversarial, problems = _usable(returned, images)
        distances = {norm: distance(adversarial - images, norm) for norm in NORMS}
        problems["over-budget"] = distances[norm] > eps * (1 + SLACK) + SLACK
        with torch.no_grad():
            logits = model(adversarial)
            again = model(adversarial)
            rounded = model((adversarial * 255).round() / 255)
    invalid = torch.stack(list(problems.values())).any(0)
    problems["non-finite-logits"] = ~(logits.isfinite().all(1) & clean_logits.isfinite().all(1))
    scale = logits.abs().amax(1).clamp(min=1)
    problems["not-repeatable"] = ((logits - again).abs().amax(1) > NOISE * scale) & logits.isfinite().all(1)
    problems["boundary"] = settled.margin(logits).abs() <= NOISE * logits.abs().amax(1)  # small logits have small noise
    valid = ~(invalid | problems["non-finite-logits"])
    success = settled.reached(logits) & valid
    success_8bit = settled.reached(rounded) & valid
    problems["lost-at-8-bit"] = success & ~success_8bit
    problems["unchanged"] = ~settled.reached(clean_logits) & (distances["linf"] == 0) & (eps > 0)
    seen = watch.flags(success)
    if getattr(attack, "universal", False):  # what fools one image on the way is not what fools most in the end
        seen = {"zero-gradient": seen["zero-gradient"]}
    problems.update(seen)
    problems.update({name: torch.ones_like(valid) for name in suspect})
    n = max(len(images), 1)
    return Outcome(
        adversarial=adversarial,
        success=success,
        success_8bit=success_8bit,
        valid=valid,
        goal=settled,
        distances=distances,
        ssim=ssim(images, adversarial),
        clean_logits=clean_logits,
        logits=logits,
        forwards=passes.forwards / n,
        backwards=passes.backwards / n,
        seconds=seconds / n,
        queries=queries,
        history=history,
        flags=[tuple(name for name, holds in problems.items() if holds[i]) for i in range(len(images))],
    )


def _check_classes(goal: Goal, logits: Tensor) -> None:
    """Raise ``AssayError`` for a goal with a class that the model does not have."""
    known = logits.shape[1]
    for classes in (getattr(goal, "labels", None), getattr(goal, "classes", None)):
        if classes is not None and len(classes) and not (classes.min() >= 0 and classes.max() < known):
            found = classes[(classes < 0) | (classes >= known)][0].item()
            raise AssayError(f"class {found} is not one of the model's 0 to {known - 1}")


def _usable(returned: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Images that can be judged, and which of them could not be taken as they came."""
    none = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    if not isinstance(returned, Tensor) or returned.shape != images.shape:
        return images.clone(), {"wrong-shape": ~none}
    returned = returned.detach().to(images)
    broken = ~returned.isfinite().flatten(1).all(1)
    returned = torch.where(broken.view(-1, 1, 1, 1), images, returned)
    outside = ((returned < -SLACK) | (returned > 1 + SLACK)).flatten(1).any(1)
    return returned.clamp(0, 1), {"wrong-shape": none, "non-finite": broken, "out-of-range": outside}


def budget(attack: object) -> tuple[str, float]:
    """The norm and radius that bound an attack; an infinite radius where nothing does."""
    return getattr(attack, "norm", "linf"), getattr(attack, "eps", float("inf"))
