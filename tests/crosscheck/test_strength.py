"""At no more passes through the model our attacks are as strong as the strongest of the other libraries'.

On the images of one model ours must not lose more often than a coin would (sign test, 5 %), unless its median distance
is the smaller. Inside a ball it must, over all models together, not leave more images than any other.
"""

from dataclasses import replace
from typing import Any

import pytest
from scipy.stats import binomtest

from assay.attacks import ATTACKS, BlackBox
from tests.crosscheck.cases import BOUNDED, NEAREST, STEPS, Bounded, Nearest
from tests.crosscheck.figures import FIGURES, Comparison, Figure, figure
from tests.crosscheck.peers import Peer
from tests.crosscheck.subjects import SOURCES, Sample, sample

pytestmark = pytest.mark.crosscheck
TIE = 1e-3  # share by which distances differ that are the same: ours fool by more than float noise
MODELS = pytest.mark.parametrize("name", SOURCES)


def recorded(case: Bounded | Nearest, name: str, ours: Figure, peers: list[Figure]) -> None:
    """Into the table at the end; nobody may spend less than ours, but for questions, where the bound is the same."""
    attack = case.ours if "norm=" in case.ours else f"{case.ours} {case.norm}"
    FIGURES.append(Comparison(attack, name, isinstance(case, Bounded), ours, tuple(peers)))
    for peer in peers if "square" not in case.ours else []:
        assert ours.passes <= peer.passes, f"{peer.who} spends {peer.passes:.1f} passes, ours {ours.passes:.1f}"


def luck(won: int, lost: int) -> bool:
    """Whether a coin could lose so many of the images that two attacks do not do equally well on."""
    return lost <= won or bool(binomtest(lost, won + lost, alternative="greater").pvalue >= 0.05)


def spending(passes: float, attack: Any, subject: Sample, seeds: int) -> Figure:
    """What ``attack`` does with as many steps as ``passes`` allow: an image leaves our batch when it is fooled."""

    def taking(steps: int) -> Figure:
        return figure("ours", replace(attack, steps=steps), subject, seeds)

    few, steps = taking(STEPS), STEPS
    more_steps = max(int(STEPS * passes / few.passes), STEPS + 1)
    more = taking(more_steps)
    if more.passes <= passes:
        few, steps = more, more_steps + int((passes - more.passes) * (more_steps - STEPS) / (more.passes - few.passes))
    most = taking(steps) if steps > more_steps else few
    return most if most.passes <= passes else few


@MODELS
@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: f"{case.ours}-{case.norm}")
def test_robust_accuracy_is_no_higher(name: str, case: Bounded) -> None:
    subject, source = sample(name), SOURCES[name]
    eps: float = source.square[case.norm] if "square" in case.ours else getattr(source, case.norm)
    peers = [figure(who, Peer(run(eps), case.norm, eps), subject, source.seeds) for who, run in case.peers.items()]
    attack = ATTACKS.parse(case.ours, norm=case.norm, eps=eps)
    if isinstance(attack, BlackBox):
        ours = figure("ours", attack, subject, source.seeds)
    else:
        ours = spending(min(peer.passes for peer in peers), attack, subject, source.seeds)
    recorded(case, name, ours, peers)
    for peer in peers:
        won, lost = int((ours.success & ~peer.success).sum()), int((peer.success & ~ours.success).sum())
        assert luck(won, lost), f"{peer.who} leaves {peer.robust:.1%}, ours {ours.robust:.1%}"


@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: f"{case.ours}-{case.norm}")
def test_over_all_models_robust_accuracy_is_no_higher(case: Bounded) -> None:
    found = [each for each in FIGURES if each.attack == f"{case.ours} {case.norm}"]
    if len(found) < len(SOURCES):
        pytest.skip("not all models were attacked")
    ours = sum(each.ours.robust for each in found) / len(found)
    for i, who in enumerate(case.peers):
        peer = sum(each.peers[i].robust for each in found) / len(found)
        assert ours <= peer, f"{who} leaves {peer:.1%}, ours {ours:.1%}"


@MODELS
@pytest.mark.parametrize("case", NEAREST, ids=lambda case: f"{case.ours}-{case.norm}")
def test_distances_are_no_larger(name: str, case: Nearest) -> None:
    subject = sample(name).first(case.images)
    ours = figure("ours", ATTACKS.parse(case.ours), subject)
    peers = [figure(who, Peer(run, case.norm), subject) for who, run in case.peers.items()]
    recorded(case, name, ours, peers)
    for peer in peers:
        won = int((ours.distances * (1 + TIE) < peer.distances).sum())
        lost = int((peer.distances * (1 + TIE) < ours.distances).sum())
        said = f"{peer.who} has median {peer.median:.4g} and is nearer on {lost} to {won}, ours {ours.median:.4g}"
        assert ours.median <= peer.median or luck(won, lost), said
