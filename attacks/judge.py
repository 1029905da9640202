"""The one judge of what an attack returns: budget, range, finiteness and success are decided here."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from assay.attacks.balls import distance
from assay.attacks.base import BlackBox
from assay.attacks.checks import SLACK, Watch, coarse, inspect
from assay.attacks.goals import NOISE, Goal, as_goal, check_classes
from assay.attacks.gradient import ask
from assay.attacks.rates import ssim
from assay.core.borrow import check_images, counting, now
from assay.core.classifier import answered, classifier
from assay.core.draws import Draws, as_draws

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
    draws, kind = as_draws(draws, images), images.dtype
    with classifier(model, images) as borrowed:
        # clean images first
        images = images.detach().float()
        clean_logits, goal = ask(borrowed, images), as_goal(goal, images).settle(borrowed, images)
        check_classes(goal, clean_logits)
        suspicions = inspect(borrowed, images, clean_logits, getattr(attack, "access", "gradient") == "gradient")
        # attack under watch
        run = _watched(attack, borrowed, images, goal, draws)
        # logits of result
        adversarial, problems = _usable(run.output, images)
        logits, again = ask(borrowed, adversarial), ask(borrowed, adversarial)
        logits_8bit = ask(borrowed, (adversarial * 255).round() / 255)
    # validity and success
    norm, eps = budget(attack)
    distances = {norm: distance(adversarial - images, norm) for norm in NORMS}
    problems["over-budget"] = distances[norm] > eps * (1 + SLACK) + SLACK
    valid = ~torch.stack(list(problems.values())).any(0)
    success, success_8bit = goal.reached(logits) & valid, goal.reached(logits_8bit) & valid
    # further flags
    problems["non-finite-logits"] = ~(answered(logits) & answered(clean_logits))
    problems |= _noise_problems(goal, logits, again)
    problems["lost-at-8-bit"] = success & ~success_8bit
    problems["unchanged"] = ~goal.reached(clean_logits) & (distances["linf"] == 0) & (eps > 0)
    problems |= {name: holds & ~success for name, holds in run.flags.items()}
    problems |= {name: torch.ones_like(valid) for name in suspicions}
    n = max(len(images), 1)
    return Outcome(
        adversarial=adversarial.to(kind),
        success=success,
        success_8bit=success_8bit,
        valid=valid,
        goal=goal,
        distances=distances,
        ssim=ssim(images, adversarial),
        clean_logits=clean_logits,
        logits=logits,
        forwards=run.forwards / n,
        backwards=run.backwards / n,
        seconds=run.seconds / n,
        queries=run.queries,
        history=run.history,
        flags=[tuple(name for name, holds in problems.items() if holds[i]) for i in range(len(images))],
    )


@dataclass(frozen=True, eq=False)
class _Run:
    """What an attack returned, what it cost, and what was seen on the way, an entry an image."""

    output: Tensor | None  # None: not of the images' shape
    queries: Tensor | None
    history: tuple[tuple[Tensor, Tensor], ...]
    forwards: float
    backwards: float
    seconds: float
    flags: dict[str, Tensor]


def _watched(attack: AttackLike, model: nn.Module, images: Tensor, goal: Goal, draws: Draws) -> _Run:
    """The attack under watch. Passes are told apart by their images, so equal images take turns."""
    universal = getattr(attack, "universal", False)
    turns = [torch.arange(len(images), device=images.device)] if universal else _turns(images)
    runs = [_turn(attack, model, images[turn], goal[turn], draws[turn], universal) for turn in turns]
    order = torch.cat(turns).argsort()
    join: Callable[[Iterable[Tensor]], Tensor] = lambda parts: torch.cat([*parts])[order]  # noqa: E731
    longest = max(len(run.history) for run in runs)
    histories = [[*run.history, *run.history[-1:] * (longest - len(run.history))] for run in runs]
    outputs = [run.output for run in runs if run.output is not None]
    queries = [run.queries for run in runs if run.queries is not None]
    return _Run(
        output=join(outputs) if len(outputs) == len(runs) else None,
        queries=join(queries) if len(queries) == len(runs) else None,
        history=tuple((join(q for q, _ in each), join(s for _, s in each)) for each in zip(*histories, strict=True)),
        forwards=sum(run.forwards for run in runs),
        backwards=sum(run.backwards for run in runs),
        seconds=sum(run.seconds for run in runs),
        flags={name: join(run.flags[name] for run in runs) for name in runs[0].flags},
    )


def _turns(images: Tensor) -> list[Tensor]:
    """Indices of images that differ, then of those that were there before, and so on."""
    _, same = torch.unique(coarse(images), dim=0, return_inverse=True)
    seen = (same[:, None] == same).tril(-1).sum(1)
    return [(seen == turn).nonzero().flatten() for turn in range(int(seen.max()) + 1 if len(seen) else 1)]


def _turn(attack: AttackLike, model: nn.Module, images: Tensor, goal: Goal, draws: Draws, universal: bool) -> _Run:
    watch = Watch(images, goal, *budget(attack))
    queries: Tensor | None = None
    history: tuple[tuple[Tensor, Tensor], ...] = ()
    start = now(images.device)
    with counting(model) as passes, watch.on(model):
        if isinstance(attack, BlackBox):
            trace = attack.trace(model, images, goal, draws)
            output, queries, history = trace.images, trace.queries, trace.history
        else:
            output = attack(model, images, goal, draws)
    seconds = now(images.device) - start - watch.seconds
    right = isinstance(output, Tensor) and output.shape == images.shape
    flags = watch.flags(universal)
    return _Run(output if right else None, queries, history, passes.forwards, passes.backwards, seconds, flags)


def _usable(output: Tensor | None, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Images that can be judged, and which of them could not be taken as they came."""
    none = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    if output is None:
        return images.clone(), {"wrong-shape": ~none}
    output = output.detach().to(images)
    infinite = ~output.isfinite().flatten(1).all(1)
    output = torch.where(infinite.view(-1, 1, 1, 1), images, output)
    outside = ((output < -SLACK) | (output > 1 + SLACK)).flatten(1).any(1)
    return output.clamp(0, 1), {"wrong-shape": none, "non-finite": infinite, "out-of-range": outside}


def _noise_problems(goal: Goal, logits: Tensor, again: Tensor) -> dict[str, Tensor]:
    """Where the same images give other logits, and where noise decides; small logits have small noise."""
    largest = logits.abs().nan_to_num(posinf=0).amax(1)
    other = (logits - again).abs().nan_to_num().amax(1) > NOISE * largest.clamp(min=1)
    return {
        "not-repeatable": other & answered(logits),
        "boundary": (goal.margin(logits).abs() <= goal.noise(logits)) & answered(logits),
    }


def budget(attack: object) -> tuple[str, float]:
    """The norm and radius that bound an attack; an infinite radius where nothing does."""
    return getattr(attack, "norm", "linf"), getattr(attack, "eps", float("inf"))
