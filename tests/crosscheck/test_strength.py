"""At no more passes through the model our attacks are as strong as the strongest of the other libraries'."""

from dataclasses import replace
from typing import Any

import pytest

from attacks import ATTACKS, BlackBox
from tests.crosscheck.cases import BOUNDED, NEAREST, STEPS, Bounded, Nearest
from tests.crosscheck.figures import FIGURES, Comparison, Figure, figure
from tests.crosscheck.peers import Peer
from tests.crosscheck.subjects import SOURCES, Sample, sample

pytestmark = [pytest.mark.crosscheck, pytest.mark.parametrize("name", SOURCES)]


def recorded(case: Bounded | Nearest, name: str, ours: Figure, peers: list[Figure]) -> None:
    """Into the table at the end; nobody may spend less than ours, but for questions, where the bound is the same."""
    attack = case.ours if "norm=" in case.ours else f"{case.ours} {case.norm}"
    FIGURES.append(Comparison(attack, name, isinstance(case, Bounded), ours, tuple(peers)))
    for peer in peers if "square" not in case.ours else []:
        assert ours.passes <= peer.passes, f"{peer.who} spends {peer.passes:.1f} passes, ours {ours.passes:.1f}"


def spending(passes: float, attack: Any, subject: Sample, seeds: int) -> Any:
    """``attack`` with as many steps as cost ``passes``: an image leaves our batch when it is fooled."""
    few = replace(attack, steps=STEPS)
    return replace(attack, steps=int(STEPS * passes / figure("few", few, subject, seeds).passes))


@pytest.mark.parametrize("case", BOUNDED, ids=lambda case: f"{case.ours}-{case.norm}")
def test_robust_accuracy_is_no_higher(name: str, case: Bounded) -> None:
    subject, source = sample(name), SOURCES[name]
    eps: float = source.square[case.norm] if "square" in case.ours else getattr(source, case.norm)
    peers = [figure(who, Peer(run(eps), case.norm, eps), subject, source.seeds) for who, run in case.peers.items()]
    attack = ATTACKS.parse(case.ours, norm=case.norm, eps=eps)
    if not isinstance(attack, BlackBox):
        attack = spending(min(peer.passes for peer in peers), attack, subject, source.seeds)
    ours = figure("ours", attack, subject, source.seeds)
    recorded(case, name, ours, peers)
    for peer in peers:
        assert ours.robust <= peer.robust, f"{peer.who} leaves {peer.robust:.1%}, ours {ours.robust:.1%}"


@pytest.mark.parametrize("case", NEAREST, ids=lambda case: f"{case.ours}-{case.norm}")
def test_distances_are_no_larger(name: str, case: Nearest) -> None:
    subject = sample(name).first(case.images)
    ours = figure("ours", ATTACKS.parse(case.ours), subject)
    peers = [figure(who, Peer(run, case.norm), subject) for who, run in case.peers.items()]
    recorded(case, name, ours, peers)
    for peer in peers:
        assert ours.robust <= peer.robust, f"{peer.who} leaves {peer.robust:.1%}, ours {ours.robust:.1%}"
        lost = (
            f"{peer.who} has median {peer.median:.4g} and is nearer on {peer.nearer(ours):.0%}, ours {ours.median:.4g}"
        )
        assert ours.median <= peer.median or ours.nearer(peer) >= peer.nearer(ours), lost
