"""The one judge of what an attack returns: budget, range, finiteness and success are decided here."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from assay.attacks.balls import distance
from assay.attacks.base import BlackBox
from assay.attacks.checks import NOISE, SLACK, Watch, inspect
from assay.attacks.goals import Goal, as_goal
from assay.attacks.gradient import ask
from assay.attacks.rates import ssim
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
        # clean images first
        clean_logits, goal = ask(model, images), as_goal(goal, images).settle(model, images)
        _check_classes(goal, clean_logits)
        suspicions = inspect(model, images, clean_logits)
        # attack under watch
        watch = Watch(images, goal, *budget(attack))
        start = now(images.device)
        with counting(model) as passes, watch.on(model):
            output, queries, history = _run(attack, model, images, goal, draws)
        seconds = now(images.device) - start - watch.seconds
        # logits of result
        adversarial, problems = _usable(output, images)
        logits, again = ask(model, adversarial), ask(model, adversarial)
        logits_8bit = ask(model, (adversarial * 255).round() / 255)
    # validity and success
    distances = {norm: distance(adversarial - images, norm) for norm in NORMS}
    problems["over-budget"] = distances[watch.norm] > watch.eps * (1 + SLACK) + SLACK
    problems["non-finite-logits"] = ~(logits.isfinite().all(1) & clean_logits.isfinite().all(1))
    valid = ~torch.stack(list(problems.values())).any(0)
    success, success_8bit = goal.reached(logits) & valid, goal.reached(logits_8bit) & valid
    # further flags
    problems |= _noise_problems(goal, logits, again)
    problems["lost-at-8-bit"] = success & ~success_8bit
    problems["unchanged"] = ~goal.reached(clean_logits) & (distances["linf"] == 0) & (watch.eps > 0)
    problems |= watch.flags(success, universal=getattr(attack, "universal", False))
    problems |= {name: torch.ones_like(valid) for name in suspicions}
    n = max(len(images), 1)
    return Outcome(
        adversarial=adversarial,
        success=success,
        success_8bit=success_8bit,
        valid=valid,
        goal=goal,
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


def _run(
    attack: AttackLike, model: nn.Module, images: Tensor, goal: Goal, draws: Draws
) -> tuple[Tensor, Tensor | None, tuple[tuple[Tensor, Tensor], ...]]:
    """What the attack returns, with the queries and history of a black box."""
    if isinstance(attack, BlackBox):
        trace = attack.trace(model, images, goal, draws)
        return trace.images, trace.queries, trace.history
    return attack(model, images, goal, draws), None, ()


def _check_classes(goal: Goal, logits: Tensor) -> None:
    """Raise ``AssayError`` for a goal with a class that the model does not have."""
    count = logits.shape[1]
    for classes in (getattr(goal, "labels", None), getattr(goal, "classes", None)):
        if classes is not None and len(classes) and not (classes.min() >= 0 and classes.max() < count):
            wrong = classes[(classes < 0) | (classes >= count)][0].item()
            raise AssayError(f"class {wrong} is not one of the model's 0 to {count - 1}")


def _usable(output: Tensor, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Images that can be judged, and which of them could not be taken as they came."""
    none = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    if not isinstance(output, Tensor) or output.shape != images.shape:
        return images.clone(), {"wrong-shape": ~none}
    output = output.detach().to(images)
    infinite = ~output.isfinite().flatten(1).all(1)
    output = torch.where(infinite.view(-1, 1, 1, 1), images, output)
    outside = ((output < -SLACK) | (output > 1 + SLACK)).flatten(1).any(1)
    return output.clamp(0, 1), {"wrong-shape": none, "non-finite": infinite, "out-of-range": outside}


def _noise_problems(goal: Goal, logits: Tensor, again: Tensor) -> dict[str, Tensor]:
    """Where the same images give other logits, and where noise decides; small logits have small noise."""
    largest = logits.abs().amax(1)
    other = (logits - again).abs().amax(1) > NOISE * largest.clamp(min=1)
    return {
        "not-repeatable": other & logits.isfinite().all(1),
        "boundary": goal.margin(logits).abs() <= NOISE * largest,
    }


def budget(attack: object) -> tuple[str, float]:
    """The norm and radius that bound an attack; an infinite radius where nothing does."""
    return getattr(attack, "norm", "linf"), getattr(attack, "eps", float("inf"))
