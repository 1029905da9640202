"""The pytest plugin: what its fixtures measure."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from assay import run
from assay.attacks import FGSM, PGD
from assay.bench.data import load as load_data
from assay.bench.models import Subject
from assay.bench.plugin.measure import clean_accuracy, explanation_score, robust_accuracy
from assay.core.errors import AssayError
from tests.bench.nets import OWN, convolutional

ROOT = Path(__file__).parents[2]
SPEC = OWN + "convolutional"


def digits(n: int = 30) -> tuple[Tensor, Tensor]:
    data = load_data("digits").take(n)
    return torch.stack([data.example(i).image for i in range(n)]), torch.tensor(data.labels)


def test_a_spec_gives_what_a_run_gives() -> None:
    attacks = ["pgd(eps=0.1, steps=3)", "universal-perturbation(eps=0.2, steps=5)"]
    table = run(SPEC, "digits", attacks=attacks, explainers="saliency", metrics="deletion", limit=20).summary
    accuracy = table[table["metric"] == "accuracy"].iloc[0]
    clean = clean_accuracy(SPEC, "digits", limit=20)
    assert (float(clean), clean.low, clean.high) == tuple(accuracy[["value", "low", "high"]])
    robust = table[table["metric"] == "robust_accuracy"].set_index("method")["value"].to_dict()
    for text in attacks:
        measured = robust_accuracy(SPEC, "digits", text, limit=20)
        assert robust[measured.what.method] == measured
    score = table[table["metric"] == "deletion"].iloc[0]
    assert explanation_score(SPEC, "digits", "saliency", limit=20) == score["value"]


def test_several_attacks_count_the_images_that_survive_each() -> None:
    images, labels = digits()
    network, _ = convolutional()
    alone = [robust_accuracy(network, (images, labels), attack).values for attack in (FGSM(eps=0.05), PGD(eps=0.1))]
    both = robust_accuracy(network, (images, labels), [FGSM(eps=0.05), PGD(eps=0.1)])
    np.testing.assert_array_equal(both.values, np.minimum(*alone))
    assert robust_accuracy(network, (images, labels), "fgsm(eps=[0.05, 0.1])").values.sum() <= alone[0].sum()


def test_values_are_in_the_order_of_the_images() -> None:
    images, labels = digits()
    network, _ = convolutional()
    with torch.no_grad():
        right = (network(images).argmax(1) == labels).double().numpy()
    wrong = labels.clone()
    wrong[[3, 17]] = (labels[[3, 17]] + 1) % 10
    np.testing.assert_array_equal(clean_accuracy(network, (images, labels)).values, right)
    changed = clean_accuracy(network, (images, wrong)).values != right
    assert set(np.flatnonzero(changed)) <= {3, 17}
    assert changed.any()


def test_mean_and_std_normalise_for_the_module() -> None:
    images, labels = digits()
    network, _ = convolutional()
    stretched = nn.Sequential(Stretch(), network)
    plain = clean_accuracy(network, (images, labels))
    assert clean_accuracy(stretched, (images, labels), mean=(0.25,), std=(0.5,)) == plain
    subject = Subject(stretched, name="mine", input_size=(1, 8, 8), mean=(0.25,), std=(0.5,))
    assert clean_accuracy(subject, (images, labels)) == plain


class Stretch(nn.Module):
    """Undoes a normalisation."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 0.5 + 0.25


def test_a_data_set_and_named_classes_are_data_too() -> None:
    images, labels = digits()
    network, _ = convolutional()
    plain = clean_accuracy(network, (images, labels))
    assert clean_accuracy(network, load_data("digits").take(30)) == plain
    names = tuple(map(str, range(10)))
    assert clean_accuracy(network, (images, labels, names)) == plain


def test_a_model_is_left_as_it_was() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(64, 10)).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    clean_accuracy(network, digits())
    robust_accuracy(network, digits(), "fgsm")
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_a_number_shows_its_interval_and_doubts() -> None:
    measured = robust_accuracy(nn.Sequential(nn.Flatten(), Saturated()), digits(), "pgd(eps=0.1, steps=2)")
    assert isinstance(measured, float)
    assert measured == pytest.approx(0.1, abs=0.05)
    assert 0 < measured.low < measured < measured.high < 1
    assert "robust_accuracy of 30 images" in repr(measured)
    assert "zero-gradient on 3" in repr(measured)  # of those that it has right


class Saturated(nn.Module):
    """Says class 0 and has no gradient."""

    def forward(self, flat: Tensor) -> Tensor:
        logits = torch.zeros(len(flat), 10).index_fill(1, torch.tensor([0]), 1.0)
        return logits + 0 * flat.sum(1, keepdim=True)


class Broken(nn.Module):
    def forward(self, flat: Tensor) -> Tensor:
        return flat[:, :10] / 0


def test_images_without_an_answer_are_wrong() -> None:
    measured = clean_accuracy(nn.Sequential(nn.Flatten(), Broken()), digits())
    assert float(measured) == 0
    assert measured.flags == {"non-finite-logits": 30}


def test_wrong_wishes_are_one_line() -> None:
    network, _ = convolutional()
    images, labels = digits()
    calls: dict[str, Callable[[], object]] = {
        "normalisation belongs in the model": lambda: clean_accuracy(network, (images * 2, labels)),
        "an item is .image, label": lambda: clean_accuracy(network, DataLoader(TensorDataset(images))),
        "one an image": lambda: clean_accuracy(network, (images, labels[:3])),
        "labels run from 3 to 12, classes are 0 to 9": lambda: clean_accuracy(network, (images, labels + 3)),
        "draws images from nothing": lambda: robust_accuracy(network, (images, labels), "cppn-fooling"),
        "under no attack": lambda: robust_accuracy(network, (images, labels), []),
        "did you mean fgsm": lambda: robust_accuracy(network, (images, labels), "fgms"),
        "needs parts, without": lambda: explanation_score(network, (images, labels), "saliency", "part-effect"),
        "did you mean limit": lambda: clean_accuracy(network, (images, labels), limits=3),  # type: ignore[call-arg]
        "knows its own size": lambda: clean_accuracy(SPEC, "digits", mean=(0.5,)),
        "holds images": lambda: clean_accuracy(SPEC, (images.repeat(1, 3, 1, 1), labels)),
    }
    for said, call in calls.items():
        with pytest.raises(AssayError, match=said):
            call()
