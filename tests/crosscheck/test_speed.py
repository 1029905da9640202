"""DeepFool on a batch against DeepFool image by image, timed in one run."""

import pytest

from assay.attacks import DeepFool
from tests.crosscheck.figures import FIGURES, Comparison, figure
from tests.crosscheck.peers import Peer, adv_lib, foolbox, torchattacks
from tests.crosscheck.subjects import sample

pytestmark = pytest.mark.crosscheck
ROUNDS = 3


@pytest.mark.parametrize("name", ["mnist_lenet5", "cifar10_resnet20", "zoo:repvgg", "zoo:vit"])
def test_deepfool_on_a_batch_against_image_by_image(name: str) -> None:
    """Ten times as fast where calls cost more than arithmetic; on larger networks a core is busy with one image too."""
    subject = sample(name).first(64)
    others = {
        "torchattacks": Peer(torchattacks("DeepFool"), "l2"),
        "foolbox": Peer(foolbox("L2DeepFoolAttack", steps=50), "l2"),
        "adv-lib": Peer(adv_lib("df", norm=2, steps=50), "l2"),
    }
    rounds = [
        (figure("ours", DeepFool(), subject), figure("torchattacks", others["torchattacks"], subject))
        for _ in range(ROUNDS)
    ]
    ours, peer = (min(side, key=lambda found: found.seconds) for side in zip(*rounds, strict=True))
    rest = [figure(who, others[who], subject) for who in ("foolbox", "adv-lib")]
    ratio = peer.seconds / ours.seconds
    FIGURES.append(Comparison(f"deepfool, {ratio:.1f} times as fast", name, False, ours, (peer, *rest)))
    assert ours.median <= 1.001 * peer.median
    assert ratio >= (10 if name == "mnist_lenet5" else 1)
