"""DeepFool on a batch against DeepFool image by image, timed in one run."""

import pytest

from attacks import DeepFool
from tests.crosscheck.figures import FIGURES, Comparison, figure
from tests.crosscheck.peers import Peer, torchattacks
from tests.crosscheck.subjects import sample

pytestmark = pytest.mark.crosscheck
ROUNDS = 3


@pytest.mark.parametrize("name", ["zoo:repvgg", "zoo:vit", "cifar10_resnet20", "mnist_lenet5"])
def test_deepfool_is_ten_times_as_fast(name: str) -> None:
    subject = sample(name).first(64)
    rounds = [
        (figure("ours", DeepFool(), subject), figure("torchattacks", Peer(torchattacks("DeepFool"), "l2"), subject))
        for _ in range(ROUNDS)
    ]
    ours, peer = (min(side, key=lambda found: found.seconds) for side in zip(*rounds, strict=True))
    ratio = peer.seconds / ours.seconds
    FIGURES.append(Comparison(f"deepfool, {ratio:.1f} times as fast", name, False, ours, (peer,)))
    assert len(subject.images) == 64
    assert ratio >= 10
